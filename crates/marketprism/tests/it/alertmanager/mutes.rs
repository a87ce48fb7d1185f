//! Cases about mute and active time intervals, which begin or end when the minute turns in the middle of the timeline.
//!
//! When a mute ends we flush at once, Alertmanager at its next tick: so from then on ticks lie elsewhere, and the only
//! step after it keeps away from both.

use serde_json::{Value, json};

use super::cases::{Case, Dice, case};
use super::compare::Difference;

const DAY: i64 = 1440;

fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Times from one minute until another, counted from the epoch, in UTC.
fn times(from: i64, until: i64) -> Value {
    let (start, length) = (from.rem_euclid(DAY), until - from);
    let end = start + length;
    let range = |start: i64, end: i64| json!({"start_time": clock(start), "end_time": clock(end)});
    if end <= DAY {
        json!([range(start, end)])
    } else {
        json!([range(start, DAY), range(0, end - DAY)])
    }
}

/// An interval that holds until the turn of the minute, or from then on.
fn interval(name: &str, dice: &Dice, minute: i64, is_until: bool) -> Value {
    let times = if is_until {
        times(minute - 5, minute + 1)
    } else {
        times(minute + 1, minute + 10)
    };
    let mut interval = json!({"times": times});
    if dice.percent(50) {
        interval["weekdays"] = json!(["sunday:saturday"]);
    }
    if dice.percent(50) {
        interval["days_of_month"] = json!(["1:-1"]);
    }
    json!({"name": name, "time_intervals": [interval]})
}

pub fn plain(name: String, dice: &Dice, minute: i64, turn: u64) -> Case {
    let is_active = dice.percent(50);
    let kind = if is_active {
        "active_time_intervals"
    } else {
        "mute_time_intervals"
    };
    let mut case = case(name, kind, &["case"], [1, 4, 3600]);
    let is_until = dice.percent(50);
    let interval_name = format!("{}-times", case.name);
    case.time_intervals = vec![interval(&interval_name, dice, minute, is_until)];
    case.route[kind] = json!([interval_name]);
    let [first, second, third, gone] =
        ["First", "Second", "Third", "Gone"].map(|name| case.labels(&[("alertname", name)]));
    case.fire(2, &first);
    if dice.percent(60) {
        case.fire(10, &second);
    }
    let begins_muted = is_until != is_active;
    if begins_muted {
        // One that comes and goes unheard, and news when all is heard again.
        if dice.percent(50) {
            case.fire(6, &gone);
            case.resolve(14, &gone);
        }
        match dice.below(3) {
            0 => case.fire(turn + 6, &third),
            1 => case.resolve(turn + 6, &first),
            _ => {}
        }
    } else {
        if dice.percent(50) {
            case.resolve(14, &first);
        }
        if dice.percent(70) {
            case.fire(turn + 2, &third);
        }
    }
    case
}

/// One that was told ends while its route is muted.
pub fn closed_under_mute(name: String, dice: &Dice, minute: i64, turn: u64) -> Case {
    let mut case = case(name, "closed under a mute", &["case"], [1, 2, 3600]);
    let interval_name = format!("{}-times", case.name);
    case.time_intervals = vec![interval(&interval_name, dice, minute, false)];
    case.route["mute_time_intervals"] = json!([interval_name]);
    let alert = case.labels(&[("alertname", "Down")]);
    case.fire(2, &alert);
    case.resolve(turn + 2, &alert);
    case.difference = Some(Difference::ClosedWhileQuiet);
    case
}
