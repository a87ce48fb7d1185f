//! Range queries put together of kept steps: a dashboard that moves on, over a store that is written to meanwhile.

use std::time::Duration;

use http::StatusCode;
use marketprism_model::{BucketSpan, Buckets, Chance, Clock, Histogram, Labels};
use marketprism_testkit::{MachineClock, SeededChance};

use crate::cache::Pair;
use crate::reply::{encoded, get};
use crate::rig::{START, labels};

/// Every kind of thing that could depend on more than its moment, or read more than it seems.
const EXPRESSIONS: &[&str] = &[
    "requests_total",
    "sum(rate(requests_total[5m]))",
    "sum by (job) (rate(requests_total[2m] offset 1m))",
    "rate(requests_total[1m] offset -3m)",
    "sum(heat @ 1785576000) + sum(heat)",
    "heat @ end()",
    "max_over_time(heat[10m] @ start())",
    "max_over_time(sum(heat)[10m:1m])",
    "avg_over_time((heat offset 2m)[5m:37s])",
    "absent(heat{job=\"z\"})",
    "absent_over_time(heat{job=\"z\"}[2m])",
    "topk(2, heat)",
    "bottomk by (job) (1, heat)",
    "limitk(2, heat)",
    "sort_desc(heat)",
    "quantile(0.3, heat)",
    "count_values(\"value\", round(heat / 10))",
    "scalar(sum(heat)) * 2",
    "vector(time()) - 1",
    "time() + 1",
    "3",
    "heat > 40",
    "heat and on (job) requests_total",
    "heat unless on (job) (heat > 60)",
    "heat * on (job, instance) group_left requests_total",
    "sum without (instance) (heat) or vector(0)",
    "label_replace(heat, \"place\", \"$1\", \"instance\", \"(.).*\")",
    "{__name__=~\"heat|requests_total\", job=\"x\"}",
    // These have remarks: what they take is no counter by its name, or no bucket.
    "sum(rate(heat[5m]))",
    "increase(heat[2m]) + rate(heat[1m])",
    "histogram_quantile(0.5, heat)",
    "quantile(3, heat)",
    "changes(heat[5m])",
    "timestamp(heat)",
    "predict_linear(heat[5m], 60)",
    // What Prometheus calls experimental, and native histograms.
    "rate(requests_total[5m] anchored)",
    "rate(requests_total[1m] smoothed)",
    "increase(requests_total[step() * 3])",
    "max_over_time(heat[range()])",
    "heat offset step()",
    "vector(end() - start())",
    "vector(step())",
    "sum(heat) + range()",
    // The parameter is that of the first step, for the vector stands still.
    "topk(scalar(count(heat > 50)), heat @ 1785576000)",
    "limit_ratio(0.5, heat)",
    "info(heat)",
    "info(heat offset 1m)",
    "heat + on (job, instance) fill(0) requests_total",
    "latency",
    "sum by (job) (rate(latency[5m]))",
    "histogram_quantile(0.9, sum(rate(latency[5m])))",
    "histogram_count(latency) + histogram_avg(latency offset 1m)",
    "{__name__=~\"latency|heat\", job=\"x\"}",
    "last_over_time(latency[3m])",
    "irate(requests_total[3m]) / ignoring (job) group_left sum without (job) (requests_total)",
];

struct Game {
    chance: SeededChance,
    panels: Vec<Panel>,
}

#[derive(Clone)]
struct Panel {
    expression: &'static str,
    step_s: i64,
    steps: i64,
    is_aligned: bool,
}

impl Game {
    fn below(&self, limit: u64) -> u64 {
        self.chance.next_u64() % limit
    }

    fn new(seed: u64) -> Self {
        let mut game = Game {
            chance: SeededChance::new(seed),
            panels: Vec::new(),
        };
        for _ in 0..14 {
            game.panels.push(Panel {
                expression: EXPRESSIONS[game.below(EXPRESSIONS.len() as u64) as usize],
                step_s: [5, 15, 60][game.below(3) as usize],
                steps: [10, 70, 240][game.below(3) as usize],
                is_aligned: game.below(5) > 0,
            });
        }
        game
    }

    fn series(&self, name: &str) -> Labels {
        let (job, instance) = (
            ["x", "y", "z"][self.below(3) as usize],
            ["a:1", "b:1"][self.below(2) as usize],
        );
        labels(&[("__name__", name), ("job", job), ("instance", instance)])
    }

