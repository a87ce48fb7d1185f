//! Searches the target `host_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("host_files", input));
