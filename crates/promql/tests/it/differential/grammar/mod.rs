//! Makes queries up: all of the language that both sides know, over data that is there.
//!
//! Each expression carries what is known of it, so that what is built around it has one right answer: which labels
//! tell its series apart, whether its values are exact in any implementation, whether two of them may be equal.
//! Where an answer hangs on rounding (a `floor` of an average, a `topk` of equal values), it is not asked.

mod aggregation;
mod binary;
mod function;
mod leaf;
mod odd;

use marketprism_model::Chance;
use marketprism_testkit::SeededChance;

use super::Question;
use super::data::{END_S, START_S};

/// The first moment that is asked about lies this many minutes behind the first sample, so that no window reaches
/// beyond the data.
const LEAD_MIN: i64 = 75;
/// The moment of fixed `@` modifiers, and how many minutes it lies behind the first sample.
const PINNED_S: i64 = START_S + 100 * 60 + 15;
const PINNED_MIN: i64 = 100;

/// How far the values of an expression are the same in any implementation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Precision {
    /// Bit for bit, and so are their sums, in any order.
    Summable,
    /// Bit for bit.
    Exact,
    /// Up to rounding.
    Rounded,
}

/// An instant vector and what is known of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub text: String,
    /// The labels that tell its series apart, `None` when that is not known.
    pub identity: Option<Vec<&'static str>>,
    pub precision: Precision,
    /// Whether its series have the metric's name.
    pub is_named: bool,
    /// Whether no two of its values are equal.
    pub is_distinct: bool,
    /// Whether numbers at the end of what can be may be among its values.
    pub is_odd: bool,
}

impl Made {
    /// The same labels without the name, with other values.
    fn becomes(&self, text: String, precision: Precision) -> Made {
        Made {
            text,
            precision: precision.max(self.precision),
            is_named: false,
            is_distinct: false,
            ..self.clone()
        }
    }
}

/// Where in a query something is made.
#[derive(Clone, Copy)]
pub struct Place {
    /// How many levels may follow.
    depth: usize,
    /// How many minutes may be looked back before the data begins.
    reach_min: i64,
    /// Whether it is evaluated at the steps of a subquery, which lie at full and half minutes.
    is_within: bool,
}

impl Place {
    fn deeper(self) -> Place {
        Place {
            depth: self.depth.saturating_sub(1),
            ..self
        }
    }
}

/// What moves an expression in time: the modifiers, the minutes that may be looked back behind them, and whether
/// they pin it.
struct Shift {
    text: String,
    reach_min: i64,
    is_pinned: bool,
}

pub struct Generator {
    chance: SeededChance,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator {
            chance: SeededChance::new(seed),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.chance.next_u64() % limit as u64) as usize
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Makes a query and the moments to ask it at.
    ///
    /// These lie at 15 s past a full minute, so that steps of subqueries stay clear of the edges of windows; or,
    /// where there is no subquery, at any multiple of 15 s, sometimes a little behind.
    pub fn question(&mut self) -> Question {
        let place = Place {
            depth: 1 + self.below(4),
            reach_min: LEAD_MIN,
            is_within: false,
        };
        let (query, is_matrix) = match self.below(40) {
            0 => (self.scalar(place), false),
            1 => (
                self.pick(&["\"a text\"", "'it\\'s'", "`raw\\n`"]).to_owned(),
                true,
            ),
            2 => (self.range_vector(place), true),
            3 | 4 => (self.refused(), false),
            _ => (self.vector(place).text, false),
        };
        let has_subquery = query.contains(':') && query.contains('[');
        let minutes = (END_S - START_S) / 60 - LEAD_MIN - 1;
        let mut first = LEAD_MIN * 60 + 15 + 60 * self.below(minutes as usize) as i64;
        if !has_subquery {
            first += 15 * self.below(4) as i64;
        }
        let mut start_ms = (START_S + first) * 1000;
        if !has_subquery && self.one_in(5) {
            start_ms += self.pick(&[1, 250, 999, 4_321]);
        }
        if is_matrix || !self.one_in(3) {
            return Question {
                query,
                start_ms,
                end_ms: start_ms,
                step_ms: 60_000,
            };
        }
        let step_s = if has_subquery || self.one_in(2) {
            60 * (1 + self.below(10) as i64)
        } else {
            self.pick(&[15, 30, 45, 75])
        };
        // A step or two may lie behind the last sample.
        let room = ((END_S + 300) * 1000 - start_ms) / (step_s * 1000);
        let steps = 1 + self.below(room.clamp(1, 24) as usize) as i64;
        Question {
            query,
            start_ms,
            end_ms: start_ms + steps * step_s * 1000,
            step_ms: step_s * 1000,
        }
    }

