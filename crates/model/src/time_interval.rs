//! Recurring times of the week and the year, as Alertmanager's `time_intervals` say them.
//!
//! They are read and written in Alertmanager's words (`times: [{start_time: '09:00', end_time: '17:00'}]`,
//! `weekdays: ['monday:friday']`), and refused for the same reasons; beside them stands `calendar`.
//! Here is only what is said; whether a moment lies within needs zones and calendars, and stands in `alerts`.

use std::fmt;

use serde::de::{self, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::nearest;

/// The minute at which a day ends.
pub const DAY_MINUTES: u16 = 24 * 60;

/// A list of one part of an interval is at most this long.
pub const PARTS_MAX: usize = 1000;

/// Minutes of a day, the first inclusive, the second exclusive; 1440 is midnight at its end.
///
/// Written as `{start_time: 'HH:MM', end_time: 'HH:MM'}`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "WrittenTimes", into = "WrittenTimes")]
pub struct DayTimes {
    /// From this minute.
    pub start_minute: u16,
    /// Until this minute, later than the first.
    pub end_minute: u16,
}

/// Both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// From.
    pub begin: i32,
    /// To.
    pub end: i32,
}

/// A time of the week and the year: every part that is given must hold. An empty list holds always; written
/// out as `[]` it is refused, for Alertmanager reads that as never.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeInterval {
    /// Times of the day.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "filled")]
    pub times: Vec<DayTimes>,
    /// Days of the week, 0 is Sunday.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "weekdays")]
    pub weekdays: Vec<Span>,
    /// Days of the month, 1 to 31; negative ones count from its end, -1 is the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "days_of_month")]
    pub days_of_month: Vec<Span>,
    /// Months, 1 to 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "months")]
    pub months: Vec<Span>,
    /// Years.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "years")]
    pub years: Vec<Span>,
    /// IANA name of the zone; when absent that of the calendar, else UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Days of a calendar that is configured by this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<CalendarDays>,
}

impl TimeInterval {
    /// Gives the spans of days, months and years as they are written, each list with its key.
    pub fn spans(&self) -> [(&'static str, Vec<String>); 4] {
        let written = |part: Part, spans: &[Span]| spans.iter().map(|span| part.write(*span)).collect();
        [
            ("weekdays", written(Part::Weekday, &self.weekdays)),
            ("days_of_month", written(Part::DayOfMonth, &self.days_of_month)),
            ("months", written(Part::Month, &self.months)),
            ("years", written(Part::Year, &self.years)),
        ]
    }
}

/// Reads the name of a day of the week; 0 is Sunday.
pub fn parse_weekday(text: &str) -> Result<u8, String> {
    let day = Part::Weekday.member(&text.to_lowercase())?;
    Ok(u8::try_from(day).expect("one of seven"))
}

/// Which days of a calendar are meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarDays {
    /// The calendar's name.
    pub name: String,
    /// Which of its days.
    pub days: CalendarDay,
}

/// What a day is to a calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CalendarDay {
    /// People work, or the exchange trades; weekends that are worked in exchange (调休) included.
    Working,
    /// They do not.
    Off,
    /// Within a trading session of such a day.
    Session,
}

/// Reads a time of the day, `HH:MM`, as minutes; `24:00` is its end.
pub fn parse_minute(text: &str) -> Result<u16, String> {
    let fault = || format!("not a time of the day: {text:?}; expected \"HH:MM\" from \"00:00\" to \"24:00\"");
    let bytes = text.as_bytes();
    let is_shaped = bytes.len() == 5
        && bytes[2] == b':'
        && [0, 1, 3, 4].iter().all(|&place| bytes[place].is_ascii_digit());
    if !is_shaped {
        return Err(fault());
    }
    let number = |at: usize| u16::from(bytes[at] - b'0') * 10 + u16::from(bytes[at + 1] - b'0');
    let (hours, minutes) = (number(0), number(3));
    if (hours < 24 && minutes < 60) || (hours, minutes) == (24, 0) {
        Ok(hours * 60 + minutes)
    } else {
        Err(fault())
    }
}

/// Writes minutes as a time of the day.
pub fn format_minute(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTimes {
    start_time: String,
    end_time: String,
}

impl TryFrom<WrittenTimes> for DayTimes {
    type Error = String;

    fn try_from(written: WrittenTimes) -> Result<Self, String> {
        let start_minute = parse_minute(&written.start_time)?;
        let end_minute = parse_minute(&written.end_time)?;
        if start_minute >= end_minute {
            return Err(format!(
                "end_time {:?} is not after start_time {:?}; a time over midnight is two, the first until \"24:00\"",
                written.end_time, written.start_time
            ));
        }
        Ok(DayTimes {
            start_minute,
            end_minute,
        })
    }
}

impl From<DayTimes> for WrittenTimes {
    fn from(times: DayTimes) -> Self {
        WrittenTimes {
            start_time: format_minute(times.start_minute),
            end_time: format_minute(times.end_minute),
        }
    }
}

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// What the spans of a list count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Weekday,
    DayOfMonth,
    Month,
    Year,
}

