//! What is scraped and how: Prometheus' `global` and `scrape_configs`, key by key.
//!
//! A pasted `prometheus.yml` works: keys of Prometheus that have no effect here are read over and named by
//! `ignored`, so that nobody believes in a discovery that does not happen. Any other unknown key is an error with
//! its line and the nearest known key.
//!
//! Deliberately absent: files and sockets. Discovery reads its files in [`crate::discovery`].

mod explain;
mod http;
mod ignored;
mod pool;
mod scrape;
mod size;
#[cfg(test)]
mod tests;

pub use explain::{ConfigError, parse_yaml};
pub use http::{Authorization, BasicAuth, HttpClientConfig, HttpHeader, TlsConfig};
pub use ignored::Ignored;
pub use marketprism_model::Secret;
pub use pool::{PoolConfig, judge_all, validate_all};
pub use scrape::{FileDiscovery, GlobalConfig, ScrapeConfig, ScrapeFile, StaticGroup};
pub use size::{Size, SizeError};

pub use crate::exposition::ScrapeProtocol;
