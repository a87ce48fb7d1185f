//! What the server may be told: limits, times and the address that links lead to.
//!
//! The listener is absent: the binary binds it, because the port must be taken before the log is replayed; here
//! is only its address.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::cache::CacheConfig;
use crate::tls::TlsConfig;

/// Limits and times of the HTTP server. The defaults work.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen, `host:port`; port 0 takes a free one.
    pub listen: String,
    /// The address under which people and links reach this server; empty for links relative to it.
    pub external_url: String,
    /// Connections open at once, 16 to 65536, some of them kept for this machine itself; further ones wait, and
    /// when many wait already they are closed.
    pub connections_max: usize,
    /// Connections that one client's address may have open, 1 to 65536. All that stands behind one proxy has one
    /// address.
    pub connections_per_client_max: usize,
    /// Bytes of a request's head, 8 KiB to 1 MiB.
    pub header_bytes_max: usize,
    /// A request's head must be complete, and an idle connection used again, within this time.
    #[serde(with = "marketprism_model::duration")]
    pub header_timeout: Duration,
    /// A client that takes no byte of its answer for this long is cut off.
    #[serde(with = "marketprism_model::duration")]
    pub write_timeout: Duration,
    /// A body must bring at least 4 KiB in each such span, or end.
    #[serde(with = "marketprism_model::duration")]
    pub body_timeout: Duration,
    /// Bytes of a request's body, pushed samples apart.
    pub body_bytes_max: usize,
    /// Bytes of a remote-write request as sent, compressed.
    pub push_bytes_max: usize,
    /// The longest a request may take, its body included; longer than `query_timeout`.
    #[serde(with = "marketprism_model::duration")]
    pub request_timeout: Duration,
    /// The longest a query may take; a request may ask for less.
    #[serde(with = "marketprism_model::duration")]
    pub query_timeout: Duration,
    /// Queries evaluated at once, 1 to 1024; rules have their own threads. `performance.concurrency.max_workers`
    /// when absent, or 4.
    pub query_workers: Option<usize>,
    /// Queries that may wait for a worker; further ones are answered 503 with `Retry-After`.
    /// `performance.concurrency.queue_size` when absent, or 100.
    pub query_queue: Option<usize>,
    /// Samples that one query may read, and values that it may hold at once, 1000 to 10 billion; a value has eight bytes.
    pub query_samples_max: u64,
    /// Bytes that one query may hold at once: values, histograms and the labels it makes; 1 MiB to 1 TiB.
    pub query_bytes_max: u64,
    /// Bytes of one query's answer; longer ones are refused.
    pub answer_bytes_max: usize,
    /// The time zone of the pages, a name of the IANA database.
    pub time_zone: String,
    /// Remote-write requests handled at once, and as many record look-ups, 1 to 1024.
    /// `performance.concurrency.max_workers` when absent, or 16.
    pub store_workers: Option<usize>,
    /// Requests that may wait for such a worker; further ones are answered 503 with `Retry-After`.
    /// `performance.concurrency.queue_size` when absent, or 512.
    pub store_queue: Option<usize>,
    /// TLS on this port.
    pub ssl: TlsConfig,
    /// The cache of query results, which is configured as `performance.caching`.
    #[serde(skip)]
    pub cache: CacheConfig,
}

/// `performance.concurrency`, as the binary read it: how much is done at once where nothing more specific is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Concurrency {
    /// Queries, pushes and look-ups handled at once, each kind by itself; 1 to 1024.
    pub max_workers: Option<usize>,
    /// Requests of each kind that may wait; 0 to 100000.
    pub queue_size: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: "0.0.0.0:8082".to_owned(),
            external_url: String::new(),
            connections_max: 4096,
            connections_per_client_max: 512,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
            push_bytes_max: 32 << 20,
            request_timeout: Duration::from_secs(150),
            query_timeout: Duration::from_secs(120),
            query_workers: None,
            query_queue: None,
            query_samples_max: 50_000_000,
            query_bytes_max: 1 << 30,
            answer_bytes_max: 256 << 20,
            time_zone: "Asia/Shanghai".to_owned(),
            store_workers: None,
            store_queue: None,
            ssl: TlsConfig::default(),
            cache: CacheConfig::default(),
        }
    }
}

/// A value of the `server` section that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("server.{field} is {value}; it must be {allowed}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What it may hold.
    pub allowed: String,
}

