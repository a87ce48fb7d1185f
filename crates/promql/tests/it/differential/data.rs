//! Generated series: everything that a window can meet.
//!
//! Samples lie 7 s off every multiple of 15 s. Most values are small multiples of 2^-18, so that sums of them are
//! exact in whatever order they are made.

use marketprism_model::{Chance, Labels, Timestamp, sample};
use marketprism_promql::memory::Memory;
use marketprism_testkit::SeededChance;

/// The first scrape lies 7 s after this moment, which is a multiple of two hours.
pub const START_S: i64 = 1_700_006_400;
/// Nothing is scraped after this moment.
pub const END_S: i64 = START_S + 175 * 60;
const SCRAPE_S: i64 = 15;
const SCRAPES: usize = ((END_S - START_S) / SCRAPE_S) as usize;

/// The upper bounds of the classic histogram.
const BOUNDS: [&str; 6] = ["0.05", "0.1", "0.5", "1", "5", "+Inf"];

struct Writer {
    memory: Memory,
    chance: SeededChance,
    /// Counts the series, so that no two of a metric have equal values.
    made: u32,
}

type Pairs<'a> = Vec<(&'a str, &'a str)>;

impl Writer {
    fn unit(&mut self) -> f64 {
        self.chance.next_unit_f64()
    }

    /// A number of at most `limit`, a multiple of 2^-12.
    fn dyadic(&mut self, limit: f64) -> f64 {
        (self.unit() * limit * 4096.0).floor() / 4096.0
    }

    /// What sets a series apart from the others of its metric: less than 2^-12.
    fn apart(&mut self) -> f64 {
        self.made += 1;
        f64::from(self.made % 63 + 1) / f64::from(1 << 18)
    }

    /// Adds a series whose value at each scrape `next` gives; `None` is a missed scrape.
    fn series(
        &mut self,
        name: &str,
        pairs: &Pairs<'_>,
        mut next: impl FnMut(&mut Self, usize) -> Option<f64>,
    ) {
        let labels = Labels::from_pairs(pairs.iter().copied().chain([("__name__", name)]));
        for scrape in 0..SCRAPES {
            if let Some(value) = next(self, scrape) {
                let at = Timestamp::from_millis((START_S + scrape as i64 * SCRAPE_S + 7) * 1000);
                self.memory.append(&labels, at, value);
            }
        }
    }

    /// Never interrupted, and falling back to nearly nothing now and then.
    fn counter(&mut self, name: &str, pairs: &Pairs<'_>) {
        let (mut value, pace, apart) = (0.0, 1.0 + self.unit() * 50.0, self.apart());
        self.series(name, pairs, |writer, _| {
            if writer.unit() < 0.01 {
                value = 0.0;
            }
            value += writer.dyadic(pace);
            Some(value + apart)
        });
    }

    /// Far above zero, missing scrapes, never falling back: after a gap, a fall would count as much as all before it.
    fn high_counter(&mut self, name: &str, pairs: &Pairs<'_>) {
        let mut value = 1e6 + self.dyadic(1e5) + self.apart();
        self.series(name, pairs, |writer, _| {
            value += writer.dyadic(100.0);
            (writer.unit() > 0.08).then_some(value)
        });
    }

    /// Comes from zero somewhere, is ended by a mark, comes again.
    fn passing_counter(&mut self, name: &str, pairs: &Pairs<'_>) {
        let first = (self.unit() * 200.0) as usize;
        let (mut value, mut left, mut pause) = (0.0, 0usize, first);
        self.series(name, pairs, |writer, _| {
            if pause > 0 {
                pause -= 1;
                (value, left) = (-1.0, 20 + (writer.unit() * 120.0) as usize);
                return None;
            }
            if left == 0 {
                pause = 3 + (writer.unit() * 40.0) as usize;
                return Some(sample::stale_nan());
            }
            left -= 1;
            value = if value < 0.0 {
                0.0
            } else {
                value + writer.dyadic(9.0)
            };
            Some(value)
        });
    }

    /// Wanders around, missing scrapes.
    fn gauge(&mut self, name: &str, pairs: &Pairs<'_>) {
        let mut value = self.dyadic(80.0) - 20.0 + self.apart();
        self.series(name, pairs, |writer, _| {
            value += writer.dyadic(4.0) - 2.0;
            (writer.unit() > 0.05).then_some(value)
        });
    }

    /// Wanders around; sometimes NaN, sometimes ended by a mark.
    fn frail_gauge(&mut self, name: &str, pairs: &Pairs<'_>) {
        let (mut value, mut is_away) = (self.dyadic(10.0), false);
        self.series(name, pairs, |writer, _| {
            value = (value + writer.dyadic(2.0) - 1.0).abs();
            let draw = writer.unit();
            let was_away = is_away;
            is_away = if is_away { draw < 0.93 } else { draw < 0.008 };
            match (was_away, is_away) {
                (false, true) => Some(sample::stale_nan()),
                (true, true) => None,
                _ if draw > 0.99 => Some(f64::NAN),
                _ => Some(value),
            }
        });
    }

