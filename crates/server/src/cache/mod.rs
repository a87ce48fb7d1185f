//! Answers of the query API, kept while they are certainly still right.
//!
//! A kept answer is used only while nothing touched the time that it was read from ([`changes`]), and for its time to
//! live at most. So the cache can be on without anybody noticing but by speed; how long an answer lives decides about
//! memory only. Equal questions that come while one of them is evaluated wait for its answer ([`Asked::Following`]),
//! if nothing that they must see came in between.
//! Of range queries the steps are kept too ([`steps`]), so that one that has moved on costs its new steps alone.
//! Deliberately absent: questions about "now" without a moment, for no two of them are equal; and failures.

pub mod changes;
mod matrix;
pub(crate) mod reach;
pub(crate) mod steps;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use marketprism_model::Clock;
use marketprism_promql::Answer;
use serde::Serialize;
use tokio::sync::watch;

use crate::answer::Finished;
use changes::Changes;
use steps::{Evaluate, RangeQuestion, Steps};

/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 512;
/// An entry takes at most this part of the cache.
const SHARE_MAX: usize = 8;
/// So many requests may wait for one evaluation; further ones go their own way.
const FOLLOWERS_MAX: usize = 1000;

/// How many answers of queries are kept, and how long: `performance.caching`, as the binary read and judged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheConfig {
    /// Whether answers are kept.
    pub enabled: bool,
    /// Answers kept.
    pub entries_max: usize,
    /// An answer is kept this long. It is dropped sooner when it may have changed.
    pub ttl: Duration,
    /// Bytes of all answers together.
    pub bytes_max: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            enabled: false,
            entries_max: 1000,
            ttl: Duration::from_secs(300),
            bytes_max: 64 << 20,
        }
    }
}

/// How the cache does, for pages and scrapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CacheFigures {
    /// Whether answers are kept.
    pub enabled: bool,
    /// Questions answered without an evaluation of their own.
    pub hits: u64,
    /// Questions that could have been kept and had to be evaluated.
    pub misses: u64,
    /// Answers kept.
    pub entries: usize,
    /// The most answers kept.
    pub entries_max: usize,
    /// Bytes of the answers kept.
    pub bytes: usize,
    /// The most bytes kept, answers and steps together.
    pub bytes_max: usize,
    /// Expressions over ranges whose steps are kept.
    pub ranges: usize,
    /// Bytes of these steps.
    pub range_bytes: usize,
    /// Steps of range queries that were not evaluated again.
    pub steps_reused: u64,
    /// Steps of range queries that were evaluated.
    pub steps_evaluated: u64,
}

/// Everything that an answer depends on, but the samples.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Question {
    /// The expression as it was sent, or as it is written evenly.
    pub text: String,
    /// The first moment, in milliseconds.
    pub start_ms: i64,
    /// The last moment, in milliseconds.
    pub end_ms: i64,
    /// The distance of the moments; `None` for a question about one moment, which has another shape of answer.
    pub step_ms: Option<u64>,
    /// How many series are wanted.
    pub limit: Option<usize>,
    /// How far an instant selector looks back, where the client decides.
    pub lookback: Option<Duration>,
    /// Whether the answer may be compressed.
    pub gzip: bool,
}

/// An answer and what must not have changed since it was made.
#[derive(Clone)]
struct Kept {
    answer: Finished,
    /// Whether there are remarks, which name places in the text as it was sent.
    is_noted: bool,
    generation: u64,
    newest_read_ms: i64,
    made: Duration,
}

struct Slot {
    kept: Kept,
    weight: usize,
    used: u64,
}

#[derive(Default)]
struct State {
    config: CacheConfig,
    slots: HashMap<Arc<Question>, Slot>,
    /// The slots by last use.
    order: BTreeMap<u64, Arc<Question>>,
    uses: u64,
    bytes: usize,
    flights: HashMap<Arc<Question>, (u64, watch::Sender<Option<Kept>>)>,
}

