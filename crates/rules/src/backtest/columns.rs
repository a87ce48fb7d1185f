//! Many moments at once: range queries, and the lifecycle only where something changes.
//!
//! An expression is asked for thousands of ticks together. From its answer come the ticks at which any series begins,
//! ends, or changes its verdicts; between them nothing can happen but clocks running out, and once the longest of them
//! has run the lifecycle need not be asked until the next change. What fails over a range is asked tick by tick, so that
//! one bad moment spoils no other.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::{ALERT_NAME, METRIC_NAME, SEVERITY};
use marketprism_model::{Labels, Observation, Timestamp, Verdict};
use marketprism_promql::{Prepared, QueryError, Value};
use marketprism_template::{Environment, RuleData};

use crate::backtest::BacktestError;
use crate::backtest::recorder::Recorder;
use crate::backtest::run::{Course, Schedule};
use crate::observe::{LABEL_BYTES_MAX, cut};
use crate::rule::{AlertingRule, Rule, RuleKind};

/// A window is at most this many ticks of the group that is evaluated most often.
const WINDOW_TICKS_MAX: u64 = 4096;
/// The first window, which tells how long the next may be.
const WINDOW_TICKS_FIRST: u64 = 64;
/// A change that waits for the lifecycle weighs about as much as this many samples.
const CHANGE_WEIGHT: u64 = 8;

/// What one series of an alerting rule says until something changes.
#[derive(Clone, PartialEq)]
struct Said {
    labels: Labels,
    verdicts: Vec<Verdict>,
    value: f64,
}

/// What changes at one tick: series by their own labels; `None` ends one.
type Changes = BTreeMap<u64, Vec<(Labels, Option<Said>)>>;

/// An alerting rule and what it says.
struct Speaker {
    group: usize,
    rule: usize,
    said: BTreeMap<Labels, Said>,
    changes: Changes,
    failed: BTreeMap<u64, String>,
    /// The tick that is asked next, at the latest.
    asked: Option<u64>,
    /// How many more ticks have to be asked because clocks run.
    running: u64,
    /// How many ticks the longest clock takes.
    clocks: u64,
    labels_of: HashMap<Labels, Labels>,
    is_by_value: bool,
}

/// A rule and where it stands.
pub(super) struct Named<'a> {
    pub(super) group: usize,
    rule: usize,
    pub(super) definition: &'a Arc<Rule>,
    prepared: Prepared,
}

