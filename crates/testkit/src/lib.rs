//! Fakes for the ports, for tests only: a clock with hands, chance with a seed.

pub mod clock;
pub mod machine_clock;
pub mod process;

pub use clock::{ManualClock, SeededChance};
pub use machine_clock::MachineClock;
pub use process::{ChildGuard, free_port, wait_for, wait_for_async};
