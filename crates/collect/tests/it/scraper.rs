//! The loops of targets on a clock with hands: pace, reload, limits, what readers see.

use std::sync::Arc;
use std::time::Duration;

use marketprism_collect::config::{ScrapeFile, parse_yaml};
use marketprism_collect::exposition::Format;
use marketprism_collect::scrape::{Applied, LocalSource, TargetHealth};
use marketprism_collect::{CollectMetrics, MetadataStore, ScrapePlan, Scraper, ScraperParts, SelfCollector};
use marketprism_model::{Clock, Timestamp};
use marketprism_testkit::{ManualClock, MemorySink, wait_for_async};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_transport::{Answer, FakeTransport};

const START_MS: i64 = 1_700_000_000_000;
const STEP: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    clock: ManualClock,
    transport: FakeTransport,
    sink: Arc<MemorySink>,
    scraper: Scraper,
    task: JoinHandle<()>,
    cancel: CancellationToken,
    registry: Registry,
}

impl Scene {
    fn new(concurrency: usize) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(START_MS));
        let transport = FakeTransport::new(&clock);
        let sink = Arc::new(MemorySink::new());
        let mut registry = Registry::default();
        let parts = ScraperParts {
            clock: Arc::new(clock.clone()),
            transport: Arc::new(transport.clone()),
            sink: Arc::clone(&sink) as _,
            metrics: CollectMetrics::register(&mut registry),
            metadata: MetadataStore::default(),
            concurrency,
            offset_seed: 0,
        };
        let cancel = CancellationToken::new();
        let (scraper, task) = Scraper::start(parts, cancel.clone());
        Scene {
            clock,
            transport,
            sink,
            scraper,
            task,
            cancel,
            registry,
        }
    }

    async fn apply(&self, yaml: &str) -> Applied {
        self.apply_with(yaml, Vec::new()).await
    }

    async fn apply_with(&self, yaml: &str, local: Vec<LocalSource>) -> Applied {
        let file: ScrapeFile = parse_yaml(yaml).expect(yaml);
        let plan = ScrapePlan {
            pools: file.validate().expect(yaml),
            local,
        };
        self.scraper.apply(plan).await.expect("the task runs")
    }

    /// Lets time pass in small steps; between them the loops do what is due.
    async fn pass(&self, span: Duration) {
        for _ in 0..span.as_millis() / STEP.as_millis() {
            self.settle().await;
            self.clock.advance(STEP);
        }
        self.settle().await;
    }

    /// Lets every task go as far as it can, and waits until every answer that was given is in the store: bodies are
    /// taken on threads that keep their own time.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if self.scrapes() < self.transport.answered() {
            wait_for_async(PATIENCE, || self.scrapes() >= self.transport.answered()).await;
            Box::pin(self.settle()).await;
        }
    }

    fn scrapes(&self) -> usize {
        let text = self.encoded();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("marketprism_scrapes_total "));
        count.expect("registered").parse().expect("a count")
    }

    /// Lets time pass until the condition holds.
    async fn pass_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if condition() {
                return;
            }
            self.pass(STEP).await;
        }
        panic!("never came true: {what}");
    }

    fn encoded(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("strings take everything");
        text
    }
}

fn job(name: &str, rest: &str, targets: &str) -> String {
    format!(
        "scrape_configs:\n  - job_name: {name}\n    scrape_interval: 10s\n    {rest}\n    static_configs: [{{targets: [{targets}]}}]\n"
    )
}

const URL: &str = "http://h:1/metrics";
const A: &str = r#"a{instance="h:1", job="j"}"#;
const UP: &str = r#"up{instance="h:1", job="j"}"#;

#[tokio::test]
async fn a_target_is_asked_at_its_place_in_every_interval_however_long_it_takes() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Late(3, "a 1\n".to_owned()));
    scene.apply(&job("j", "", "'h:1'")).await;
    scene
        .pass_until("five scrapes", || scene.sink.samples_of(A).len() >= 5)
        .await;
    let offset = scene.scraper.targets().active[0].target.offset(0).as_millis() as i64;
    let times = scene.transport.times(URL);
    for (at, time) in times.iter().enumerate() {
        let due = times[0] - times[0].rem_euclid(10_000) + offset + 10_000 * at as i64;
        let due = if due + STEP.as_millis() as i64 <= times[0] + 10_000 * at as i64 {
            due + 10_000
        } else {
            due
        };
        assert!(
            (0..STEP.as_millis() as i64).contains(&(time - due)),
            "scrape {at} at {time}, due {due}"
        );
    }
}

