//! Every parser of outside input, each as a function that takes any bytes and never panics.
//!
//! One list serves two drivers: the libFuzzer binaries beside this package, which search for hours, and the
//! replay in `tests/it`, which runs the corpus and seeded mutations of it with every `make test`.
//! Deliberately absent: any logic of a parser. A target hands its bytes to the room that owns it, and asserts
//! at most what must hold for whatever comes out.

mod storage;

use std::borrow::Cow;

use marketprism_collect::fuzz as collect;
use marketprism_notify::{dingtalk, slack};
use marketprism_promql::fuzz as promql;

/// Largest input that a target looks at; what is slow only because it is huge is no finding.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// A target: its name, which is also the name of its corpus folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, sorted by name.
pub const TARGETS: &[Target] = &[
    ("access", |input| marketprism_access::fuzz(&text(input))),
    ("block", storage::block),
    ("block_meta", storage::block_meta),
    ("channel_answer", channel_answer),
    ("column", storage::column),
    ("config", |input| marketprism::config::fuzz(&text(input))),
    ("exposition", collect::exposition),
    ("file_sd", |input| collect::target_file(&text(input))),
    ("gzip_body", gzip_body),
    ("host_files", |input| collect::host_files(&text(input))),
    ("matchers", |input| {
        marketprism_alerts::routing::fuzz::read_matchers(&text(input));
    }),
    ("packed_chunk", storage::packed_chunk),
    ("promql", |input| {
        promql::evaluate(&text(input));
        promql::sentence(input);
    }),
    ("promql_program", promql::program),
    ("relabel", |input| collect::relabelling(&text(input))),
    ("remote_write", collect::remote_write),
    ("routing", |input| routing(&text(input))),
    ("rule_file", marketprism_rules::fuzz),
    ("scrape_config", |input| collect::scrape_config(&text(input))),
    ("series_notation", |input| promql::notation(&text(input))),
    ("smtp_answer", |input| {
        _ = marketprism_net::smtp::is_whole_answer(input);
    }),
    ("template", |input| marketprism_template::fuzz(&text(input))),
    ("wal_record", storage::wal_record),
    ("wal_segment", storage::wal_segment),
];

/// Runs one target.
///
/// # Panics
/// When no target has the name; and when the target has found something.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("the name of a target");
    target(&input[..input.len().min(INPUT_BYTES_MAX)]);
}

/// Text is what remains when what is not UTF-8 was replaced, as a lenient reader would do it.
fn text(input: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// A configuration that is shown is one that is read again, with the same routes.
fn routing(text: &str) {
    let read = |text: &str| {
        let whole = serde_saphyr::from_str::<marketprism_alerts::routing::fuzz::Whole>(text);
        whole.map(|whole| whole.check())
    };
    if let Ok(Some((shown, keys))) = read(text) {
        let again = read(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(again.map(|(_, keys)| keys), Some(keys), "{shown}");
    }
}

/// Bodies come with every kind of status.
fn channel_answer(input: &[u8]) {
    for status in [200, 204, 301, 400, 403, 404, 429, 500, 503] {
        let _ = slack::fuzz_answer(status, input);
        let _ = dingtalk::fuzz_answer(status, input);
    }
}

fn gzip_body(input: &[u8]) {
    const LIMIT: usize = 1 << 20;
    if let Some(body) = marketprism_net::gunzip(input, LIMIT) {
        assert!(
            body.len() <= LIMIT,
            "{} bytes came through a limit of {LIMIT}",
            body.len()
        );
    }
}
