//! Searches the target `config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("config", input));