    /// Scrapes most of the series at a moment; some end there.
    fn scrape(&self, pair: &Pair, at_ms: i64) {
        for (name, rising) in [("heat", false), ("requests_total", true)] {
            for (place, job) in ["x", "y", "z"].iter().enumerate() {
                for instance in ["a:1", "b:1"] {
                    if self.below(10) == 0 || (*job == "z" && self.below(3) > 0) {
                        continue;
                    }
                    let labels = labels(&[("__name__", name), ("job", job), ("instance", instance)]);
                    let value = match (self.below(40), rising) {
                        (0, _) => f64::from_bits(0x7ff0_0000_0000_0002),
                        (1, true) => 0.0,
                        (_, true) => (at_ms / 1000 % 100_000) as f64 * (1.0 + place as f64),
                        (_, false) => self.below(100) as f64 / 3.0 * 2.0,
                    };
                    pair.append(&labels, &[(at_ms, value)]);
                }
            }
        }
        self.scrape_others(pair, at_ms);
    }

    /// What an information and a distribution are scraped as; now and then a number stands in the place of the latter.
    fn scrape_others(&self, pair: &Pair, at_ms: i64) {
        for job in ["x", "y"] {
            let version = if at_ms / 600_000 % 2 == 0 { "1" } else { "2" };
            let pairs = [
                ("__name__", "target_info"),
                ("job", job),
                ("instance", "a:1"),
                ("version", version),
            ];
            pair.append(&labels(&pairs), &[(at_ms, 1.0)]);
            let labels = labels(&[("__name__", "latency"), ("job", job)]);
            if self.below(30) == 0 {
                pair.append(&labels, &[(at_ms, 1.0)]);
                continue;
            }
            let count = (at_ms / 1000 % 10_000) as f64;
            let buckets = Buckets {
                spans: vec![BucketSpan { offset: 0, length: 2 }],
                counts: vec![count, count * 2.0],
            };
            let histogram = Histogram {
                schema: if at_ms / 900_000 % 2 == 0 { 0 } else { 1 },
                count: count * 3.0,
                sum: count * 4.5,
                positive: buckets,
                ..Histogram::default()
            };
            pair.append_histogram(&labels, at_ms, histogram);
        }
    }

    /// Writes a panel's question as a dashboard does that shows the newest steps; sometimes it looks elsewhere.
    fn question(&self, now_ms: i64) -> (String, &'static str) {
        let mut panel = self.panels[self.below(self.panels.len() as u64) as usize].clone();
        let mut end_s = now_ms / 1000;
        match self.below(12) {
            0 => panel.steps = 1 + self.below(300) as i64,
            1 => end_s -= self.below(3_600) as i64,
            2 => end_s += 60,
            _ => {}
        }
        if panel.is_aligned {
            end_s -= end_s % panel.step_s;
        }
        let start_s = end_s - panel.steps * panel.step_s;
        let query = encoded(panel.expression);
        let path = format!(
            "/prometheus/api/v1/query_range?query={query}&start={start_s}&end={end_s}&step={}",
            panel.step_s
        );
        (path, panel.expression)
    }

    /// Lets something happen to the store, or time pass.
    fn event(&self, pair: &Pair) {
        let clock = &pair.rooms().clock;
        let now_ms = clock.now().millis();
        match self.below(24) {
            0..=7 => {
                clock.advance(Duration::from_millis(5_000 + self.below(15_000)));
                let at_ms = clock.now().millis();
                self.scrape(pair, at_ms - self.below(900) as i64);
            }
            8 => {
                // A late sender, and a rule that writes backwards.
                let from_ms = now_ms - self.below(1_800_000) as i64;
                let samples = [0, 1, 2].map(|step| (from_ms + step * 15_000, self.below(90) as f64));
                pair.append(&self.series("heat"), &samples);
            }
            9 => pair.append(
                &self.series("requests_total"),
                &[(now_ms - 60_000, self.below(900) as f64)],
            ),
            10 if self.below(6) == 0 => clock.jump_to(clock.now() - Duration::from_secs(self.below(1_200))),
            11 if self.below(6) == 0 => {
                let later = clock.now() + Duration::from_secs(30 * 86_400 - 1_800);
                let _rewriting = pair.changes.rewriting();
                pair.rooms().store.maintain(later).expect("memory can be cleaned");
            }
            _ => {}
        }
    }
}