#[tokio::test]
async fn a_wall_clock_set_back_by_an_hour_costs_one_interval_at_most() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    scene.apply(&job("j", "", "'h:1'")).await;
    scene
        .pass_until("a scrape", || scene.sink.samples_of(A).len() == 1)
        .await;
    scene.clock.jump_to(scene.clock.now() - Duration::from_secs(3600));
    let set_back_at = scene.clock.monotonic();
    scene
        .pass_until("two more", || scene.sink.samples_of(A).len() == 3)
        .await;
    let took = scene.clock.monotonic() - set_back_at;
    assert!(
        took < Duration::from_millis(20_500),
        "two intervals of 10 s took {took:?}"
    );
    assert!(scene.transport.times(URL).len() <= 4);
}

#[tokio::test]
async fn a_wall_clock_set_forward_leaves_out_what_lies_between() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    scene.apply(&job("j", "", "'h:1'")).await;
    scene
        .pass_until("a scrape", || scene.sink.samples_of(A).len() == 1)
        .await;
    scene.clock.jump_to(scene.clock.now() + Duration::from_secs(3600));
    scene.pass(Duration::from_secs(20)).await;
    scene
        .pass_until("more", || scene.sink.samples_of(A).len() >= 3)
        .await;
    assert!(
        scene.transport.times(URL).len() <= 4,
        "missed scrapes are not made up for"
    );
}

#[tokio::test]
async fn an_unchanged_plan_disturbs_nobody() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    let plan = job("j", "", "'h:1'");
    assert_eq!(
        scene.apply(&plan).await,
        Applied {
            started: 1,
            ..Applied::default()
        }
    );
    scene
        .pass_until("a scrape", || scene.sink.samples_of(A).len() == 1)
        .await;
    let asked = scene.sink.resolved();
    assert_eq!(
        scene.apply(&plan).await,
        Applied {
            kept: 1,
            ..Applied::default()
        }
    );
    scene
        .pass_until("another", || scene.sink.samples_of(A).len() == 2)
        .await;
    assert_eq!(scene.sink.resolved(), asked);
}

#[tokio::test]
async fn a_target_that_leaves_the_plan_ends_its_series() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    scene.apply(&job("j", "", "'h:1'")).await;
    scene
        .pass_until("a scrape", || scene.sink.samples_of(A).len() == 1)
        .await;
    let applied = scene.apply("scrape_configs: []").await;
    assert_eq!(
        applied,
        Applied {
            ended: 1,
            ..Applied::default()
        }
    );
    assert!(
        scene.sink.newest().iter().all(|(_, _, value)| value.is_none()),
        "{:?}",
        scene.sink.newest()
    );
    assert!(scene.scraper.targets().active.is_empty());
}

#[tokio::test]
async fn a_target_that_changes_its_settings_goes_on_without_marks() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\nb 1\n".to_owned()));
    scene.apply(&job("j", "", "'h:1'")).await;
    scene
        .pass_until("a scrape", || scene.sink.samples_of(A).len() == 1)
        .await;
    let drop_b = "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]";
    assert_eq!(
        scene.apply(&job("j", drop_b, "'h:1'")).await,
        Applied {
            started: 1,
            ..Applied::default()
        }
    );
    assert_eq!(
        scene.scraper.targets().active[0].status().health,
        TargetHealth::Up,
        "the last word stays"
    );
    scene
        .pass_until("another", || scene.sink.samples_of(A).len() == 2)
        .await;
    assert!(scene.sink.samples_of(A).iter().all(|(_, value)| value.is_some()));
    let b = r#"b{instance="h:1", job="j"}"#;
    assert_eq!(
        scene.sink.value_of(b),
        None,
        "what the new settings drop has ended"
    );
    assert_eq!(scene.sink.samples_of(b).len(), 2);
}

