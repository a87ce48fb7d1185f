//! Moments on the clocks of a zone.
//!
//! Wall clocks decide, as in Alertmanager: an hour that a clock shows twice lies twice within an interval, and
//! one that it skips never.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use marketprism_model::{DayTimes, Timestamp};

/// Finds a zone by its IANA name; no name means UTC.
pub(crate) fn named(location: Option<&str>) -> Result<TimeZone, String> {
    let name = match location {
        None | Some("" | "UTC") => return Ok(TimeZone::UTC),
        Some("Local") => {
            return Err(
                "\"Local\" would mean another time on another machine; name the zone, such as \"Asia/Shanghai\""
                    .to_owned(),
            );
        }
        Some(name) => name,
    };
    let zone = TimeZone::get(name).map_err(|_| {
        format!("no time zone is called {name:?}; use an IANA name such as \"Asia/Shanghai\" or \"UTC\"")
    })?;
    match zone.iana_name() {
        Some(known) if known != name => Err(format!(
            "no time zone is called {name:?}; did you mean {known:?}?"
        )),
        _ => Ok(zone),
    }
}

/// Gives what the clocks show; `None` beyond the years that calendars know.
pub(crate) fn local(zone: &TimeZone, at: Timestamp) -> Option<DateTime> {
    let at = jiff::Timestamp::from_millisecond(at.millis()).ok()?;
    Some(zone.to_datetime(at))
}

/// Gives the moments at which the clocks show a time: none, one or two.
pub(crate) fn moments(zone: &TimeZone, local: DateTime) -> impl Iterator<Item = Timestamp> {
    let offsets = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
    };
    offsets
        .into_iter()
        .flatten()
        .filter_map(move |offset| offset.to_timestamp(local).ok())
        .map(|at| Timestamp::from_millis(at.as_millisecond()))
}

/// Gives the moments after one and up to another at which the clocks are turned.
pub(crate) fn turns(zone: &TimeZone, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let Ok(begin) = jiff::Timestamp::from_millisecond(after.millis()) else {
        return Vec::new();
    };
    zone.following(begin)
        .map(|turn| Timestamp::from_millis(turn.timestamp().as_millisecond()))
        .take_while(|turn| *turn <= until)
        .collect()
}

pub(crate) fn minute_of_day(local: DateTime) -> u16 {
    u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
}

pub(crate) fn holds(times: &DayTimes, minute: u16) -> bool {
    (times.start_minute..times.end_minute).contains(&minute)
}
