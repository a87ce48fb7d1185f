//! The methods of times and durations.
//!
//! Source: the documentation of Go's `time`; only what templates use.

use std::sync::Arc;

use jiff::{SignedDuration, ZonedDateTime};

use crate::functions::{Function, Kind, Outcome, text};
use crate::layout;
use crate::print::{duration_text, time_text};
use crate::value::Value;

pub(crate) const TIME_METHODS: &[Function] = &[
    Function::new("Format", &[Kind::Time, Kind::String], |_, arguments| {
        of_time(arguments, |at| layout::format(at, text(arguments, 1)).into())
    }),
    Function::new("String", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| time_text(at).into())
    }),
    Function::new("UTC", &[Kind::Time], |_, arguments| of_time(arguments, in_utc)),
    Function::new("Local", &[Kind::Time], |_, arguments| of_time(arguments, in_utc)),
    Function::new("Unix", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| whole_units(at, 1_000_000_000))
    }),
    Function::new("UnixMilli", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| whole_units(at, 1_000_000))
    }),
    Function::new("UnixNano", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| {
            Value::Int(saturated(at.timestamp().as_nanosecond()))
        })
    }),
    Function::new("Year", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.year()).into())
    }),
    Function::new("Month", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| layout::month_name(at.month()).into())
    }),
    Function::new("Day", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.day()).into())
    }),
    Function::new("Weekday", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| layout::weekday_name(at).into())
    }),
    Function::new("YearDay", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.day_of_year()).into())
    }),
    Function::new("Hour", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.hour()).into())
    }),
    Function::new("Minute", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.minute()).into())
    }),
    Function::new("Second", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| i64::from(at.second()).into())
    }),
    Function::new("IsZero", &[Kind::Time], |_, arguments| {
        of_time(arguments, |at| {
            Value::Bool(at.timestamp().as_second() == ZERO_TIME_S && at.subsec_nanosecond() == 0)
        })
    }),
    Function::new("Add", &[Kind::Time, Kind::Duration], |_, arguments| {
        let Value::Duration(nanoseconds) = arguments[1] else {
            return Ok(Value::Nil);
        };
        of_time(arguments, |at| {
            let moved = at.saturating_add(SignedDuration::from_nanos(nanoseconds));
            Value::Time(Arc::new(moved))
        })
    }),
    Function::new("Sub", &[Kind::Time, Kind::Time], |_, arguments| {
        of_two(arguments, |a, b| {
            Value::Duration(saturated(
                a.timestamp().as_nanosecond() - b.timestamp().as_nanosecond(),
            ))
        })
    }),
    Function::new("Before", &[Kind::Time, Kind::Time], |_, arguments| {
        of_two(arguments, |a, b| Value::Bool(a.timestamp() < b.timestamp()))
    }),
    Function::new("After", &[Kind::Time, Kind::Time], |_, arguments| {
        of_two(arguments, |a, b| Value::Bool(a.timestamp() > b.timestamp()))
    }),
    Function::new("Equal", &[Kind::Time, Kind::Time], |_, arguments| {
        of_two(arguments, |a, b| Value::Bool(a.timestamp() == b.timestamp()))
    }),
];

/// Go's zero time, 0001-01-01T00:00:00Z, in seconds since the Unix epoch.
const ZERO_TIME_S: i64 = -62_135_596_800;

pub(crate) const DURATION_METHODS: &[Function] = &[
    Function::new("String", &[Kind::Duration], |_, arguments| {
        of_duration(arguments, |nanoseconds| duration_text(nanoseconds).into())
    }),
    Function::new("Seconds", &[Kind::Duration], |_, arguments| {
        of_duration(arguments, |nanoseconds| (nanoseconds as f64 / 1e9).into())
    }),
    Function::new("Minutes", &[Kind::Duration], |_, arguments| {
        of_duration(arguments, |nanoseconds| (nanoseconds as f64 / 60e9).into())
    }),
    Function::new("Hours", &[Kind::Duration], |_, arguments| {
        of_duration(arguments, |nanoseconds| (nanoseconds as f64 / 3600e9).into())
    }),
    Function::new("Milliseconds", &[Kind::Duration], |_, arguments| {
        of_duration(arguments, |nanoseconds| (nanoseconds / 1_000_000).into())
    }),
    Function::new("Round", &[Kind::Duration, Kind::Duration], |_, arguments| {
        to_multiple(arguments, true)
    }),
    Function::new("Truncate", &[Kind::Duration, Kind::Duration], |_, arguments| {
        to_multiple(arguments, false)
    }),
];

pub(crate) fn saturated(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

fn whole_units(at: &ZonedDateTime, unit_ns: i128) -> Value {
    Value::Int(saturated(at.timestamp().as_nanosecond().div_euclid(unit_ns)))
}

fn in_utc(at: &ZonedDateTime) -> Value {
    Value::Time(Arc::new(at.with_time_zone(jiff::tz::TimeZone::UTC)))
}

fn of_time(arguments: &[Value], give: impl FnOnce(&ZonedDateTime) -> Value) -> Outcome {
    match &arguments[0] {
        Value::Time(at) => Ok(give(at)),
        _ => Ok(Value::Nil),
    }
}

fn of_two(arguments: &[Value], give: impl FnOnce(&ZonedDateTime, &ZonedDateTime) -> Value) -> Outcome {
    match (&arguments[0], &arguments[1]) {
        (Value::Time(a), Value::Time(b)) => Ok(give(a, b)),
        _ => Ok(Value::Nil),
    }
}

fn of_duration(arguments: &[Value], give: impl FnOnce(i64) -> Value) -> Outcome {
    match &arguments[0] {
        Value::Duration(nanoseconds) => Ok(give(*nanoseconds)),
        _ => Ok(Value::Nil),
    }
}

fn to_multiple(arguments: &[Value], is_rounded: bool) -> Outcome {
    let (Value::Duration(span), Value::Duration(step)) = (&arguments[0], &arguments[1]) else {
        return Ok(Value::Nil);
    };
    let (span, step) = (i128::from(*span), i128::from(*step));
    if step <= 0 {
        return Ok(arguments[0].clone());
    }
    let half = if is_rounded { step / 2 } else { 0 };
    let whole = match span < 0 {
        true => -((-span + half) / step * step),
        false => (span + half) / step * step,
    };
    Ok(Value::Duration(saturated(whole)))
}
