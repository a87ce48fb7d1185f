//! PromQL as a whole: scripts of queries with their answers, a live Prometheus beside us, properties.

mod allocations;
mod bounds;
mod coverage;
mod differential;
mod experimental;
mod formats;
mod hostile;
mod info;
mod natives;
mod patterns;
mod programs;
mod properties;
mod remarks;
mod script;
mod scripts;
mod sessions;

/// How many times more than usual is done; long runs set `MARKETPRISM_TEST_SCALE`.
fn scale() -> usize {
    std::env::var("MARKETPRISM_TEST_SCALE").map_or(1, |scale| scale.parse().expect("a whole number"))
}
