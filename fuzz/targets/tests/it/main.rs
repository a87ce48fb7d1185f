//! Replays the corpus of every fuzz target, and seeded mutations of it.

mod mutation;
mod replay;