impl Config {
    /// Checks every limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |field, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(ConfigError {
                field,
                value: value.to_string(),
                allowed: format!("{low} to {high}"),
            })
        };
        within("connections_max", self.connections_max, 16, 65_536)?;
        within("header_bytes_max", self.header_bytes_max, 8 << 10, 1 << 20)?;
        within("body_bytes_max", self.body_bytes_max, 1 << 10, 64 << 20)?;
        within("push_bytes_max", self.push_bytes_max, 1 << 10, 256 << 20)?;
        within("answer_bytes_max", self.answer_bytes_max, 1 << 20, 4 << 30)?;
        within(
            "connections_per_client_max",
            self.connections_per_client_max,
            1,
            65_536,
        )?;
        let samples_max = usize::try_from(self.query_samples_max).unwrap_or(usize::MAX);
        within("query_samples_max", samples_max, 1000, 10_000_000_000)?;
        let bytes_max = usize::try_from(self.query_bytes_max).unwrap_or(usize::MAX);
        within("query_bytes_max", bytes_max, 1 << 20, 1 << 40)?;
        within("query_workers", self.query_workers(), 1, 1024)?;
        within("query_queue", self.query_queue(), 0, 100_000)?;
        within("store_workers", self.store_workers(), 1, 1024)?;
        within("store_queue", self.store_queue(), 0, 100_000)?;
        for (field, value) in [
            ("header_timeout", self.header_timeout),
            ("write_timeout", self.write_timeout),
            ("body_timeout", self.body_timeout),
            ("query_timeout", self.query_timeout),
            ("request_timeout", self.request_timeout),
        ] {
            if value < Duration::from_secs(1) || value > Duration::from_secs(3600) {
                return Err(ConfigError {
                    field,
                    value: marketprism_model::duration::format(value),
                    allowed: "1s to 1h".to_owned(),
                });
            }
        }
        if self.request_timeout <= self.query_timeout {
            return Err(ConfigError {
                field: "request_timeout",
                value: marketprism_model::duration::format(self.request_timeout),
                allowed: format!(
                    "longer than query_timeout ({})",
                    marketprism_model::duration::format(self.query_timeout)
                ),
            });
        }
        self.ssl.validate()?;
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            return Err(ConfigError {
                field: "time_zone",
                value: format!("{:?}", self.time_zone),
                allowed: "a name of the IANA database, such as Asia/Shanghai or UTC".to_owned(),
            });
        }
        let is_web_address = ["http://", "https://"].iter().any(|scheme| {
            self.external_url
                .strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !self.external_url.is_empty() && !is_web_address {
            return Err(ConfigError {
                field: "external_url",
                value: format!("{:?}", self.external_url),
                allowed: "an http:// or https:// address".to_owned(),
            });
        }
        Ok(())
    }

    /// Fills in what `performance` says where this section says nothing.
    pub fn resolved(self, concurrency: &Concurrency, cache: CacheConfig) -> Config {
        Config {
            query_workers: self.query_workers.or(concurrency.max_workers),
            query_queue: self.query_queue.or(concurrency.queue_size),
            store_workers: self.store_workers.or(concurrency.max_workers),
            store_queue: self.store_queue.or(concurrency.queue_size),
            cache,
            ..self
        }
    }

    /// Gives how many queries are evaluated at once.
    pub fn query_workers(&self) -> usize {
        self.query_workers.unwrap_or(4)
    }

    /// Gives how many queries may wait.
    pub fn query_queue(&self) -> usize {
        self.query_queue.unwrap_or(100)
    }

    /// Gives how many pushes, and how many look-ups, are handled at once.
    pub fn store_workers(&self) -> usize {
        self.store_workers.unwrap_or(16)
    }

    /// Gives how many pushes, and how many look-ups, may wait.
    pub fn store_queue(&self) -> usize {
        self.store_queue.unwrap_or(512)
    }

    /// Gives the external address without a slash at its end, empty when none is set.
    pub fn link_base(&self) -> &str {
        self.external_url.trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn the_general_bounds_hold_where_nothing_more_specific_is_set() {
        let general = Concurrency {
            max_workers: Some(10),
            queue_size: Some(1000),
        };
        let config = Config {
            query_workers: Some(2),
            ..Config::default()
        };
        let config = config.resolved(&general, CacheConfig::default());
        assert_eq!((config.query_workers(), config.query_queue()), (2, 1000));
        assert_eq!((config.store_workers(), config.store_queue()), (10, 1000));
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_limits() {
        let check = |change: fn(&mut Config), message: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().expect_err(message);
            assert_eq!(error.to_string(), message);
        };
        check(
            |config| config.query_workers = Some(0),
            "server.query_workers is 0; it must be 1 to 1024",
        );
        check(
            |config| config.request_timeout = Duration::from_secs(120),
            "server.request_timeout is 2m; it must be longer than query_timeout (2m)",
        );
        check(
            |config| config.header_timeout = Duration::ZERO,
            "server.header_timeout is 0s; it must be 1s to 1h",
        );
        check(
            |config| config.external_url = "monitor.example".to_owned(),
            "server.external_url is \"monitor.example\"; it must be an http:// or https:// address",
        );
    }
}
