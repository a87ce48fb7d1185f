//! What the operator writes of a schedule.

use std::fmt;
use std::time::Duration;

use marketprism_model::{TimeInterval, duration};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A schedule: layers of people who take turns.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The name that escalation policies use as `schedule:NAME`.
    pub name: String,
    /// IANA name of the zone in which its times are said, as `Asia/Shanghai`.
    pub time_zone: String,
    /// The layers, 1 to 20; where a later one covers a moment, it wins over the earlier ones.
    pub layers: Vec<LayerConfig>,
}

/// People who take turns.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// Who takes turns, in this order: names of receivers, or lists of names who are on call together. 1 to 100.
    pub participants: Vec<Turn>,
    /// How long a turn is.
    pub rotation: Rotation,
    /// From when the layer covers anything, a local date and time as `2026-01-05 09:00`; the first turn runs from
    /// here to the next handover. A date alone means the handover of that day.
    pub starts: String,
    /// Until when, exclusive, in the same words; without end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// The local time at which turns change, `09:00` when absent.
    #[serde(default = "nine")]
    pub handover: String,
    /// The day of the week on which turns change, when they last whole weeks; that of `starts` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Day>,
    /// Times of the week to which the layer is restricted; always when empty. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

fn nine() -> String {
    "09:00".to_owned()
}

/// Whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Turn {
    /// One receiver.
    One(String),
    /// Several together, 1 to 20.
    Together(Vec<String>),
}

impl Turn {
    /// Gives the receivers.
    pub fn receivers(&self) -> &[String] {
        match self {
            Turn::One(receiver) => std::slice::from_ref(receiver),
            Turn::Together(receivers) => receivers,
        }
    }
}

/// How long a turn is, in local time: a day that is an hour longer or shorter is a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// A day.
    Daily,
    /// A week.
    Weekly,
    /// Whole hours or days, 1 h to 365 d: `{every: 3d}`.
    Every(Duration),
}

impl Rotation {
    /// Gives the length of a turn.
    pub const fn period(self) -> Duration {
        match self {
            Rotation::Daily => Duration::from_secs(86_400),
            Rotation::Weekly => Duration::from_secs(7 * 86_400),
            Rotation::Every(period) => period,
        }
    }
}

impl Serialize for Rotation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Rotation::Daily => serializer.serialize_str("daily"),
            Rotation::Weekly => serializer.serialize_str("weekly"),
            Rotation::Every(period) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("every", &duration::format(*period))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Rotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Rotation;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("daily, weekly, or {every: 3d}")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Rotation, E> {
                match word {
                    "daily" => Ok(Rotation::Daily),
                    "weekly" => Ok(Rotation::Weekly),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rotation, A::Error> {
                let mut every = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "every" {
                        return Err(A::Error::unknown_field(&key, &["every"]));
                    }
                    let text: String = map.next_value()?;
                    every = Some(duration::parse(&text).map_err(A::Error::custom)?);
                }
                every
                    .map(Rotation::Every)
                    .ok_or_else(|| A::Error::missing_field("every"))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// A day of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Day {
    /// Gives the day of the week as the calendar's library knows it.
    pub(super) const fn weekday(self) -> jiff::civil::Weekday {
        use jiff::civil::Weekday;
        match self {
            Day::Monday => Weekday::Monday,
            Day::Tuesday => Weekday::Tuesday,
            Day::Wednesday => Weekday::Wednesday,
            Day::Thursday => Weekday::Thursday,
            Day::Friday => Weekday::Friday,
            Day::Saturday => Weekday::Saturday,
            Day::Sunday => Weekday::Sunday,
        }
    }
}

/// Times of the week to which a layer is restricted.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Within {
    /// Those of `time_intervals` by this name.
    Named(String),
    /// Said here; in the schedule's zone unless they name another.
    Here(Box<TimeInterval>),
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Within;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a time interval, or its times as {weekdays: ['monday:friday']}")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Within, E> {
                Ok(Within::Named(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Within, A::Error> {
                let times = TimeInterval::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Within::Here(Box::new(times)))
            }
        }
        deserializer.deserialize_any(Words)
    }
}
