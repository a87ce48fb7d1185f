//! The whole program, started as users start it.

mod crash;
mod exporter;
mod faults;
mod milestone;
mod own_rules;
mod peers;
mod program;
mod remote_write;
mod simulated;
