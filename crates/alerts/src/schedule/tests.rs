use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::calendar::{CalendarConfig, Calendars};
use crate::routing::NamedTimeInterval;

const RECEIVERS: [&str; 5] = ["wang", "li", "zhao", "qian", "boss"];

fn utc(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().expect("RFC 3339");
    Timestamp::from_millis(moment.as_millisecond())
}

fn calendars() -> Calendars {
    // 2026-10-01 to 2026-10-07 are off, and Saturday 2026-10-10 is worked in exchange.
    let works = CalendarConfig {
        name: "works".to_owned(),
        location: Some("Asia/Shanghai".to_owned()),
        holidays: vec!["2026-10-01:2026-10-07".to_owned()],
        workdays: vec!["2026-10-10".to_owned()],
        ..CalendarConfig::default()
    };
    Calendars::new(&[works]).expect("good")
}

fn intervals() -> Vec<NamedTimeInterval> {
    let text = "- name: office\n  time_intervals:\n  - times: [{start_time: '09:00', end_time: '18:00'}]\n    \
                weekdays: ['monday:friday']\n    location: Asia/Shanghai\n";
    serde_saphyr::from_str(text).expect("reads")
}

fn read(text: &str) -> Schedule {
    let config: ScheduleConfig = serde_saphyr::from_str(text).expect("reads");
    let name = config.name.clone();
    let schedules = Schedules::new(&[config], &RECEIVERS, &intervals(), &calendars()).expect("good");
    schedules.get(&name).expect("there").clone()
}

fn arranged(number: u128, receiver: &str, starts_at: &str, ends_at: &str) -> ShiftOverride {
    ShiftOverride {
        id: Id::from_u128(number),
        schedule: "ops".to_owned(),
        receiver: receiver.to_owned(),
        starts_at: utc(starts_at),
        ends_at: utc(ends_at),
        created_by: "boss".to_owned(),
        created_at: utc("2026-01-01T00:00:00Z") + Duration::from_secs(number as u64),
        comment: "swap".to_owned(),
    }
}

/// Lays a schedule out, one shift a line.
fn check(schedule: &Schedule, from: &str, to: &str, overrides: &[ShiftOverride], expected: &[&str]) {
    let shifts = schedule.shifts(utc(from), utc(to), overrides);
    assert_eq!(shifts.until, utc(to));
    let lines: Vec<String> = shifts
        .items
        .iter()
        .map(|shift| {
            let starts_at = shift.starts_at.to_string().replace(":00.000Z", "");
            format!("{starts_at} {}", shift.receivers.join("+"))
        })
        .collect();
    assert_eq!(lines, expected);
}

const WEEKLY: &str = "
name: ops
time_zone: Asia/Shanghai
layers:
- {participants: [wang, li, zhao], rotation: weekly, on: monday, handover: '09:00', starts: '2026-01-05'}
";

#[test]
fn people_take_turns_week_by_week() {
    let schedule = read(WEEKLY);
    check(
        &schedule,
        "2026-01-04T00:00:00Z",
        "2026-01-28T00:00:00Z",
        &[],
        &[
            "2026-01-04T00:00 ",
            "2026-01-05T01:00 wang",
            "2026-01-12T01:00 li",
            "2026-01-19T01:00 zhao",
            "2026-01-26T01:00 wang",
        ],
    );
    assert_eq!(schedule.who(utc("2026-01-12T00:59:59Z"), &[]), ["wang"]);
    assert_eq!(schedule.who(utc("2026-01-12T01:00:00Z"), &[]), ["li"]);
}

