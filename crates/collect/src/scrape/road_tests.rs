//! The road of one target, scrape by scrape, against a store in memory.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Labels, Timestamp};
use marketprism_testkit::MemorySink;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::*;
use crate::config::parse_yaml;
use crate::exposition::HistogramRules;
use crate::relabel::RelabelRule;

/// One target and its store; each scrape is a second after the one before.
struct Scene {
    sink: MemorySink,
    road: Road,
    registry: Registry,
    now_s: i64,
}

fn rules() -> SampleRules {
    SampleRules {
        target_labels: Labels::from_pairs([("job", "j"), ("instance", "i")]),
        honors_labels: false,
        honors_timestamps: true,
        tracks_timestamps_staleness: false,
        metric_relabel: Arc::from([]),
        histograms: HistogramRules::default(),
        sample_limit: 0,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
        has_extra_metrics: false,
        timeout: Duration::from_secs(10),
    }
}

impl Scene {
    fn new(rules: SampleRules) -> Self {
        let mut registry = Registry::default();
        let metrics = CollectMetrics::register(&mut registry);
        Scene {
            sink: MemorySink::new(),
            road: Road::new(rules, metrics),
            registry,
            now_s: 0,
        }
    }

    fn take(&mut self, fetched: &Fetched<'_>) -> Result<Report, String> {
        self.now_s += 1;
        let at = Timestamp::from_millis(self.now_s * 1000);
        let (report, result, _) = self
            .road
            .take(fetched, at, || Duration::from_millis(250), &self.sink);
        result.map(|()| report).map_err(|error| error.to_string())
    }

    fn scrape(&mut self, body: &str) -> Result<Report, String> {
        self.take(&Fetched::Body {
            bytes: body.as_bytes(),
            format: Format::Prometheus,
        })
    }

    fn fail(&mut self) {
        self.take(&Fetched::Failed { is_too_long: false })
            .expect("a failed fetch is no fault of the road");
    }

    /// Writes a series' samples as `second:value`, `x` for a mark of its end.
    #[track_caller]
    fn check(&self, series: &str, expected: &str) {
        let written: Vec<String> = self
            .sink
            .samples_of(series)
            .into_iter()
            .map(|(at, value)| {
                format!(
                    "{}:{}",
                    at.millis() / 1000,
                    value.map_or("x".to_owned(), |v| v.to_string())
                )
            })
            .collect();
        assert_eq!(written.join(" "), expected, "{series}");
    }

    fn counted(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("strings take everything");
        text.lines().any(|counted| counted == line)
    }
}

const A: &str = r#"a{instance="i", job="j"}"#;
const B: &str = r#"b{instance="i", job="j"}"#;
const UP: &str = r#"up{instance="i", job="j"}"#;

