//! Whether a moment lies within an interval of the week and the year, and when that changes next.
//!
//! Pure: the caller brings `now`. Zones and calendars are looked up once, when intervals are read.
//! Source: Alertmanager, `timeinterval`; calendars are ours.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use marketprism_model::time_interval::DAY_MINUTES;
use marketprism_model::{CalendarDay, Span, TimeInterval, Timestamp};

use crate::calendar::{Calendar, Calendars};
use crate::routing::{Faults, NamedTimeInterval, RoutingError};
use crate::zone;

/// A change is looked for so many days ahead; whoever finds none asks again later.
pub const CHANGE_DAYS_MAX: u32 = 400;
/// There are at most so many named intervals, and a name has at most so many.
pub const INTERVALS_MAX: usize = 2000;

/// One interval with its zone and calendar.
#[derive(Clone, Debug)]
pub struct Interval {
    said: TimeInterval,
    zone: TimeZone,
    calendar: Option<(Arc<Calendar>, CalendarDay)>,
}

impl Interval {
    /// Looks up the zone and the calendar; fails with what is wrong and the field.
    pub fn new(said: &TimeInterval, calendars: &Calendars) -> Result<Self, RoutingError> {
        let mut faults = Faults::default();
        let interval = read(said, calendars, "", &mut faults);
        faults.or(interval)
    }

    /// Says whether a moment lies within.
    pub fn contains(&self, now: Timestamp) -> bool {
        let Some(local) = zone::local(&self.zone, now) else {
            return false;
        };
        let said = &self.said;
        let minute = zone::minute_of_day(local);
        let any = |spans: &[Span], member: i32| {
            spans.is_empty() || spans.iter().any(|span| (span.begin..=span.end).contains(&member))
        };
        (said.times.is_empty() || said.times.iter().any(|times| zone::holds(times, minute)))
            && any(&said.weekdays, i32::from(local.weekday().to_sunday_zero_offset()))
            && any(&said.months, i32::from(local.month()))
            && any(&said.years, i32::from(local.year()))
            && is_day_of_month(&said.days_of_month, local.date())
            && self
                .calendar
                .as_ref()
                .is_none_or(|(calendar, day)| calendar.is(*day, now))
    }

    /// Adds the moments of a window at which the interval may begin or end.
    fn add_edges(&self, after: Timestamp, until: Timestamp, edges: &mut Vec<Timestamp>) {
        let times = self.said.times.iter();
        add_edges(&self.zone, times, after, until, edges);
        if let Some((calendar, _)) = &self.calendar {
            add_edges(calendar.zone(), calendar.sessions().iter(), after, until, edges);
        }
    }
}

fn add_edges<'a>(
    zone: &TimeZone,
    times: impl Iterator<Item = &'a marketprism_model::DayTimes>,
    after: Timestamp,
    until: Timestamp,
    edges: &mut Vec<Timestamp>,
) {
    let (Some(first), Some(last)) = (zone::local(zone, after), zone::local(zone, until)) else {
        return;
    };
    let minutes: Vec<u16> = std::iter::once(0)
        .chain(times.flat_map(|times| [times.start_minute, times.end_minute]))
        .filter(|minute| *minute < DAY_MINUTES)
        .collect();
    let mut day = Some(first.date());
    while let Some(date) = day.filter(|date| *date <= last.date()) {
        for &minute in &minutes {
            let moments = zone::moments(zone, at_minute(date, minute));
            edges.extend(moments.filter(|at| *at > after && *at <= until));
        }
        day = date.tomorrow().ok();
    }
    edges.extend(zone::turns(zone, after, until));
}

fn at_minute(date: Date, minute: u16) -> DateTime {
    let part = |number: u16| i8::try_from(number).expect("hours and minutes are small");
    let time = Time::new(part(minute / 60), part(minute % 60), 0, 0).expect("a minute of a day");
    date.to_datetime(time)
}

/// Negative days count from the month's end; what lies outside of the month is cut off.
fn is_day_of_month(spans: &[Span], date: Date) -> bool {
    let (day, days) = (i32::from(date.day()), i32::from(date.days_in_month()));
    let from_start = |day: i32| if day < 0 { days + day + 1 } else { day };
    spans.is_empty()
        || spans
            .iter()
            .any(|span| (from_start(span.begin)..=from_start(span.end)).contains(&day))
}

/// Says whether a moment lies within an interval; never when its zone or calendar is not known.
pub fn contains(interval: &TimeInterval, now: Timestamp, calendars: &Calendars) -> bool {
    Interval::new(interval, calendars).is_ok_and(|interval| interval.contains(now))
}

