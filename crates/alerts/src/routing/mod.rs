//! The way of an alert to its receivers: routes, matchers, and the words in which they are configured.
//!
//! The semantics are Alertmanager's, so that an `alertmanager.yml` means here what it means there; what is
//! ours is that every fault of a configuration is found at once, and that each way through the tree can be
//! explained. Pure: labels in, routes out.
//! Deliberately absent: groups, clocks, channels. A route says who and how, not when the next message is due.

pub mod config;
mod explain;
mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod matchers;
mod original;
mod read;
mod tree;

pub use config::{InhibitRuleConfig, NamedTimeInterval, RouteConfig};
pub use explain::{Outcome, Verdict, Visit};
pub(crate) use fault::Faults;
pub use fault::{FAULTS_SHOWN_MAX, Fault, RoutingError};
pub use original::{Original, original};
pub(crate) use read::Reader;
pub use tree::{GroupBy, KnownNames, ROUTE_DEPTH_MAX, ROUTES_MAX, Route, RouteIndex, RoutingTree};
