//! Searches the target `smtp_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("smtp_answer", input));
