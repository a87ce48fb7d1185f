//! Death at every named point of the road: no alert forgotten, none doubled, no acknowledged sample lost.
//!
//! A round sets one alert off, lets the program die at one point, starts it again, and then asks for
//! everything that was promised. Only an attempt cut between sending and its receipt may be told twice, and
//! then the notification log must call it uncertain.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use marketprism_testkit::{FakeWebhook, is_true_within};
use serde_json::Value;

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};
use crate::remote_write;

/// The points that an alert and an acknowledged sample pass between the target and the receipt. The points
/// of a block cut are passed in `storage`'s own crash test, for they need hours of samples.
fn points() -> Vec<&'static str> {
    let storage: [&'static str; 4] = [
        "wal.append.before_write",
        "wal.append.after_write",
        "wal.before_fsync",
        "wal.after_fsync",
    ];
    let rooms: [&[&'static str]; 3] = [
        marketprism_state::POINTS,
        marketprism_alerts::POINTS,
        &marketprism_notify::POINTS,
    ];
    storage
        .into_iter()
        .chain(rooms.into_iter().flatten().copied())
        .collect()
}

/// How often each point is passed: 4 times by default, `MARKETPRISM_TEST_SCALE` times as often in long runs.
fn rounds_per_point() -> usize {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    4 * scale
}

const LANES: usize = 4;

struct Site {
    program: Program,
    exporter: Exporter,
    webhook: FakeWebhook,
    /// Samples that were acknowledged: milliseconds to value.
    acknowledged: BTreeMap<i64, f64>,
    sequence: f64,
}

impl Site {
    fn new() -> Self {
        let exporter = Exporter::start("");
        let webhook = FakeWebhook::start();
        let config = format!(
            r#"
global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
rule_files: [rules.yaml]
alert_manager: {{default_rules: false, evaluation_interval: 0.1}}
host: {{enabled: false, interval: 1h}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{}"]}}]
notification_manager:
  route: {{group_by: ["..."], group_wait: 50ms, group_interval: 1s, repeat_interval: 4h}}
  channels:
    webhook: {{enabled: true, url: "{}"}}
"#,
            exporter.address(),
            webhook.url()
        );
        let program = Program::prepare(&config);
        let rules = r#"
groups:
  - name: crash
    interval: 100ms
    rules:
      - alert: Broken
        expr: broken == 1
        for: 300ms
        labels: {severity: critical}
"#;
        fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
        Site {
            program,
            exporter,
            webhook,
            acknowledged: BTreeMap::new(),
            sequence: 0.0,
        }
    }

    /// Sends one sample; remembers it when it is acknowledged.
    fn write_sample(&mut self) {
        self.sequence += 1.0;
        let now = wall_millis();
        let body = remote_write::encode(vec![remote_write::series(
            &[("__name__", "acknowledged_total"), ("job", "sender")],
            &[(now, self.sequence)],
        )]);
        let (status, _) = self
            .program
            .post_bytes("/api/v1/write", &remote_write::HEADERS, &body);
        if status == 204 {
            self.acknowledged.insert(now, self.sequence);
        }
    }

    /// Lets the program die at `point` while alert `name` begins or ends; answers whether it died there.
    fn die_at(&mut self, point: &str, count: u64, name: &str) -> bool {
        self.exporter.set(&format!("broken{{name=\"{name}\"}} 1\n"));
        self.program
            .launch(&[("MARKETPRISM_KILL_POINT", &format!("{point}:{count}"))]);
        let mut is_dead = false;
        for step in 0..80 {
            self.write_sample();
            // Half-way the condition ends, so that points on the way of a resolve are passed too.
            if step == 50 {
                self.exporter.set(&format!("broken{{name=\"{name}\"}} 0\n"));
            }
            is_dead = self.program.wait_for_exit(Duration::from_millis(40)).is_some();
            if is_dead {
                break;
            }
        }
        self.program.kill();
        is_dead
    }

    /// Starts it again and sees the alert of the round through to its end.
    fn recover(&mut self, name: &str) {
        // What was told already is not broken anew, so that its one life ends here.
        let is_broken = u8::from(self.messages(name, "firing") == 0);
        self.exporter
            .set(&format!("broken{{name=\"{name}\"}} {is_broken}\n"));
        self.program.launch(&[]);
        self.program.wait_until_ready();
        self.write_sample();
        let is_told = is_true_within(PATIENCE, || self.messages(name, "firing") > 0);
        assert!(is_told, "alert {name} was forgotten; {}", self.story(name));
        self.exporter.set(&format!("broken{{name=\"{name}\"}} 0\n"));
        let is_over = is_true_within(PATIENCE, || {
            // The end must have been seen, or the series would stand in the store as broken.
            let last = self.program.query(&format!("broken{{name=\"{name}\"}}"));
            let has_ended = last.iter().all(|(_, value)| *value == 0.0);
            has_ended && self.messages(name, "resolved") >= self.messages(name, "firing") && self.is_settled()
        });
        assert!(is_over, "the end of {name} was not told; {}", self.story(name));
    }

    /// Tells what a person would need to find the fault.
    fn story(&self, name: &str) -> String {
        let alerts = self.program.get(&format!("/api/v1/alerts?label=name:{name}")).1;
        let notifications = self.program.get("/api/v1/notifications?limit=4").1;
        let told = (self.deliveries(name, "firing"), self.deliveries(name, "resolved"));
        format!(
            "told {told:?}\nalerts {alerts}\nnotifications {notifications}\nlog:\n{}",
            self.program.log()
        )
    }

    fn is_settled(&self) -> bool {
        let waiting = self
            .program
            .get_json("/api/v1/notifications?status=waiting&status=sending");
        let active = self.program.get_json("/api/v1/alerts?state=firing&state=pending");
        [waiting, active]
            .iter()
            .all(|page| page["items"].as_array().is_some_and(Vec::is_empty))
    }

    /// Counts distinct notifications about `name` in `status`.
    fn messages(&self, name: &str, status: &str) -> usize {
        self.deliveries(name, status).len()
    }

    /// Gives idempotency keys of the deliveries about `name` in `status`, with how often each came.
    fn deliveries(&self, name: &str, status: &str) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for request in self.webhook.received() {
            let body = request.json();
            if body["status"] == status && body["commonLabels"]["name"] == name {
                let key = request.header("idempotency-key");
                assert!(!key.is_empty(), "every delivery has its key");
                *keys.entry(key.to_owned()).or_insert(0) += 1;
            }
        }
        keys
    }

