//! Kept answers of queries: whatever comes in, late or early, nobody sees that they are kept.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use marketprism_model::sample::Durability;
use marketprism_model::{Chance, Clock, Histogram, Labels, RefHistogram, RefSample, SampleSink};
use marketprism_server::{CacheConfig, Changes, Config, NoticedSink};
use marketprism_testkit::SeededChance;
use prometheus_client::registry::Registry;
use serde_json::Value;

use crate::reply::{Reply, encoded, get, send};
use crate::rig::{Rig, Rooms, START, labels};

/// Two servers over the same rooms, of which one keeps answers.
pub struct Pair {
    pub keeping: Rig,
    pub plain: Rig,
    sink: Arc<dyn SampleSink>,
    pub changes: Changes,
}

impl Pair {
    /// Starts both over the same empty rooms.
    pub async fn start() -> Self {
        let rooms = Rooms::new(START);
        let changes = Changes::new();
        let clock: Arc<dyn Clock> = Arc::new(rooms.clock.clone());
        let store: Arc<dyn SampleSink> = rooms.store.clone();
        let sink: Arc<dyn SampleSink> = Arc::new(NoticedSink::new(store, clock, changes.clone()));
        let config = Config {
            cache: CacheConfig {
                enabled: true,
                entries_max: 50,
                ..CacheConfig::default()
            },
            ..Config::default()
        };
        let keeping = Rig::start_with(config, rooms.clone()).await;
        keeping.server.watch_changes(changes.clone());
        Pair {
            plain: Rig::start_with(Config::default(), rooms).await,
            keeping,
            sink,
            changes,
        }
    }

    /// Gives the rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.plain.rooms
    }

    /// Appends as the program does; what the store refuses is part of the game.
    pub fn append(&self, labels: &Labels, samples: &[(i64, f64)]) {
        let series = self.sink.resolve(labels).expect("the labels are good");
        let samples: Vec<_> = samples
            .iter()
            .map(|(millis, value)| RefSample {
                series,
                timestamp: marketprism_model::Timestamp::from_millis(*millis),
                value: *value,
            })
            .collect();
        let _ = self
            .sink
            .append(&samples, Durability::Interval)
            .expect("memory takes them");
    }

    /// Appends a histogram as the program does; what the store refuses is part of the game.
    pub fn append_histogram(&self, labels: &Labels, at_ms: i64, histogram: Histogram) {
        let sample = RefHistogram {
            series: self.sink.resolve(labels).expect("the labels are good"),
            timestamp: marketprism_model::Timestamp::from_millis(at_ms),
            histogram: Arc::new(histogram),
        };
        let _ = self
            .sink
            .append_histograms(&[sample], Durability::Interval)
            .expect("memory takes them");
    }

    /// Asks both servers; the answers must be equal but for their order.
    pub async fn ask(&self, path: &str) -> Reply {
        let kept = get(self.keeping.address, path).await;
        let fresh = get(self.plain.address, path).await;
        assert_eq!(kept.status, fresh.status, "{path}");
        assert_eq!(in_order(&kept), in_order(&fresh), "{path}");
        kept
    }
}

/// Gives an answer with its series in the order of their labels.
fn in_order(reply: &Reply) -> Value {
    let mut answer = reply.json();
    if answer["data"]["resultType"] == "vector" || answer["data"]["resultType"] == "matrix" {
        let series = answer["data"]["result"].as_array_mut().expect("a list");
        series.sort_by_key(|series| series["metric"].to_string());
    }
    answer
}

struct Game {
    chance: SeededChance,
    asked: Vec<String>,
}

impl Game {
    fn below(&self, limit: u64) -> u64 {
        self.chance.next_u64() % limit
    }

    fn series(&self) -> Labels {
        let (name, job) = (
            ["a", "b"][self.below(2) as usize],
            ["x", "y", "z"][self.below(3) as usize],
        );
        labels(&[("__name__", name), ("job", job)])
    }

