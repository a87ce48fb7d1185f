//! The steps of range queries, kept one by one, so that a dashboard that refreshes asks the engine for the new ones alone.
//!
//! What an expression yields at a moment depends on that moment only, whatever range it is asked with, unless it names the
//! range ([`Expr::depends_on_bounds`]). So the matrix of an answer is kept by moments, under the expression, the step, and where on the
//! clock the steps lie. A moment is used while nothing touched what it read ([`Changes`]): no window for late samples is
//! guessed; a moment near now is asked again because samples did come, and a moment of last week because retention did.
//!
//! Remarks belong to a whole evaluation, not to a moment. So where there are none, what is kept can be cut anywhere; where
//! there are some, an evaluation is kept as it was and used only whole, and evaluations end at the borders of fixed pages,
//! so that all but the outermost pages can be used again.
//!
//! The engine's limits hold as if it were asked for everything: whatever is bigger than what one evaluation is known to
//! have borne, and not small beside the limit, is evaluated in one piece, and judged by the engine itself.
//! Deliberately absent: expressions that are answered at one moment, and answers beyond their share of the memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use marketprism_model::Labels;
use marketprism_promql::{Answer, Expr, Series, Value};

use super::CacheConfig;
use super::changes::Changes;
use super::matrix::{append, cut, weight};
use super::reach::newest_read;
use crate::prometheus::counted::Read;

/// Steps of a page, for evaluations with remarks.
const PAGE_STEPS: i64 = 64;
/// As many steps are kept of one expression at most.
const STEPS_MAX: i64 = 11_001;
/// With so many remarks of a kind some may have been left out, so nothing is put together.
const NOTES_MAX: usize = 10;
/// One expression takes at most this part of the memory.
const SHARE_MAX: usize = 4;
/// What an entry costs beside its series.
const ENTRY_BYTES: usize = 512;

/// What the values of all moments depend on, but the samples.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StepsKey {
    /// The expression, written evenly.
    pub text: String,
    /// The distance of the moments.
    pub step_ms: i64,
    /// Where the moments lie between the multiples of the step.
    pub phase_ms: i64,
    /// How far an instant selector looks back, where the client decides.
    pub lookback: Option<Duration>,
}

/// A range query, as the cache sees it.
pub(crate) struct RangeQuestion<'a> {
    /// The expression.
    pub expr: &'a Expr,
    /// As it was sent: remarks name places in it.
    pub sent_as: &'a str,
    /// The first moment.
    pub start_ms: i64,
    /// The end; the last moment is not after it.
    pub end_ms: i64,
    /// The distance of the moments.
    pub step_ms: i64,
    /// How far an instant selector looks back, where the client decides.
    pub lookback: Option<Duration>,
    /// What the engine lets one evaluation read and hold.
    pub samples_max: u64,
    /// What the engine lets one evaluation have of steps.
    pub steps_max: usize,
}

/// Evaluates from the first moment to the second.
pub(crate) type Evaluate<'a, E> = dyn FnMut(i64, i64) -> Result<(Answer, Read), E> + 'a;

/// Values at some moments, from the first to the last.
#[derive(Clone)]
struct Part {
    first_ms: i64,
    last_ms: i64,
    series: Arc<Vec<Series>>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Part {
    fn is_noted(&self) -> bool {
        !self.warnings.is_empty() || !self.infos.is_empty()
    }

    fn of(first_ms: i64, last_ms: i64, answer: Answer) -> Option<Part> {
        let Value::Matrix(series) = answer.value else {
            return None;
        };
        Some(Part {
            first_ms,
            last_ms,
            series: Arc::new(series),
            warnings: answer.warnings,
            infos: answer.infos,
        })
    }

    /// Gives the moments of the part that lie within two others; `None` when it has none, or may not be cut.
    fn within(&self, first_ms: i64, last_ms: i64) -> Option<Part> {
        let (first_ms, last_ms) = (self.first_ms.max(first_ms), self.last_ms.min(last_ms));
        if first_ms > last_ms {
            return None;
        }
        if (first_ms, last_ms) == (self.first_ms, self.last_ms) {
            return Some(self.clone());
        }
        (!self.is_noted()).then(|| Part {
            first_ms,
            last_ms,
            series: Arc::new(cut(&self.series, first_ms, last_ms)),
            warnings: Vec::new(),
            infos: Vec::new(),
        })
    }

    /// Adds what follows it.
    fn join(&mut self, next: &Part) {
        append(Arc::make_mut(&mut self.series), &next.series);
        self.last_ms = next.last_ms;
        self.warnings = union(&self.warnings, &next.warnings);
        self.infos = union(&self.infos, &next.infos);
    }
}

fn union(left: &[String], right: &[String]) -> Vec<String> {
    let all: BTreeSet<&String> = left.iter().chain(right).collect();
    all.into_iter().cloned().collect()
}

/// The biggest evaluation in one piece that is known to have gone well.
#[derive(Clone, Copy, Default)]
struct Whole {
    steps: u64,
    read: Read,
}

/// What is known of an expression.
#[derive(Clone)]
struct Known {
    /// In the order of their moments, without overlaps.
    parts: Vec<Part>,
    /// The state of the store that all parts were right for.
    generation: u64,
    /// Whether there were remarks, and on which spelling.
    noted_as: Option<Arc<str>>,
    whole: Whole,
}

struct Entry {
    known: Known,
    weight: usize,
    used: u64,
    used_at: Duration,
}

/// What is still right of it.
struct Found {
    parts: Vec<Part>,
    /// What lies outside of what is asked.
    rest: Vec<Part>,
    is_noted: bool,
    whole: Whole,
}

#[derive(Default)]
struct State {
    entries: HashMap<Arc<StepsKey>, Entry>,
    order: BTreeMap<u64, Arc<StepsKey>>,
    uses: u64,
    bytes: usize,
}

/// The kept steps of all range queries.
#[derive(Default)]
pub(crate) struct Steps {
    state: Mutex<State>,
    reused: AtomicU64,
    evaluated: AtomicU64,
}

/// How much of the range queries is kept.
pub(crate) struct StepsFigures {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) reused: u64,
    pub(crate) evaluated: u64,
}

