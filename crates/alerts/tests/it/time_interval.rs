//! Intervals and calendars against vectors worked out by hand, and changes against minute by minute.

use std::time::Duration;

use marketprism_alerts::calendar::{CalendarConfig, Calendars, SessionConfig};
use marketprism_alerts::routing::NamedTimeInterval;
use marketprism_alerts::time_interval::{CHANGE_DAYS_MAX, Interval, TimeIntervals, contains, next_change};
use marketprism_model::{CalendarDay, TimeInterval, Timestamp};
use proptest::prelude::*;

use crate::routing_words::Dice;

/// Reads a moment of UTC.
fn at(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().expect(text);
    Timestamp::from_millis(at.as_millisecond())
}

fn interval(yaml: &str) -> TimeInterval {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

/// An interval, moments within it, moments outside.
#[track_caller]
fn check(yaml: &str, within: &[&str], outside: &[&str]) {
    let calendars = Calendars::default();
    let interval = interval(yaml);
    for text in within {
        assert!(
            contains(&interval, at(text), &calendars),
            "{yaml}: {text} is within"
        );
    }
    for text in outside {
        assert!(
            !contains(&interval, at(text), &calendars),
            "{yaml}: {text} is outside"
        );
    }
}

#[test]
fn times_begin_inclusive_and_end_exclusive() {
    check(
        "{times: [{start_time: '09:00', end_time: '17:00'}, {start_time: '23:30', end_time: '24:00'}]}",
        &[
            "2026-03-02T09:00:00Z",
            "2026-03-02T16:59:59.999Z",
            "2026-03-02T23:30:00Z",
            "2026-03-02T23:59:59Z",
        ],
        &[
            "2026-03-02T08:59:59.999Z",
            "2026-03-02T17:00:00Z",
            "2026-03-02T23:29:59Z",
            "2026-03-03T00:00:00Z",
        ],
    );
    check("{}", &["2026-03-02T09:00:00Z", "1969-12-31T23:59:59Z"], &[]);
}

#[test]
fn all_parts_must_hold_and_any_span_of_a_part() {
    // 2026-08-03 was a Monday.
    check(
        "{weekdays: ['monday:friday', sunday], months: ['july:august'], years: [2026]}",
        &[
            "2026-08-03T00:00:00Z",
            "2026-08-07T23:59:59Z",
            "2026-08-09T12:00:00Z",
        ],
        &[
            "2026-08-08T12:00:00Z",
            "2026-09-07T12:00:00Z",
            "2025-08-04T12:00:00Z",
        ],
    );
}

#[test]
fn negative_days_count_from_the_end_of_each_month() {
    check(
        "{days_of_month: ['-3:-1']}",
        &[
            "2026-02-26T00:00:00Z",
            "2026-02-28T23:59:59Z",
            "2024-02-27T12:00:00Z",
            "2026-04-28T12:00:00Z",
        ],
        &[
            "2026-02-25T23:59:59Z",
            "2024-02-26T12:00:00Z",
            "2026-04-27T12:00:00Z",
            "2026-03-01T00:00:00Z",
        ],
    );
    // The last ten days, cut where the month has fewer; and days that a month does not have.
    check(
        "{days_of_month: ['-31:-28']}",
        &["2026-02-01T12:00:00Z", "2026-01-04T12:00:00Z"],
        &["2026-02-02T12:00:00Z", "2026-01-05T12:00:00Z"],
    );
    check(
        "{days_of_month: ['31']}",
        &["2026-01-31T12:00:00Z"],
        &["2026-04-30T12:00:00Z", "2026-05-01T12:00:00Z"],
    );
    check(
        "{days_of_month: ['29:31']}",
        &["2024-02-29T12:00:00Z"],
        &["2026-02-28T12:00:00Z", "2026-03-01T12:00:00Z"],
    );
    check(
        "{days_of_month: ['20:-1']}",
        &["2026-02-28T12:00:00Z"],
        &["2026-02-19T12:00:00Z"],
    );
}

#[test]
fn the_year_turns_by_the_clocks_of_the_zone() {
    check(
        "{years: [2026], location: Asia/Shanghai}",
        &["2025-12-31T16:00:00Z", "2026-12-31T15:59:59Z"],
        &["2025-12-31T15:59:59Z", "2026-12-31T16:00:00Z"],
    );
    check(
        "{months: [12], days_of_month: [-1], location: America/New_York}",
        &["2027-01-01T04:59:59Z"],
        &["2027-01-01T05:00:00Z", "2026-12-31T04:59:59Z"],
    );
}

#[test]
fn clocks_that_are_turned_are_followed() {
    // Berlin 2026: forward on 29 March 02:00 → 03:00 (01:00 UTC), back on 25 October 03:00 → 02:00 (01:00 UTC).
    let nine = "{times: [{start_time: '09:00', end_time: '10:00'}], location: Europe/Berlin}";
    check(
        nine,
        &[
            "2026-03-28T08:00:00Z",
            "2026-03-29T07:00:00Z",
            "2026-10-24T07:30:00Z",
            "2026-10-25T08:00:00Z",
        ],
        &[
            "2026-03-28T07:59:59Z",
            "2026-03-29T08:00:00Z",
            "2026-10-25T07:59:59Z",
            "2026-10-25T09:00:00Z",
        ],
    );
    // The hour from two to three is skipped in March, and shown twice in October.
    check(
        "{times: [{start_time: '02:00', end_time: '03:00'}], location: Europe/Berlin}",
        &[
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:59:59Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:59:59Z",
        ],
        &[
            "2026-03-29T00:59:59Z",
            "2026-03-29T01:00:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
}

#[test]
fn the_holidays_of_china_and_the_weekends_worked_for_them_are_known() {
    // The notices: 2026-02-15 to 23 off, the Saturdays 14 and 28 February worked; 2026-10-01 to 07 off, Sunday
    // 20 September and Saturday 10 October worked; 2025-01-28 to 02-04 off, Sunday 26 January worked.
    check(
        "{calendar: {name: cn, days: working}}",
        &[
            "2026-02-14T04:00:00Z",
            "2026-02-28T04:00:00Z",
            "2026-09-20T04:00:00Z",
            "2026-10-10T04:00:00Z",
            "2025-01-26T04:00:00Z",
            "2026-02-24T04:00:00Z",
            "2026-03-02T04:00:00Z",
        ],
        &[
            "2026-02-15T04:00:00Z",
            "2026-02-23T04:00:00Z",
            "2026-10-01T04:00:00Z",
            "2026-10-07T04:00:00Z",
            "2025-02-04T04:00:00Z",
            "2026-03-07T04:00:00Z",
            "2026-09-25T04:00:00Z",
        ],
    );
    // The day begins in Shanghai: 2026-09-30T16:00Z is 1 October there.
    check(
        "{calendar: {name: cn, days: off}}",
        &["2026-09-30T16:00:00Z"],
        &["2026-09-30T15:59:59Z"],
    );
    // Times of an interval with a calendar and no zone of its own are the calendar's.
    check(
        "{times: [{start_time: '09:00', end_time: '18:00'}], calendar: {name: cn, days: working}}",
        &["2026-09-20T01:00:00Z", "2026-09-20T09:59:59Z"],
        &[
            "2026-09-20T00:59:59Z",
            "2026-09-20T10:00:00Z",
            "2026-09-19T02:00:00Z",
        ],
    );
    // The exchanges trade 09:30 to 11:30 and 13:00 to 15:00, and on no weekend.
    check(
        "{calendar: {name: cn-exchange, days: session}}",
        &[
            "2026-03-02T01:30:00Z",
            "2026-03-02T03:29:59Z",
            "2026-03-02T05:00:00Z",
            "2026-03-02T06:59:59Z",
        ],
        &[
            "2026-03-02T01:29:59Z",
            "2026-03-02T03:30:00Z",
            "2026-03-02T07:00:00Z",
            "2026-02-28T02:00:00Z",
            "2026-02-16T02:00:00Z",
        ],
    );
    let days = Calendars::default();
    let china = days.get("cn").expect("built in");
    let off = (0..365).filter(|day| {
        china.is(
            CalendarDay::Off,
            at("2026-01-01T04:00:00Z") + Duration::from_secs(86_400 * day),
        )
    });
    // 104 days of weekends, 33 of holidays of which 10 fall on them, 6 worked weekends.
    assert_eq!(off.count(), 104 + 33 - weekend_holidays() - 6);
}

/// Weekend days among the holidays of 2026, counted from the notice's own days of the week: 3 January; 15, 21, 22
/// February; 4, 5 April; 2, 3 May; 20, 21 June; 26, 27 September; 3, 4 October.
const fn weekend_holidays() -> usize {
    1 + 3 + 2 + 2 + 2 + 2 + 2
}

#[test]
fn calendars_of_ones_own_take_the_place_of_those_built_in() {
    let config = CalendarConfig {
        name: "cn".to_owned(),
        location: Some("UTC".to_owned()),
        holidays: vec!["2027-02-05:2027-02-07".to_owned()],
        workdays: vec!["2027-02-13".to_owned()],
        sessions: vec![SessionConfig {
            start: "22:00".to_owned(),
            end: "24:00".to_owned(),
        }],
        weekend: Some(vec!["Friday".to_owned(), "saturday".to_owned()]),
    };
    let calendars = Calendars::new(&[config]).expect("good");
    assert_eq!(calendars.names(), ["cn", "cn-exchange"]);
    let calendar = calendars.get("cn").expect("there");
    let check = |day, text: &str, expected| assert_eq!(calendar.is(day, at(text)), expected, "{text}");
    check(CalendarDay::Off, "2027-02-07T12:00:00Z", true);
    check(CalendarDay::Working, "2027-02-13T12:00:00Z", true);
    check(CalendarDay::Off, "2027-02-12T12:00:00Z", true);
    check(CalendarDay::Working, "2027-02-14T12:00:00Z", true);
    check(CalendarDay::Session, "2027-02-14T23:59:59Z", true);
    check(CalendarDay::Session, "2027-02-15T00:00:00Z", false);
    check(CalendarDay::Off, "2026-10-02T12:00:00Z", true);
    check(CalendarDay::Off, "2026-10-01T12:00:00Z", false);
}

#[test]
fn every_fault_of_calendars_and_intervals_is_named() {
    let config: CalendarConfig = serde_saphyr::from_str(
        "{name: x, location: Asia/Shangai, holidays: ['2026-02-30', '2026-05-05:2026-05-01', '2026-01-01'],
          workdays: ['2026-01-01', 26-1-1], sessions: [{start: '9:30', end: '11:30'}, {start: '13:00', end: '12:00'}],
          weekend: [sonday]}",
    )
    .expect("reads");
    let text = Calendars::new(&[config.clone(), config])
        .expect_err("refused")
        .to_string();
    for expected in [
        "calendars[0].location: no time zone is called \"Asia/Shangai\"",
        "calendars[0].weekend[0]: not a weekday: \"sonday\"; expected sunday to saturday; did you mean \"sunday\"?",
        "calendars[0].holidays[0]: not a date: \"2026-02-30\"",
        "calendars[0].holidays[1]: \"2026-05-05:2026-05-01\" ends before it begins",
        "calendars[0].workdays[1]: not a date: \"26-1-1\"",
        "calendars[0].workdays: 2026-01-01 is a holiday, too",
        "calendars[0].sessions[0].start: not a time of the day: \"9:30\"",
        "calendars[0].sessions[1]: end \"12:00\" is not after start \"13:00\"",
        "calendars[1].name: calendar \"x\" is there twice",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let named: Vec<NamedTimeInterval> = serde_saphyr::from_str(
        "[{name: a, time_intervals: [{location: Moon}, {calendar: {name: cm, days: off}}]},
          {name: a, time_intervals: [{calendar: {name: cn, days: session}}]}, {name: ''}]",
    )
    .expect("reads");
    let text = TimeIntervals::new(&named, &Calendars::default())
        .expect_err("refused")
        .to_string();
    for expected in [
        "time_intervals[0].time_intervals[0].location: no time zone is called \"Moon\"",
        "time_intervals[0].time_intervals[1].calendar.name: no calendar is called \"cm\"; known are cn, cn-exchange; did you mean \"cn\"?",
        "time_intervals[1].time_intervals[0].calendar.days: calendar \"cn\" has no trading sessions",
        "time_intervals[1].name: time interval \"a\" is there twice",
        "time_intervals[2].name: a time interval needs a name",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

fn compiled(yaml: &str) -> Interval {
    Interval::new(&interval(yaml), &Calendars::default()).expect("good")
}

#[test]
fn the_next_change_is_found() {
    let check = |yaml: &str, now: &str, change: Option<&str>| {
        assert_eq!(
            next_change([&compiled(yaml)], at(now)),
            change.map(at),
            "{yaml} after {now}"
        );
    };
    let nights = "{times: [{start_time: '22:00', end_time: '24:00'}]}";
    check(nights, "2026-03-02T10:00:00.5Z", Some("2026-03-02T22:00:00Z"));
    check(nights, "2026-03-02T22:00:00Z", Some("2026-03-03T00:00:00Z"));
    check(
        "{weekdays: [saturday, sunday], location: Asia/Shanghai}",
        "2026-03-02T00:00:00Z",
        Some("2026-03-06T16:00:00Z"),
    );
    check(
        "{days_of_month: [-1], months: [2]}",
        "2026-03-01T00:00:00Z",
        Some("2027-02-28T00:00:00Z"),
    );
    check(
        "{years: [2027]}",
        "2026-03-01T00:00:00Z",
        Some("2027-01-01T00:00:00Z"),
    );
    // The clocks jump over its begin, and out of its end.
    check(
        "{times: [{start_time: '02:30', end_time: '05:00'}], location: Europe/Berlin}",
        "2026-03-28T23:00:00Z",
        Some("2026-03-29T01:00:00Z"),
    );
    check(
        "{times: [{start_time: '00:00', end_time: '02:30'}], location: Europe/Berlin}",
        "2026-03-28T23:00:00Z",
        Some("2026-03-29T01:00:00Z"),
    );
    check(
        "{times: [{start_time: '01:00', end_time: '02:30'}], location: Europe/Berlin}",
        "2026-10-25T00:30:00Z",
        Some("2026-10-25T01:00:00Z"),
    );
    check(
        "{calendar: {name: cn-exchange, days: session}}",
        "2026-02-13T07:00:00Z",
        Some("2026-02-24T01:30:00Z"),
    );
    check("{}", "2026-03-01T00:00:00Z", None);
    check("{years: [2030]}", "2026-03-01T00:00:00Z", None);
    assert_eq!(CHANGE_DAYS_MAX, 400);
}

#[test]
fn names_are_asked_together() {
    let named: Vec<NamedTimeInterval> = serde_saphyr::from_str(
        "[{name: morning, time_intervals: [{times: [{start_time: '06:00', end_time: '12:00'}]}]},
          {name: noon, time_intervals: [{times: [{start_time: '12:00', end_time: '14:00'}]}]}, {name: never}]",
    )
    .expect("reads");
    let intervals = TimeIntervals::new(&named, &Calendars::default()).expect("good");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let day = names(&["morning", "noon", "never"]);
    assert!(intervals.is_within_any(&day, at("2026-03-02T12:00:00Z")));
    assert!(!intervals.is_within("never", at("2026-03-02T12:00:00Z")));
    assert!(!intervals.is_within("unknown", at("2026-03-02T12:00:00Z")));
    // One ends as the other begins, so nothing changes at twelve.
    assert_eq!(
        intervals.next_change(&day, at("2026-03-02T07:00:00Z")),
        Some(at("2026-03-02T14:00:00Z"))
    );
    assert_eq!(intervals.next_change(&[], at("2026-03-02T07:00:00Z")), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_minute_before_the_next_change_differs_and_the_change_does(seed in any::<u64>(), minute in 0i64..525_600) {
        const PARTS: [&str; 10] = [
            "{times: [{start_time: '01:00', end_time: '02:30'}], location: Europe/Berlin}",
            "{times: [{start_time: '00:00', end_time: '00:30'}], location: America/St_Johns}",
            "{weekdays: ['monday:friday'], times: [{start_time: '09:00', end_time: '17:00'}]}",
            "{days_of_month: ['-2:-1', 1], location: Asia/Kathmandu}",
            "{months: ['march:october'], location: Europe/Berlin}",
            "{calendar: {name: cn, days: off}}",
            "{calendar: {name: cn-exchange, days: session}}",
            "{weekdays: [sunday], location: Australia/Lord_Howe}",
            "{times: [{start_time: '23:59', end_time: '24:00'}]}",
            "{years: [2025], location: Pacific/Apia}",
        ];
        let dice = Dice::new(seed);
        let intervals: Vec<Interval> = (0..=dice.below(3)).map(|_| compiled(dice.one_of(&PARTS))).collect();
        let is_within = |at: Timestamp| intervals.iter().any(|interval| interval.contains(at));
        let now = at("2025-06-01T00:00:00Z") + Duration::from_secs(60 * minute.unsigned_abs());
        let change = next_change(&intervals, now);
        let end = change.unwrap_or(now + Duration::from_secs(86_400 * u64::from(CHANGE_DAYS_MAX)));
        let mut at = now;
        while at < end {
            prop_assert_eq!(is_within(at), is_within(now), "{} after {}", at, now);
            at = at + Duration::from_secs(60);
        }
        if let Some(change) = change {
            prop_assert_ne!(is_within(change), is_within(now), "{} after {}", change, now);
        }
    }
}