#[test]
fn an_override_wins_over_all_and_the_one_arranged_last_over_the_others() {
    let schedule = read(WEEKLY);
    let other = ShiftOverride {
        schedule: "other".to_owned(),
        ..arranged(9, "boss", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
    };
    let overrides = [
        arranged(2, "qian", "2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z"),
        arranged(1, "boss", "2026-01-06T00:00:00Z", "2026-01-09T00:00:00Z"),
        arranged(3, "boss", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"),
        other,
    ];
    check(
        &schedule,
        "2026-01-03T00:00:00Z",
        "2026-01-10T00:00:00Z",
        &overrides,
        &[
            // Nobody else is on call yet, and an override needs nobody.
            "2026-01-03T00:00 boss",
            "2026-01-04T00:00 ",
            "2026-01-05T01:00 wang",
            "2026-01-06T00:00 boss",
            "2026-01-07T00:00 qian",
            "2026-01-08T00:00 boss",
            "2026-01-09T00:00 wang",
        ],
    );
}

#[test]
fn a_later_layer_wins_where_it_covers_and_days_of_a_calendar_restrict_it() {
    let schedule = read(
        "
name: ops
time_zone: Asia/Shanghai
layers:
- {participants: [boss], rotation: weekly, starts: '2026-01-05 00:00'}
- participants: [wang, li]
  rotation: daily
  handover: '00:00'
  starts: '2026-09-28'
  within: [{calendar: {name: works, days: working}}]
",
    );
    check(
        &schedule,
        "2026-09-29T16:00:00Z",
        "2026-10-11T16:00:00Z",
        &[],
        &[
            // 09-30 is worked, 10-01 to 10-07 are off, 10-08 to 10-10 (a Saturday) are worked, the Sunday is off. Turns count on
            // over days off: 09-28 wang, 09-29 li, 09-30 wang, 10-08 wang, 10-09 li, 10-10 wang.
            "2026-09-29T16:00 wang",
            "2026-09-30T16:00 boss",
            "2026-10-07T16:00 wang",
            "2026-10-08T16:00 li",
            "2026-10-09T16:00 wang",
            "2026-10-10T16:00 boss",
        ],
    );
}

#[test]
fn named_times_restrict_a_layer_and_several_can_be_on_call_together() {
    let schedule = read(
        "
name: ops
time_zone: UTC
layers:
- participants: [[wang, li], zhao]
  rotation: {every: 3d}
  starts: '2026-01-05 00:00'
  ends: '2026-01-10 00:00'
  handover: '00:00'
  within: [office]
",
    );
    check(
        &schedule,
        "2026-01-06T12:00:00Z",
        "2026-01-13T00:00:00Z",
        &[],
        &[
            "2026-01-06T12:00 ",
            "2026-01-07T01:00 wang+li",
            "2026-01-07T10:00 ",
            "2026-01-08T01:00 zhao",
            "2026-01-08T10:00 ",
            "2026-01-09T01:00 zhao",
            // From 01-10 on the layer is over.
            "2026-01-09T10:00 ",
        ],
    );
}

#[test]
fn times_said_in_a_layer_are_in_the_schedules_zone() {
    let schedule = read(
        "
name: ops
time_zone: Asia/Shanghai
layers:
- participants: [wang]
  rotation: daily
  starts: '2026-01-01 00:00'
  within: [{times: [{start_time: '20:00', end_time: '24:00'}]}]
",
    );
    check(
        &schedule,
        "2026-01-02T00:00:00Z",
        "2026-01-03T00:00:00Z",
        &[],
        &["2026-01-02T00:00 ", "2026-01-02T12:00 wang", "2026-01-02T16:00 "],
    );
}

#[test]
fn a_list_is_bounded_in_length_and_number_and_says_until_when_it_goes() {
    let hourly = read(
        "
name: ops
time_zone: UTC
layers:
- {participants: [wang, li], rotation: {every: 1h}, starts: '2026-01-01 00:00', handover: '00:00'}
- {participants: [boss], rotation: daily, starts: '2026-01-01', within: [{years: ['1999']}]}
",
    );
    let from = utc("2026-01-01T00:00:00Z");
    let shifts = hourly.shifts(from, Timestamp::MAX, &[]);
    assert_eq!(shifts.items.len(), SHIFTS_MAX);
    assert_eq!(shifts.until, from + Duration::from_secs(3600) * SHIFTS_MAX as u32);
    let weekly = read(WEEKLY).shifts(from, Timestamp::MAX, &[]);
    assert_eq!(weekly.until, from + SPAN_MAX);
    assert!(hourly.shifts(from, from, &[]).items.is_empty());
    assert!(
        hourly
            .shifts(Timestamp::MIN, Timestamp::MIN + SPAN_MAX, &[])
            .items
            .len()
            <= 2
    );
}

#[test]
fn every_fault_of_the_schedules_is_named_with_its_place() {
    let text = "
- name: ''
  time_zone: Asia/Shanghai
  layers: []
- name: a
  time_zone: Asia/Peking
  layers: [{participants: [wang], rotation: daily, starts: '2026-01-05'}]
- name: a
  time_zone: UTC
  layers:
  - {participants: [wagn, li, [li, li]], rotation: daily, on: monday, starts: '2026-01-05'}
  - {participants: [], rotation: {every: 90m}, starts: '2026-01-05T09:00+08:00', handover: '9am'}
  - {participants: [li], rotation: weekly, starts: '2026-01-05', ends: '2026-01-04', within: [offise]}
  - {participants: [li], rotation: weekly, starts: '2026-02-30'}
  - {participants: [li], rotation: weekly, starts: '2026-01-05', within: [{calendar: {name: cm, days: working}}]}
- name: a
  time_zone: UTC
  layers: [{participants: [wang], rotation: daily, starts: '2026-01-05'}]
";
    let configs: Vec<ScheduleConfig> = serde_saphyr::from_str(text).expect("reads");
    let error = Schedules::new(&configs, &RECEIVERS, &intervals(), &calendars()).expect_err("refused");
    let text = error.to_string();
    for expected in [
        "schedules[0].name: \"\" is no name",
        "schedules[0].layers: 0 items; use 1 to 20",
        "schedules[1].time_zone: no time zone is called \"Asia/Peking\"",
        "schedules[2].layers[0].participants[0]: no receiver is called \"wagn\"",
        "did you mean \"wang\"?",
        "schedules[2].layers[0].participants[2]: \"li\" is there twice",
        "schedules[2].layers[0].on: it needs a rotation of whole weeks",
        "schedules[2].layers[1].participants: 0 items; use 1 to 100",
        "schedules[2].layers[1].rotation.every: 1h30m is out of range",
        "schedules[2].layers[1].handover: \"9am\" is no time of the day",
        "schedules[2].layers[2].within[0]: no time interval is called \"offise\"",
        "schedules[2].layers[2].ends: it must be after starts",
        "schedules[2].layers[3].starts: \"2026-02-30\" is no local date and time",
        "schedules[2].layers[4].within[0]",
        "\"cm\"",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn words_that_nobody_knows_are_refused_where_they_stand() {
    for (change, to) in [
        ("weekly", "yearly"),
        ("weekly", "{each: 3d}"),
        ("monday", "moonday"),
        ("'2026-01-05'}", "'2026-01-05', untl: x}"),
        ("'2026-01-05'}", "'2026-01-05', within: [{wekdays: [monday]}]}"),
    ] {
        assert!(WEEKLY.contains(change));
        let text = WEEKLY.replacen(change, to, 1);
        assert!(serde_saphyr::from_str::<ScheduleConfig>(&text).is_err(), "{text}");
    }
    let every: ScheduleConfig =
        serde_saphyr::from_str(&WEEKLY.replacen("weekly", "{every: 3d}", 1)).expect("reads");
    assert_eq!(
        every.layers[0].rotation,
        Rotation::Every(Duration::from_secs(3 * 86_400))
    );
    let written = serde_json::to_string(&every).expect("writes");
    assert_eq!(
        serde_json::from_str::<ScheduleConfig>(&written).expect("reads again"),
        every
    );
}

#[test]
fn an_override_that_cannot_be_meant_is_refused() {
    let config: ScheduleConfig = serde_saphyr::from_str(WEEKLY).expect("reads");
    let schedules = Schedules::new(&[config], &RECEIVERS, &[], &calendars()).expect("good");
    let now = utc("2026-01-06T00:00:00Z");
    let good = arranged(1, "qian", "2026-01-05T00:00:00Z", "2026-01-07T00:00:00Z");
    let check = |change: fn(&mut ShiftOverride), standing| {
        let mut changed = good.clone();
        change(&mut changed);
        schedules.check_override(&changed, &RECEIVERS, standing, now)
    };
    assert_eq!(check(|_| {}, OVERRIDES_MAX - 1), Ok(()));
    assert_eq!(check(|_| {}, OVERRIDES_MAX), Err(OverrideError::TooMany));
    let unknown = OverrideError::UnknownSchedule("x".to_owned());
    assert_eq!(check(|o| o.schedule = "x".to_owned(), 0), Err(unknown));
    let unknown = OverrideError::UnknownReceiver("x".to_owned());
    assert_eq!(check(|o| o.receiver = "x".to_owned(), 0), Err(unknown));
    assert!(matches!(
        check(|o| o.ends_at = o.starts_at, 0),
        Err(OverrideError::Order { .. })
    ));
    let over = check(|o| o.ends_at = o.starts_at + Duration::from_secs(86_400), 0);
    assert!(
        matches!(over, Err(OverrideError::Order { .. })),
        "it is over already"
    );
    let long = check(|o| o.ends_at = o.starts_at + Duration::from_secs(367 * 86_400), 0);
    assert_eq!(long, Err(OverrideError::TooLong));
    assert_eq!(check(|o| o.created_by.clear(), 0), Err(OverrideError::Author));
    assert_eq!(
        check(|o| o.comment = "x".repeat(5000), 0),
        Err(OverrideError::Comment(5000))
    );
}

/// Whose turn it is, counted handover by handover from the first one.
fn turn_by_hand(zone: &TimeZone, starts: DateTime, days: i64, now: Timestamp) -> Option<usize> {
    let placed = |local: DateTime| {
        let at = zone.to_ambiguous_timestamp(local).compatible().expect("placed");
        Timestamp::from_millis(at.as_millisecond())
    };
    let mut handovers = (0i64..).map(|turn| {
        let hours = jiff::SignedDuration::from_hours(turn * days * 24);
        placed(starts.checked_add(hours).expect("in range"))
    });
    (placed(starts) <= now).then(|| handovers.position(|handover| handover > now).expect("ends") - 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn shifts_say_what_who_says_and_both_what_counting_by_hand_says(
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"]),
        hour in 0i8..24,
        days in prop::sample::select(vec![1i64, 3, 7]),
        people in 1usize..4,
        // Around both changes of the clocks in 2026.
        from in prop_oneof![1_772_000_000_000i64..1_776_000_000_000, 1_790_000_000_000i64..1_795_000_000_000],
        hours in 1u64..900,
        swap in prop::option::of((0u64..900, 1u64..100)),
        probes in prop::collection::vec(0.0f64..1.0, 8),
    ) {
        let text = format!(
            "name: ops\ntime_zone: {zone}\nlayers:\n- {{participants: {:?}, rotation: {{every: {days}d}}, handover: '{hour:02}:00', starts: '2026-01-05'}}\n",
            &RECEIVERS[..people],
        );
        let schedule = read(&text);
        let zone = TimeZone::get(zone).expect("zone");
        let starts = DateTime::constant(2026, 1, 5, 0, 0, 0, 0).date().to_datetime(Time::constant(hour, 0, 0, 0));
        let hour = Duration::from_secs(3600);
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(from) + hour * hours as u32);
        let overrides: Vec<ShiftOverride> = swap
            .map(|(begins, length)| ShiftOverride {
                starts_at: from + hour * begins as u32,
                ends_at: from + hour * (begins + length) as u32,
                ..arranged(1, "boss", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
            })
            .into_iter()
            .collect();
        let shifts = schedule.shifts(from, to, &overrides);
        prop_assert_eq!(shifts.until, to);
        prop_assert_eq!(shifts.items.first().map(|shift| shift.starts_at), Some(from));
        prop_assert_eq!(shifts.items.last().map(|shift| shift.ends_at), Some(to));
        for pair in shifts.items.windows(2) {
            prop_assert_eq!(pair[0].ends_at, pair[1].starts_at);
            prop_assert!(pair[0].receivers != pair[1].receivers || pair[0].cause != pair[1].cause);
        }
        let edges = shifts.items.iter().flat_map(|shift| [shift.starts_at, shift.ends_at - Duration::from_millis(1)]);
        let inner = probes.iter().map(|part| from + (to.since(from)).mul_f64(*part));
        for at in edges.chain(inner).collect::<Vec<_>>() {
            let is_swapped = overrides.iter().any(|o| o.starts_at <= at && at < o.ends_at);
            let by_hand = match turn_by_hand(&zone, starts, days, at) {
                _ if is_swapped => vec!["boss".to_owned()],
                Some(turn) => vec![RECEIVERS[turn % people].to_owned()],
                None => Vec::new(),
            };
            prop_assert_eq!(&schedule.who(at, &overrides), &by_hand, "at {}", at);
            let shift = shifts.items.iter().find(|shift| shift.starts_at <= at && at < shift.ends_at);
            prop_assert_eq!(shift.map(|shift| &shift.receivers), Some(&by_hand), "at {}", at);
        }
    }
}
