//! Generated samples, in memory and as OpenMetrics text.

use std::fmt::Write as _;

use marketprism_model::{Labels, Timestamp};
use marketprism_testkit::SeededChance;

use marketprism_promql::memory::Memory;

/// The first scrape lies 7 s after this moment, which is a multiple of two hours.
pub const START_S: i64 = 1_700_006_400;
/// Nothing is scraped after this moment.
pub const END_S: i64 = START_S + 2 * 3600;
const SCRAPE_S: i64 = 15;

struct Writer {
    memory: Memory,
    families: Vec<(String, String)>,
    chance: SeededChance,
}

impl Writer {
    fn unit(&mut self) -> f64 {
        use marketprism_model::Chance;
        self.chance.next_unit_f64()
    }

    /// Adds a series whose value at each scrape `next` gives; `None` is a missed scrape.
    fn series(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        mut next: impl FnMut(&mut Self, i64) -> Option<f64>,
    ) {
        let all = labels.iter().copied().chain([("__name__", name)]);
        let set = Labels::from_pairs(all);
        let mut text = String::new();
        for scrape in 0..(END_S - START_S) / SCRAPE_S {
            let at = START_S + scrape * SCRAPE_S + 7;
            let Some(value) = next(self, scrape) else {
                continue;
            };
            self.memory.append(&set, Timestamp::from_millis(at * 1000), value);
            let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            let value = if value.is_nan() {
                "NaN".to_owned()
            } else {
                value.to_string()
            };
            writeln!(text, "{name}{{{}}} {value} {at}", pairs.join(",")).expect("strings take all");
        }
        self.families.push((name.to_owned(), text));
    }
}

/// Gives the data in memory and as text.
pub fn generate() -> (Memory, String) {
    let chance = SeededChance::new(7);
    let mut writer = Writer {
        memory: Memory::default(),
        families: Vec::new(),
        chance,
    };
    for (job, instances) in [("api", 4), ("db", 3), ("web", 3)] {
        for instance in 0..instances {
            let instance = format!("{job}-{instance}:9100");
            let labels = |extra: &[(&'static str, &'static str)]| {
                let mut all = vec![("job", job.to_owned()), ("instance", instance.clone())];
                all.extend(extra.iter().map(|(n, v)| (*n, (*v).to_owned())));
                all
            };
            for code in ["200", "404", "500"] {
                counter(&mut writer, "requests_total", &labels(&[("code", code)]));
            }
            counter(&mut writer, "cpu_seconds_total", &labels(&[("mode", "user")]));
            counter(&mut writer, "cpu_seconds_total", &labels(&[("mode", "system")]));
            gauge(&mut writer, "temperature", &labels(&[]));
            gauge(&mut writer, "load", &labels(&[]));
            up(&mut writer, &labels(&[]));
            info(
                &mut writer,
                &labels(&[("version", if job == "db" { "1.2" } else { "2.0" })]),
            );
            histogram(&mut writer, &labels(&[]));
        }
    }
    // The text wants the lines of one metric together.
    writer.families.sort_by(|a, b| a.0.cmp(&b.0));
    let mut text: String = writer.families.iter().map(|(_, text)| text.as_str()).collect();
    text.push_str("# EOF\n");
    (writer.memory, text)
}

type Owned = [(&'static str, String)];

fn borrowed(labels: &Owned) -> Vec<(&str, &str)> {
    labels
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

/// Rises unevenly, far above zero, and falls back now and then.
fn counter(writer: &mut Writer, name: &str, labels: &Owned) {
    let mut value = 1e6 + (writer.unit() * 1e6).floor();
    let pace = 1.0 + writer.unit() * 50.0;
    writer.series(name, &borrowed(labels), |writer, _| {
        if writer.unit() < 0.004 {
            value = 5e5 + (writer.unit() * 1e5).floor();
        }
        value += (writer.unit() * pace * 10.0).floor() / 10.0;
        Some(value)
    });
}

/// Wanders around, missing scrapes; a load with an odd NaN.
fn gauge(writer: &mut Writer, name: &str, labels: &Owned) {
    let mut value = writer.unit() * 80.0 - 20.0;
    let has_nan = name == "load" && writer.unit() < 0.5;
    writer.series(name, &borrowed(labels), |writer, _| {
        value += writer.unit() * 4.0 - 2.0;
        let draw = writer.unit();
        (draw > 0.05).then_some(if has_nan && draw > 0.995 { f64::NAN } else { value })
    });
}

fn up(writer: &mut Writer, labels: &Owned) {
    writer.series("up", &borrowed(labels), |writer, _| {
        Some(f64::from(writer.unit() < 0.95))
    });
}

fn info(writer: &mut Writer, labels: &Owned) {
    writer.series("build_info", &borrowed(labels), |_, _| Some(1.0));
}

fn histogram(writer: &mut Writer, labels: &Owned) {
    let bounds = ["0.05", "0.1", "0.5", "1", "+Inf"];
    let scrapes = ((END_S - START_S) / SCRAPE_S) as usize;
    let mut counts: Vec<[f64; 5]> = Vec::with_capacity(scrapes);
    let mut now = [1e5, 2e5, 3e5, 4e5, 5e5];
    for _ in 0..scrapes {
        let mut more = 0.0;
        for count in &mut now {
            more += (writer.unit() * 20.0).floor();
            *count += more;
        }
        counts.push(now);
    }
    for (place, bound) in bounds.iter().enumerate() {
        let mut labels = borrowed(labels);
        labels.push(("le", bound));
        writer.series("latency_bucket", &labels, |_, scrape| {
            Some(counts[scrape as usize][place])
        });
    }
}