/// Gives the first moment after `now` from which the answer to "within any of these" differs from now's; `None`
/// when it stays for [`CHANGE_DAYS_MAX`] days.
pub fn next_change<'a>(
    intervals: impl IntoIterator<Item = &'a Interval>,
    now: Timestamp,
) -> Option<Timestamp> {
    const DAY: Duration = Duration::from_secs(86_400);
    let intervals: Vec<&Interval> = intervals.into_iter().collect();
    let is_within = |at: Timestamp| intervals.iter().any(|interval| interval.contains(at));
    let is_now = is_within(now);
    let mut after = now;
    let mut edges = Vec::new();
    for _ in 0..CHANGE_DAYS_MAX {
        let until = after + DAY;
        edges.clear();
        for interval in &intervals {
            interval.add_edges(after, until, &mut edges);
        }
        edges.sort_unstable();
        edges.dedup();
        if let Some(change) = edges.iter().copied().find(|edge| is_within(*edge) != is_now) {
            return Some(change);
        }
        after = until;
    }
    None
}

/// All named intervals.
#[derive(Clone, Debug, Default)]
pub struct TimeIntervals(HashMap<String, Vec<Interval>>);

impl TimeIntervals {
    /// Reads `time_intervals`; fails with every fault.
    pub fn new(configs: &[NamedTimeInterval], calendars: &Calendars) -> Result<Self, RoutingError> {
        let mut faults = Faults::default();
        let mut named = HashMap::new();
        if configs.len() > INTERVALS_MAX {
            faults.add(
                "time_intervals",
                format!("{} are too many; at most {INTERVALS_MAX}", configs.len()),
            );
        }
        for (number, config) in configs.iter().take(INTERVALS_MAX).enumerate() {
            let place = format!("time_intervals[{number}]");
            if config.time_intervals.len() > INTERVALS_MAX {
                let count = config.time_intervals.len();
                faults.add(
                    &*place,
                    format!("{count} intervals are too many; at most {INTERVALS_MAX}"),
                );
            }
            let parts = config.time_intervals.iter().take(INTERVALS_MAX).enumerate();
            let intervals = parts
                .map(|(part, said)| {
                    let place = format!("{place}.time_intervals[{part}].");
                    read(said, calendars, &place, &mut faults)
                })
                .collect();
            if config.name.is_empty() {
                faults.add(format!("{place}.name"), "a time interval needs a name");
            } else if named.insert(config.name.clone(), intervals).is_some() {
                faults.add(
                    format!("{place}.name"),
                    format!("time interval {:?} is there twice", config.name),
                );
            }
        }
        faults.or(TimeIntervals(named))
    }

    /// Says whether a moment lies within a named interval; never when nothing has the name.
    pub fn is_within(&self, name: &str, now: Timestamp) -> bool {
        let intervals = self.0.get(name);
        intervals.is_some_and(|intervals| intervals.iter().any(|interval| interval.contains(now)))
    }

    /// Says whether a moment lies within any of some named intervals.
    pub fn is_within_any(&self, names: &[String], now: Timestamp) -> bool {
        names.iter().any(|name| self.is_within(name, now))
    }

    /// Gives the first moment after `now` at which [`is_within_any`](Self::is_within_any) changes its answer;
    /// `None` when it stays for [`CHANGE_DAYS_MAX`] days.
    pub fn next_change(&self, names: &[String], now: Timestamp) -> Option<Timestamp> {
        let intervals = names.iter().filter_map(|name| self.0.get(name)).flatten();
        next_change(intervals, now)
    }

    /// Gives all names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Reads one interval; `place` is written before the field's name.
fn read(said: &TimeInterval, calendars: &Calendars, place: &str, faults: &mut Faults) -> Interval {
    let calendar = said.calendar.as_ref().and_then(|asked| {
        let Some(calendar) = calendars.get(&asked.name) else {
            let place = format!("{place}calendar.name");
            faults.add_unknown(place, "calendar", &asked.name, &calendars.names());
            return None;
        };
        if asked.days == CalendarDay::Session && calendar.sessions().is_empty() {
            let place = format!("{place}calendar.days");
            faults.add(
                place,
                format!("calendar {:?} has no trading sessions", asked.name),
            );
        }
        Some((Arc::clone(calendar), asked.days))
    });
    let zone = match (&said.location, &calendar) {
        (None, Some((calendar, _))) => calendar.zone().clone(),
        (location, _) => zone::named(location.as_deref()).unwrap_or_else(|problem| {
            faults.add(format!("{place}location"), problem);
            TimeZone::UTC
        }),
    };
    Interval {
        said: said.clone(),
        zone,
        calendar,
    }
}
