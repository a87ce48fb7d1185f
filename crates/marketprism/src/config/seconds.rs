//! Durations of the guide's keys: bare numbers are seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

const SPAN_MAX: Duration = Duration::from_secs(1000 * 365 * 86_400);

/// A duration written as a number of seconds (`30`, `0.5`) or as a Prometheus duration (`30s`, `90d`).
///
/// Longer ones than a thousand years are refused, for no clock can count them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// Makes a duration of whole seconds.
    pub const fn whole(seconds: u64) -> Self {
        Seconds(Duration::from_secs(seconds))
    }
}

fn within<E: serde::de::Error>(span: Duration) -> Result<Seconds, E> {
    if span > SPAN_MAX {
        return Err(E::custom("longer than a thousand years"));
    }
    Ok(Seconds(span))
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Seconds;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of seconds, or a duration such as \"90d\"")
            }
            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Seconds, E> {
                within(Duration::from_secs(seconds))
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                let seconds =
                    u64::try_from(seconds).map_err(|_| E::custom("a duration cannot be negative"))?;
                self.visit_u64(seconds)
            }
            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                let span = Duration::try_from_secs_f64(seconds).map_err(E::custom)?;
                within(span)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Seconds, E> {
                within(marketprism_model::duration::parse(text).map_err(E::custom)?)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_are_seconds_and_durations_are_prometheus() {
        let read = |text: &str| {
            serde_saphyr::from_str::<Seconds>(text)
                .ok()
                .map(|seconds| seconds.0.as_millis())
        };
        assert_eq!(read("30"), Some(30_000));
        assert_eq!(read("0.5"), Some(500));
        assert_eq!(read("90d"), Some(7_776_000_000));
        assert_eq!(read("-1"), None);
        assert_eq!(read("soon"), None);
    }
}