#[test]
fn samples_get_the_targets_labels_and_the_meta_series_are_written() {
    let mut scene = Scene::new(rules());
    let report = scene
        .scrape("a 1\nb{job=\"x\",exported_job=\"y\"} 2\n")
        .expect("valid");
    assert_eq!((report.scraped, report.kept, report.series_added), (2, 2, 2));
    scene.check(A, "1:1");
    scene.check(
        r#"b{exported_exported_job="x", exported_job="y", instance="i", job="j"}"#,
        "1:2",
    );
    scene.check(UP, "1:1");
    scene.check(r#"scrape_duration_seconds{instance="i", job="j"}"#, "1:0.25");
    scene.check(r#"scrape_samples_scraped{instance="i", job="j"}"#, "1:2");
    scene.check(
        r#"scrape_samples_post_metric_relabeling{instance="i", job="j"}"#,
        "1:2",
    );
    scene.check(r#"scrape_series_added{instance="i", job="j"}"#, "1:2");
    assert_eq!(scene.sink.newest().len(), 7, "no further series");
}

#[test]
fn honored_labels_stand_and_empty_ones_keep_the_targets_away() {
    // The Pushgateway writes `instance=""` for groups without one, so that they do not get the Pushgateway's own.
    let mut scene = Scene::new(SampleRules {
        honors_labels: true,
        ..rules()
    });
    scene
        .scrape("a{job=\"own\"} 1\nb{instance=\"\"} 2\n")
        .expect("valid");
    scene.check(r#"a{instance="i", job="own"}"#, "1:1");
    scene.check(r#"b{job="j"}"#, "1:2");
    let mut plain = Scene::new(rules());
    plain.scrape("b{instance=\"\"} 2\n").expect("valid");
    plain.check(B, "1:2");
}

#[test]
fn extra_metrics_are_written_only_when_asked_for() {
    let mut scene = Scene::new(SampleRules {
        has_extra_metrics: true,
        sample_limit: 7,
        ..rules()
    });
    scene.scrape("a 1\n").expect("valid");
    scene.check(r#"scrape_timeout_seconds{instance="i", job="j"}"#, "1:10");
    scene.check(r#"scrape_sample_limit{instance="i", job="j"}"#, "1:7");
    scene.check(r#"scrape_body_size_bytes{instance="i", job="j"}"#, "1:4");
    scene
        .take(&Fetched::Failed { is_too_long: true })
        .expect("no fault of the road");
    scene.check(r#"scrape_body_size_bytes{instance="i", job="j"}"#, "1:4 2:-1");
}

#[test]
fn a_series_that_vanishes_gets_its_mark_once() {
    let mut scene = Scene::new(rules());
    for body in ["a 1\nb 1\n", "a 2\n", "a 3\n", "b 4\na 4\n"] {
        scene.scrape(body).expect("valid");
    }
    scene.check(A, "1:1 2:2 3:3 4:4");
    scene.check(B, "1:1 2:x 4:4");
}

#[test]
fn a_failed_scrape_ends_every_series_once_and_the_next_begins_them_again() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    scene.fail();
    scene.fail();
    scene.scrape("a 4\n").expect("valid");
    scene.check(A, "1:1 2:x 4:4");
    scene.check(UP, "1:1 2:0 3:0 4:1");
    scene.check(r#"scrape_series_added{instance="i", job="j"}"#, "1:1 2:0 3:0 4:0");
}

#[test]
fn a_broken_body_takes_nothing_and_leaves_no_trace() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    let error = scene.scrape("a 2\nb 2\nc{ 2\n").expect_err("third line");
    assert_eq!(error, "line 3: expected label name in \"c{ 2\"");
    scene.scrape("a 3\nc{ 3\n").expect_err("second line");
    scene.scrape("a 4\nb 4\n").expect("valid");
    scene.check(A, "1:1 2:x 4:4");
    scene.check(B, "4:4");
    scene.check(UP, "1:1 2:0 3:0 4:1");
    // What was counted until the fault is reported, as Prometheus does.
    scene.check(
        r#"scrape_samples_scraped{instance="i", job="j"}"#,
        "1:1 2:2 3:1 4:2",
    );
}

#[test]
fn an_empty_answer_is_an_empty_scrape() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    scene
        .take(&Fetched::Body {
            bytes: b"",
            format: Format::OpenMetrics,
        })
        .expect("empty is valid");
    scene.check(A, "1:1 2:x");
    scene.check(UP, "1:1 2:1");
}

#[test]
fn a_steady_scrape_asks_for_no_name() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\nb 1\n").expect("valid");
    let asked = scene.sink.resolved();
    for value in 2..10 {
        scene
            .scrape(&format!("# HELP a text\na {value}\nb {value}\n"))
            .expect("valid");
    }
    assert_eq!(scene.sink.resolved(), asked);
    scene.check(B, "1:1 2:2 3:3 4:4 5:5 6:6 7:7 8:8 9:9");
}

#[test]
fn dropped_lines_are_remembered_and_not_counted_as_kept() {
    let drop = parse_yaml(r#"[{source_labels: [__name__], regex: b, action: drop}]"#).expect("valid");
    let relabel: Vec<RelabelRule> = drop;
    let mut scene = Scene::new(SampleRules {
        metric_relabel: relabel.into(),
        ..rules()
    });
    for _ in 0..3 {
        let report = scene.scrape("a 1\nb 1\n").expect("valid");
        assert_eq!((report.scraped, report.kept), (2, 1));
    }
    assert!(scene.sink.samples_of(B).is_empty());
    assert_eq!(scene.road.cache.len(), 2);
}

#[test]
fn a_body_that_breaks_off_tells_how_many_samples_would_have_been_kept() {
    // Found next to Prometheus: lines that relabelling drops were counted as kept when a later line was broken.
    let relabel: Vec<RelabelRule> =
        parse_yaml(r#"[{source_labels: [__name__], regex: b, action: drop}]"#).expect("valid");
    let mut scene = Scene::new(SampleRules {
        metric_relabel: relabel.into(),
        ..rules()
    });
    scene.scrape("a 1\nb 1\nc{\n").expect_err("third line");
    scene.check(r#"scrape_samples_scraped{instance="i", job="j"}"#, "1:2");
    scene.check(
        r#"scrape_samples_post_metric_relabeling{instance="i", job="j"}"#,
        "1:1",
    );
}

#[test]
fn the_first_of_two_equal_lines_wins_and_the_second_is_counted() {
    let mut scene = Scene::new(rules());
    for _ in 0..2 {
        let report = scene.scrape("a 1\na 2\n").expect("valid");
        assert_eq!((report.scraped, report.kept), (2, 2));
    }
    scene.check(A, "1:1 2:1");
    assert!(scene.counted("marketprism_samples_refused_total{reason=\"duplicate\"} 2"));
}

#[test]
fn two_spellings_of_a_series_are_one_series_and_one_of_them_may_go() {
    let mut scene = Scene::new(rules());
    scene.scrape("a{x=\"1\",y=\"2\"} 1\n").expect("valid");
    scene.scrape("a{y=\"2\",x=\"1\"} 2\n").expect("valid");
    scene.check(r#"a{instance="i", job="j", x="1", y="2"}"#, "1:1 2:2");
}

#[test]
fn own_times_are_taken_and_end_without_a_mark() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1 500\na 2 700\nb 1\n").expect("valid");
    scene.scrape("b 2\n").expect("valid");
    let times: Vec<_> = scene
        .sink
        .samples_of(A)
        .into_iter()
        .map(|(at, value)| (at.millis(), value))
        .collect();
    assert_eq!(times, [(500, Some(1.0)), (700, Some(2.0))]);

    let mut tracking = Scene::new(SampleRules {
        tracks_timestamps_staleness: true,
        ..rules()
    });
    tracking.scrape("a 1 500\n").expect("valid");
    tracking.scrape("b 2\n").expect("valid");
    assert_eq!(tracking.sink.value_of(A), None);

    let mut ignoring = Scene::new(SampleRules {
        honors_timestamps: false,
        ..rules()
    });
    ignoring.scrape("a 1 500\n").expect("valid");
    ignoring.check(A, "1:1");
}

#[test]
fn limits_fail_the_scrape_before_the_store_hears_of_it() {
    let check = |change: fn(&mut SampleRules), body: &str, words: &str| {
        let mut limited = rules();
        change(&mut limited);
        let mut scene = Scene::new(limited);
        let error = scene.scrape(body).expect_err(words);
        assert!(error.starts_with(words), "{error}");
        assert_eq!(scene.sink.newest().len(), 5, "only the meta series");
        assert_eq!(scene.sink.value_of(UP), Some(0.0));
    };
    check(
        |r| r.sample_limit = 1,
        "a 1\nb 2\n",
        "sample_limit exceeded (samples: 2, limit: 1)",
    );
    check(
        |r| r.label_limit = 3,
        "a{x=\"1\"} 1\n",
        "label_limit exceeded (series: a, labels: 4, limit: 3)",
    );
    check(
        |r| r.label_name_length_limit = 8,
        "a{abcdefghi=\"1\"} 1\n",
        "label_name_length_limit exceeded (series: a, bytes: 9",
    );
    check(
        |r| r.label_value_length_limit = 3,
        "a{x=\"12345\"} 1\n",
        "label_value_length_limit exceeded (series: a, label: x, bytes: 5",
    );
    check(
        |_| {},
        "ok 1\na{x=\"1\",x=\"2\"} 1\n",
        "label \"x\" is set twice (line 2:",
    );
}

#[test]
fn a_relabelling_that_takes_the_name_away_fails_the_scrape() {
    let relabel: Vec<RelabelRule> = parse_yaml("[{regex: __name__, action: labeldrop}]").expect("valid");
    let mut scene = Scene::new(SampleRules {
        metric_relabel: relabel.into(),
        ..rules()
    });
    let error = scene.scrape("a{x=\"1\"} 1\n").expect_err("no name");
    assert!(error.starts_with("sample without a metric name"), "{error}");
}

#[test]
fn a_store_that_forgot_names_is_told_them_anew() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\nb 1\n").expect("valid");
    scene.sink.forget_names();
    scene.scrape("a 2\n").expect("valid");
    scene.scrape("a 3\n").expect("valid");
    scene.check(A, "1:1 2:2 3:3");
    // Nobody sees a forgotten series, so its end needs no mark.
    scene.check(B, "1:1");
    scene.check(UP, "1:1 2:1 3:1");
}

#[test]
fn a_full_store_costs_only_what_is_new() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    scene.sink.limit_series(Some(6));
    scene.scrape("a 2\nb 2\n").expect("the scrape itself is fine");
    scene.check(A, "1:1 2:2");
    assert!(scene.sink.samples_of(B).is_empty());
    assert!(scene.counted("marketprism_samples_refused_total{reason=\"series_limit\"} 1"));
    scene.sink.limit_series(None);
    scene.scrape("a 3\nb 3\n").expect("valid");
    scene.check(B, "3:3");
}

#[test]
fn a_store_that_refuses_is_counted_and_the_road_goes_on() {
    let mut scene = Scene::new(rules());
    scene.sink.refuse_appends(true);
    scene.scrape("a 1\n").expect("the scrape itself is fine");
    scene.sink.refuse_appends(false);
    scene.scrape("a 2\n").expect("valid");
    scene.check(A, "2:2");
    assert!(scene.counted("marketprism_samples_refused_total{reason=\"store\"} 6"));
}

#[test]
fn a_target_that_is_gone_ends_its_series_and_the_meta_series() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    scene
        .road
        .end(Timestamp::from_millis(2000), &scene.sink)
        .expect("the store takes it");
    for (labels, _, value) in scene.sink.newest() {
        assert_eq!(value, None, "{labels} goes on");
    }
    scene.check(A, "1:1 2:x");
}

#[test]
fn a_target_that_is_gone_at_the_moment_of_its_last_scrape_ends_all_the_same() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\n").expect("valid");
    scene
        .road
        .end(Timestamp::from_millis(1000), &scene.sink)
        .expect("the store takes it");
    assert_eq!(
        scene.sink.samples_of(A),
        [
            (Timestamp::from_millis(1000), Some(1.0)),
            (Timestamp::from_millis(1001), None)
        ]
    );
}

#[test]
fn a_successor_ends_what_it_does_not_find() {
    let relabel: Vec<RelabelRule> =
        parse_yaml(r#"[{source_labels: [__name__], regex: b, action: drop}]"#).expect("valid");
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\nb 1\n").expect("valid");
    let changed = SampleRules {
        metric_relabel: relabel.into(),
        ..rules()
    };
    let mut next = Road::new(changed, CollectMetrics::default());
    next.follow(std::mem::replace(
        &mut scene.road,
        Road::new(rules(), CollectMetrics::default()),
    ));
    scene.road = next;
    scene.scrape("a 2\nb 2\n").expect("valid");
    scene.scrape("a 3\nb 3\n").expect("valid");
    scene.check(A, "1:1 2:2 3:3");
    scene.check(B, "1:1 2:x");
}

#[test]
fn a_successor_that_labels_alike_keeps_the_lines() {
    let mut scene = Scene::new(rules());
    scene.scrape("a 1\nb 1\n").expect("valid");
    let asked = scene.sink.resolved();
    let changed = SampleRules {
        timeout: Duration::from_secs(5),
        ..rules()
    };
    let mut next = Road::new(changed, CollectMetrics::default());
    next.follow(std::mem::replace(
        &mut scene.road,
        Road::new(rules(), CollectMetrics::default()),
    ));
    scene.road = next;
    scene.scrape("a 2\n").expect("valid");
    assert_eq!(scene.sink.resolved(), asked);
    scene.check(B, "1:1 2:x");
}

#[test]
fn comments_are_read_again_only_when_they_changed() {
    let mut scene = Scene::new(rules());
    let store = MetadataStore::default();
    let mut metadata = |body: &str| {
        scene.scrape(body).expect("valid");
        let families = scene
            .road
            .metadata_of(body.as_bytes(), Format::Prometheus, &store)?;
        Some(
            families
                .iter()
                .map(|f| format!("{} {} {}", f.family, f.kind.as_str(), f.help))
                .collect::<Vec<_>>(),
        )
    };
    let body = "# TYPE a counter\n# HELP a text\na 1\n";
    assert_eq!(metadata(body), Some(vec!["a counter text".to_owned()]));
    assert_eq!(metadata("# TYPE a counter\n# HELP a text\na 2\n"), None);
    assert_eq!(
        metadata("# TYPE a gauge\na 3\n"),
        Some(vec!["a gauge ".to_owned()])
    );
}

/// What Prometheus' rules say about one series, kept in the plainest way: alive or not, scrape by scrape.
fn expected_story(bodies: &[Option<Vec<(usize, i32)>>], series: usize) -> String {
    let mut story = Vec::new();
    let mut is_alive = false;
    for (at, body) in bodies.iter().enumerate() {
        let value = body
            .as_ref()
            .and_then(|lines| lines.iter().find(|(name, _)| *name == series));
        match value {
            Some((_, value)) => story.push(format!("{}:{value}", at + 1)),
            None if is_alive => story.push(format!("{}:x", at + 1)),
            None => {}
        }
        is_alive = value.is_some();
    }
    story.join(" ")
}

proptest! {
    /// Lines come, go and change places, scrapes fail, the store forgets: each series' story stays the plain one.
    #[test]
    fn stories_of_series_are_those_of_the_plain_model(
        bodies in proptest::collection::vec(
            proptest::option::weighted(0.85, proptest::collection::vec((0usize..6, -9i32..9), 0..8)), 1..12),
        shuffles in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let mut scene = Scene::new(rules());
        for (at, body) in bodies.iter().enumerate() {
            match body {
                None if shuffles[at] => scene.fail(),
                None => {
                    // A body that breaks off after known and new lines counts as no scrape at all.
                    scene.scrape("m{n=\"0\",z=\"1\"} 1\nm{n=\"3\",z=\"1\"} 1\nnew 1\nbroken{").expect_err("broken");
                }
                Some(lines) => {
                    let text: String = lines.iter().map(|(name, value)| {
                        // Two spellings of the same series, by turns.
                        if shuffles[at] { format!("m{{n=\"{name}\",z=\"1\"}} {value}\n") }
                        else { format!("m{{z=\"1\", n=\"{name}\"}} {value}\n") }
                    }).collect();
                    scene.scrape(&text).expect("valid");
                }
            }
        }
        for series in 0..6 {
            let name = format!(r#"m{{instance="i", job="j", n="{series}", z="1"}}"#);
            scene.check(&name, &expected_story(&bodies, series));
        }
    }
}
