//! Times written by example: Go's layouts, where `2006-01-02 15:04:05` stands for itself.
//!
//! Source: the documentation of Go's `time` package, constants and Time.Format.

use std::fmt::Write as _;

use jiff::ZonedDateTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The examples that mean something, a longer one before its own beginning.
const ELEMENTS: [&str; 31] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "__2",
    "_2",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "1",
    "2",
    "3",
    "4",
    "5",
    "PM",
    "pm",
    "-07:00:00",
    "-07:00",
    "-070000",
    "-0700",
    "-07",
    "Z07:00",
    "Z0700",
    "Z07",
];

pub(crate) fn month_name(month: i8) -> &'static str {
    MONTHS[usize::from(month.clamp(1, 12) as u8) - 1]
}

pub(crate) fn weekday_name(at: &ZonedDateTime) -> &'static str {
    WEEKDAYS[at.weekday().to_sunday_zero_offset() as usize]
}

/// Writes a time as the layout shows it; what the layout does not know is copied.
pub(crate) fn format(at: &ZonedDateTime, layout: &str) -> String {
    let mut text = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = fraction(&mut text, at, rest) {
            rest = &rest[length..];
            continue;
        }
        match ELEMENTS.iter().find(|element| matches(rest, element)) {
            Some(element) => {
                write_element(&mut text, at, element);
                rest = &rest[element.len()..];
            }
            None => {
                text.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    text
}

fn matches(rest: &str, element: &str) -> bool {
    if !rest.starts_with(element) {
        return false;
    }
    let after = &rest[element.len()..];
    match element {
        // "Jan" and "Mon" inside a longer lowercase word are no examples.
        "Jan" | "Mon" => !after.starts_with(|c: char| c.is_ascii_lowercase()),
        // "_2006" is an underscore and a year.
        "_2" => !after.starts_with("006"),
        _ => true,
    }
}

/// Writes a fraction of the second, `.000` with zeros or `.999` without, and gives the layout's length.
fn fraction(text: &mut String, at: &ZonedDateTime, rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let (separator, digit) = (*bytes.first()?, *bytes.get(1)?);
    if !matches!(separator, b'.' | b',') || !matches!(digit, b'0' | b'9') {
        return None;
    }
    let digits = bytes[1..].iter().take_while(|b| **b == digit).count();
    if bytes.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = format!("{:09}", at.subsec_nanosecond());
    let shown = digits.min(9);
    let mut decimals = nanoseconds[..shown].to_owned();
    if digit == b'9' {
        decimals.truncate(decimals.trim_end_matches('0').len());
    } else {
        decimals.extend(std::iter::repeat_n('0', digits - shown));
    }
    if !decimals.is_empty() {
        text.push(char::from(separator));
        text.push_str(&decimals);
    }
    Some(1 + digits)
}

fn write_element(text: &mut String, at: &ZonedDateTime, element: &str) {
    let hour_of_twelve = match at.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let written = match element {
        "January" => write!(text, "{}", month_name(at.month())),
        "Jan" => write!(text, "{}", &month_name(at.month())[..3]),
        "Monday" => write!(text, "{}", weekday_name(at)),
        "Mon" => write!(text, "{}", &weekday_name(at)[..3]),
        "MST" => write!(text, "{}", zone_name(at)),
        "2006" => write!(text, "{:04}", at.year()),
        "06" => write!(text, "{:02}", at.year().rem_euclid(100)),
        "01" => write!(text, "{:02}", at.month()),
        "1" => write!(text, "{}", at.month()),
        "02" => write!(text, "{:02}", at.day()),
        "_2" => write!(text, "{:2}", at.day()),
        "2" => write!(text, "{}", at.day()),
        "002" => write!(text, "{:03}", at.day_of_year()),
        "__2" => write!(text, "{:3}", at.day_of_year()),
        "15" => write!(text, "{:02}", at.hour()),
        "03" => write!(text, "{hour_of_twelve:02}"),
        "3" => write!(text, "{hour_of_twelve}"),
        "04" => write!(text, "{:02}", at.minute()),
        "4" => write!(text, "{}", at.minute()),
        "05" => write!(text, "{:02}", at.second()),
        "5" => write!(text, "{}", at.second()),
        "PM" => write!(text, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
        "pm" => write!(text, "{}", if at.hour() < 12 { "am" } else { "pm" }),
        zone => {
            text.push_str(&offset(at.offset().seconds(), zone));
            Ok(())
        }
    };
    written.expect("a String takes everything");
}

/// Writes an offset as one of `-07`, `-0700`, `-07:00`, …; with `Z` in front UTC is `Z`.
fn offset(seconds: i32, layout: &str) -> String {
    if layout.starts_with('Z') && seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match &layout[1..] {
        "07" => format!("{sign}{hours:02}"),
        "0700" => format!("{sign}{hours:02}{minutes:02}"),
        "07:00" => format!("{sign}{hours:02}:{minutes:02}"),
        "070000" => format!("{sign}{hours:02}{minutes:02}{rest:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
    }
}

fn zone_name(at: &ZonedDateTime) -> String {
    at.time_zone()
        .to_offset_info(at.timestamp())
        .abbreviation()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_format_as_the_documentation_of_go_shows() {
        // Examples of Go's Time.Format: 2015-02-25 11:06:39.1234 PST.
        let zone = jiff::tz::TimeZoneDatabase::bundled()
            .get("America/Los_Angeles")
            .expect("bundled");
        let at: ZonedDateTime = "2015-02-25T19:06:39.1234Z"
            .parse::<jiff::Timestamp>()
            .expect("a time")
            .to_zoned_datetime(zone);
        let check = |layout: &str, text: &str| assert_eq!(format(&at, layout), text, "{layout}");
        check("Mon Jan 2 15:04:05 MST 2006", "Wed Feb 25 11:06:39 PST 2015");
        check("Mon Jan _2 15:04:05 2006", "Wed Feb 25 11:06:39 2015");
        check("2006-01-02T15:04:05Z07:00", "2015-02-25T11:06:39-08:00");
        check("3:04PM", "11:06AM");
        check("02/01/06 -0700", "25/02/15 -0800");
        check("Mon Jan 2 15:04:05.000 2006", "Wed Feb 25 11:06:39.123 2015");
        check("15:04:05.00000", "11:06:39.12340");
        check("15:04:05.999999", "11:06:39.1234");
        check("Monday, 02-Jan-06", "Wednesday, 25-Feb-15");
        check("02 002 __2 Jan January", "25 056  56 Feb February");
        check("发生于 2006年1月2日", "发生于 2015年2月25日");
    }
}
