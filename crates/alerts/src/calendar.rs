//! Calendars: which days people work or an exchange trades, with public holidays and weekends that are worked
//! in exchange for them (调休).
//!
//! `cn` and `cn-exchange` are built in and hold what the State Council has published for 2025 and 2026; a
//! calendar of the same name in the configuration takes their place. In years of which nothing is known, only
//! the weekend counts.
//! Deliberately absent: a clock, and any fetching of holidays.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use marketprism_model::time_interval::{parse_minute, parse_weekday};
use marketprism_model::{CalendarDay, DayTimes, Timestamp};
use serde::{Deserialize, Serialize};

use crate::routing::{Faults, RoutingError};
use crate::zone;

/// A calendar lists at most so many days.
pub const DAYS_MAX: usize = 20_000;
/// There are at most so many calendars.
pub const CALENDARS_MAX: usize = 200;

/// A calendar as it is configured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarConfig {
    /// The name that intervals use.
    pub name: String,
    /// IANA name of the zone whose days are meant. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Days that are off: `2026-10-01`, or `2026-10-01:2026-10-07`, both ends inclusive.
    #[serde(default, deserialize_with = "crate::routing::config::or_empty")]
    pub holidays: Vec<String>,
    /// Days of the weekend that are worked, written alike.
    #[serde(default, deserialize_with = "crate::routing::config::or_empty")]
    pub workdays: Vec<String>,
    /// Times of a working day at which an exchange trades.
    #[serde(default, deserialize_with = "crate::routing::config::or_empty")]
    pub sessions: Vec<SessionConfig>,
    /// Days of the week that are off. Default saturday and sunday; an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekend: Option<Vec<String>>,
}

/// One trading session: `{start: '09:30', end: '11:30'}`, the end exclusive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`, up to `24:00`.
    pub end: String,
}

/// One calendar, ready to be asked.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    location: Option<String>,
    holidays: HashSet<Date>,
    workdays: HashSet<Date>,
    /// By day of the week, Sunday first.
    is_weekend: [bool; 7],
    sessions: Vec<DayTimes>,
}

impl Calendar {
    /// Says whether a moment is such a day, by the calendar's own zone.
    pub fn is(&self, day: CalendarDay, at: Timestamp) -> bool {
        zone::local(&self.zone, at).is_some_and(|local| self.is_local(day, local))
    }

    fn is_local(&self, day: CalendarDay, local: DateTime) -> bool {
        let date = local.date();
        let is_off = !self.workdays.contains(&date)
            && (self.holidays.contains(&date)
                || self.is_weekend[usize::from(date.weekday().to_sunday_zero_offset().unsigned_abs())]);
        match day {
            CalendarDay::Off => is_off,
            CalendarDay::Working => !is_off,
            CalendarDay::Session => {
                let minute = zone::minute_of_day(local);
                !is_off && self.sessions.iter().any(|times| zone::holds(times, minute))
            }
        }
    }

    /// Gives the zone whose days are meant.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Gives the name of its zone, when it has one of its own.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Gives its trading sessions.
    pub fn sessions(&self) -> &[DayTimes] {
        &self.sessions
    }
}

/// All calendars by name.
#[derive(Clone, Debug)]
pub struct Calendars(BTreeMap<String, Arc<Calendar>>);

impl Default for Calendars {
    fn default() -> Self {
        Calendars::new(&[]).expect("the calendars that are built in are checked by a test")
    }
}

impl Calendars {
    /// Reads calendars, and adds those that are built in; fails with every fault.
    pub fn new(configs: &[CalendarConfig]) -> Result<Self, RoutingError> {
        let mut faults = Faults::default();
        let mut calendars = BTreeMap::new();
        if configs.len() > CALENDARS_MAX {
            faults.add(
                "calendars",
                format!("{} are too many; at most {CALENDARS_MAX}", configs.len()),
            );
        }
        for (number, config) in configs.iter().take(CALENDARS_MAX).enumerate() {
            let place = format!("calendars[{number}]");
            let calendar = read(config, &place, &mut faults);
            if config.name.is_empty() {
                faults.add(format!("{place}.name"), "a calendar needs a name");
            } else if calendars
                .insert(config.name.clone(), Arc::new(calendar))
                .is_some()
            {
                faults.add(
                    format!("{place}.name"),
                    format!("calendar {:?} is there twice", config.name),
                );
            }
        }
        for config in [china(), china_exchange()] {
            let name = config.name.clone();
            calendars
                .entry(name)
                .or_insert_with(|| Arc::new(read(&config, &config.name, &mut faults)));
        }
        faults.or(Calendars(calendars))
    }

