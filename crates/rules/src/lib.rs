//! Runs rule groups and emits observations and series.
