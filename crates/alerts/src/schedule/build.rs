//! From what was configured to schedules that can be asked; every fault names its place.

use std::collections::HashSet;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use marketprism_model::duration;

use super::config::{LayerConfig, ScheduleConfig, Turn, Within};
use super::{Layer, NAME_LENGTH_MAX, Schedule, Schedules, rotation};
use crate::calendar::Calendars;
use crate::routing::{Faults, NamedTimeInterval, RoutingError};
use crate::time_interval::Interval;
use crate::zone;

const SCHEDULES_MAX: usize = 1000;
const LAYERS_MAX: usize = 20;
const TURNS_MAX: usize = 100;
const TOGETHER_MAX: usize = 20;
const WITHIN_MAX: usize = 20;
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
const WEEK_SECONDS: u64 = 7 * 86_400;

impl Schedules {
    /// Takes the configured schedules; `receivers` are the names that may be told, `intervals` and `calendars` what
    /// layers may be restricted to. Gives every fault at once.
    pub fn new(
        configs: &[ScheduleConfig],
        receivers: &[&str],
        intervals: &[NamedTimeInterval],
        calendars: &Calendars,
    ) -> Result<Schedules, RoutingError> {
        let mut faults = Faults::default();
        count(&mut faults, "schedules", configs.len(), 0, SCHEDULES_MAX);
        let mut schedules = Schedules::default();
        for (position, config) in configs.iter().enumerate().take(SCHEDULES_MAX) {
            let reader = Reader {
                place: format!("schedules[{position}]"),
                receivers,
                intervals,
                calendars,
            };
            if schedules.by_name.contains_key(&config.name) {
                faults.add(
                    format!("{}.name", reader.place),
                    format!("{:?} is there twice", config.name),
                );
            }
            if let Some(schedule) = reader.schedule(config, &mut faults) {
                schedules.by_name.insert(config.name.clone(), schedule);
            }
        }
        faults.or(schedules)
    }
}

/// Checks that a list is neither too short nor too long.
pub(crate) fn count(faults: &mut Faults, place: &str, given: usize, least: usize, most: usize) {
    if !(least..=most).contains(&given) {
        faults.add(place, format!("{given} items; use {least} to {most}"));
    }
}

/// Checks that a text can serve as a name.
pub(crate) fn name(faults: &mut Faults, place: String, given: &str) {
    let length = given.chars().count();
    if !(1..=NAME_LENGTH_MAX).contains(&length) || given.chars().any(char::is_control) {
        let shown: String = given.chars().take(NAME_LENGTH_MAX).collect();
        let limits = format!("use 1 to {NAME_LENGTH_MAX} characters, none of them a control character");
        faults.add(place, format!("{shown:?} is no name; {limits}"));
    }
}

/// Reads one schedule.
struct Reader<'a> {
    place: String,
    receivers: &'a [&'a str],
    intervals: &'a [NamedTimeInterval],
    calendars: &'a Calendars,
}

