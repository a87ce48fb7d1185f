//! On-call schedules: who is to be called at a moment, and whose turn comes when.
//!
//! A schedule is a stack of layers. In each, people take turns at a local time; a layer may be restricted to times of the
//! week or days of a calendar. Where a later layer covers a moment it wins over the earlier ones, and an override, which a
//! person arranged, wins over all. Where nothing covers a moment nobody is on call, and whoever asks is told so.
//! Pure by design: the caller brings the moment and the overrides, so years of turns are tested in milliseconds.
//! Deliberately absent: the people. A receiver's name is all that is known here.

mod build;
mod config;
mod overrides;
mod rotation;
mod shifts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use marketprism_model::{Id, ShiftOverride, Timestamp};
use serde::Serialize;

use crate::time_interval::Interval;
pub(crate) use build::{count, name};
pub use config::{Day, LayerConfig, Rotation, ScheduleConfig, Turn, Within};
pub use overrides::{OVERRIDES_MAX, OverrideError};
pub use shifts::{SHIFTS_MAX, SPAN_MAX, Shifts};

/// Names are no longer than this.
pub const NAME_LENGTH_MAX: usize = 100;

/// The configured schedules, by name.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    by_name: BTreeMap<String, Schedule>,
}

impl Schedules {
    /// Gives the schedule of this name.
    pub fn get(&self, name: &str) -> Option<&Schedule> {
        self.by_name.get(name)
    }

    /// Walks the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

/// A schedule that was found good.
#[derive(Clone, Debug)]
pub struct Schedule {
    config: ScheduleConfig,
    layers: Vec<Layer>,
}

/// A layer, its words read.
#[derive(Clone, Debug)]
struct Layer {
    turns: Vec<Vec<String>>,
    rotation: rotation::Rotation,
    starts: Timestamp,
    ends: Option<Timestamp>,
    /// Times of the week that restrict it; always when `None`, for a name can stand for no time at all.
    within: Option<Vec<Interval>>,
}

/// Why somebody is on call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A layer says so, counted from 1.
    Layer(usize),
    /// A person arranged it.
    Override(Id),
    /// Nothing covers the moment, and nobody is on call.
    Nothing,
}

/// Who is on call from one moment until another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Shift {
    /// From when.
    pub starts_at: Timestamp,
    /// Until when, exclusive.
    pub ends_at: Timestamp,
    /// The receivers; none when nobody is on call.
    pub receivers: Vec<String>,
    /// Why they.
    pub cause: Cause,
}

impl Schedule {
    /// Gives what was configured.
    pub fn config(&self) -> &ScheduleConfig {
        &self.config
    }

    /// Gives the receivers who are on call at a moment; none when nobody is. Overrides of other schedules do not count.
    pub fn who(&self, now: Timestamp, overrides: &[ShiftOverride]) -> Vec<String> {
        self.on_call(now, overrides).0.to_vec()
    }

    /// Gives who is on call at a moment, and why.
    fn on_call<'a>(&'a self, now: Timestamp, overrides: &'a [ShiftOverride]) -> (&'a [String], Cause) {
        // Of several that hold at once the one that was arranged last says how it is now.
        let arranged = self
            .own(overrides)
            .filter(|arranged| arranged.starts_at <= now && now < arranged.ends_at)
            .max_by_key(|arranged| (arranged.created_at, arranged.id));
        if let Some(arranged) = arranged {
            return (
                std::slice::from_ref(&arranged.receiver),
                Cause::Override(arranged.id),
            );
        }
        let mut layers = self.layers.iter().enumerate().rev();
        layers
            .find(|(_, layer)| layer.covers(now))
            .map_or((&[], Cause::Nothing), |(position, layer)| {
                (layer.turn(now), Cause::Layer(position + 1))
            })
    }

    /// Walks the overrides of this schedule.
    fn own<'a>(&'a self, overrides: &'a [ShiftOverride]) -> impl Iterator<Item = &'a ShiftOverride> {
        overrides
            .iter()
            .filter(|arranged| arranged.schedule == self.config.name)
    }
}

impl Layer {
    fn covers(&self, now: Timestamp) -> bool {
        let is_within = |within: &Vec<Interval>| within.iter().any(|interval| interval.contains(now));
        self.starts <= now
            && self.ends.is_none_or(|ends| now < ends)
            && self.within.as_ref().is_none_or(is_within)
    }

    /// Gives whose turn it is.
    fn turn(&self, now: Timestamp) -> &[String] {
        let count = self.turns.len() as i64;
        let turn = self.rotation.turn(now).rem_euclid(count);
        &self.turns[turn as usize]
    }
}
