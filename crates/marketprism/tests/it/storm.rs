//! A storm of heavy queries beside rules: dashboards wait, rules do not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::Clock as _;
use marketprism_testkit::{MachineClock, is_true_within};

use crate::program::Program;
use crate::remote_write;

/// Clients that ask without pause.
const CLIENTS: usize = 50;
/// How long they do.
const STORM: Duration = Duration::from_secs(20);
/// Groups with an interval of their own each.
const INTERVALS_S: [u64; 4] = [2, 2, 2, 3];
const SERIES: usize = 400;
const SAMPLES: i64 = 240;

const CONFIG: &str = r"
security: {api_auth: {enabled: false}}
rule_files: [rules.yaml]
server: {query_queue: 30, query_timeout: 20s}
";

fn rules() -> String {
    let mut text = "groups:\n".to_owned();
    for (number, interval_s) in INTERVALS_S.iter().enumerate() {
        text.push_str(&format!(
            "  - name: g{number}\n    interval: {interval_s}s\n    rules:\n"
        ));
        for rule in 0..25 {
            text.push_str(&format!(
                "      - alert: A{number}x{rule}\n        expr: rate(work_total{{instance=\"i{rule}\"}}[5m]) > 1e9\n"
            ));
        }
        // Each with a window of its own, so that nothing is shared and a tick is real work.
        for rule in 0..10 {
            text.push_str(&format!(
                "      - record: work:rate{number}x{rule}\n        expr: sum(rate(work_total[{}m]))\n",
                20 + 4 * rule + number
            ));
        }
    }
    text
}

/// Reads the figures of a family by group.
fn by_group(metrics: &str, family: &str) -> Vec<(String, f64)> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(family));
    lines
        .filter_map(|line| {
            let (labels, value) = line.strip_prefix('{')?.rsplit_once("} ")?;
            Some((labels.to_owned(), value.split(' ').next()?.parse().ok()?))
        })
        .collect()
}

/// Asks until the storm is over; counts what is answered and what is turned away.
fn client(
    number: usize,
    url: &str,
    end_s: i64,
    is_over: &AtomicBool,
    answered: &AtomicU64,
    refused: &AtomicU64,
) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut turn = 0;
    while !is_over.load(Ordering::Relaxed) {
        turn += 1;
        let start_s = end_s - 3_600 - (turn * CLIENTS + number) as i64 % 60;
        let form = format!(
            "query=sum by (job) (rate({{__name__=~\".%2B\"}}[30m])) / {number}.5&start={start_s}&end={end_s}&step=5"
        );
        let outcome = agent
            .post(format!("{url}/prometheus/api/v1/query_range"))
            .header("content-type", "application/x-www-form-urlencoded")
            .send(form.as_bytes());
        match outcome {
            Ok(reply) if reply.status() == 200 => answered.fetch_add(1, Ordering::Relaxed),
            Ok(reply) => {
                let has_advice = reply.headers().contains_key("retry-after");
                assert!(
                    reply.status() == 503,
                    "a heavy query is answered or turned away, not {}",
                    reply.status()
                );
                refused.fetch_add(u64::from(has_advice), Ordering::Relaxed)
            }
            Err(_) => 0,
        };
    }
}

#[test]
fn rules_stay_on_time_while_fifty_clients_send_heavy_queries() {
    let mut program = Program::prepare(CONFIG);
    std::fs::write(program.home().join("rules.yaml"), rules()).expect("the folder is writable");
    program.launch(&[]);
    program.wait_until_ready();
    let clock = MachineClock::default();
    let now_ms = clock.now().millis();
    for chunk in 0..SERIES / 50 {
        let series = (0..50).map(|place| {
            let number = (chunk * 50 + place).to_string();
            let samples: Vec<_> = (0..SAMPLES)
                .map(|step| (now_ms - (SAMPLES - step) * 15_000, (step * 7) as f64))
                .collect();
            let labels = [
                ("__name__", "work_total"),
                ("instance", &*format!("i{number}")),
                ("job", ["a", "b", "c"][place % 3]),
            ];
            remote_write::series(&labels, &samples)
        });
        let body = remote_write::encode(series.collect());
        let (status, text) = program.post_bytes("/api/v1/write", &remote_write::HEADERS, &body);
        assert_eq!(status, 204, "{text}");
    }
    let metrics = || program.get("/metrics").1;
    let total = |text: &str, family: &str| by_group(text, family).iter().map(|(_, value)| value).sum::<f64>();
    let ticks = |text: &str| total(text, "marketprism_rule_group_iterations_total");
    assert!(
        is_true_within(Duration::from_secs(30), || ticks(&metrics()) >= 8.0),
        "the rules tick before the storm"
    );

    let (is_over, answered, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let before = metrics();
    let (mut latest_s, mut seen): (f64, u32) = (0.0, 0);
    let url = program.url();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (url, is_over, answered, refused) = (&url, &is_over, &answered, &refused);
            scope.spawn(move || client(number, url, now_ms / 1000, is_over, answered, refused));
        }
        is_true_within(STORM, || {
            let text = metrics();
            let now_s = clock.now().seconds_f64();
            let intervals = by_group(&text, "marketprism_rule_group_interval_seconds");
            for (group, at_s) in by_group(&text, "marketprism_rule_group_last_evaluation_timestamp_seconds") {
                let interval = intervals.iter().find(|(of, _)| *of == group);
                let interval_s = interval.map_or(1.0, |(_, interval_s)| *interval_s);
                // The next tick was due an interval after this one.
                latest_s = latest_s.max(now_s - at_s - interval_s);
                seen += 1;
                assert!(
                    now_s - at_s < 2.0 * interval_s,
                    "{group} has not ticked for {:.2} s",
                    now_s - at_s
                );
            }
            false
        });
        is_over.store(true, Ordering::Relaxed);
    });
    let after = metrics();
    let missed = "marketprism_rule_group_iterations_missed_total";
    let slowest = by_group(&after, "marketprism_rule_group_last_duration_seconds");
    println!(
        "{} queries answered, {} turned away; {} ticks in {} s, the latest seen {:.0} ms after it was due; slowest last tick {:.0} ms",
        answered.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed),
        ticks(&after) - ticks(&before),
        STORM.as_secs(),
        latest_s.max(0.0) * 1000.0,
        slowest.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max) * 1000.0,
    );
    assert_eq!(
        total(&after, missed) - total(&before, missed),
        0.0,
        "no tick is missed"
    );
    let due: f64 = INTERVALS_S
        .iter()
        .map(|interval_s| STORM.as_secs_f64() / *interval_s as f64 - 1.0)
        .sum();
    assert!(ticks(&after) - ticks(&before) >= due, "every tick ran");
    assert!(seen > 40, "the rules were looked at {seen} times");
    assert!(
        answered.load(Ordering::Relaxed) > 0,
        "queries go on, at their pace"
    );
    assert!(
        refused.load(Ordering::Relaxed) > 0,
        "what does not fit into the queue is turned away with Retry-After"
    );
}
