//! Random histories, held against a sorted map.

use marketprism_model::sample::{Appended, Durability, STALE_NAN_BITS};
use marketprism_model::series::Bookmark;
use marketprism_model::{Clock, Matcher, MatcherOp, Selection, SeriesSource, TimeRange, Timestamp};
use proptest::prelude::*;

use crate::harness::*;

#[derive(Clone, Debug)]
enum Step {
    /// Every series gets a sample now.
    Scrape(u8),
    /// One series gets a sample from some time ago: late, double, or in conflict.
    Late {
        series: usize,
        minutes_ago: i64,
        value: u8,
        is_histogram: bool,
    },
    /// A sample ahead of the clock.
    Ahead {
        series: usize,
        minutes: i64,
    },
    /// Time passes, and all series are scraped every minute meanwhile.
    Run {
        minutes: i64,
    },
    /// Time passes and nothing comes.
    Silence {
        minutes: i64,
    },
    Maintain,
    Reopen,
    Read {
        minutes_ago: i64,
        span: i64,
        matcher: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Scrape),
        6 => (0usize..12, 0i64..600, 0u8..3, any::<bool>()).prop_map(|(series, minutes_ago, value, is_histogram)| Step::Late {
            series,
            minutes_ago,
            value,
            is_histogram,
        }),
        1 => (0usize..9, 0i64..20).prop_map(|(series, minutes)| Step::Ahead { series, minutes }),
        4 => (1i64..100).prop_map(|minutes| Step::Run { minutes }),
        1 => (1i64..300).prop_map(|minutes| Step::Silence { minutes }),
        4 => Just(Step::Maintain),
        2 => Just(Step::Reopen),
        6 => (0i64..900, 0i64..600, 0usize..5).prop_map(|(minutes_ago, span, matcher)| Step::Read { minutes_ago, span, matcher }),
    ]
}

fn value_of(seed: u8, time: i64) -> f64 {
    match seed {
        0 => f64::from_bits(STALE_NAN_BITS),
        1 => f64::NAN,
        2 => -0.0,
        _ => f64::from(seed) + (time / MINUTE % 1_000) as f64 / 8.0,
    }
}

fn question(number: usize) -> Vec<Matcher> {
    let matcher = |name, op, value| Matcher::new(name, op, value).expect("valid expressions");
    match number {
        0 => vec![],
        1 => vec![Matcher::equal("__name__", "metric_0")],
        2 => vec![matcher("host", MatcherOp::Matches, "host-[0-2]")],
        3 => vec![matcher("host", MatcherOp::NotEqual, "host-1")],
        _ => vec![
            matcher("host", MatcherOp::Matches, "host-1|host-2"),
            matcher("__name__", MatcherOp::NotMatches, ".*_1"),
        ],
    }
}

/// The seed of a histogram at a moment, and of another one.
fn seed_of(value: u8, time: i64) -> u32 {
    (time / MINUTE % 1_000) as u32 * 4 + u32::from(value)
}

/// What is appended at once.
#[derive(Clone, Copy)]
enum Batch<'a> {
    Numbers(&'a [(usize, i64, f64)]),
    Histograms(&'a [(usize, i64, u32)]),
}

impl Batch<'_> {
    fn bits(&self) -> Vec<(usize, i64, u64)> {
        match self {
            Batch::Numbers(samples) => samples
                .iter()
                .map(|(n, t, value)| (*n, *t, value.to_bits()))
                .collect(),
            Batch::Histograms(samples) => samples
                .iter()
                .map(|(n, t, seed)| (*n, *t, histogram_bits(*seed)))
                .collect(),
        }
    }
}

/// The store and the map beside it.
struct Pair {
    dir: tempfile::TempDir,
    clock: marketprism_testkit::ManualClock,
    window: i64,
    store: Option<marketprism_storage::Store>,
    map: Contents,
    newest: i64,
    /// One for each question; they outlive cuts, removals and the store itself.
    bookmarks: [Bookmark; 5],
}

impl Pair {
    fn new(window_hours: i64) -> Self {
        let mut pair = Pair {
            dir: tempfile::tempdir().expect("a temporary folder"),
            clock: clock_at(START),
            window: window_hours * HOUR,
            store: None,
            map: Contents::new(),
            newest: i64::MIN,
            bookmarks: Default::default(),
        };
        pair.reopen();
        pair
    }

    fn reopen(&mut self) {
        drop(self.store.take());
        let mut config = config(self.dir.path());
        config.out_of_order_window = std::time::Duration::from_millis(self.window as u64);
        self.store = Some(open(config, &self.clock));
    }

    fn store(&self) -> &marketprism_storage::Store {
        self.store.as_ref().expect("open between steps")
    }