impl Steps {
    pub(crate) fn figures(&self) -> StepsFigures {
        let state = self.state();
        StepsFigures {
            entries: state.entries.len(),
            bytes: state.bytes,
            reused: self.reused.load(Ordering::Relaxed),
            evaluated: self.evaluated.load(Ordering::Relaxed),
        }
    }

    /// Keeps to smaller limits.
    pub(crate) fn shrink(&self, config: &CacheConfig) {
        self.state().shrink(config);
    }

    /// Answers from what is kept and what `evaluate` gives for the rest, as if it had been asked for everything.
    pub(crate) fn answer<E>(
        &self,
        question: &RangeQuestion<'_>,
        changes: &Changes,
        config: &CacheConfig,
        now: Duration,
        evaluate: &mut Evaluate<'_, E>,
    ) -> Result<Answer, E> {
        let text = question.expr.to_string();
        let length_ms = question.end_ms.checked_sub(question.start_ms);
        let Some(steps) = length_ms.map(|length_ms| length_ms / question.step_ms + 1) else {
            return evaluate(question.start_ms, question.end_ms).map(|(answer, _)| answer);
        };
        if question.expr.depends_on_bounds()
            || steps > STEPS_MAX
            || usize::try_from(steps).is_ok_and(|steps| steps > question.steps_max)
        {
            return evaluate(question.start_ms, question.end_ms).map(|(answer, _)| answer);
        }
        let asked = Asked {
            key: Arc::new(StepsKey {
                text,
                step_ms: question.step_ms,
                phase_ms: question.start_ms.rem_euclid(question.step_ms),
                lookback: question.lookback,
            }),
            question,
            last_ms: question.start_ms + (steps - 1) * question.step_ms,
            steps: steps.unsigned_abs(),
            generation: changes.generation(),
            config,
            now,
        };
        let known = self.state().find(&asked);
        let Some(known) = known else {
            return self.whole(&asked, false, evaluate);
        };
        let found = asked.right(&known, changes.touched_since(known.generation));
        match self.piecewise(&asked, &found, evaluate)? {
            Some(answer) => Ok(answer),
            None => self.whole(&asked, found.is_noted, evaluate),
        }
    }

    /// Evaluates everything at once.
    fn whole<E>(
        &self,
        asked: &Asked<'_>,
        was_noted: bool,
        evaluate: &mut Evaluate<'_, E>,
    ) -> Result<Answer, E> {
        self.evaluated.fetch_add(asked.steps, Ordering::Relaxed);
        let (answer, read) = evaluate(asked.question.start_ms, asked.question.end_ms)?;
        let whole = Whole {
            steps: asked.steps,
            read,
        };
        let part = Part::of(asked.question.start_ms, asked.last_ms, answer.clone());
        let parts = match part {
            // Which moments the remarks belong to is not known; the next time they are evaluated page by page.
            Some(part) if part.is_noted() => Vec::new(),
            part => part.into_iter().collect(),
        };
        let is_noted = was_noted || parts.is_empty();
        self.keep(asked, parts, is_noted, whole);
        Ok(answer)
    }

