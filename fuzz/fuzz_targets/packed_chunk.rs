//! Searches the target `packed_chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("packed_chunk", input));