impl Part {
    fn parse(self, text: &str) -> Result<Span, String> {
        let text = text.to_lowercase();
        let (begin, end) = text.split_once(':').unwrap_or((&text, &text));
        let span = Span {
            begin: self.member(begin)?,
            end: self.member(end)?,
        };
        self.check(span, &text)?;
        Ok(span)
    }

    fn member(self, word: &str) -> Result<i32, String> {
        let named = |known: &[&str], first: i32| {
            let place = known.iter().position(|name| *name == word)?;
            Some(first + i32::try_from(place).expect("a dozen names"))
        };
        let number = word.parse::<i32>().ok();
        let (found, allowed): (Option<i32>, &str) = match self {
            Part::Weekday => (named(&WEEKDAYS, 0), "sunday to saturday"),
            Part::Month => (named(&MONTHS, 1).or(number), "january to december, or 1 to 12"),
            Part::DayOfMonth => (number, "1 to 31, or -31 to -1 from the month's end"),
            Part::Year => (number, "a year as a number"),
        };
        found.ok_or_else(|| {
            let known: &[&str] = match self {
                Part::Weekday => &WEEKDAYS,
                Part::Month => &MONTHS,
                Part::DayOfMonth | Part::Year => &[],
            };
            let near = nearest(word, known.iter().copied())
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            format!("not a {}: {word:?}; expected {allowed}{near}", self.noun())
        })
    }

    /// The rules are Alertmanager's; months are checked against the year, which it forgets.
    fn check(self, span: Span, text: &str) -> Result<(), String> {
        let noun = self.noun();
        let limits = match self {
            Part::Weekday => 0..=6,
            Part::DayOfMonth => -31..=31,
            Part::Month => 1..=12,
            Part::Year => 0..=9999,
        };
        let is_known = |member: i32| limits.contains(&member) && !(self == Part::DayOfMonth && member == 0);
        if !is_known(span.begin) || !is_known(span.end) {
            let (least, most) = (limits.start(), limits.end());
            return Err(format!(
                "{noun} {text:?} is out of range; expected {least} to {most}{}",
                if self == Part::DayOfMonth {
                    " without 0"
                } else {
                    ""
                }
            ));
        }
        let (mut begin, mut end) = (span.begin, span.end);
        if self == Part::DayOfMonth {
            if begin < 0 && end > 0 {
                return Err(format!(
                    "{noun} {text:?}: a span that begins from the month's end must end there too"
                ));
            }
            // The shortest month has 28 days: what is upside down there is upside down always.
            let from_start = |day: i32| if day < 0 { 28 + day } else { day };
            (begin, end) = (from_start(begin), from_start(end));
        }
        if begin > end {
            return Err(format!(
                "{noun} {text:?} ends before it begins; write two spans instead"
            ));
        }
        Ok(())
    }

    const fn noun(self) -> &'static str {
        match self {
            Part::Weekday => "weekday",
            Part::DayOfMonth => "day of the month",
            Part::Month => "month",
            Part::Year => "year",
        }
    }

    fn write(self, span: Span) -> String {
        let member = |member: i32| {
            let name = |known: &[&'static str], first: i32| {
                let place = usize::try_from(member - first).ok()?;
                known.get(place).map(|name| (*name).to_owned())
            };
            match self {
                Part::Weekday => name(&WEEKDAYS, 0),
                Part::Month => name(&MONTHS, 1),
                Part::DayOfMonth | Part::Year => None,
            }
            .unwrap_or_else(|| member.to_string())
        };
        if span.begin == span.end {
            member(span.begin)
        } else {
            format!("{}:{}", member(span.begin), member(span.end))
        }
    }

    fn read_all<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Span>, D::Error> {
        filled::<D, Word>(deserializer)?
            .iter()
            .map(|word| self.parse(&word.0).map_err(de::Error::custom))
            .collect()
    }

    fn write_all<S: Serializer>(self, spans: &[Span], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(spans.len()))?;
        for span in spans {
            list.serialize_element(&self.write(*span))?;
        }
        list.end()
    }
}

