//! The whole program, started as users start it.

mod alertmanager;
mod alertmanager_api;
mod alertmanager_config;
mod before;
mod commands;
mod configuration;
mod crash;
mod documents;
mod exporter;
mod faults;
mod figures;
mod logs;
mod milestone;
mod own_rules;
mod peers;
mod program;
mod reload;
mod remote_write;
mod replicas;
mod rules_by_api;
mod simulated;
mod storm;