impl Reader<'_> {
    fn schedule(&self, config: &ScheduleConfig, faults: &mut Faults) -> Option<Schedule> {
        let place = &self.place;
        name(faults, format!("{place}.name"), &config.name);
        count(
            faults,
            &format!("{place}.layers"),
            config.layers.len(),
            1,
            LAYERS_MAX,
        );
        let zone = match zone::named(Some(&config.time_zone)) {
            Ok(zone) => zone,
            Err(problem) => {
                faults.add(format!("{place}.time_zone"), problem);
                return None;
            }
        };
        let mut layers = Vec::new();
        for (position, layer) in config.layers.iter().enumerate().take(LAYERS_MAX) {
            let place = format!("{place}.layers[{position}]");
            let within = self.within(layer, &place, &config.time_zone, faults);
            layers.extend(self.layer(layer, &place, &zone, within, faults));
        }
        Some(Schedule {
            config: config.clone(),
            layers,
        })
    }

    fn layer(
        &self,
        config: &LayerConfig,
        place: &str,
        zone: &TimeZone,
        within: Vec<Interval>,
        faults: &mut Faults,
    ) -> Option<Layer> {
        let turns = self.turns(&config.participants, place, faults);
        let period = period(config, place, faults);
        let handover = time(&config.handover, format!("{place}.handover"), faults);
        let starts = moment(&config.starts, handover?, format!("{place}.starts"), faults);
        let ends = match &config.ends {
            None => None,
            Some(ends) => Some(moment(ends, handover?, format!("{place}.ends"), faults)?),
        };
        let starts = starts?;
        if ends.is_some_and(|ends| ends <= starts) {
            faults.add(format!("{place}.ends"), "it must be after starts");
        }
        let period = period?;
        let is_weeks = period.as_secs().is_multiple_of(WEEK_SECONDS);
        if config.on.is_some() && !is_weeks {
            faults.add(
                format!("{place}.on"),
                "it needs a rotation of whole weeks, such as weekly",
            );
        }
        let day = config.on.filter(|_| is_weeks).map(|day| day.weekday());
        let Some(rotation) = rotation::Rotation::new(zone.clone(), starts, handover?, day, period) else {
            faults.add(format!("{place}.starts"), "it is out of the calendar");
            return None;
        };
        Some(Layer {
            turns,
            rotation,
            starts: rotation::place(zone, starts)?,
            ends: ends.and_then(|ends| rotation::place(zone, ends)),
            within: (!config.within.is_empty()).then_some(within),
        })
        .filter(|layer| !layer.turns.is_empty())
    }

    fn turns(&self, participants: &[Turn], place: &str, faults: &mut Faults) -> Vec<Vec<String>> {
        let place = format!("{place}.participants");
        count(faults, &place, participants.len(), 1, TURNS_MAX);
        let mut turns = Vec::new();
        for (position, turn) in participants.iter().enumerate().take(TURNS_MAX) {
            let place = format!("{place}[{position}]");
            count(faults, &place, turn.receivers().len(), 1, TOGETHER_MAX);
            let mut together = HashSet::new();
            for receiver in turn.receivers().iter().take(TOGETHER_MAX) {
                if !self.receivers.contains(&receiver.as_str()) {
                    faults.add_unknown(place.clone(), "receiver", receiver, self.receivers);
                }
                if !together.insert(receiver) {
                    faults.add(place.clone(), format!("{receiver:?} is there twice"));
                }
            }
            turns.push(turn.receivers().to_vec());
        }
        turns
    }

    /// Gives the times that restrict a layer.
    fn within(
        &self,
        config: &LayerConfig,
        place: &str,
        time_zone: &str,
        faults: &mut Faults,
    ) -> Vec<Interval> {
        let place = format!("{place}.within");
        count(faults, &place, config.within.len(), 0, WITHIN_MAX);
        let mut intervals = Vec::new();
        for (position, within) in config.within.iter().enumerate().take(WITHIN_MAX) {
            let place = format!("{place}[{position}]");
            let said = match within {
                Within::Here(times) => {
                    let mut times = times.as_ref().clone();
                    times.location.get_or_insert_with(|| time_zone.to_owned());
                    vec![times]
                }
                Within::Named(name) => match self.intervals.iter().find(|known| known.name == *name) {
                    Some(known) => known.time_intervals.clone(),
                    None => {
                        let known: Vec<&str> =
                            self.intervals.iter().map(|known| known.name.as_str()).collect();
                        faults.add_unknown(place, "time interval", name, &known);
                        continue;
                    }
                },
            };
            for said in &said {
                match Interval::new(said, self.calendars) {
                    Ok(interval) => intervals.push(interval),
                    Err(error) => {
                        for fault in error.faults {
                            faults.add(format!("{place}.{}", fault.place), fault.problem);
                        }
                    }
                }
            }
        }
        intervals
    }
}

fn period(config: &LayerConfig, place: &str, faults: &mut Faults) -> Option<Duration> {
    let period = config.rotation.period();
    let is_whole = period.subsec_nanos() == 0 && period.as_secs().is_multiple_of(HOUR.as_secs());
    if period < HOUR || period > YEAR || !is_whole {
        let given = duration::format(period);
        faults.add(
            format!("{place}.rotation.every"),
            format!("{given} is out of range; use whole hours, 1h to 365d"),
        );
        return None;
    }
    Some(period)
}

/// Reads a local time of the day, `09:00`.
fn time(text: &str, place: String, faults: &mut Faults) -> Option<Time> {
    let is_shaped = text.len() == 5 && text.as_bytes()[2] == b':';
    match text.parse::<Time>() {
        Ok(time) if is_shaped => Some(time),
        _ => {
            faults.add(
                place,
                format!("{} is no time of the day, such as \"09:00\"", shown(text)),
            );
            None
        }
    }
}

/// Reads a local date and time, `2026-01-05 09:00`, or a date alone, which means the handover of that day.
fn moment(text: &str, handover: Time, place: String, faults: &mut Faults) -> Option<DateTime> {
    let date = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
    // Seconds are taken, but no offset: the zone is the schedule's.
    let is_shaped = matches!(text.len(), 16 | 19) && text.is_ascii();
    let moment = match date {
        Some(date) => Some(DateTime::from_parts(date, handover)),
        None if is_shaped => text.parse::<DateTime>().ok(),
        None => None,
    };
    if moment.is_none_or(|moment| !(1970..=9000).contains(&moment.year())) {
        let problem = format!(
            "{} is no local date and time, such as \"2026-01-05 09:00\"",
            shown(text)
        );
        faults.add(place, problem);
        return None;
    }
    moment
}

fn shown(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!("{shown:?}")
}
