//! Delivers notifications: message texts, channels, retries.
//!
//! `alerts` decides who hears of what and puts notifications into the outbox; here they are written for
//! their readers ([`compose()`](compose::compose)), laid out and sent by a channel, and their receipts recorded
//! ([`Notifier`]). Each channel is one file of the same shape: what it is, how it sends, how it lays out,
//! what the provider's answers mean.
//! Deliberately absent: any decision about who should hear.

mod backlog;
mod backoff;
pub mod bell;
mod build;
pub mod channel;
pub mod compose;
pub mod config;
mod delivery;
pub mod dingtalk;
pub mod email;
pub mod http_answer;
pub mod language;
pub mod links;
mod mail_html;
mod mail_text;
mod metrics;
pub mod notifier;
pub mod receivers;
mod redact;
mod sample;
pub mod slack;
mod trace;
pub mod webhook;
mod window;

pub use bell::OutboxBell;
pub use channel::Delivery;
pub use config::{Config, ConfigError, Prepared};
pub use language::Language;
pub use links::Links;
pub use notifier::{Load, Notifier, UnknownChannel};
pub use receivers::{Global, PreparedReceiver, ReceiverConfig};
pub use redact::shown_url;
pub use trace::{TRACEPARENT, Trace};

/// The points at which a crash test ends the process, in the order in which an attempt passes them.
pub const POINTS: [&str; 2] = [delivery::BEFORE_SEND, delivery::AFTER_SEND];
