//! How silences are made and changed.
//!
//! Alertmanager's rules: what is over is never changed, and neither is whom a silence hits or when one that holds
//! began. Such a change ends the old silence and makes a new one, so that it can be told afterwards what was silent
//! when. What Alertmanager's clients do not know (recurrence, "until resolved") stands unless it is given, so that
//! one of them can prolong such a silence without turning it into another kind.

use std::sync::Arc;

use marketprism_model::{Chance, Id, Matcher, Silence, SilenceState, TimeInterval, Timestamp};
use thiserror::Error;

use super::{Config, Silences, Width};

/// A silence may have this many matchers.
const MATCHERS_MAX: usize = 64;
/// A silence may recur within this many intervals.
const INTERVALS_MAX: usize = 16;
/// So many silences may recur, for each look at an alert that matches asks their times.
const RECURRING_MAX: usize = 1_000;
/// The expressions of one silence may take this much memory.
const REGEX_BYTES_MAX: usize = 4 << 20;
/// The expressions of all silences may take this much memory.
const REGEX_BYTES_MAX_ALL: usize = 512 << 20;

/// What somebody asks for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SilenceDraft {
    /// The silence to be changed; a new one is made when `None`.
    pub id: Option<Id>,
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// When it begins; as it stands, or now, when `None`.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Timestamp,
    /// Who asks.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Within which times it holds; as it stands when `None`.
    pub recurs: Option<Vec<TimeInterval>>,
    /// Whether it ends when what it silenced has resolved; as it stands when `None`.
    pub is_until_resolved: Option<bool>,
}

/// What a draft leads to.
#[derive(Clone, PartialEq, Debug)]
pub struct SilenceChange {
    /// The silence as it stands now.
    pub silence: Silence,
    /// The one that it takes the place of, ended now; `None` when it was over already, or changed in place.
    pub replaced: Option<Silence>,
}

/// Why a silence is not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SilenceError {
    /// There is none of this id, or it ended long ago.
    #[error("no silence {0}")]
    Unknown(Id),
    /// It has no matcher.
    #[error("a silence needs at least one matcher")]
    NoMatcher,
    /// A matcher names no label.
    #[error("matcher {0}: the label's name is empty")]
    EmptyName(usize),
    /// Each matcher matches labels that are absent, so that the silence would hit whatever lacks them.
    #[error("at least one matcher must not match the empty string")]
    MatchesEmpty,
    /// There is more of something than is taken.
    #[error("{what}: {count} is more than the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much was given.
        count: usize,
        /// How much is taken.
        limit: usize,
    },
    /// It ends before it begins.
    #[error("starts at {starts_at}, which is not before its end, {ends_at}")]
    Backwards {
        /// When it would begin.
        starts_at: Timestamp,
        /// When it would end.
        ends_at: Timestamp,
    },
    /// It would be over already.
    #[error("ends at {ends_at}, which is not after now, {now}")]
    Past {
        /// When it would end.
        ends_at: Timestamp,
        /// The clock.
        now: Timestamp,
    },
    /// Nobody stands for it, or it says no reason.
    #[error("{0} must not be empty")]
    Blank(&'static str),
    /// What recurs outlives what it silences, so it cannot end with it.
    #[error("a silence that recurs cannot also end when its alerts have resolved")]
    RecursUntilResolved,
    /// A recurring time cannot be read.
    #[error("recurs[{at}].{field}: {value} is out of range; use {limits}")]
    Interval {
        /// Which of the intervals.
        at: usize,
        /// Which part of it.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is taken.
        limits: &'static str,
    },
    /// It is so wide that it may not be meant.
    #[error("{0}; confirm it if that is meant")]
    TooWide(Width),
}