    /// Evaluates what is missing; `None` when everything must be evaluated at once.
    fn piecewise<E>(
        &self,
        asked: &Asked<'_>,
        found: &Found,
        evaluate: &mut Evaluate<'_, E>,
    ) -> Result<Option<Answer>, E> {
        if found.parts.is_empty() && !found.is_noted {
            return Ok(None);
        }
        if !asked.may_be_divided(&found.whole, found.whole.read.series) {
            return Ok(None);
        }
        let mut parts = found.parts.clone();
        let (mut series, mut evaluated) = (0, 0);
        for (first_ms, last_ms) in asked.missing(&found.parts, found.is_noted) {
            let (answer, read) = evaluate(first_ms, last_ms)?;
            series = series.max(read.series);
            evaluated += ((last_ms - first_ms) / asked.question.step_ms).unsigned_abs() + 1;
            let Some(part) = Part::of(first_ms, last_ms, answer) else {
                return Ok(None);
            };
            if part.warnings.len() >= NOTES_MAX || part.infos.len() >= NOTES_MAX {
                return Ok(None);
            }
            parts.push(part);
        }
        if !asked.may_be_divided(&found.whole, series) {
            return Ok(None);
        }
        self.evaluated.fetch_add(evaluated, Ordering::Relaxed);
        self.reused
            .fetch_add(asked.steps.saturating_sub(evaluated), Ordering::Relaxed);
        parts.sort_by_key(|part| part.first_ms);
        let Some((first, others)) = parts.split_first() else {
            return Ok(None);
        };
        let mut all = first.clone();
        others.iter().for_each(|part| all.join(part));
        if all.warnings.len() >= NOTES_MAX || all.infos.len() >= NOTES_MAX {
            return Ok(None);
        }
        let is_noted = all.is_noted();
        let answer = Answer {
            value: Value::Matrix(all.series.to_vec()),
            warnings: all.warnings.clone(),
            infos: all.infos.clone(),
        };
        let mut kept = if is_noted { parts } else { vec![all] };
        kept.extend(found.rest.iter().cloned());
        self.keep(asked, kept, is_noted, found.whole);
        Ok(Some(answer))
    }

