//! The MarketPrism program as a library, so that tests start the same `App` as users do.

pub mod app;
pub mod awaited;
pub mod build_info;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod environment;
pub mod leadership;
pub mod local_sources;
pub mod logging;
pub mod maintenance;
pub mod metrics;
pub mod reload;
pub mod shown;
pub mod supervisor;
pub mod watchdog;