impl Silences {
    /// Makes or changes a silence as the draft asks, by Alertmanager's rules of editing.
    ///
    /// `is_confirmed`: the author knows how wide it is. Nothing has changed when an error is given.
    pub fn set(
        &mut self,
        draft: SilenceDraft,
        is_confirmed: bool,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Result<SilenceChange, SilenceError> {
        let change = self.plan(draft, is_confirmed, now, chance)?;
        if let Some(replaced) = &change.replaced {
            self.put(replaced.clone(), now);
        }
        self.put(change.silence.clone(), now);
        Ok(change)
    }

    /// Says what [`Silences::set`] would do, and does nothing.
    pub fn plan(
        &self,
        draft: SilenceDraft,
        is_confirmed: bool,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Result<SilenceChange, SilenceError> {
        let old = match draft.id {
            Some(id) => Some(self.by_id.get(&id).ok_or(SilenceError::Unknown(id))?),
            None => None,
        };
        let mut silence = drafted(draft, old, now);
        check(&silence, &self.config, now)?;
        let is_same = old.is_some_and(|old| {
            old.state(now) != SilenceState::Expired && is_same_set(&old.matchers, &silence.matchers)
        });
        if !is_same {
            self.check_memory(&silence)?;
        }
        if !is_same && !is_confirmed {
            self.guard(&silence.matchers).map_err(SilenceError::TooWide)?;
        }
        if let Some(old) = old.filter(|old| is_same && may_stay(old, &silence, now)) {
            silence.id = old.id;
            if old.state(now) == SilenceState::Active {
                silence.starts_at = old.starts_at;
            }
            return Ok(SilenceChange {
                silence,
                replaced: None,
            });
        }
        let replaced = old.and_then(|old| ended(old, now));
        self.check_room(&silence, replaced.is_some(), now)?;
        silence.id = Id::new(now, chance);
        silence.starts_at = silence.starts_at.max(now);
        Ok(SilenceChange { silence, replaced })
    }

    fn check_room(&self, silence: &Silence, replaces: bool, now: Timestamp) -> Result<(), SilenceError> {
        let [pending, active, _] = self.counts(now);
        let count = pending + active + 1 - usize::from(replaces);
        at_most("silences that are not over", count, self.config.max)?;
        if silence.recurs.is_empty() {
            return Ok(());
        }
        at_most("silences that recur", self.recurring.len() + 1, RECURRING_MAX)
    }

    fn check_memory(&self, silence: &Silence) -> Result<(), SilenceError> {
        let bytes = super::regex_bytes(silence);
        at_most("memory of its expressions, in bytes", bytes, REGEX_BYTES_MAX)?;
        let all = self.regex_bytes + bytes;
        at_most("memory of all expressions, in bytes", all, REGEX_BYTES_MAX_ALL)
    }
}

/// Gives a silence as it stands once it is ended by hand; `None` when it is over.
pub(super) fn ended(silence: &Silence, now: Timestamp) -> Option<Silence> {
    (silence.state(now) != SilenceState::Expired).then(|| Silence {
        starts_at: silence.starts_at.min(now),
        ends_at: now,
        updated_at: now,
        ..silence.clone()
    })
}

/// Fills in what a draft leaves open.
fn drafted(draft: SilenceDraft, old: Option<&Arc<Silence>>, now: Timestamp) -> Silence {
    let alive = old.filter(|old| old.state(now) != SilenceState::Expired);
    Silence {
        id: Id::from_u128(0),
        matchers: draft.matchers,
        starts_at: draft.starts_at.or(alive.map(|old| old.starts_at)).unwrap_or(now),
        ends_at: draft.ends_at,
        updated_at: now,
        created_by: draft.created_by,
        comment: draft.comment,
        recurs: draft
            .recurs
            .or_else(|| old.map(|old| old.recurs.clone()))
            .unwrap_or_default(),
        is_until_resolved: draft
            .is_until_resolved
            .or(old.map(|old| old.is_until_resolved))
            .unwrap_or(false),
    }
}

/// Says whether a change of one with the same matchers keeps its id.
fn may_stay(old: &Silence, new: &Silence, now: Timestamp) -> bool {
    match old.state(now) {
        SilenceState::Expired => false,
        SilenceState::Pending => new.starts_at >= now,
        // Clients that cut a moment to whole seconds have not moved it.
        SilenceState::Active => {
            let seconds = |at: Timestamp| at.millis().div_euclid(1000);
            seconds(old.starts_at) == seconds(new.starts_at) && old.recurs == new.recurs
        }
    }
}

/// Says whether matchers say the same, in whatever order.
fn is_same_set(old: &[Matcher], new: &[Matcher]) -> bool {
    old.iter().all(|matcher| new.contains(matcher)) && new.iter().all(|matcher| old.contains(matcher))
}

fn check(silence: &Silence, config: &Config, now: Timestamp) -> Result<(), SilenceError> {
    at_most("matchers", silence.matchers.len(), MATCHERS_MAX)?;
    at_most("recurring intervals", silence.recurs.len(), INTERVALS_MAX)?;
    let texts = silence
        .matchers
        .iter()
        .map(|matcher| matcher.name.len() + matcher.value.len());
    let bytes = texts.sum::<usize>() + silence.created_by.len() + silence.comment.len();
    at_most("bytes of its texts", bytes, config.bytes_max)?;
    if silence.matchers.is_empty() {
        return Err(SilenceError::NoMatcher);
    }
    if let Some(at) = silence
        .matchers
        .iter()
        .position(|matcher| matcher.name.is_empty())
    {
        return Err(SilenceError::EmptyName(at));
    }
    // As in Alertmanager a negative matcher counts as one that says something: `severity!="critical"` alone is taken.
    let is_nothing = |matcher: &Matcher| !matcher.op.is_negative() && matcher.matches_empty();
    if silence.matchers.iter().all(is_nothing) {
        return Err(SilenceError::MatchesEmpty);
    }
    let (starts_at, ends_at) = (silence.starts_at, silence.ends_at);
    if starts_at >= ends_at {
        return Err(SilenceError::Backwards { starts_at, ends_at });
    }
    if ends_at <= now {
        return Err(SilenceError::Past { ends_at, now });
    }
    for (field, text) in [("created_by", &silence.created_by), ("comment", &silence.comment)] {
        if text.trim().is_empty() {
            return Err(SilenceError::Blank(field));
        }
    }
    if silence.is_until_resolved && !silence.recurs.is_empty() {
        return Err(SilenceError::RecursUntilResolved);
    }
    let mut intervals = silence.recurs.iter().enumerate();
    intervals.try_for_each(|(at, interval)| check_interval(at, interval))
}

fn check_interval(at: usize, interval: &TimeInterval) -> Result<(), SilenceError> {
    let refuse = |field, value: String, limits| {
        Err(SilenceError::Interval {
            at,
            field,
            value,
            limits,
        })
    };
    for times in &interval.times {
        if times.start_minute >= times.end_minute || times.end_minute > 1440 {
            let value = format!("{} to {}", times.start_minute, times.end_minute);
            return refuse("times", value, "minutes 0 to 1440, the first before the second");
        }
    }
    let spans = [
        ("weekdays", &interval.weekdays, (0, 6), "0 (Sunday) to 6"),
        (
            "days_of_month",
            &interval.days_of_month,
            (-31, 31),
            "1 to 31 or -31 to -1",
        ),
        ("months", &interval.months, (1, 12), "1 to 12"),
        ("years", &interval.years, (0, 9999), "0 to 9999"),
    ];
    for (field, spans, (least, most), limits) in spans {
        for span in spans {
            let is_known = |day: i32| (least..=most).contains(&day) && (field != "days_of_month" || day != 0);
            // The first day may count from the end of the month and the last from its beginning, or the reverse.
            let is_ordered = span.begin <= span.end || (span.begin > 0) != (span.end > 0);
            if !is_known(span.begin) || !is_known(span.end) || !is_ordered {
                return refuse(field, format!("{} to {}", span.begin, span.end), limits);
            }
        }
    }
    Ok(())
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), SilenceError> {
    if count > limit {
        return Err(SilenceError::TooMuch { what, count, limit });
    }
    Ok(())
}