/// Asks the same dashboards again and again while the store changes under them: with and without kept steps the answers are
/// the same, to the letter.
#[tokio::test]
async fn a_dashboard_that_moves_on_is_told_the_same_with_and_without_kept_steps() {
    let seeds = std::env::var("MARKETPRISM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let (mut reused, mut evaluated, mut asked, mut filled, mut noted) = (0, 0, 0_u64, 0_u64, 0_u64);
    for seed in 0..seeds.unwrap_or(10) {
        let pair = Pair::start().await;
        let game = Game::new(seed);
        for step in (0..240).rev() {
            game.scrape(&pair, START.millis() - step * 15_000 - 1);
        }
        for _ in 0..160 {
            game.event(&pair);
            let (path, expression) = game.question(pair.rooms().clock.now().millis());
            let reply = pair.ask(&path).await;
            let is_clash = reply.status == StatusCode::UNPROCESSABLE_ENTITY;
            assert!(
                is_clash || reply.status == StatusCode::OK,
                "{path}: {:?}",
                reply.body
            );
            let plain = get(pair.plain.address, &path).await;
            if !expression.contains("sort") {
                assert_eq!(reply.text(), plain.text(), "seed {seed}: {path}");
            }
            asked += 1;
            let answer = reply.json();
            let result = answer["data"]["result"].as_array();
            filled += u64::from(result.is_some_and(|all| !all.is_empty()));
            noted += u64::from(answer["infos"].is_array() || answer["warnings"].is_array());
        }
        let figures = pair.keeping.server.figures().query_cache;
        reused += figures.steps_reused;
        evaluated += figures.steps_evaluated;
        assert!(figures.range_bytes <= figures.bytes_max / 2);
        assert_eq!(pair.plain.server.figures().query_cache.steps_evaluated, 0);
    }
    println!(
        "{asked} questions, {filled} not empty, {noted} with remarks; steps: {reused} reused, {evaluated} evaluated"
    );
    assert!(
        filled * 2 > asked && noted * 20 > asked,
        "{filled} filled, {noted} noted of {asked}"
    );
    // The game is no dashboard's day: something late comes with every tenth question.
    assert!(
        reused * 2 > evaluated,
        "{reused} steps were used again, {evaluated} evaluated"
    );
}

#[tokio::test]
async fn a_refresh_evaluates_the_new_steps_alone_and_a_late_sample_its_own() {
    let pair = Pair::start().await;
    let series = labels(&[("__name__", "a_total"), ("job", "x")]);
    let now_s = START.millis() / 1000;
    let samples: Vec<_> = (0..241)
        .map(|step| ((now_s - 3_600 + step * 15) * 1000, step as f64))
        .collect();
    pair.append(&series, &samples);
    let ask = async |end_s: i64| {
        let before = pair.keeping.server.figures().query_cache.steps_evaluated;
        let path = format!(
            "/prometheus/api/v1/query_range?query=sum(rate(a_total[1m]))&start={}&end={end_s}&step=15",
            end_s - 3_600
        );
        let reply = pair.ask(&path).await;
        assert_eq!(reply.status, StatusCode::OK);
        pair.keeping.server.figures().query_cache.steps_evaluated - before
    };
    assert_eq!(ask(now_s).await, 241);
    pair.rooms().clock.advance(Duration::from_secs(15));
    pair.append(&series, &[((now_s + 15) * 1000, 241.0)]);
    assert_eq!(ask(now_s + 15).await, 1, "the step that was not there before");
    pair.append(&series, &[((now_s - 88) * 1000, 9.5)]);
    assert_eq!(
        ask(now_s + 15).await,
        6 + 1,
        "what a late sample may have touched: from the second of its moment on"
    );
    assert_eq!(ask(now_s + 15).await, 0, "the whole answer is kept as well");
}

/// What a refresh of a 4 h panel costs with and without kept steps, over HTTP:
/// `cargo test -p marketprism-server --release -- --ignored --nocapture refresh`.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_much_a_refresh_of_four_hours_costs() {
    let pair = Pair::start().await;
    let now_s = START.millis() / 1000;
    let series: Vec<Labels> = (0..6_400)
        .map(|number| {
            let (job, host) = (format!("job{}", number % 20), number.to_string());
            labels(&[("__name__", "cpu_seconds_total"), ("job", &job), ("host", &host)])
        })
        .collect();
    for (number, labels) in series.iter().enumerate() {
        let samples: Vec<_> = (0..1_000)
            .map(|step| {
                (
                    (now_s - (999 - step) * 15) * 1000,
                    (step * (1 + number as i64 % 7)) as f64,
                )
            })
            .collect();
        pair.append(labels, &samples);
    }
    for query in [
        "sum by (job) (rate(cpu_seconds_total[5m]))",
        "topk(5, rate(cpu_seconds_total[5m]))",
    ] {
        for (name, rig) in [("evaluated", &pair.plain), ("put together", &pair.keeping)] {
            let mut spent = Vec::new();
            for refresh in 0..21 {
                // Grafana rounds to the step, so that every refresh of 15 s is one step on.
                let end_s = now_s - 600 + refresh * 15;
                let path = format!(
                    "/prometheus/api/v1/query_range?query={}&start={}&end={end_s}&step=15",
                    encoded(query),
                    end_s - 4 * 3_600
                );
                let clock = MachineClock::default();
                assert_eq!(get(rig.address, &path).await.status, StatusCode::OK);
                spent.push(clock.monotonic().as_secs_f64() * 1000.0);
            }
            let first = spent.remove(0);
            spent.sort_by(f64::total_cmp);
            println!(
                "{query}, {name}: first {first:.1} ms, then {:.1} ms ({:.1}–{:.1}, n=20)",
                spent[10], spent[0], spent[19]
            );
        }
    }
}
