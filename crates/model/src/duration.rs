//! Durations as Prometheus writes them: `15s`, `1h30m`, `2d`, `250ms`.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Says why a text is no duration.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    /// The text does not follow the grammar.
    #[error(
        "not a duration: {0:?}; expected numbers with units y, w, d, h, m, s, ms from large to small, such as \"1h30m\""
    )]
    Syntax(String),
    /// The sum does not fit.
    #[error("duration out of range: {0:?}")]
    Range(String),
}

/// Parses a Prometheus duration; `0` alone needs no unit, units go from large to small, each once.
///
/// Source: `github.com/prometheus/common/model`, ParseDuration (documented under "Querying basics").
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax(text.to_owned());
    let range = || DurationError::Range(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total_ms, mut next_unit) = (text, 0u64, 0usize);
    if rest.is_empty() {
        return Err(syntax());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let place = UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(syntax)?;
        if digits == 0 || place < next_unit {
            return Err(syntax());
        }
        let count: u64 = number.parse().map_err(|_| range())?;
        let part = count.checked_mul(UNITS[place].1).ok_or_else(range)?;
        total_ms = total_ms
            .checked_add(part)
            .filter(|ms| i64::try_from(*ms).is_ok())
            .ok_or_else(range)?;
        (rest, next_unit) = (tail, place + 1);
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration as Prometheus does: weeks and years only when they divide it, `0s` for nothing.
pub fn format(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in UNITS {
        let is_exact_only = unit == "y" || unit == "w";
        if ms < size || (is_exact_only && ms % size != 0) {
            continue;
        }
        let _ = write!(text, "{}{unit}", ms / size);
        ms %= size;
    }
    text
}

/// Reads and writes a [`Duration`] field as a Prometheus duration string: `#[serde(with = "duration")]`.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    format(*duration).serialize(serializer)
}

/// See [`serialize`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The same for a field that may be absent: `#[serde(default, with = "duration::optional")]`.
pub mod optional {
    use super::*;

    /// Writes the duration string, or null.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(super::format).serialize(serializer)
    }

    /// Reads a duration string, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| super::parse(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_prometheus_does() {
        let check = |text: &str, ms: u64, written: &str| {
            let parsed = parse(text).expect(text);
            assert_eq!(
                (parsed.as_millis() as u64, format(parsed).as_str()),
                (ms, written)
            );
        };
        check("0", 0, "0s");
        check("1h30m", 5_400_000, "1h30m");
        check("90m", 5_400_000, "1h30m");
        check("10d", 864_000_000, "10d");
        check("2w", 1_209_600_000, "2w");
        check("1y", 31_536_000_000, "1y");
        check("1500ms", 1500, "1s500ms");
    }

    #[test]
    fn malformed_durations_are_refused() {
        for text in ["", "1", "h", "1h1h", "1s1h", "-1s", "1.5h", "9999999999y", "1 h"] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