    /// Holds everything that was promised about `name` against what is there.
    fn verify(&self, name: &str, at: &str) {
        let alerts = self
            .program
            .get_json(&format!("/api/v1/alerts?label=name:{name}&limit=100"));
        let fired: Vec<&Value> = alerts["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|alert| !alert["fired_at"].is_null())
            .collect();
        // A life is told once and its end once. A second life that begins before the end of the first was told
        // goes on under the first message, as with Alertmanager.
        let told = self.deliveries(name, "firing").len();
        assert!(
            (1..=fired.len()).contains(&told),
            "{at}: lives {alerts}, told {told} times"
        );
        for status in ["firing", "resolved"] {
            let keys = self.deliveries(name, status);
            assert_eq!(
                keys.len(),
                told,
                "{at}: lives {alerts}, {status} told as {keys:?}"
            );
            for (key, count) in keys.iter().filter(|(_, count)| **count > 1) {
                assert!(
                    self.is_uncertain(key, *count),
                    "{at}: {key} came {count} times without a reason"
                );
            }
        }
    }

    /// Says whether the log accounts for each delivery but one as cut between sending and receipt.
    fn is_uncertain(&self, key: &str, deliveries: usize) -> bool {
        let page = self.program.get_json("/api/v1/notifications?limit=1000");
        let items = page["items"].as_array().expect("a list");
        let found = items
            .iter()
            .find(|item| item["id"] == key)
            .expect("a delivered notification is on record");
        let attempts = found["attempts"].as_array().expect("attempts are listed");
        attempts
            .iter()
            .filter(|attempt| attempt["outcome"] == "uncertain")
            .count()
            >= deliveries - 1
    }

    fn verify_samples(&self) {
        let encoded = "acknowledged_total%7Bjob%3D%22sender%22%7D%5B1h%5D";
        let answer = self
            .program
            .get_json(&format!("/prometheus/api/v1/query?query={encoded}"));
        let mut present = BTreeMap::new();
        for point in answer["data"]["result"][0]["values"]
            .as_array()
            .expect("a matrix of one series")
        {
            let millis = (point[0].as_f64().expect("seconds") * 1000.0).round() as i64;
            present.insert(
                millis,
                point[1]
                    .as_str()
                    .and_then(|text| text.parse::<f64>().ok())
                    .expect("a number"),
            );
        }
        for (millis, value) in &self.acknowledged {
            assert_eq!(
                present.get(millis),
                Some(value),
                "acknowledged sample at {millis} is lost"
            );
        }
        assert!(!self.acknowledged.is_empty(), "some samples were acknowledged");
    }
}

#[allow(clippy::disallowed_methods)] // A sender stamps its samples with the machine's time.
fn wall_millis() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

#[test]
fn death_at_every_point_of_the_road_forgets_nothing_and_doubles_nothing() {
    let points = points();
    let rounds: Vec<(usize, &str)> = (0..rounds_per_point())
        .flat_map(|turn| points.iter().map(move |p| (turn, *p)))
        .collect();
    let hits = std::sync::Mutex::new(BTreeMap::<&str, usize>::new());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (rounds, hits) = (&rounds, &hits);
            scope.spawn(move || {
                let mut site = Site::new();
                for (number, (turn, point)) in rounds.iter().enumerate().filter(|(n, _)| n % LANES == lane) {
                    let name = format!("r{number}");
                    // Later turns die at a later passing of the same point; what only messages pass is passed
                    // twice a round, by the beginning and by the end.
                    let count = if point.starts_with("wal.") {
                        1 + 2 * turn
                    } else {
                        1 + turn % 2
                    };
                    let has_died = site.die_at(point, count as u64, &name);
                    if has_died {
                        *hits.lock().expect("no holder panics").entry(point).or_insert(0) += 1;
                    }
                    site.recover(&name);
                    site.verify(&name, &format!("{point}, turn {turn}"));
                    site.verify_samples();
                    site.program.kill();
                }
            });
        }
    });
    let hits = hits.into_inner().expect("no holder panics");
    let missed: Vec<_> = points.iter().filter(|point| !hits.contains_key(*point)).collect();
    assert!(missed.is_empty(), "never hit: {missed:?}; hit: {hits:?}");
    println!("{} rounds, deaths: {hits:?}", rounds.len());
}