    fn append(&mut self, batch: Batch<'_>) {
        let limit = self.clock.now().millis() + 10 * MINUTE;
        let oldest = self
            .newest
            .min(self.clock.now().millis())
            .saturating_sub(self.window);
        let mut expected = Appended::default();
        for (number, time, bits) in batch.bits() {
            let map = self.map.entry(series(number)).or_default();
            let is_newest = map.keys().next_back() == Some(&time);
            if time > limit {
                expected.too_far_ahead += 1;
            } else if time < oldest && !is_newest {
                expected.too_old += 1;
            } else {
                let known = *map.entry(time).or_insert(bits);
                if known == bits {
                    expected.accepted += 1;
                    self.newest = self.newest.max(time);
                } else {
                    expected.conflicting += 1;
                }
            }
        }
        self.map.retain(|_, map| !map.is_empty());
        let appended = match batch {
            Batch::Numbers(samples) => append(self.store(), samples, Durability::Interval),
            Batch::Histograms(samples) => append_histograms(self.store(), samples, Durability::Interval),
        };
        assert_eq!(appended.expect("the disk is whole"), expected);
    }

    fn scrape(&mut self, seed: u8) {
        let time = self.clock.now().millis();
        // A scrape that comes again at the same moment would be another value.
        if self.newest < time {
            // Nine series of numbers, two of histograms, and one that turns from one to the other every hour.
            let turns = time / HOUR % 2 == 0;
            let mut numbers: Vec<_> = (0..9)
                .map(|n| (n, time, value_of(seed, time + n as i64)))
                .collect();
            let mut histograms = vec![(9, time, seed_of(0, time)), (10, time, seed_of(seed, 0))];
            if turns {
                histograms.push((11, time, seed_of(1, time)));
            } else {
                numbers.push((11, time, value_of(seed, time)));
            }
            self.append(Batch::Numbers(&numbers));
            self.append(Batch::Histograms(&histograms));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Scrape(seed) => self.scrape(seed),
            Step::Late {
                series: number,
                minutes_ago,
                value,
                is_histogram,
            } => {
                let time = self.clock.now().millis() - minutes_ago * MINUTE;
                let is_newest = self
                    .map
                    .get(&series(number))
                    .and_then(|map| map.keys().next_back())
                    == Some(&time);
                // Whether a repeated newest sample is still known after its series left memory is left open.
                if !is_newest {
                    if is_histogram {
                        self.append(Batch::Histograms(&[(number, time, seed_of(value, time))]));
                    } else {
                        self.append(Batch::Numbers(&[(number, time, value_of(3 + value, time))]));
                    }
                }
            }
            Step::Ahead { series, minutes } => {
                let time = self.clock.now().millis() + minutes * MINUTE + 1;
                self.append(Batch::Numbers(&[(series, time, 1.0)]));
                self.append(Batch::Histograms(&[(series, time, 1)]));
            }
            Step::Run { minutes: count } => {
                for _ in 0..count {
                    self.clock.advance(minutes(1));
                    self.scrape(4);
                }
            }
            Step::Silence { minutes: count } => self.clock.advance(minutes(count as u64)),
            Step::Maintain => {
                self.store()
                    .maintain(self.clock.now())
                    .expect("the disk is whole");
            }
            Step::Reopen => self.reopen(),
            Step::Read {
                minutes_ago,
                span,
                matcher,
            } => {
                let start = self.clock.now().millis() - minutes_ago * MINUTE;
                self.check(&question(matcher), start, start + span * MINUTE);
                self.check_marked(start, start + span * MINUTE);
            }
        }
        let now = self.clock.now().millis();
        self.check_marked(now - 5 * MINUTE, now);
    }

    /// Asks every question by its bookmark: it must choose what is chosen without.
    fn check_marked(&self, start: i64, end: i64) {
        let range = TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end));
        for (number, bookmark) in self.bookmarks.iter().enumerate() {
            let matchers = question(number);
            let marked = self.store().select_again(&matchers, range, bookmark);
            let fresh = self.store().select(&matchers, range);
            let (marked, fresh) = (marked.expect("no damage"), fresh.expect("no damage"));
            assert_eq!(marked.labels(), fresh.labels());
            let samples = |selection: &dyn Selection| {
                let mut all = Vec::new();
                let read = selection.read(0..selection.labels().len(), range, &mut |position, samples| {
                    let values = samples.values.iter().map(|value| value.to_bits());
                    let histograms = samples.histograms.iter().map(|(at, _)| *at);
                    all.push((
                        position,
                        samples.timestamps.to_vec(),
                        values.collect::<Vec<u64>>(),
                        histograms.collect::<Vec<i64>>(),
                    ));
                    Ok(())
                });
                read.map(|()| all).expect("no damage")
            };
            assert_eq!(samples(&*marked), samples(&*fresh));
        }
    }

    fn check(&self, matchers: &[Matcher], start: i64, end: i64) {
        let mut expected = Contents::new();
        for (labels, map) in &self.map {
            if matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
                let inside: std::collections::BTreeMap<_, _> =
                    map.range(start..=end).map(|(t, b)| (*t, *b)).collect();
                if !inside.is_empty() {
                    expected.insert(labels.clone(), inside);
                }
            }
        }
        let found = read(self.store(), matchers, start, end).expect("nothing is damaged");
        assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48 * scale(), max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_store_behaves_as_a_map_through_cuts_and_reopenings(window in 1i64..10, steps in proptest::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new(window);
        for step in steps {
            pair.take(step);
        }
        pair.check(&[], i64::MIN, i64::MAX);
        pair.reopen();
        pair.check(&[], i64::MIN, i64::MAX);
        let replay = pair.store().stats().replay;
        prop_assert_eq!((replay.torn_bytes, replay.lost), (0, Vec::new()));
    }
}