pub(crate) fn run(course: &mut Course<'_>) -> Result<(), BacktestError> {
    let set = course.request.rules;
    let engine = course.given.engine;
    let mut speakers: Vec<Speaker> = Vec::new();
    let mut rules: Vec<(Named<'_>, Option<usize>)> = Vec::new();
    for (group, spec) in set.groups().iter().enumerate() {
        for (rule, definition) in spec.rules.iter().enumerate() {
            let speaker = definition.alerting().map(|alerting| {
                speakers.push(Speaker::new(group, rule, alerting, &course.schedules[group]));
                speakers.len() - 1
            });
            let prepared = engine.prepare(&definition.parsed);
            let named = Named {
                group,
                rule,
                definition,
                prepared,
            };
            rules.push((named, speaker));
        }
    }
    let mut recorders: Vec<Recorder> = rules.iter().map(|_| Recorder::default()).collect();
    let shortest = course
        .schedules
        .iter()
        .map(|schedule| schedule.interval)
        .min()
        .unwrap_or_default();
    let mut window_ticks = WINDOW_TICKS_FIRST;
    let mut from = course.request.start;
    while from <= course.request.end {
        let span = shortest.saturating_mul(window_ticks as u32);
        course.check()?;
        let to = (from + span).min(course.request.end + Duration::from_millis(1));
        for ((rule, speaker), recorder) in rules.iter().zip(&mut recorders) {
            let ticks = ticks_in(&course.schedules[rule.group], from, to);
            if ticks.is_empty() {
                continue;
            }
            let count = ticks.end - ticks.start;
            let window = Window { course, rule, ticks };
            let mut failed = BTreeMap::new();
            match speaker {
                Some(speaker) => window.speak(&mut speakers[*speaker])?,
                None => window.record(recorder, &mut failed)?,
            }
            course.check_written()?;
            let follower = &mut course.followers[rule.group][rule.rule];
            follower.evaluated(count);
            failed.into_values().for_each(|error| follower.failed(error));
            course.count(count);
        }
        live(course, &mut speakers, from, to)?;
        window_ticks = next_window(window_ticks, course.held.widest(), course.samples_max());
        course.held = Held::default();
        from = to;
    }
    Ok(())
}

/// Gives the length of the next window: longer while what one of twice the length would hold stays well within what is
/// allowed, shorter before it does not.
fn next_window(ticks: u64, held: u64, allowed: u64) -> u64 {
    if held > allowed / 2 {
        (ticks / 2).max(1)
    } else if held <= allowed / 4 {
        (ticks * 2).min(WINDOW_TICKS_MAX)
    } else {
        ticks
    }
}

/// What a window holds at once, as so many samples.
#[derive(Default)]
pub(crate) struct Held {
    /// The results of the rule that has most of them.
    results: Cell<u64>,
    /// The changes of all rules.
    changes: Cell<u64>,
}

impl Held {
    fn widest(&self) -> u64 {
        self.results.get().max(self.changes.get())
    }
}

/// Gives the ticks of a group that lie in a window, its end left out.
fn ticks_in(schedule: &Schedule, from: Timestamp, to: Timestamp) -> std::ops::Range<u64> {
    let interval_ms = schedule.interval.as_millis().max(1) as i64;
    let place = |at: Timestamp| {
        let passed = at.millis() - schedule.first.millis();
        let ticks = if passed <= 0 {
            0
        } else {
            (passed + interval_ms - 1) / interval_ms
        };
        (ticks as u64).min(schedule.count)
    };
    place(from)..place(to)
}

impl Speaker {
    fn new(group: usize, rule: usize, alerting: &AlertingRule, schedule: &Schedule) -> Self {
        let conditions = alerting.context.conditions.iter();
        let longest = conditions
            .map(|one| one.hold_for.max(one.keep_firing_for))
            .max()
            .unwrap_or_default();
        let interval_ms = schedule.interval.as_millis().max(1);
        let by_value = ["value", "Value", "query", "now"];
        let texts = alerting.label_texts.iter();
        Speaker {
            group,
            rule,
            said: BTreeMap::new(),
            changes: BTreeMap::new(),
            failed: BTreeMap::new(),
            asked: None,
            running: 0,
            clocks: (longest.as_millis() / interval_ms) as u64 + 2,
            labels_of: HashMap::new(),
            is_by_value: texts
                .map(|(_, text)| text.source())
                .any(|text| text.contains("{{") && by_value.iter().any(|word| text.contains(word))),
        }
    }

    /// Gives the tick at which this rule must be asked next.
    fn next(&self) -> Option<u64> {
        let change = self.changes.keys().next().copied();
        let failed = self.failed.keys().next().copied();
        [change, failed, self.asked].into_iter().flatten().min()
    }
}

/// One rule over the ticks of one window.
pub(super) struct Window<'a, 'c> {
    pub(super) course: &'a Course<'c>,
    pub(super) rule: &'a Named<'a>,
    pub(super) ticks: std::ops::Range<u64>,
}

/// A series and its values by tick.
pub(super) type Column = (Labels, Vec<(u64, f64)>);

/// Columns that grow, and how many values they have in all.
#[derive(Default)]
struct Columns {
    by_labels: HashMap<Labels, Vec<(u64, f64)>>,
    held: u64,
}

impl Window<'_, '_> {
    /// Asks for all ticks of a range; where that fails for its data or its size, for halves of it. What all of them give
    /// together is limited as the answer to one would be.
    fn ask(
        &self,
        ticks: std::ops::Range<u64>,
        columns: &mut Columns,
        failed: &mut BTreeMap<u64, String>,
    ) -> Result<(), BacktestError> {
        let schedule = &self.course.schedules[self.rule.group];
        let offset = self.course.groups()[self.rule.group].query_offset;
        let (start, end) = (
            schedule.at(ticks.start) - offset,
            schedule.at(ticks.end - 1) - offset,
        );
        let given = &self.course.given;
        let prepared = &self.rule.prepared;
        let answer = given.engine.range(
            self.course.overlay,
            prepared,
            start,
            end,
            schedule.interval,
            given.interrupt,
        );
        match answer {
            Ok(answer) => {
                let Value::Matrix(series) = answer.value else {
                    return Ok(());
                };
                let interval_ms = schedule.interval.as_millis().max(1) as i64;
                for one in series {
                    columns.held += (one.points.len() + one.histograms.len()) as u64;
                    within(
                        "results of a rule at once",
                        columns.held,
                        self.course.samples_max(),
                    )?;
                    let column = columns.by_labels.entry(one.labels).or_default();
                    let tick =
                        |at: Timestamp| ticks.start + ((at.millis() - start.millis()) / interval_ms) as u64;
                    column.extend(
                        one.points
                            .iter()
                            .map(|point| (tick(point.timestamp), point.value)),
                    );
                    if !one.histograms.is_empty() {
                        if self.rule.definition.alerting().is_none() {
                            return Err(BacktestError::Histograms(self.rule.definition.name.to_string()));
                        }
                        column.extend(one.histograms.iter().map(|(at, _)| (tick(*at), 0.0)));
                        column.sort_unstable_by_key(|(tick, _)| *tick);
                    }
                }
                Ok(())
            }
            Err(QueryError::Cancelled) => Err(BacktestError::Stopped(marketprism_promql::Stop::Cancelled)),
            Err(QueryError::TimedOut { .. }) => {
                Err(BacktestError::Stopped(marketprism_promql::Stop::TimedOut))
            }
            Err(error) => {
                if ticks.end - ticks.start == 1 {
                    failed.insert(ticks.start, error.to_string());
                    return Ok(());
                }
                let middle = ticks.start + (ticks.end - ticks.start) / 2;
                self.ask(ticks.start..middle, columns, failed)?;
                self.ask(middle..ticks.end, columns, failed)
            }
        }
    }

    pub(super) fn columns(&self, failed: &mut BTreeMap<u64, String>) -> Result<Vec<Column>, BacktestError> {
        let mut columns = Columns::default();
        let most = self.course.given.engine.config().steps_max.max(1) as u64;
        let mut from = self.ticks.start;
        while from < self.ticks.end {
            let to = (from + most).min(self.ticks.end);
            self.ask(from..to, &mut columns, failed)?;
            from = to;
        }
        let results = &self.course.held.results;
        results.set(results.get().max(columns.held));
        let mut columns: Vec<Column> = columns.by_labels.into_iter().collect();
        columns.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(columns)
    }

    /// Finds what changes in the window.
    fn speak(&self, speaker: &mut Speaker) -> Result<(), BacktestError> {
        let RuleKind::Alerting(alerting) = &self.rule.definition.kind else {
            return Ok(());
        };
        let columns = self.columns(&mut speaker.failed)?;
        let mut before: BTreeMap<Labels, Said> = speaker.said.clone();
        let first = self.ticks.start;
        for (series, points) in &columns {
            let mut said = before.remove(series);
            let mut next = first;
            for (tick, value) in points {
                if *tick > next && said.is_some() && !all_failed(&speaker.failed, next, *tick) {
                    let gone = first_good(&speaker.failed, next, *tick);
                    self.change(speaker, gone, series, None)?;
                    said = None;
                }
                next = tick + 1;
                let verdicts = alerting.verdicts(*value);
                let now = if verdicts.iter().all(|verdict| *verdict == Verdict::Clear) {
                    None
                } else {
                    let is_same = said.as_ref().is_some_and(|old: &Said| {
                        old.verdicts == verdicts
                            && (!speaker.is_by_value || old.value.to_bits() == value.to_bits())
                    });
                    if is_same {
                        continue;
                    }
                    Some(Said {
                        labels: self.labels(speaker, alerting, series, *value, *tick),
                        verdicts,
                        value: *value,
                    })
                };
                if now.is_none() && said.is_none() {
                    continue;
                }
                self.change(speaker, *tick, series, now.clone())?;
                said = now;
            }
            if said.is_some() && next < self.ticks.end && !all_failed(&speaker.failed, next, self.ticks.end) {
                let gone = first_good(&speaker.failed, next, self.ticks.end);
                self.change(speaker, gone, series, None)?;
            }
        }
        for series in before.into_keys() {
            if !all_failed(&speaker.failed, first, self.ticks.end) {
                let gone = first_good(&speaker.failed, first, self.ticks.end);
                self.change(speaker, gone, &series, None)?;
            }
        }
        Ok(())
    }

    /// Keeps a change until the lifecycle is asked.
    fn change(
        &self,
        speaker: &mut Speaker,
        tick: u64,
        series: &Labels,
        said: Option<Said>,
    ) -> Result<(), BacktestError> {
        let changes = &self.course.held.changes;
        changes.set(changes.get() + CHANGE_WEIGHT);
        within("changes at once", changes.get(), self.course.samples_max())?;
        let at_tick = speaker.changes.entry(tick).or_default();
        at_tick.push((series.clone(), said));
        Ok(())
    }

    /// Gives the labels of an alert, as the running program makes them.
    fn labels(
        &self,
        speaker: &mut Speaker,
        alerting: &AlertingRule,
        series: &Labels,
        value: f64,
        tick: u64,
    ) -> Labels {
        if !speaker.is_by_value
            && let Some(known) = speaker.labels_of.get(series)
        {
            return known.clone();
        }
        let installation = self.course.given.installation;
        let environment = Environment {
            now: self.course.schedules[self.rule.group].at(tick),
            external_url: &installation.external_url,
            queries: None,
        };
        let data = RuleData::new(
            series,
            value,
            &installation.external_labels,
            &installation.external_url,
        );
        let mut builder = series.to_builder();
        builder.set(METRIC_NAME, "");
        for (name, text) in &alerting.label_texts {
            let text: Cow<'_, str> = text.expand(&data, &environment);
            builder.set(name, &cut(text, LABEL_BYTES_MAX));
        }
        if !alerting.levels.is_empty() {
            builder.set(SEVERITY, "");
        }
        builder.set(ALERT_NAME, &self.rule.definition.name);
        let labels = builder.build();
        if !speaker.is_by_value {
            speaker.labels_of.insert(series.clone(), labels.clone());
        }
        labels
    }
}

/// Refuses what would hold more samples than one query may.
pub(super) fn within(what: &'static str, held: u64, limit: u64) -> Result<(), BacktestError> {
    if held > limit {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        return Err(BacktestError::TooMuch { what, limit });
    }
    Ok(())
}

/// The words of a rule whose results cannot be told apart.
pub(super) fn doubled(labels: &Labels) -> String {
    format!("two results have the labels {labels}; the rule's expression or labels must tell them apart")
}

/// Lets the lifecycle follow what the alerting rules say in a window.
fn live(
    course: &mut Course<'_>,
    speakers: &mut [Speaker],
    from: Timestamp,
    to: Timestamp,
) -> Result<(), BacktestError> {
    let ends: Vec<u64> = speakers
        .iter()
        .map(|speaker| ticks_in(&course.schedules[speaker.group], from, to).end)
        .collect();
    let due = |course: &Course<'_>, speaker: &Speaker, end: u64| {
        let tick = speaker.next().filter(|tick| *tick < end)?;
        Some((course.schedules[speaker.group].at(tick).millis(), tick))
    };
    let mut heap: BinaryHeap<Reverse<(i64, usize, u64)>> = BinaryHeap::new();
    for (place, speaker) in speakers.iter().enumerate() {
        heap.extend(due(course, speaker, ends[place]).map(|(at, tick)| Reverse((at, place, tick))));
    }
    while let Some(Reverse((at, place, tick))) = heap.pop() {
        let at = Timestamp::from_millis(at);
        course.move_to(at)?;
        let speaker = &mut speakers[place];
        speaker.tick(course, at, tick)?;
        heap.extend(due(course, speaker, ends[place]).map(|(at, tick)| Reverse((at, place, tick))));
    }
    Ok(())
}

