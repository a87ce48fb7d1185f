//! Fakes for the ports, for tests only: a clock with hands, chance with a seed.

pub mod clock;

pub use clock::{ManualClock, SeededChance};