/// Reads a list that may be absent or null, but not empty and not endless.
fn filled<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    match Option::<Vec<T>>::deserialize(deserializer)? {
        Some(list) if list.is_empty() => Err(de::Error::custom(
            "an empty list would hold never; leave it out to hold always",
        )),
        Some(list) if list.len() > PARTS_MAX => Err(de::Error::custom(format!(
            "{} entries are too many; at most {PARTS_MAX}",
            list.len()
        ))),
        list => Ok(list.unwrap_or_default()),
    }
}

/// A word, or a bare number, which YAML does not write as text.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word such as 'monday:friday', or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

macro_rules! spans_of {
    ($module:ident, $part:expr) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: Serializer>(spans: &[Span], serializer: S) -> Result<S::Ok, S::Error> {
                $part.write_all(spans, serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Vec<Span>, D::Error> {
                $part.read_all(deserializer)
            }
        }
    };
}

spans_of!(weekdays, Part::Weekday);
spans_of!(days_of_month, Part::DayOfMonth);
spans_of!(months, Part::Month);
spans_of!(years, Part::Year);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TimeInterval, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn intervals_are_read_and_written_in_alertmanagers_words() {
        let json = concat!(
            r#"{"times":[{"start_time":"09:00","end_time":"24:00"}],"weekdays":["monday:friday","sunday"],"#,
            r#""days_of_month":["1:5","-3:-1"],"months":["may:august","december"],"years":["2020:2022","2024"],"#,
            r#""location":"Europe/Berlin","calendar":{"name":"cn","days":"working"}}"#
        );
        let interval = read(json).expect("good");
        assert_eq!(interval.times[0].start_minute, 540);
        assert_eq!(interval.times[0].end_minute, DAY_MINUTES);
        assert_eq!(
            interval.weekdays,
            [Span { begin: 1, end: 5 }, Span { begin: 0, end: 0 }]
        );
        assert_eq!(interval.days_of_month[1], Span { begin: -3, end: -1 });
        assert_eq!(interval.months[0], Span { begin: 5, end: 8 });
        assert_eq!(serde_json::to_string(&interval).expect("writes"), json);

        let bare =
            read(r#"{"days_of_month":[-1,15],"months":["5:8",12],"weekdays":["Monday"],"years":[2024]}"#);
        let bare = bare.expect("numbers and capitals are fine");
        assert_eq!(bare.months[1], Span { begin: 12, end: 12 });
        assert_eq!(read("{}").expect("always"), TimeInterval::default());
        assert_eq!(
            read(r#"{"times":null,"years":null}"#).expect("always"),
            TimeInterval::default()
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_is_allowed() {
        let check = |json: &str, words: &[&str]| {
            let text = read(json).expect_err(json);
            assert!(words.iter().all(|word| text.contains(word)), "{json}: {text}");
        };
        check(r#"{"weekdays":["mondy"]}"#, &["mondy", "did you mean \"monday\""]);
        check(
            r#"{"weekdays":["friday:monday"]}"#,
            &["friday:monday", "ends before it begins"],
        );
        check(r#"{"weekdays":[1]}"#, &["\"1\"", "sunday to saturday"]);
        check(r#"{"days_of_month":["0"]}"#, &["out of range", "without 0"]);
        check(r#"{"days_of_month":["32"]}"#, &["out of range"]);
        check(r#"{"days_of_month":["-5:5"]}"#, &["must end there too"]);
        check(r#"{"days_of_month":["30:-25"]}"#, &["ends before it begins"]);
        check(r#"{"days_of_month":["a:b"]}"#, &["\"a\""]);
        check(r#"{"months":["december:january"]}"#, &["ends before it begins"]);
        check(r#"{"months":[13]}"#, &["1 to 12"]);
        check(r#"{"years":["2022:2020"]}"#, &["ends before it begins"]);
        check(r#"{"years":["2022:2023:2024"]}"#, &["2023:2024"]);
        check(
            r#"{"times":[{"start_time":"9:00","end_time":"17:00"}]}"#,
            &["9:00", "HH:MM"],
        );
        check(
            r#"{"times":[{"start_time":"09:00","end_time":"24:01"}]}"#,
            &["24:01"],
        );
        check(
            r#"{"times":[{"start_time":"17:00","end_time":"09:00"}]}"#,
            &["two, the first until"],
        );
        check(r#"{"times":[{"start_time":"17:00"}]}"#, &["end_time"]);
        check(r#"{"times":[]}"#, &["empty list"]);
        check(r#"{"weekday":["monday"]}"#, &["weekday", "weekdays"]);
        check(
            r#"{"calendar":{"name":"cn","days":"holiday"}}"#,
            &["holiday", "working"],
        );
    }
}
