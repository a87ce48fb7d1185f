//! Decides the life of alerts and who hears of them.
//!
//! Observations come in, rule by rule; transitions, their events and messages go out, in one transaction a
//! tick. The decisions are pure (`condition`, `life`, `group`); the `book` applies them in memory; `alerts`
//! is the front with the locks and the store.
//! Deliberately absent: expressions, texts, channels. Nothing here is sent, and nothing here asks why a
//! condition is true.

mod alerts;
mod book;
pub mod calendar;
mod changes;
pub mod condition;
mod config;
pub mod escalation;
mod flush;
pub mod group;
pub mod incidents;
pub mod inhibition;
pub mod life;
mod limit;
mod metrics;
mod observe;
mod operator;
pub mod rehearsal;
mod restore;
pub mod routing;
mod run;
pub mod schedule;
pub mod silences;
pub mod time_interval;
mod told;
mod zone;

pub use alerts::{ActiveAlerts, Alerts, POINTS, StartError};
pub use config::{ChannelRoute, Config, ConfigError, GROUP_BY_ALL, Receiver, Route};
pub use flush::ALERTS_TOLD_MAX;
pub use limit::LIMIT_ALERT;
pub use operator::{ActError, NOTE_BYTES_MAX};