    /// Gives the calendar of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<Calendar>> {
        self.0.get(name)
    }

    /// Gives all names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn read(config: &CalendarConfig, place: &str, faults: &mut Faults) -> Calendar {
    let location = config.location.clone().filter(|location| !location.is_empty());
    let zone = zone::named(location.as_deref()).unwrap_or_else(|problem| {
        faults.add(format!("{place}.location"), problem);
        TimeZone::UTC
    });
    let mut is_weekend = [true, false, false, false, false, false, true];
    if let Some(days) = &config.weekend {
        is_weekend = [false; 7];
        for (number, day) in days.iter().enumerate() {
            match parse_weekday(day) {
                Ok(day) => is_weekend[usize::from(day)] = true,
                Err(problem) => faults.add(format!("{place}.weekend[{number}]"), problem),
            }
        }
    }
    let holidays = days(&config.holidays, &format!("{place}.holidays"), faults);
    let workdays = days(&config.workdays, &format!("{place}.workdays"), faults);
    if let Some(both) = holidays.intersection(&workdays).min() {
        faults.add(
            format!("{place}.workdays"),
            format!("{both} is a holiday, too; a day is off or worked"),
        );
    }
    Calendar {
        zone,
        location,
        holidays,
        workdays,
        is_weekend,
        sessions: sessions(&config.sessions, place, faults),
    }
}

fn days(spans: &[String], place: &str, faults: &mut Faults) -> HashSet<Date> {
    let mut days = HashSet::new();
    for (number, span) in spans.iter().enumerate() {
        let (first, last) = span.split_once(':').unwrap_or((span, span));
        let problem = match (date(first), date(last)) {
            (Some(first), Some(last)) if first <= last => {
                let mut next = Some(first);
                while let Some(day) = next.filter(|day| *day <= last && days.len() <= DAYS_MAX) {
                    days.insert(day);
                    next = day.tomorrow().ok();
                }
                continue;
            }
            (Some(_), Some(_)) => format!("{span:?} ends before it begins"),
            _ => format!("not a date: {span:?}; expected \"YYYY-MM-DD\", or two with a colon between"),
        };
        faults.add(format!("{place}[{number}]"), problem);
    }
    if days.len() > DAYS_MAX {
        faults.add(place, format!("more than {DAYS_MAX} days are listed"));
    }
    days
}

/// Dates are read in one form only, for what else looks like one may mean another day elsewhere.
fn date(text: &str) -> Option<Date> {
    let is_shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !is_shaped {
        return None;
    }
    Date::new(
        text[..4].parse().ok()?,
        text[5..7].parse().ok()?,
        text[8..].parse().ok()?,
    )
    .ok()
}

fn sessions(configs: &[SessionConfig], place: &str, faults: &mut Faults) -> Vec<DayTimes> {
    let mut sessions = Vec::new();
    for (number, session) in configs.iter().enumerate() {
        let place = format!("{place}.sessions[{number}]");
        match (parse_minute(&session.start), parse_minute(&session.end)) {
            (Ok(start_minute), Ok(end_minute)) if start_minute < end_minute => sessions.push(DayTimes {
                start_minute,
                end_minute,
            }),
            (Ok(_), Ok(_)) => faults.add(
                place,
                format!("end {:?} is not after start {:?}", session.end, session.start),
            ),
            (start, end) => {
                for (key, problem) in [("start", start.err()), ("end", end.err())] {
                    if let Some(problem) = problem {
                        faults.add(format!("{place}.{key}"), problem);
                    }
                }
            }
        }
    }
    sessions
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Public holidays of mainland China.
///
/// Source: State Council General Office, notices on the holidays of 2025 (国办发明电〔2024〕12号) and of 2026
/// (of 2025-11-04).
fn china() -> CalendarConfig {
    CalendarConfig {
        name: "cn".to_owned(),
        location: Some("Asia/Shanghai".to_owned()),
        holidays: words(&[
            "2025-01-01",
            "2025-01-28:2025-02-04",
            "2025-04-04:2025-04-06",
            "2025-05-01:2025-05-05",
            "2025-05-31:2025-06-02",
            "2025-10-01:2025-10-08",
            "2026-01-01:2026-01-03",
            "2026-02-15:2026-02-23",
            "2026-04-04:2026-04-06",
            "2026-05-01:2026-05-05",
            "2026-06-19:2026-06-21",
            "2026-09-25:2026-09-27",
            "2026-10-01:2026-10-07",
        ]),
        workdays: words(&[
            "2025-01-26",
            "2025-02-08",
            "2025-04-27",
            "2025-09-28",
            "2025-10-11",
            "2026-01-04",
            "2026-02-14",
            "2026-02-28",
            "2026-05-09",
            "2026-09-20",
            "2026-10-10",
        ]),
        sessions: Vec::new(),
        weekend: None,
    }
}

/// The exchanges of Shanghai and Shenzhen: the same holidays, but weekends are never traded.
fn china_exchange() -> CalendarConfig {
    let session = |start: &str, end: &str| SessionConfig {
        start: start.to_owned(),
        end: end.to_owned(),
    };
    CalendarConfig {
        name: "cn-exchange".to_owned(),
        workdays: Vec::new(),
        sessions: vec![session("09:30", "11:30"), session("13:00", "15:00")],
        ..china()
    }
}
