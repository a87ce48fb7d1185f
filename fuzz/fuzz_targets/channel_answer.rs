//! Searches the target `channel_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("channel_answer", input));
