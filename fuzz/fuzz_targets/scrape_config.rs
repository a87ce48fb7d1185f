//! Searches the target `scrape_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| marketprism_fuzz_targets::run("scrape_config", input));
