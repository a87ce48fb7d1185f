//! Runs rules over the past: what would have fired, when and for how long.

pub mod clock;
pub mod memory;