#[tokio::test]
async fn shutdown_ends_the_loops_and_writes_no_marks() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    scene.transport.answer("http://h:2/metrics", Answer::Never);
    scene.apply(&job("j", "", "'h:1', 'h:2'")).await;
    scene
        .pass_until("a scrape", || {
            scene.sink.samples_of(A).len() == 1 && scene.transport.in_flight().0 == 1
        })
        .await;
    scene.cancel.cancel();
    tokio::time::timeout(PATIENCE, scene.task)
        .await
        .expect("ends soon")
        .expect("ends well");
    assert!(scene.sink.newest().iter().all(|(_, _, value)| value.is_some()));
    assert_eq!(scene.transport.in_flight().0, 0);
    assert!(scene.scraper.apply(ScrapePlan::default()).await.is_err());
}

#[tokio::test]
async fn readers_see_health_errors_and_dropped_targets() {
    let scene = Scene::new(4);
    scene.transport.answer(
        URL,
        Answer::Text("# TYPE a counter\n# HELP a text\na 1\n".to_owned()),
    );
    scene
        .transport
        .answer("http://h:2/metrics", Answer::Raw(500, None, String::new()));
    scene.transport.answer(
        "http://h:3/metrics",
        Answer::Raw(200, Some("text/html"), "<p>".to_owned()),
    );
    scene
        .transport
        .answer("http://h:4/metrics", Answer::Text("a 1\nb\n".to_owned()));
    scene.transport.answer("http://h:6/metrics", Answer::Refused);
    let drop_five = "relabel_configs: [{source_labels: [__address__], regex: 'h:5', action: drop}]";
    scene
        .apply(&job(
            "j",
            drop_five,
            "'h:1', 'h:2', 'h:3', 'h:4', 'h:5', 'h:6', 'bad/address'",
        ))
        .await;
    let targets = scene.scraper.targets();
    assert!(
        targets
            .active
            .iter()
            .all(|target| target.status().health == TargetHealth::Unknown)
    );
    scene
        .pass_until("all were asked", || {
            targets
                .active
                .iter()
                .all(|target| target.status().last_scrape.is_some())
        })
        .await;
    let word = |at: usize| {
        let status = targets.active[at].status();
        (status.health, status.last_error.clone())
    };
    assert_eq!(word(0), (TargetHealth::Up, String::new()));
    assert_eq!(
        word(1),
        (TargetHealth::Down, "server returned HTTP status 500".to_owned())
    );
    let html = "answer has unsupported Content-Type \"text/html\" and no fallback_scrape_protocol is set";
    assert_eq!(word(2), (TargetHealth::Down, html.to_owned()));
    assert_eq!(
        word(3),
        (
            TargetHealth::Down,
            "line 2: expected value after metric in \"b\"".to_owned()
        )
    );
    assert_eq!(
        word(4),
        (
            TargetHealth::Down,
            "cannot connect to http://h:6/metrics: connection refused".to_owned()
        )
    );
    assert_eq!(targets.active.len(), 5);
    assert_eq!(targets.dropped.len(), 1);
    assert_eq!(targets.dropped[0].discovered.get("__address__"), Some("h:5"));
    assert_eq!(targets.dropped_counts["j"], 1);
    let metadata = &targets.active[0].status().metadata;
    assert_eq!(
        (metadata[0].family.as_str(), metadata[0].help.as_str()),
        ("a", "text")
    );
    let counted = scene.encoded();
    assert!(counted.contains("marketprism_scrape_targets 5\n"), "{counted}");
    assert!(
        counted.contains("marketprism_discovery_failures_total 1\n"),
        "{counted}"
    );
    assert!(counted.contains("marketprism_scrape_failures_total"), "{counted}");
}

#[tokio::test]
async fn a_job_with_too_many_targets_fails_all_its_scrapes() {
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    scene.apply(&job("j", "target_limit: 1", "'h:1', 'h:2'")).await;
    scene
        .pass_until("the meta series", || scene.sink.value_of(UP) == Some(0.0))
        .await;
    // A target's status follows its samples.
    let error = || scene.scraper.targets().active[0].status().last_error.clone();
    scene.pass_until("the status", || !error().is_empty()).await;
    assert_eq!(error(), "target_limit exceeded (targets: 2, limit: 1)");
    assert!(scene.transport.times(URL).is_empty(), "nobody is asked");
    scene.apply(&job("j", "target_limit: 1", "'h:1'")).await;
    scene
        .pass_until("a sample", || scene.sink.value_of(A).is_some())
        .await;
}

