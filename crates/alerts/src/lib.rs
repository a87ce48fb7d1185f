//! Decides the life of alerts and who hears of them.
//!
//! Observations come in, rule by rule; transitions, their events and messages go out, in one transaction a
//! tick. The decisions are pure (`condition`, `life`, `group`); the `book` applies them in memory; `alerts`
//! is the front with the locks and the store.
//! Deliberately absent: expressions, texts, channels. Nothing here is sent, and nothing here asks why a
//! condition is true.

mod alerts;
mod arrange;
mod book;
pub mod calendar;
mod changes;
pub mod condition;
mod config;
mod escalate;
pub mod escalation;
mod explain;
mod external;
mod fallback;
pub mod flapping;
mod flush;
pub mod group;
mod groups;
pub mod incidents;
pub mod inhibition;
mod join;
pub mod life;
mod limit;
mod message;
mod metrics;
mod observe;
mod operator;
mod plan;
pub mod rehearsal;
mod restore;
pub mod routing;
mod run;
pub mod schedule;
pub mod silences;
pub mod storm;
mod suppress;
pub mod time_interval;
mod timers;
mod told;
mod views;
mod zone;

pub use alerts::{ActiveAlerts, Alerts, POINTS, StartError};
pub use arrange::{ArrangeError, OverrideDraft};
pub use config::{ChannelRoute, Config, ConfigError, Receiver};
pub use explain::{ChannelExplanation, Explanation, GroupExplanation};
pub use external::{ReceiveError, ReceivedAlert};
pub use limit::LIMIT_ALERT;
pub use message::ALERTS_TOLD_MAX;
pub use operator::{ACTS_MAX, ActError, AlertAct, NAME_BYTES_MAX, NOTE_BYTES_MAX};
pub use routing::RouteConfig as Route;
pub use views::{GroupView, Routing};
