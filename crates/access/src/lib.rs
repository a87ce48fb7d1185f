//! Who gets in, and what they may do: users, roles, tokens, sessions, the allow list, the audit log.
//!
//! One room, so that every request passes the same judgement, whether it comes from a browser, from Prometheus or
//! from another replica. Everything here is given its clock, its chance and its records, so a month of guessing
//! is tested in milliseconds. Deliberately absent: HTTP, files, sockets; the server asks, the binary brings.

mod access;
mod administration;
mod allow_list;
mod api_token;
mod attempts;
mod audit;
mod bounded;
mod config;
mod identity;
mod jwt;
mod keys;
mod metrics;
mod password;
mod refusal;
mod remembered;
mod verified;
mod vouch;

pub use access::{Access, Parts};
pub use administration::{ChangeError, FIRST_ADMIN, NameError, NewToken, NewUser, UserChange, read_name};
pub use allow_list::{Client, NetworksError, hop_address, network};
pub use audit::Event;
pub use config::{AccessControl, ApiAuth, Config, ConfigError, LoginAttempts, SecretError, judge_secret};
pub use identity::{Credential, Identity, Session, SessionRef};
pub use password::PasswordError;
pub use refusal::Refusal;
