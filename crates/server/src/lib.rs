//! The HTTP server: our own API, the surface that Prometheus' clients know, and a plain page.
//!
//! It shows what the other rooms hold and hands on what people decide; a rule of the domain never stands
//! here. [`Server::new`] can be served before anything else exists and says "not yet" until
//! [`Server::install`] brings the rooms. Deliberately absent: TLS and authentication, which come as layers
//! around what is here, and any access to files, databases or the network beyond the listener.

pub mod answer;
pub mod api;
pub mod config;
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
pub mod trace;
pub mod workers;

pub use config::{Config, ConfigError};
pub use metrics::Metrics;
pub use parts::{Ask, BuildInfo, HeadFigures, Parts, RuntimeInfo};
pub use readiness::{Phase, Readiness};
pub use routes::{ROUTES, Route};
pub use server::Server;
