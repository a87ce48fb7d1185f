//! Rules from the file to the alert, over a real store and a lifecycle that only counts.

#![allow(clippy::unwrap_used, reason = "a test may fail where it likes")]

mod backtest;
mod defaults;
mod differential;
mod evaluation;
mod extensions;
mod files;
mod histograms;
mod lifecycle;
mod lints;
mod mixins;
mod promtool;
mod public_files;
mod rulebook;
mod running;
mod unit_tests;
mod world;
