//! Searches the target `gzip_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("gzip_body", input));