impl Speaker {
    /// Takes one tick: what changed, and what the lifecycle makes of it.
    fn tick(&mut self, course: &mut Course<'_>, at: Timestamp, tick: u64) -> Result<(), BacktestError> {
        let groups = course.request.rules.groups();
        let Some(alerting) = groups[self.group].rules[self.rule].alerting() else {
            return Ok(());
        };
        let follower = &mut course.followers[self.group][self.rule];
        self.asked = None;
        if let Some(error) = self.failed.remove(&tick) {
            follower.failed(error);
            self.asked = (self.running > 0).then_some(tick + 1);
            return Ok(());
        }
        let changes = self.changes.remove(&tick);
        let has_changed = changes.is_some();
        for (series, said) in changes.into_iter().flatten() {
            match said {
                Some(said) => self.said.insert(series, said),
                None => self.said.remove(&series),
            };
        }
        let mut seen = HashSet::with_capacity(self.said.len());
        if let Some(twice) = self.said.values().find(|said| !seen.insert(&said.labels)) {
            follower.failed(doubled(&twice.labels));
            // The failure lasts until something changes, and the clocks run only afterwards.
            (self.running, self.asked) = (self.clocks, Some(tick + 1));
            return Ok(());
        }
        let observations = self.said.values().map(|said| Observation {
            labels: said.labels.clone(),
            value: said.value,
            annotations: Labels::empty(),
            verdicts: said.verdicts.clone(),
        });
        let lifecycle = course.given.lifecycle;
        let alerts = lifecycle.observe(&alerting.context, at, observations.collect())?;
        lifecycle.commit(at)?;
        let mut alerts = alerts;
        alerts.sort_by(|a, b| a.labels.cmp(&b.labels));
        follower.follow(at, &alerts)?;
        self.running = if has_changed {
            self.clocks
        } else {
            self.running.saturating_sub(1)
        };
        self.asked = (self.running > 0).then_some(tick + 1);
        Ok(())
    }
}

fn all_failed(failed: &BTreeMap<u64, String>, from: u64, to: u64) -> bool {
    failed.range(from..to).count() as u64 == to - from
}

pub(super) fn first_good(failed: &BTreeMap<u64, String>, from: u64, to: u64) -> u64 {
    (from..to).find(|tick| !failed.contains_key(tick)).unwrap_or(to)
}
