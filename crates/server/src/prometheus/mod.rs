//! The surface that Prometheus' clients know, under `/prometheus`: Grafana, promtool, scripts.
//!
//! Shapes, words and status codes are Prometheus 3's, because programs compare them. Our own API, with its
//! own shapes, stands in [`crate::api`]. Deliberately absent: writing rules, deleting series, the agent's
//! and the remote-read surface.

pub mod answer;
pub(crate) mod counted;
mod evaluation;
pub mod features;
pub mod number;
pub mod params;
pub mod query;
pub mod rules;
pub mod series;
mod stats;
pub mod status;
pub mod targets;
pub mod write_histogram;
pub mod write_json;