    /// Writes a question about the last hours, or the next minutes; often one that was asked before.
    fn question(&mut self, now_ms: i64) -> String {
        if !self.asked.is_empty() && self.below(3) > 0 {
            return self.asked[self.below(self.asked.len() as u64) as usize].clone();
        }
        let minutes = |below: u64| self.below(below) as i64 * 60_000;
        let at_s = (now_ms + minutes(5) - minutes(60)) / 1000;
        let offset = ["", " offset 30m", " offset -10m", " @ 1785575000", " @ end()"][self.below(5) as usize];
        let expression = match self.below(7) {
            0 => format!("a{offset}"),
            1 => format!("sum by (job) (a{offset})"),
            2 => format!("rate(b[10m]{offset})"),
            3 => format!("max_over_time(sum(a{offset})[30m:1m])"),
            4 => format!("a{offset} + on (job) b"),
            5 => format!("absent(a{{job=\"z\"}}{offset})"),
            _ => format!("count by (__name__) ({{__name__=~\"a|b\"}}{offset})"),
        };
        let query = encoded(&expression);
        let question = match self.below(2) {
            0 => format!("/prometheus/api/v1/query?query={query}&time={at_s}"),
            _ => {
                let start_s = at_s - 60 * (1 + self.below(60) as i64);
                format!("/prometheus/api/v1/query_range?query={query}&start={start_s}&end={at_s}&step=60")
            }
        };
        self.asked.push(question.clone());
        question
    }
}

/// Samples come late and early, the clock is set back and forth, retention runs, and questions come again and again.
#[tokio::test]
async fn with_and_without_the_cache_every_answer_is_the_same() {
    let (mut hits, mut asked, mut filled) = (0, 0, 0);
    for seed in 0..12 {
        let pair = Pair::start().await;
        let mut game = Game {
            chance: SeededChance::new(seed),
            asked: Vec::new(),
        };
        for (name, job, value) in [("a", "x", 1.0), ("a", "y", 2.0), ("b", "x", 3.0), ("b", "z", 5.0)] {
            let samples =
                (0..240).map(|minute| (START.millis() - (240 - minute) * 60_000, value * minute as f64));
            pair.append(
                &labels(&[("__name__", name), ("job", job)]),
                &samples.collect::<Vec<_>>(),
            );
        }
        for _ in 0..250 {
            let now_ms = pair.rooms().clock.now().millis();
            match game.below(20) {
                0..=2 => pair.rooms().clock.advance(Duration::from_secs(game.below(600))),
                3..=4 => {
                    let value = game.below(100) as f64;
                    pair.append(&game.series(), &[(now_ms - game.below(1000) as i64, value)]);
                }
                5..=7 => {
                    let from_ms = now_ms - game.below(3_600_000) as i64;
                    let values = [1.0, 2.0, 4.0].map(|value| value * game.below(9) as f64);
                    let samples = [0, 1, 2].map(|step| (from_ms + step * 30_000, values[step as usize]));
                    pair.append(&game.series(), &samples);
                }
                8 if game.below(8) == 0 => {
                    let back = Duration::from_secs(game.below(7_200));
                    pair.rooms().clock.jump_to(pair.rooms().clock.now() - back);
                }
                9 if game.below(8) == 0 => {
                    // As if the retention were an hour: the store forgets what is older than 30 days.
                    let later = pair.rooms().clock.now() + Duration::from_secs(30 * 86_400 - 3_600);
                    let _rewriting = pair.changes.rewriting();
                    pair.rooms().store.maintain(later).expect("memory can be cleaned");
                }
                _ => {
                    let question = game.question(now_ms);
                    let reply = pair.ask(&question).await;
                    assert_eq!(reply.status, StatusCode::OK, "{question}: {:?}", reply.body);
                    asked += 1;
                    let answer = reply.json();
                    filled += usize::from(
                        answer["data"]["result"]
                            .as_array()
                            .is_some_and(|all| !all.is_empty()),
                    );
                }
            }
        }
        hits += pair.keeping.server.figures().query_cache.hits;
        assert_eq!(pair.plain.server.figures().query_cache.hits, 0);
    }
    // Of a test of a cache that never hits, or of answers that are always empty, nothing would follow.
    println!("{asked} questions, {filled} with an answer that is not empty, {hits} hits");
    assert!(hits * 10 > asked as u64, "{hits} hits of {asked}");
    assert!(filled * 2 > asked, "{filled} filled of {asked}");
}

