//! Searches the target `promql_program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("promql_program", input));
