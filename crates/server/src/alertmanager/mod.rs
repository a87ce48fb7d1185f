//! The surface that Alertmanager's clients know: `/alertmanager/api/v2`, with its shapes, words and status codes.
//!
//! amtool, Grafana's data source, karma and a Prometheus that sends its alerts find what they expect. Whatever they ask
//! for stands in the room `alerts`, as it does for our own API; here it is only read and written in another shape.
//! Errors are JSON strings, for strict clients read nothing else. Deliberately absent: the first version of that API,
//! gossip, and Alertmanager's own page; unknown paths are 404 and never HTML, by which Grafana tells servers apart.

pub mod alerts;
pub mod answer;
pub mod document;
pub mod filter;
pub mod groups;
pub mod posted;
pub mod silences;
pub mod status;
mod stream;