    /// Keeps parts that are right for the state of the store in which the question was asked.
    fn keep(&self, asked: &Asked<'_>, parts: Vec<Part>, is_noted: bool, whole: Whole) {
        let share = asked.config.bytes_max / 2 / SHARE_MAX;
        let step_ms = asked.question.step_ms;
        let mut parts = joined(parts, asked);
        let steps = |part: &Part| (part.last_ms - part.first_ms) / step_ms + 1;
        let mut weight = asked.weigh(&parts);
        if weight > share || parts.iter().map(steps).sum::<i64>() > STEPS_MAX {
            let (start_ms, last_ms) = (asked.question.start_ms, asked.last_ms);
            parts = parts
                .iter()
                .filter_map(|part| part.within(start_ms, last_ms))
                .collect();
            weight = asked.weigh(&parts);
        }
        let known = Known {
            parts,
            generation: asked.generation,
            noted_as: is_noted.then(|| Arc::from(asked.question.sent_as)),
            whole,
        };
        let is_kept = asked.config.enabled && weight <= share;
        self.state().put(asked, is_kept.then_some((known, weight)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question, worked out.
struct Asked<'a> {
    key: Arc<StepsKey>,
    question: &'a RangeQuestion<'a>,
    last_ms: i64,
    steps: u64,
    generation: u64,
    config: &'a CacheConfig,
    now: Duration,
}

impl Asked<'_> {
    /// Cuts what is known to what is right, `touched_ms` being the oldest moment touched since.
    fn right(&self, known: &Known, touched_ms: i64) -> Found {
        let (start_ms, step_ms) = (self.question.start_ms, self.question.step_ms);
        let (before_ms, after_ms) = (
            start_ms.saturating_sub(step_ms),
            self.last_ms.saturating_add(step_ms),
        );
        let mut found = Found {
            parts: Vec::new(),
            rest: Vec::new(),
            is_noted: known.noted_as.is_some(),
            whole: known.whole,
        };
        for part in &known.parts {
            let Some(last_ms) = self.last_right(part, touched_ms) else {
                continue;
            };
            found
                .parts
                .extend(part.within(start_ms, last_ms.min(self.last_ms)));
            found.rest.extend(part.within(i64::MIN, last_ms.min(before_ms)));
            found.rest.extend(part.within(after_ms, last_ms));
        }
        found
    }

    /// Gives the last moment of a part that is right. Later moments read later, or the same: the right ones come first.
    fn last_right(&self, part: &Part, touched_ms: i64) -> Option<i64> {
        let step_ms = self.question.step_ms;
        let (mut right, mut wrong) = (0, (part.last_ms - part.first_ms) / step_ms + 1);
        while right < wrong {
            let middle = (right + wrong) / 2;
            let read_ms = newest_read(self.question.expr, part.first_ms + middle * step_ms);
            match read_ms < touched_ms {
                true => right = middle + 1,
                false => wrong = middle,
            }
        }
        (right > 0).then(|| part.first_ms + (right - 1) * step_ms)
    }

    fn weigh(&self, parts: &[Part]) -> usize {
        let series: usize = parts.iter().map(|part| weight(&part.series)).sum();
        ENTRY_BYTES + self.key.text.len() + series
    }

    /// Says whether the engine would surely bear all of it at once: it bore as much, or all of it is little.
    fn may_be_divided(&self, whole: &Whole, series: u64) -> bool {
        if whole.steps == 0 {
            return false;
        }
        if self.steps <= whole.steps && series <= whole.read.series {
            return true;
        }
        // A subquery has steps of its own, which nobody counts here.
        if self.key.text.contains(':') && self.key.text.contains('[') {
            return false;
        }
        let series = whole.read.series.max(series).max(1);
        let growth = |now: u64, then: u64| now.div_ceil(then.max(1)).max(1);
        let read = whole
            .read
            .samples
            .saturating_mul(growth(self.steps, whole.steps))
            .saturating_mul(growth(series, whole.read.series));
        let held = series.saturating_mul(self.steps);
        read.saturating_add(held).saturating_mul(4) <= self.question.samples_max
    }

    /// Gives the stretches between the parts, ended at the borders of pages where that is needed.
    fn missing(&self, parts: &[Part], by_pages: bool) -> Vec<(i64, i64)> {
        let step_ms = self.question.step_ms;
        let mut stretches = Vec::new();
        let mut next_ms = self.question.start_ms;
        for part in parts {
            if next_ms < part.first_ms {
                stretches.push((next_ms, part.first_ms - step_ms));
            }
            next_ms = part.last_ms.saturating_add(step_ms);
        }
        if next_ms <= self.last_ms {
            stretches.push((next_ms, self.last_ms));
        }
        if !by_pages {
            return stretches;
        }
        let mut pages = Vec::new();
        for (mut first_ms, last_ms) in stretches {
            while self.page(first_ms) < self.page(last_ms) {
                let index = first_ms.div_euclid(step_ms).rem_euclid(PAGE_STEPS);
                let end_ms = first_ms + (PAGE_STEPS - 1 - index) * step_ms;
                pages.push((first_ms, end_ms));
                first_ms = end_ms + step_ms;
            }
            pages.push((first_ms, last_ms));
        }
        pages
    }

    fn page(&self, moment_ms: i64) -> i64 {
        moment_ms.div_euclid(self.question.step_ms).div_euclid(PAGE_STEPS)
    }
}

impl State {
    /// Gives what is known under a key, right or not.
    fn find(&mut self, asked: &Asked<'_>) -> Option<Known> {
        let entry = self.entries.get(&asked.key)?;
        let noted_as = entry.known.noted_as.as_ref();
        let is_other_text = noted_as.is_some_and(|text| **text != *asked.question.sent_as);
        if is_other_text || asked.now.saturating_sub(entry.used_at) >= asked.config.ttl {
            self.remove(&asked.key);
            return None;
        }
        Some(entry.known.clone())
    }

    fn put(&mut self, asked: &Asked<'_>, known: Option<(Known, usize)>) {
        self.remove(&asked.key);
        let Some((known, weight)) = known else { return };
        self.uses += 1;
        self.bytes += weight;
        self.order.insert(self.uses, Arc::clone(&asked.key));
        let entry = Entry {
            known,
            weight,
            used: self.uses,
            used_at: asked.now,
        };
        self.entries.insert(Arc::clone(&asked.key), entry);
        self.shrink(asked.config);
    }

    fn remove(&mut self, key: &StepsKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.weight;
        }
    }

    /// Drops what was not used for longest.
    fn shrink(&mut self, config: &CacheConfig) {
        if !config.enabled {
            (self.entries, self.order, self.bytes) = Default::default();
        }
        while self.entries.len() > config.entries_max || self.bytes > config.bytes_max / 2 {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }
}

/// Puts parts in order and joins neighbours: those without remarks, and those of one page.
fn joined(mut parts: Vec<Part>, asked: &Asked<'_>) -> Vec<Part> {
    parts.sort_by_key(|part| part.first_ms);
    let mut all: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match all.last_mut() {
            Some(last)
                if last.last_ms.checked_add(asked.question.step_ms) == Some(part.first_ms)
                    && ((!last.is_noted() && !part.is_noted())
                        || asked.page(last.first_ms) == asked.page(part.last_ms)) =>
            {
                last.join(&part);
            }
            _ => all.push(part),
        }
    }
    all
}

/// Makes labels' bytes known to the sum of an entry.
pub(super) fn label_bytes(labels: &Labels) -> usize {
    labels
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum()
}
