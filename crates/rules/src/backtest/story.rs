//! What came of a backtest: each alert's life in stretches, and how often it swung.
//!
//! Bounded: what would hold more ends with an error that names the limit. Deliberately absent: messages; only the lifecycle knows of them.

use std::collections::HashMap;
use std::time::Duration;

use marketprism_model::{ActiveAlert, AlertState, Labels, Level, Timestamp, labels};
use serde::{Serialize, Serializer};

use crate::backtest::BacktestError;
use crate::rule::{GroupSpec, Rule};

/// An alert that fires anew sooner than this after it ended is a flap.
pub const FLAP_GAP: Duration = Duration::from_secs(15 * 60);
/// A report holds this many alerts.
pub const ALERTS_MAX: usize = 10_000;
/// A report holds this many stretches.
pub const STRETCHES_MAX: usize = 200_000;

pub(crate) fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

/// How an alert stood for a while.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stretch {
    /// Pending or firing.
    pub state: AlertState,
    /// How bad it was.
    pub level: Level,
    /// The evaluation that began it.
    #[serde(serialize_with = "rfc3339")]
    pub from: Timestamp,
    /// The evaluation that ended it; the end of the backtest when nothing did.
    #[serde(serialize_with = "rfc3339")]
    pub to: Timestamp,
    /// Whether it still stood at the end of the backtest.
    pub is_open: bool,
}

/// One alert: all that happened under one set of labels.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AlertStory {
    /// Its labels; with levels without `severity`.
    pub labels: Labels,
    /// The value with which it first became active.
    #[serde(with = "marketprism_model::sample::float")]
    pub value: f64,
    /// How it stood, oldest first; between two stretches that do not meet it was inactive.
    pub stretches: Vec<Stretch>,
    /// How often it began to fire.
    pub fired: u64,
    /// How often it fired anew within [`FLAP_GAP`] of its end.
    pub flaps: u64,
    /// How long it fired in all, in seconds.
    pub firing_s: f64,
    /// The longest time that it fired without a break, in seconds.
    pub longest_s: f64,
}

/// One rule and what it did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RuleStory {
    /// The file, as shown to the user.
    pub file: String,
    /// The group.
    pub group: String,
    /// The alert's name, or that of the series that is recorded.
    pub name: String,
    /// `alerting` or `recording`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The expression.
    pub expr: String,
    /// How often it was evaluated, in seconds.
    pub interval_s: f64,
    /// Evaluations.
    pub evaluations: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Why the last one of them did.
    pub last_error: Option<String>,
    /// How often any of its alerts began to fire.
    pub fired: u64,
    /// How often any of them flapped.
    pub flaps: u64,
    /// How long its alerts fired, added up, in seconds.
    pub firing_s: f64,
    /// Its alerts, in the order in which they first showed.
    pub alerts: Vec<AlertStory>,
}

struct Standing {
    state: AlertState,
    level: Level,
    from: Timestamp,
}

struct Followed {
    story: AlertStory,
    standing: Option<Standing>,
    firing_since: Option<Timestamp>,
    fired_until: Option<Timestamp>,
    seen: u64,
}

/// Follows the alerts of one rule.
pub(crate) struct Follower {
    story: RuleStory,
    has_levels: bool,
    by_labels: HashMap<Labels, usize>,
    followed: Vec<Followed>,
    active: Vec<usize>,
    turn: u64,
    stretches: usize,
}

impl Follower {
    pub(crate) fn new(group: &GroupSpec, rule: &Rule, interval: Duration) -> Self {
        Follower {
            story: RuleStory {
                file: group.file.to_string(),
                group: group.name.to_string(),
                name: rule.name.to_string(),
                kind: rule.kind_word(),
                expr: rule.expr.to_string(),
                interval_s: interval.as_secs_f64(),
                evaluations: 0,
                failures: 0,
                last_error: None,
                fired: 0,
                flaps: 0,
                firing_s: 0.0,
                alerts: Vec::new(),
            },
            has_levels: rule
                .alerting()
                .is_some_and(|alerting| !alerting.levels.is_empty()),
            by_labels: HashMap::new(),
            followed: Vec::new(),
            active: Vec::new(),
            turn: 0,
            stretches: 0,
        }
    }

