//! Alert management held against Debian's Alertmanager: the same `alertmanager.yml`, the same posts, counted webhooks.
//!
//! Both are asked by Alertmanager's own API over HTTP and measured from outside. Absent by design: silences and
//! inhibition, whose messages are compared case by case in the program's tests and whose cost has benches of its own.

pub mod flood;
pub mod latency;
pub mod sides;
pub mod standing;
pub mod webhook;
pub mod wording;
