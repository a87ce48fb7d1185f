//! `info` among other queries: what is kept for it stays right when its info series change.

use marketprism_model::{Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::{Answer, Engine, EngineConfig, Uninterrupted, Value, parse};

fn series(name: &str, more: &[(&str, &str)]) -> Labels {
    let base = [("__name__", name), ("job", "j"), ("instance", "i")];
    Labels::from_pairs(base.iter().chain(more).copied())
}

fn version(answer: &Answer) -> Option<String> {
    let Value::Vector(samples) = &answer.value else {
        panic!("{answer:?} is no vector");
    };
    let [sample] = &samples[..] else {
        panic!("{samples:?} is not one");
    };
    sample.labels.get("version").map(str::to_owned)
}

#[test]
fn a_session_forgets_what_it_added_when_an_info_series_is_written() {
    let (memory, engine) = (Memory::new(), Engine::new(EngineConfig::default()));
    let at = Timestamp::from_millis(60_000);
    memory.append(&series("up", &[]), at, 1.0);
    memory.append(&series("other", &[]), at, 1.0);
    let prepare = |text: &str| engine.prepare(&parse(text).expect(text));
    // Two plans share the part that is kept.
    let (query, twin) = (prepare("info(up)"), prepare("count(info(up))"));
    let mut session = engine.session(&memory, at, &Uninterrupted);
    session.evaluate(&twin).expect("a count");
    assert_eq!(version(&session.evaluate(&query).expect("a vector")), None);
    let info = series("target_info", &[("version", "1")]);
    memory.append(&info, at, 1.0);
    session.written(&series("other", &[]));
    session.written(&info);
    assert_eq!(
        version(&session.evaluate(&query).expect("a vector")).as_deref(),
        Some("1")
    );
    // A name that only a regular expression asks for is noticed as well.
    let nameless = prepare("info(up, {__name__=~\"build_.+\"})");
    let nameless_twin = prepare("-info(up, {__name__=~\"build_.+\"})");
    session.evaluate(&nameless_twin).expect("a vector");
    assert_eq!(version(&session.evaluate(&nameless).expect("a vector")), None);
    let build = series("build_info", &[("version", "2")]);
    memory.append(&build, at, 1.0);
    session.written(&build);
    assert_eq!(
        version(&session.evaluate(&nameless).expect("a vector")).as_deref(),
        Some("2")
    );
}

#[test]
fn info_series_that_come_and_go_are_seen_by_later_queries() {
    let (memory, engine) = (Memory::new(), Engine::new(EngineConfig::default()));
    let query = engine.prepare(&parse("info(up)").expect("a query"));
    let ask = |minute: i64| {
        let at = Timestamp::from_millis(minute * 60_000);
        memory.append(&series("up", &[]), at, 1.0);
        version(
            &engine
                .instant(&memory, &query, at, &Uninterrupted)
                .expect("an answer"),
        )
    };
    let put = |minute: i64, version: &str, value: f64| {
        let labels = series("target_info", &[("version", version)]);
        memory.append(&labels, Timestamp::from_millis(minute * 60_000), value);
    };
    assert_eq!(ask(0), None);
    put(1, "1", 1.0);
    assert_eq!(ask(1).as_deref(), Some("1"));
    put(2, "1", marketprism_model::sample::stale_nan());
    put(2, "2", 1.0);
    assert_eq!(ask(2).as_deref(), Some("2"));
    put(3, "2", marketprism_model::sample::stale_nan());
    assert_eq!(ask(3), None);
}

/// Prometheus chooses info series by the jobs and instances that the vector has.
#[test]
fn info_series_of_other_jobs_make_no_fault() {
    let (memory, engine) = (Memory::new(), Engine::new(EngineConfig::default()));
    let at = Timestamp::from_millis(0);
    let other = |name: &str, version: &str| {
        let pairs = [("job", "other"), ("instance", "i"), ("version", version)];
        Labels::from_pairs([("__name__", name)].into_iter().chain(pairs))
    };
    memory.append(&series("up", &[]), at, 1.0);
    memory.append(&other("up", ""), at, 0.0);
    memory.append(&series("target_info", &[("version", "1")]), at, 1.0);
    memory.append_histogram(
        &other("target_info", "h"),
        at,
        &std::sync::Arc::new(marketprism_model::Histogram::default()),
    );
    memory.append(&other("build_info", "1"), at, 1.0);
    memory.append(&other("build_info", "2"), at, 1.0);
    let ask = |text: &str| {
        let query = engine.prepare(&parse(text).expect(text));
        engine.instant(&memory, &query, at, &Uninterrupted)
    };
    // A histogram of another job.
    let answer = ask("info(up{job=\"j\"})").expect("an answer");
    assert_eq!(version(&answer).as_deref(), Some("1"));
    // A series whose value was compared away asks for no info series: neither a histogram nor two at once.
    for query in ["info(up > 0)", "info(up > 0, {__name__=~\".*_info\"})"] {
        let answer = ask(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(version(&answer).as_deref(), Some("1"));
    }
    for (query, fault) in [
        ("info(up)", "info sample should be float"),
        ("info(up, {__name__=\"build_info\"})", "found duplicate series"),
    ] {
        let error = ask(query).expect_err(query).to_string();
        assert!(error.contains(fault), "{query}: {error}");
    }
}