    /// Values that arithmetic trips over.
    fn odd(&mut self, name: &str, pairs: &Pairs<'_>) {
        const ODD: [f64; 8] = [
            0.0,
            1.0,
            -1.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            2.5,
            -7.0,
        ];
        self.one_of(&ODD, name, pairs);
    }

    /// Numbers at the end of what can be.
    fn huge(&mut self, name: &str, pairs: &Pairs<'_>) {
        const HUGE: [f64; 7] = [1e300, -1e300, f64::MAX, f64::MIN, 1e-300, 5e-324, -1e16];
        self.one_of(&HUGE, name, pairs);
    }

    fn one_of(&mut self, values: &[f64], name: &str, pairs: &Pairs<'_>) {
        let mut value = 1.0;
        self.series(name, pairs, |writer, _| {
            if writer.unit() < 0.05 {
                value = values[(writer.unit() * values.len() as f64) as usize];
            }
            Some(value)
        });
    }

    /// Small whole numbers that stay for a while: ties and changes.
    fn steps(&mut self, name: &str, pairs: &Pairs<'_>) {
        let mut value = (self.unit() * 5.0).floor();
        self.series(name, pairs, |writer, _| {
            if writer.unit() < 0.03 {
                value = (writer.unit() * 5.0).floor() - 1.0;
            }
            Some(value)
        });
    }

    /// Scraped seldom, with gaps longer than the lookback.
    fn sparse(&mut self, name: &str, pairs: &Pairs<'_>) {
        let (mut value, mut pause) = (self.dyadic(50.0), 0usize);
        self.series(name, pairs, |writer, _| {
            if pause > 0 {
                pause -= 1;
                return None;
            }
            pause = (writer.unit() * 30.0) as usize;
            value += writer.dyadic(10.0) - 4.0;
            Some(value)
        });
    }

    fn histogram(&mut self, pairs: &Pairs<'_>) {
        let mut buckets = Vec::with_capacity(SCRAPES);
        let (mut now, mut sum) = ([0.0; BOUNDS.len()], 0.0);
        for _ in 0..SCRAPES {
            if self.unit() < 0.005 {
                (now, sum) = ([0.0; BOUNDS.len()], 0.0);
            }
            let mut more = 0.0;
            for count in &mut now {
                more += (self.unit() * 8.0).floor();
                *count += more;
            }
            sum += self.dyadic(20.0);
            buckets.push((now, sum));
        }
        for (place, bound) in BOUNDS.iter().enumerate() {
            let mut pairs = pairs.clone();
            pairs.push(("le", bound));
            self.series("latency_bucket", &pairs, |_, scrape| {
                Some(buckets[scrape].0[place])
            });
        }
        self.series("latency_sum", pairs, |_, scrape| Some(buckets[scrape].1));
        self.series("latency_count", pairs, |_, scrape| {
            Some(buckets[scrape].0[BOUNDS.len() - 1])
        });
    }
}

/// Makes the data.
pub fn generate() -> Memory {
    let mut writer = Writer {
        memory: Memory::default(),
        chance: SeededChance::new(7),
        made: 0,
    };
    for (job, instances) in [("api", 4), ("db", 3), ("web", 3)] {
        let region = match job {
            "api" => "华东-1",
            "db" => "a \"quoted\\\" place",
            _ => "eu-west",
        };
        writer.series("region_info", &vec![("job", job), ("region", region)], |_, _| {
            Some(1.0)
        });
        for instance in 0..instances {
            let instance = format!("{job}-{instance}:9100");
            let pairs = vec![("job", job), ("instance", instance.as_str())];
            let with = |name, value| {
                let mut all = pairs.clone();
                all.push((name, value));
                all
            };
            for code in ["200", "404", "500"] {
                writer.counter("requests_total", &with("code", code));
            }
            for mode in ["user", "system"] {
                writer.counter("cpu_seconds_total", &with("mode", mode));
            }
            writer.high_counter("bytes_total", &pairs);
            writer.passing_counter("jobs_total", &pairs);
            writer.gauge("temperature", &pairs);
            writer.gauge("pressure", &pairs);
            writer.frail_gauge("load", &pairs);
            writer.odd("odd", &pairs);
            writer.huge("huge", &pairs);
            writer.steps("level", &pairs);
            writer.sparse("sparse", &pairs);
            writer.series("up", &pairs, |writer, _| Some(f64::from(writer.unit() < 0.95)));
            let version = if job == "db" { "1.2" } else { "2.0" };
            writer.series("build_info", &with("version", version), |_, _| Some(1.0));
            writer.histogram(&pairs);
        }
    }
    writer.memory
}
