//! Every parser of outside input, each as a function that takes any bytes and never panics.
//!
//! One list serves two drivers: the libFuzzer binaries beside this package, which search for hours, and the
//! replay in `tests/it`, which runs the corpus and seeded mutations of it with every `make test`.
//! Deliberately absent: any logic of a parser. A target hands its bytes to the room that owns it, and asserts at most what
//! must hold for whatever comes out.

mod collect;
mod storage;

/// Largest input that a target looks at; what is slow only because it is huge is no finding.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// A target: its name, which is also the name of its corpus folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, sorted by name.
pub const TARGETS: &[Target] = &[
    ("block", storage::block),
    ("block_meta", storage::block_meta),
    ("column", storage::column),
    ("exposition", collect::exposition),
    ("file_sd", collect::file_sd),
    ("gzip_body", gzip_body),
    ("openmetrics", collect::openmetrics),
    ("promql", promql),
    ("relabel", collect::relabelling),
    ("remote_write", collect::remote_write),
    ("smtp_answer", smtp_answer),
    ("template", template),
    ("wal_record", storage::wal_record),
    ("wal_segment", storage::wal_segment),
    ("xor_chunk", storage::xor_chunk),
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
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
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

fn promql(input: &[u8]) {
    let _ = marketprism_promql::parse(&text(input));
}

fn smtp_answer(input: &[u8]) {
    marketprism_net::smtp::is_whole_answer(input);
}

fn template(input: &[u8]) {
    marketprism_template::fuzz(&text(input));
}
