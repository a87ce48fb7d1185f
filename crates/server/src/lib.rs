//! The HTTP server: our own API, the surface that Prometheus' clients know, and a plain page.
//!
//! It shows what the other rooms hold and hands on what people decide; a rule of the domain never stands
//! here. [`Server::new`] can be served before anything else exists and says "not yet" until
//! [`Server::install`] brings the rooms. What a credential is worth is decided in the room `access`. Deliberately absent:
//! any access to files, databases or the network beyond the listener.

pub mod access;
pub mod alertmanager;
pub mod answer;
pub mod api;
pub mod cache;
pub mod clients;
pub mod config;
pub mod forward;
pub mod guard;
pub mod health;
pub mod metrics;
pub mod page;
pub mod parts;
pub mod problem;
pub mod prometheus;
pub mod push;
pub mod readiness;
pub mod request;
pub mod routes;
pub mod server;
pub mod stream;
mod threads;
pub mod tls;
pub mod trace;
mod validity;
pub mod workers;

pub use cache::CacheConfig;
pub use cache::changes::{Changes, NoticedSink, Rewriting};
pub use config::{Concurrency, Config, ConfigError};
pub use forward::Forward;
pub use metrics::{Figures, Metrics};
pub use parts::{Ask, BuildInfo, HeadFigures, MetricsText, Parts, RuntimeInfo};
pub use readiness::{Phase, Readiness};
pub use routes::{Needs, ROUTES, Route};
pub use server::Server;
pub use tls::{Tls, TlsConfig, TlsError};
