//! A backtest from the request to the report.
//!
//! Checks what is asked, chooses how to evaluate, runs the rules over their overlay and gathers their stories.
//! Deliberately absent: how a report is shown, and where request and data come from.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Lifecycle, LifecycleError, SeriesSource, Timestamp};
use marketprism_promql::{Engine, Interrupt};
use serde::Serialize;

use crate::backtest::memory::Memory;
use crate::backtest::obstacle::obstacle;
use crate::backtest::overlay::{Overlay, Produced};
use crate::backtest::story::{Follower, RuleStory, rfc3339};
use crate::backtest::{BacktestError, columns, ticks};
use crate::evaluate::{Installation, RuleInterrupt};
use crate::pace::Pace;
use crate::rule::{GroupSpec, Rule};
use crate::set::RuleSet;

/// A backtest may come to this many evaluations, unless the caller says less.
pub const EVALUATIONS_MAX: u64 = 50_000_000;

/// The end may lie this far after the present, for clocks differ.
const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);
/// A backtest covers at most this: ten years.
const LENGTH_MAX: Duration = Duration::from_secs(3653 * 86_400);

/// How the rules are evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Many moments at once.
    Columns,
    /// One moment after the other, as in the running program.
    Ticks,
}

/// What is to be found out.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The rules.
    pub rules: &'a RuleSet,
    /// From when.
    pub start: Timestamp,
    /// Until when, included.
    pub end: Timestamp,
    /// The present; there is nothing to run over after it.
    pub now: Timestamp,
    /// The distance of evaluations, in place of each group's interval.
    pub step: Option<Duration>,
    /// How; chosen by the rules when absent.
    pub method: Option<Method>,
    /// How many evaluations are allowed.
    pub evaluations_max: u64,
}

/// What a backtest is given.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Evaluates expressions. It must serve nothing else: its tables are for the series of the backtest.
    pub engine: &'a Engine,
    /// The past.
    pub source: &'a dyn SeriesSource,
    /// Decides what observations mean. Its time is the simulated one.
    pub lifecycle: &'a dyn Lifecycle,
    /// Is told the moment before each evaluation; moments never go back. It may return early when `interrupt` says stop.
    pub move_to: &'a dyn Fn(Timestamp) -> Result<(), LifecycleError>,
    /// What templates may say about us.
    pub installation: &'a Installation,
    /// Tells the backtest to stop.
    pub interrupt: &'a dyn Interrupt,
    /// Is told how many evaluations are done.
    pub progress: &'a dyn Fn(u64),
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// From when.
    #[serde(serialize_with = "rfc3339")]
    pub start: Timestamp,
    /// Until when.
    #[serde(serialize_with = "rfc3339")]
    pub end: Timestamp,
    /// How the rules were evaluated.
    pub method: Method,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Each rule, in order.
    pub rules: Vec<RuleStory>,
}

/// The moments at which a group is evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub first: Timestamp,
    pub interval: Duration,
    /// How many; where rules have intervals of their own, at most this many.
    pub count: u64,
    pace: Pace,
}

impl Schedule {
    fn of(group: &GroupSpec, request: &Request<'_>) -> Self {
        let pace = match request.step {
            Some(step) => Pace::new(&group.file, &group.name, step, request.start),
            None => Pace::of(group, request.start),
        };
        let first = pace.due();
        let length_ms = request.end.millis().saturating_sub(first.millis());
        let ticks = |interval: Duration| {
            let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
            (length_ms / interval_ms) as u64 + 1
        };
        let count = if length_ms < 0 {
            0
        } else {
            pace.intervals().map(ticks).fold(0, u64::saturating_add)
        };
        Schedule {
            first,
            interval: request
                .step
                .unwrap_or(group.interval)
                .max(Duration::from_millis(1)),
            count,
            pace,
        }
    }

    /// Gives the tick after one.
    pub(crate) fn after(&self, at: Timestamp) -> Timestamp {
        self.pace.next_slot(at + Duration::from_millis(1))
    }

    pub(crate) fn at(&self, tick: u64) -> Timestamp {
        let ms = self.interval.as_millis() as u64;
        self.first + Duration::from_millis(ms.saturating_mul(tick))
    }
}

/// What both methods work with.
pub(crate) struct Course<'a> {
    pub request: Request<'a>,
    pub given: Given<'a>,
    pub overlay: &'a Overlay<'a>,
    pub memory: &'a Memory,
    pub schedules: Vec<Schedule>,
    /// For each group, for each of its rules.
    pub followers: Vec<Vec<Follower>>,
    pub done: u64,
    /// What the window that is asked for holds.
    pub held: columns::Held,
}

impl Course<'_> {
    pub(crate) fn groups(&self) -> &[Arc<GroupSpec>] {
        self.request.rules.groups()
    }

    /// Moves time, and ends when told so before or meanwhile.
    pub(crate) fn move_to(&self, at: Timestamp) -> Result<(), BacktestError> {
        self.check()?;
        (self.given.move_to)(at)?;
        self.check()
    }

    pub(crate) fn check(&self) -> Result<(), BacktestError> {
        match self.given.interrupt.stop() {
            Some(stop) => Err(BacktestError::Stopped(stop)),
            None => Ok(()),
        }
    }

    /// Gives how many samples a query may hold, which is what anything here may hold.
    pub(crate) fn samples_max(&self) -> u64 {
        self.given.engine.config().samples_max
    }

    /// Ends when the rules have written more than memory is to hold.
    pub(crate) fn check_written(&self) -> Result<(), BacktestError> {
        columns::within("written samples", self.memory.written(), self.samples_max())
    }

    pub(crate) fn count(&mut self, evaluations: u64) {
        self.done += evaluations;
        (self.given.progress)(self.done);
    }
}