    pub(crate) fn evaluated(&mut self, count: u64) {
        self.story.evaluations += count;
    }

    pub(crate) fn failed(&mut self, error: String) {
        self.story.failures += 1;
        self.story.last_error = Some(error);
    }

    /// Takes what a rule's alerts are after an evaluation.
    pub(crate) fn follow(&mut self, at: Timestamp, alerts: &[ActiveAlert]) -> Result<(), BacktestError> {
        self.turn += 1;
        for alert in alerts {
            let place = self.place(alert)?;
            let followed = &mut self.followed[place];
            if followed.standing.is_none() {
                self.active.push(place);
            }
            followed.seen = self.turn;
            if followed.enter(at, alert.state, alert.level) {
                self.stretches += 1;
            }
        }
        let turn = self.turn;
        let followed = &mut self.followed;
        self.active.retain(|place| {
            let one = &mut followed[*place];
            let is_active = one.seen == turn;
            if !is_active {
                one.leave(at, false);
            }
            is_active
        });
        if self.stretches > STRETCHES_MAX {
            let (what, limit) = ("changes of alerts", STRETCHES_MAX);
            return Err(BacktestError::TooMuch { what, limit });
        }
        Ok(())
    }

    fn place(&mut self, alert: &ActiveAlert) -> Result<usize, BacktestError> {
        let labels = match self.has_levels {
            true => alert.labels.without(labels::SEVERITY),
            false => alert.labels.clone(),
        };
        if let Some(place) = self.by_labels.get(&labels) {
            return Ok(*place);
        }
        if self.followed.len() >= ALERTS_MAX {
            let (what, limit) = ("alerts of one rule", ALERTS_MAX);
            return Err(BacktestError::TooMuch { what, limit });
        }
        self.by_labels.insert(labels.clone(), self.followed.len());
        self.followed.push(Followed {
            story: AlertStory {
                labels,
                value: alert.value,
                stretches: Vec::new(),
                fired: 0,
                flaps: 0,
                firing_s: 0.0,
                longest_s: 0.0,
            },
            standing: None,
            firing_since: None,
            fired_until: None,
            seen: 0,
        });
        Ok(self.followed.len() - 1)
    }

    /// Ends the story.
    pub(crate) fn finish(mut self, end: Timestamp) -> RuleStory {
        for mut followed in self.followed {
            followed.leave(end, true);
            let alert = followed.story;
            self.story.fired += alert.fired;
            self.story.flaps += alert.flaps;
            self.story.firing_s += alert.firing_s;
            self.story.alerts.push(alert);
        }
        self.story
    }
}

impl Followed {
    /// Notes how it stands; says whether that is new.
    fn enter(&mut self, at: Timestamp, state: AlertState, level: Level) -> bool {
        if let Some(standing) = &self.standing {
            if standing.state == state && standing.level == level {
                return false;
            }
            let is_firing_still = standing.state == AlertState::Firing && state == AlertState::Firing;
            self.close(at, false);
            if !is_firing_still {
                self.end_firing(at);
            }
        }
        if state == AlertState::Firing && self.firing_since.is_none() {
            self.firing_since = Some(at);
            self.story.fired += 1;
            if self.fired_until.is_some_and(|until| at.since(until) < FLAP_GAP) {
                self.story.flaps += 1;
            }
        }
        self.standing = Some(Standing {
            state,
            level,
            from: at,
        });
        true
    }

    fn leave(&mut self, at: Timestamp, is_open: bool) {
        if self.standing.is_some() {
            self.close(at, is_open);
            self.end_firing(at);
        }
    }

    fn close(&mut self, at: Timestamp, is_open: bool) {
        if let Some(standing) = self.standing.take() {
            self.story.stretches.push(Stretch {
                state: standing.state,
                level: standing.level,
                from: standing.from,
                to: at,
                is_open,
            });
        }
    }

    fn end_firing(&mut self, at: Timestamp) {
        if let Some(since) = self.firing_since.take() {
            let span_s = at.since(since).as_secs_f64();
            self.story.firing_s += span_s;
            self.story.longest_s = self.story.longest_s.max(span_s);
            self.fired_until = Some(at);
        }
    }
}
