//! Searches the target `series_notation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("series_notation", input));
