//! The MarketPrism program as a library, so that tests start the same `App` as users do.

pub mod app;
pub mod awaited;
pub mod backup;
pub mod build_info;
pub mod check;
mod check_routes;
pub mod check_rules;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod config_watch;
pub mod environment;
pub mod first_start;
pub mod leader_forward;
pub mod leadership;
pub mod local_sources;
pub mod logging;
pub mod maintenance;
pub mod metrics;
pub mod opening;
pub mod progress;
pub mod records;
pub mod reload;
pub mod shown;
pub mod supervisor;
pub mod watchdog;