/// The cache of one server.
pub(crate) struct Cache {
    clock: Arc<dyn Clock>,
    changes: OnceLock<Changes>,
    state: Mutex<State>,
    steps: Steps,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What becomes of a question.
pub(crate) enum Asked {
    /// It is evaluated, and nothing is kept.
    Alone,
    /// It has been answered already.
    Answered(Finished),
    /// It is evaluated now, for others too.
    Leading(Flight),
    /// Somebody evaluates it just now.
    Following(Following),
}

impl Cache {
    pub(crate) fn new(config: CacheConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Cache {
            clock,
            changes: OnceLock::new(),
            state: Mutex::new(State {
                config,
                ..State::default()
            }),
            steps: Steps::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Tells where changes of the store are noticed; until then nothing is kept. Only the first call counts.
    pub(crate) fn watch(&self, changes: Changes) {
        let _ = self.changes.set(changes);
    }

    /// Changes the limits; what is kept beyond them is dropped.
    pub(crate) fn set_config(&self, config: CacheConfig) {
        let mut state = self.state();
        state.config = config;
        self.steps.shrink(&config);
        if !config.enabled {
            (state.slots, state.order, state.bytes) = Default::default();
        }
        state.shrink();
    }

    /// Answers a range query from the steps that are kept and those that `evaluate` gives.
    pub(crate) fn range<E>(
        &self,
        question: &RangeQuestion<'_>,
        evaluate: &mut Evaluate<'_, E>,
    ) -> Result<Answer, E> {
        let config = self.state().config;
        match self.changes.get() {
            Some(changes) if config.enabled => {
                let now = self.clock.monotonic();
                self.steps.answer(question, changes, &config, now, evaluate)
            }
            _ => evaluate(question.start_ms, question.end_ms).map(|(answer, _)| answer),
        }
    }

    pub(crate) fn ask(self: &Arc<Self>, question: Question) -> Asked {
        let Some(changes) = self.changes.get() else {
            return Asked::Alone;
        };
        let mut state = self.state();
        if !state.config.enabled {
            return Asked::Alone;
        }
        if let Some(answer) = state.find(&question, changes, self.clock.monotonic()) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Asked::Answered(answer);
        }
        if let Some((generation, landing)) = state.flights.get(&question) {
            return match landing.receiver_count() < FOLLOWERS_MAX {
                true => Asked::Following(Following {
                    cache: Arc::clone(self),
                    landing: landing.subscribe(),
                    touched: changes.touched_since(*generation),
                }),
                false => Asked::Alone,
            };
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let question = Arc::new(question);
        let generation = changes.generation();
        let (landing, _) = watch::channel(None);
        state.flights.insert(Arc::clone(&question), (generation, landing));
        Asked::Leading(Flight {
            cache: Arc::clone(self),
            question,
            generation,
        })
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        let steps = self.steps.figures();
        let state = self.state();
        CacheFigures {
            enabled: state.config.enabled && self.changes.get().is_some(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: state.slots.len(),
            entries_max: state.config.entries_max,
            bytes: state.bytes,
            bytes_max: state.config.bytes_max,
            ranges: steps.entries,
            range_bytes: steps.bytes,
            steps_reused: steps.reused,
            steps_evaluated: steps.evaluated,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, question: &Question, changes: &Changes, now: Duration) -> Option<Finished> {
        let (key, slot) = self.slots.get_key_value(question)?;
        let key = Arc::clone(key);
        let age = now.saturating_sub(slot.kept.made);
        let is_right = slot.kept.newest_read_ms < changes.touched_since(slot.kept.generation);
        if !is_right || age >= self.config.ttl {
            self.remove(&key);
            return None;
        }
        self.uses += 1;
        let slot = self.slots.get_mut(&key)?;
        self.order.remove(&slot.used);
        slot.used = self.uses;
        self.order.insert(self.uses, key);
        Some(slot.kept.answer.clone())
    }

    fn keep(&mut self, question: Arc<Question>, kept: Kept) {
        let weight = ENTRY_BYTES + question.text.len() + kept.answer.bytes.len();
        self.remove(&question);
        if !self.config.enabled || weight > self.config.bytes_max / SHARE_MAX {
            return;
        }
        self.uses += 1;
        self.bytes += weight;
        self.order.insert(self.uses, Arc::clone(&question));
        let slot = Slot {
            kept,
            weight,
            used: self.uses,
        };
        self.slots.insert(question, slot);
        self.shrink();
    }

    fn remove(&mut self, question: &Question) {
        if let Some(slot) = self.slots.remove(question) {
            self.order.remove(&slot.used);
            self.bytes -= slot.weight;
        }
    }

    /// Drops what was not used for longest.
    fn shrink(&mut self) {
        while self.slots.len() > self.config.entries_max || self.bytes > self.config.bytes_max / 2 {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }
}

/// The evaluation of a question that others may wait for; dropped without an answer, it lets them go their own way.
pub(crate) struct Flight {
    cache: Arc<Cache>,
    question: Arc<Question>,
    generation: u64,
}

impl Flight {
    /// Looks for the answer to the same question in another spelling, and keeps it under this one too.
    pub(crate) fn under(&self, text: &str) -> Option<Finished> {
        if text == self.question.text {
            return None;
        }
        let changes = self.cache.changes.get()?;
        let mut state = self.cache.state();
        let question = Question {
            text: text.to_owned(),
            ..(*self.question).clone()
        };
        if state.slots.get(&question)?.kept.is_noted {
            return None;
        }
        let answer = state.find(&question, changes, self.cache.clock.monotonic())?;
        let kept = state.slots.get(&question)?.kept.clone();
        state.keep(Arc::clone(&self.question), kept);
        self.cache.hits.fetch_add(1, Ordering::Relaxed);
        self.cache.misses.fetch_sub(1, Ordering::Relaxed);
        Some(answer)
    }

    /// Keeps the answer, under both spellings unless it has remarks, and gives it to all who wait.
    pub(crate) fn land(&self, text: &str, newest_read_ms: i64, is_noted: bool, answer: &Finished) {
        let kept = Kept {
            answer: answer.clone(),
            is_noted,
            generation: self.generation,
            newest_read_ms,
            made: self.cache.clock.monotonic(),
        };
        let mut state = self.cache.state();
        if text != self.question.text && !is_noted {
            let evenly = Question {
                text: text.to_owned(),
                ..(*self.question).clone()
            };
            state.keep(Arc::new(evenly), kept.clone());
        }
        state.keep(Arc::clone(&self.question), kept.clone());
        if let Some((_, landing)) = state.flights.get(&self.question) {
            landing.send_replace(Some(kept));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cache.state().flights.remove(&self.question);
    }
}

/// The wait for an evaluation that is under way.
pub(crate) struct Following {
    cache: Arc<Cache>,
    landing: watch::Receiver<Option<Kept>>,
    /// What had been touched since that evaluation began when this question came.
    touched: i64,
}

impl Following {
    /// Waits for the answer; `None` when there is none, or none that this question may be given.
    pub(crate) async fn wait(mut self) -> Option<Finished> {
        let landed = self.landing.wait_for(Option::is_some).await;
        let answer = landed.ok().and_then(|kept| {
            let kept = kept.as_ref()?;
            (kept.newest_read_ms < self.touched).then(|| kept.answer.clone())
        });
        let count = match answer {
            Some(_) => &self.cache.hits,
            None => &self.cache.misses,
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

#[cfg(test)]
mod tests;