/// The caller's interrupt, as a group's evaluation wants it.
pub(crate) struct Asking<'a>(pub &'a dyn Interrupt);

impl Interrupt for Asking<'_> {
    fn stop(&self) -> Option<marketprism_promql::Stop> {
        self.0.stop()
    }
}

impl RuleInterrupt for Asking<'_> {
    fn rule_begins(&self) {}
}

/// Runs rules over the past.
pub fn backtest(request: &Request<'_>, given: &Given<'_>) -> Result<Report, BacktestError> {
    if request.end <= request.start {
        return Err(BacktestError::Range);
    }
    if request.end > request.now + AHEAD_MAX {
        return Err(BacktestError::Future);
    }
    if request.step.is_some_and(|step| step < Duration::from_secs(1)) {
        return Err(BacktestError::Step);
    }
    let groups = request.rules.groups();
    let rules = request.rules.rule_count();
    if rules == 0 {
        return Err(BacktestError::NoRules);
    }
    let schedules: Vec<Schedule> = groups.iter().map(|group| Schedule::of(group, request)).collect();
    let evaluations = groups
        .iter()
        .zip(&schedules)
        .fold(0u64, |sum, (group, schedule)| {
            sum.saturating_add(schedule.count.saturating_mul(group.rules.len() as u64))
        });
    if evaluations > request.evaluations_max {
        return Err(BacktestError::TooManyEvaluations {
            rules,
            evaluations,
            limit: request.evaluations_max,
        });
    }
    if request.end.since(request.start) > LENGTH_MAX {
        return Err(BacktestError::Length);
    }
    let method = method_of(request)?;
    let produced = Produced::of(request.rules);
    let memory = Memory::default();
    let overlay = Overlay::new(given.source, &memory, &produced, request.start);
    let followers = groups.iter().zip(&schedules).map(|(group, schedule)| {
        let rules = group.rules.iter();
        rules
            .map(|rule| Follower::new(group, rule, rule.interval.unwrap_or(schedule.interval)))
            .collect()
    });
    let mut course = Course {
        request: *request,
        given: *given,
        overlay: &overlay,
        memory: &memory,
        followers: followers.collect(),
        schedules,
        done: 0,
        held: columns::Held::default(),
    };
    match method {
        Method::Columns => columns::run(&mut course)?,
        Method::Ticks => ticks::run(&mut course)?,
    }
    course.move_to(request.end)?;
    let evaluations = course.done;
    let stories = course
        .followers
        .into_iter()
        .flatten()
        .map(|follower| follower.finish(request.end));
    Ok(Report {
        start: request.start,
        end: request.end,
        method,
        evaluations,
        rules: stories.collect(),
    })
}

/// Chooses how to evaluate; columns that are asked for where they would answer something else are refused.
fn method_of(request: &Request<'_>) -> Result<Method, BacktestError> {
    if request.method == Some(Method::Ticks) {
        return Ok(Method::Ticks);
    }
    match obstacle(request.rules) {
        None => Ok(Method::Columns),
        Some(_) if request.method.is_none() => Ok(Method::Ticks),
        Some((rule, why)) => Err(BacktestError::Columns {
            rule: rule.name.to_string(),
            why,
        }),
    }
}

impl RuleSet {
    /// Gives, of other groups, the rules that have the names of these; `None` when there is none.
    pub fn namesakes<'a>(&self, others: impl Iterator<Item = &'a Arc<GroupSpec>>) -> Option<RuleSet> {
        let known: HashSet<(&str, bool)> = self
            .groups()
            .iter()
            .flat_map(|group| &group.rules)
            .map(|rule| (&*rule.name, rule.alerting().is_some()))
            .collect();
        let mut groups = Vec::new();
        for group in others {
            let rules = group.rules.iter();
            let rules: Vec<Arc<Rule>> = rules
                .filter(|rule| known.contains(&(&*rule.name, rule.alerting().is_some())))
                .map(Arc::clone)
                .collect();
            if !rules.is_empty() {
                groups.push(Arc::new(GroupSpec {
                    rules,
                    ..GroupSpec::clone(group)
                }));
            }
        }
        (!groups.is_empty()).then(|| RuleSet {
            groups,
            ..RuleSet::new(Vec::new(), true)
        })
    }

    /// Keeps the rules of one name; says whether there is any.
    pub fn only(self, name: &str) -> Option<RuleSet> {
        let one = |group: &Arc<GroupSpec>| {
            let rules: Vec<Arc<Rule>> = group
                .rules
                .iter()
                .filter(|rule| &*rule.name == name)
                .map(Arc::clone)
                .collect();
            (!rules.is_empty()).then(|| {
                Arc::new(GroupSpec {
                    rules,
                    ..GroupSpec::clone(group)
                })
            })
        };
        let groups: Vec<Arc<GroupSpec>> = self.groups().iter().filter_map(one).collect();
        (!groups.is_empty()).then_some(RuleSet { groups, ..self })
    }
}