    fn vector(&mut self, place: Place) -> Made {
        if place.depth == 0 {
            return if self.one_in(3) {
                self.leaf(place)
            } else {
                self.rollup(place)
            };
        }
        let deeper = place.deeper();
        match self.below(16) {
            0 | 1 => self.leaf(place),
            2..=4 => self.rollup(place),
            5..=7 => self.aggregation(deeper),
            8..=11 => self.binary(deeper),
            12..=14 => self.function(deeper),
            _ => self.quantile_of_buckets(place),
        }
    }

    /// A vector that `is_fit`; a plain one where none is found.
    fn vector_that(&mut self, place: Place, is_fit: impl Fn(&Made) -> bool) -> Made {
        for _ in 0..6 {
            let made = self.vector(place);
            if is_fit(&made) {
                return made;
            }
        }
        self.plain(place)
    }

    fn exact(&mut self, place: Place) -> Made {
        self.vector_that(place, |made| made.precision <= Precision::Exact)
    }

    /// Numbers of a usual size, for what magnifies rounding.
    fn usual(&mut self, place: Place) -> Made {
        self.vector_that(place, |made| made.precision <= Precision::Exact && !made.is_odd)
    }

    fn number(&mut self) -> &'static str {
        self.pick(&[
            "2", "0.5", "-3", "1e3", "0", "10", "0.123", "NaN", "Inf", "0x1F", ".5", "1e-3",
        ])
    }

    fn scalar(&mut self, place: Place) -> String {
        match self.below(10) {
            0 => "time()".into(),
            1 => "pi()".into(),
            2 => {
                let inner = self.plain(place).text;
                format!("scalar(sum({inner}))")
            }
            3 => {
                let inner = self.exact(place.deeper()).text;
                format!("scalar({inner})")
            }
            4 if place.depth > 0 => {
                let (left, right) = (self.scalar(place.deeper()), self.number());
                let op = self.pick(&["+", "-", "*", "/", "> bool", "<= bool", "== bool", "!= bool"]);
                format!("({left} {op} {right})")
            }
            5 => format!("-{}", self.pick(&["2", "0.5", "time()"])),
            _ => self.number().into(),
        }
    }

    fn shift(&mut self, place: Place) -> Shift {
        let stays = Shift {
            text: String::new(),
            reach_min: place.reach_min,
            is_pinned: false,
        };
        let pinned = |text: &str, reach_min: i64| Shift {
            text: text.to_owned(),
            reach_min,
            is_pinned: true,
        };
        match self.below(14) {
            0 if place.reach_min >= 20 => Shift {
                text: " offset 7m".into(),
                reach_min: place.reach_min - 7,
                ..stays
            },
            1 if place.reach_min >= 50 => Shift {
                text: " offset 40m".into(),
                reach_min: place.reach_min - 40,
                ..stays
            },
            2 => Shift {
                text: " offset -3m".into(),
                ..stays
            },
            3 => pinned(" @ end()", LEAD_MIN),
            4 => pinned(" @ start()", LEAD_MIN),
            5 => pinned(&format!(" @ {PINNED_S} offset 5m"), PINNED_MIN - 5),
            6 => pinned(&format!(" offset 1h @ {PINNED_S}.000"), PINNED_MIN - 60),
            7 => pinned(&format!(" @ {PINNED_S}"), PINNED_MIN),
            _ => stays,
        }
    }
}
