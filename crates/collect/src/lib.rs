//! Turns the world into samples: scrapes, pushes, the host itself.
//!
//! Every source ends in one road: text or protobuf is read, series get their labels once, and samples go to the
//! [`SampleSink`](marketprism_model::SampleSink) under short names. So a steady source costs no label work.
//! Deliberately absent: storage, queries, and HTTP serving; remote write is a function from bytes to an outcome.

pub mod config;
pub mod discovery;
pub mod exposition;
pub mod fuzz;
pub mod host;
pub mod metadata;
pub mod metrics;
mod native;
pub mod own;
mod protobuf;
pub mod relabel;
pub mod remote_write;
pub mod scrape;
pub mod target;

pub use host::{HostCollector, HostConfig};
pub use metadata::MetadataStore;
pub use metrics::CollectMetrics;
pub use own::SelfCollector;
pub use remote_write::RemoteWriteReceiver;
pub use scrape::{ScrapePlan, Scraper, ScraperParts, TargetsSnapshot};