#[tokio::test]
async fn a_late_sample_is_seen_at_once_and_a_later_one_leaves_the_past_alone() {
    let pair = Pair::start().await;
    let now_ms = START.millis();
    let series = labels(&[("__name__", "a"), ("job", "x")]);
    pair.append(&series, &[(now_ms - 3_600_000, 1.0), (now_ms, 2.0)]);
    let path = format!(
        "/prometheus/api/v1/query?query=sum(a)&time={}",
        now_ms / 1000 - 3_590
    );
    let value = async || pair.ask(&path).await.json()["data"]["result"][0]["value"][1].clone();
    assert_eq!((value().await, value().await), ("1".into(), "1".into()));
    let hits = || pair.keeping.server.figures().query_cache.hits;
    assert_eq!(hits(), 1);
    pair.append(&series, &[(now_ms + 1000, 3.0)]);
    assert_eq!(
        (value().await, hits()),
        ("1".into(), 2),
        "what came later does not matter"
    );
    let other = labels(&[("__name__", "a"), ("job", "y")]);
    pair.append(&other, &[(now_ms - 3_595_000, 5.0)]);
    assert_eq!((value().await, hits()), ("6".into(), 2), "a late sample is seen");
}

#[tokio::test]
async fn spelling_and_compression_are_told_apart_where_they_matter() {
    let pair = Pair::start().await;
    for number in 0..100 {
        let series = labels(&[("__name__", "a"), ("number", &number.to_string())]);
        pair.append(&series, &[(START.millis(), 1.0)]);
    }
    let at_s = START.millis() / 1000;
    let path = |query: &str| format!("/prometheus/api/v1/query?query={}&time={at_s}", encoded(query));
    let first = get(pair.keeping.address, &path("a+0")).await;
    let evenly = get(pair.keeping.address, &path("a + 0")).await;
    assert_eq!(first.body, evenly.body);
    assert_eq!(
        pair.keeping.server.figures().query_cache.hits,
        1,
        "it is the same question"
    );
    for _ in 0..2 {
        let request = Request::get(path("a+0")).header("accept-encoding", "gzip");
        let zipped = send(pair.keeping.address, request, "").await;
        assert_eq!(zipped.header("content-encoding"), "gzip");
        assert_eq!(zipped.header("vary"), "accept-encoding");
        assert_eq!(zipped.header("cache-control"), "no-store");
    }
    assert_eq!(pair.keeping.server.figures().query_cache.hits, 2);
    let cut = get(pair.keeping.address, &format!("{}&limit=1", path("a+0"))).await;
    assert_eq!(cut.json()["data"]["result"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(pair.keeping.address, &path("a+0")).await.body, first.body);
    let bad = get(pair.keeping.address, &path("a+")).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let mut registry = Registry::default();
    pair.keeping.server.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("memory takes text");
    for line in [
        "marketprism_query_cache_hits_total 3",
        "marketprism_query_cache_misses_total 4",
        "marketprism_server_tasks_running_max{kind=\"query\"} 4",
        "marketprism_server_tasks_refused_total{kind=\"push\"} 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}

/// What a hit costs next to an evaluation, over HTTP: `cargo test -p marketprism-server --release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_much_faster_a_kept_answer_is() {
    let pair = Pair::start().await;
    let now_ms = START.millis();
    for number in 0..1000 {
        let series = labels(&[("__name__", "a"), ("number", &number.to_string())]);
        let samples: Vec<_> = (0..240)
            .map(|step| (now_ms - (240 - step) * 15_000, step as f64))
            .collect();
        pair.append(&series, &samples);
    }
    let query = encoded("sum(rate(a[5m]))");
    let (start_s, end_s) = (now_ms / 1000 - 3_600, now_ms / 1000);
    let path = format!("/prometheus/api/v1/query_range?query={query}&start={start_s}&end={end_s}&step=15");
    for (name, rig) in [("evaluated", &pair.plain), ("kept", &pair.keeping)] {
        let _ = get(rig.address, &path).await;
        let clock = marketprism_testkit::MachineClock::default();
        for _ in 0..200 {
            assert_eq!(get(rig.address, &path).await.status, StatusCode::OK);
        }
        println!(
            "{name}: {:.3} ms a request",
            clock.monotonic().as_secs_f64() * 1000.0 / 200.0
        );
    }
}