#[tokio::test]
async fn no_more_scrapes_run_at_once_than_allowed() {
    let scene = Scene::new(3);
    let names: Vec<String> = (0..20).map(|at| format!("'h:{}'", at + 1)).collect();
    for at in 1..=20 {
        scene.transport.answer(
            &format!("http://h:{at}/metrics"),
            Answer::Late(1, "a 1\n".to_owned()),
        );
    }
    scene.apply(&job("j", "", &names.join(","))).await;
    scene
        .pass_until("all", || {
            scene
                .sink
                .newest()
                .iter()
                .filter(|(l, ..)| l.metric_name() == "a")
                .count()
                == 20
        })
        .await;
    assert_eq!(scene.transport.in_flight().1, 3);
}

#[tokio::test]
async fn target_files_are_read_anew_at_their_pace() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("targets.yml");
    std::fs::write(&file, "- targets: ['h:1']\n  labels: {dc: x}\n").expect("written");
    let scene = Scene::new(4);
    for at in 1..=2 {
        scene.transport.answer(
            &format!("http://h:{at}/metrics"),
            Answer::Text("a 1\n".to_owned()),
        );
    }
    let yaml = format!(
        "scrape_configs:\n  - job_name: j\n    scrape_interval: 10s\n    file_sd_configs: [{{files: ['{}'], refresh_interval: 30s}}]\n",
        file.display()
    );
    scene.apply(&yaml).await;
    let labels = || {
        scene
            .scraper
            .targets()
            .active
            .iter()
            .map(|t| t.target.labels.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(), [r#"{dc="x", instance="h:1", job="j"}"#]);
    let path = scene.scraper.targets().active[0]
        .target
        .discovered
        .get("__meta_filepath")
        .map(str::to_owned);
    assert_eq!(path, Some(file.display().to_string()));
    scene
        .pass_until("a scrape", || {
            scene
                .sink
                .value_of(r#"a{dc="x", instance="h:1", job="j"}"#)
                .is_some()
        })
        .await;
    std::fs::write(&file, "- targets: ['h:2']\n").expect("written");
    scene.pass(Duration::from_secs(31)).await;
    wait_for_async(PATIENCE, || labels() == [r#"{instance="h:2", job="j"}"#]).await;
    assert_eq!(
        scene.sink.value_of(r#"a{dc="x", instance="h:1", job="j"}"#),
        None,
        "the old target has ended"
    );
    std::fs::write(&file, "- targets: [").expect("written");
    scene.pass(Duration::from_secs(31)).await;
    assert_eq!(labels().len(), 1, "a broken file changes nothing");
}

#[tokio::test]
async fn requests_bear_what_the_configuration_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").expect("written");
    let scene = Scene::new(4);
    scene.transport.answer(URL, Answer::Text("a 1\n".to_owned()));
    let rest = format!(
        "basic_auth: {{username: user, password_file: '{}'}}\n    scrape_timeout: 2500ms\n    body_size_limit: 1KB\n    follow_redirects: false\n    http_headers: {{X-Team: {{values: [a, b]}}}}",
        password.display()
    );
    scene.apply(&job("j", &rest, "'h:1'")).await;
    scene
        .pass_until("a scrape", || scene.sink.value_of(A).is_some())
        .await;
    let request = scene.transport.last_request().expect("one was sent");
    let header = |name: &str| {
        let values = request.headers.get_all(name).iter();
        values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect::<Vec<_>>()
            .join("|")
    };
    // `printf user:secret | base64`
    assert_eq!(header("authorization"), "Basic dXNlcjpzZWNyZXQ=");
    assert_eq!(header("x-prometheus-scrape-timeout-seconds"), "2.5");
    assert_eq!(header("accept-encoding"), "gzip");
    assert_eq!(header("x-team"), "a|b");
    assert!(
        header("accept")
            .starts_with("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,")
    );
    assert_eq!(
        (
            request.timeout.as_millis(),
            request.body_bytes_max,
            request.redirects_max
        ),
        (2500, 1024, 0)
    );
    std::fs::write(&password, "rotated").expect("written");
    let count = scene.transport.times(URL).len();
    scene
        .pass_until("another", || scene.transport.times(URL).len() > count)
        .await;
    let request = scene.transport.last_request().expect("one was sent");
    // `printf user:rotated | base64`
    assert_eq!(request.headers["authorization"], "Basic dXNlcjpyb3RhdGVk");
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_the_scrape() {
    let scene = Scene::new(4);
    scene
        .transport
        .answer(URL, Answer::Text(format!("a{{v=\"{}\"}} 1\n", "x".repeat(2000))));
    scene
        .apply(&job(
            "j",
            "body_size_limit: 1KB\n    extra_scrape_metrics: true",
            "'h:1'",
        ))
        .await;
    scene
        .pass_until("a scrape", || scene.sink.value_of(UP) == Some(0.0))
        .await;
    assert_eq!(
        scene.scraper.targets().active[0].status().last_error,
        "body_size_limit exceeded (limit: 1024 bytes)"
    );
    assert_eq!(
        scene
            .sink
            .value_of(r#"scrape_body_size_bytes{instance="h:1", job="j"}"#),
        Some(-1.0)
    );
}

#[tokio::test]
async fn the_program_itself_is_a_target() {
    let scene = Scene::new(4);
    let own = SelfCollector::source("me", Duration::from_secs(5), || {
        Ok("# TYPE x counter\nx_total 3\n# EOF\n".to_owned())
    });
    let broken = LocalSource {
        job: "broken".to_owned(),
        write: Arc::new(|_| Err("no luck".to_owned())),
        ..own.clone()
    };
    scene.apply_with("scrape_configs: []", vec![own, broken]).await;
    scene
        .pass_until("a sample", || {
            scene
                .sink
                .value_of(r#"x_total{instance="me", job="marketprism"}"#)
                == Some(3.0)
        })
        .await;
    scene
        .pass_until("up", || {
            scene.sink.value_of(r#"up{instance="me", job="broken"}"#) == Some(0.0)
        })
        .await;
    assert_eq!(scene.scraper.targets().active[1].status().last_error, "no luck");
}

#[tokio::test]
async fn a_part_of_the_program_that_hangs_is_down_and_not_asked_twice_at_once() {
    let scene = Scene::new(4);
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = parking_lot::Mutex::new(gate);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let hanging = LocalSource {
        job: "hanging".to_owned(),
        instance: "me".to_owned(),
        // The real time-out of such a source is its interval.
        interval: Duration::from_millis(200),
        write: Arc::new(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            gate.lock()
                .recv()
                .map_err(|error| error.to_string())
                .map(|()| Format::Prometheus)
        }),
    };
    scene.apply_with("scrape_configs: []", vec![hanging]).await;
    let word = || scene.scraper.targets().active[0].status().last_error.clone();
    let advance = |words: &'static str| {
        let (clock, word) = (scene.clock.clone(), &word);
        async move {
            wait_for_async(PATIENCE, || {
                clock.advance(STEP);
                word() == words
            })
            .await;
        }
    };
    advance("no answer within 200ms").await;
    advance("the collector still works on an earlier scrape").await;
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(release);
    advance("receiving on a closed channel").await;
}

#[tokio::test]
async fn a_part_of_the_program_that_breaks_is_down_and_asked_again() {
    let scene = Scene::new(4);
    let breaking = LocalSource {
        job: "breaking".to_owned(),
        instance: "me".to_owned(),
        interval: Duration::from_secs(1),
        write: Arc::new(|text| {
            assert!(text.is_empty(), "never");
            panic!("broken");
        }),
    };
    scene.apply_with("scrape_configs: []", vec![breaking]).await;
    let up = r#"up{instance="me", job="breaking"}"#;
    for count in 1..=2 {
        scene.pass(Duration::from_secs(1)).await;
        // A panic on a blocking thread takes its own time to be told, above all with a backtrace.
        wait_for_async(PATIENCE, || scene.sink.samples_of(up).len() >= count).await;
    }
    assert_eq!(scene.sink.value_of(up), Some(0.0));
    let error = scene.scraper.targets().active[0].status().last_error.clone();
    assert!(
        error.starts_with("collector failed") && error.contains("broken"),
        "{error}"
    );
}
