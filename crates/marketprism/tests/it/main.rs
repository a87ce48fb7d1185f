//! The whole program, started as users start it.

mod crash;
mod exporter;
mod faults;
mod milestone;
mod peers;
mod program;
mod remote_write;
