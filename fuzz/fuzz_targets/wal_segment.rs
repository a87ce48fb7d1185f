//! Searches the target `wal_segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("wal_segment", input));
