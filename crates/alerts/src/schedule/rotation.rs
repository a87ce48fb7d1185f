//! Whose turn it is: handovers at a local time, whatever the offset from UTC is on that day.
//!
//! Turns are counted in local time from the anchor, the last handover at or before `starts`, and each handover is then placed
//! on the line of time. So a weekly handover at 09:00 stays at 09:00 when the clocks change, and that week is an hour
//! longer or shorter. A handover at a local time that is skipped comes as much later as was skipped; one at a local time
//! that comes twice is at the first. Those are the rules of RFC 5545 for recurring events.
//! Invariant: the turn at a moment is the latest whose handover is not after it, so that turns only go forward, even where
//! local time goes back.

use std::time::Duration;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Moment};
use marketprism_model::Timestamp;

/// No zone ever set its clocks by more: Samoa and Kwajalein left out, or lived twice, one day.
const CLOCK_CHANGE_MAX: SignedDuration = SignedDuration::from_hours(25);

/// Turns of equal local length.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    zone: TimeZone,
    anchor: DateTime,
    period: SignedDuration,
}

impl Rotation {
    /// Takes the period, 1 h at least, and anchors it at the last handover at or before `starts`; `day` is the handover's
    /// day of the week, when it has one.
    pub fn new(
        zone: TimeZone,
        starts: DateTime,
        handover: Time,
        day: Option<Weekday>,
        period: Duration,
    ) -> Option<Self> {
        let mut anchor = DateTime::from_parts(starts.date(), handover);
        if anchor > starts {
            anchor = anchor.yesterday().ok()?;
        }
        while day.is_some_and(|day| anchor.weekday() != day) {
            anchor = anchor.yesterday().ok()?;
        }
        let period = SignedDuration::try_from(period).ok()?;
        (period >= SignedDuration::from_hours(1)).then_some(Rotation { zone, anchor, period })
    }

    /// Gives the local time of a moment.
    fn local(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(moment(at))
    }

    /// Gives the handover with which a turn begins, `None` beyond the end of the calendar.
    fn handover(&self, turn: i64) -> Option<Timestamp> {
        let turn = i32::try_from(turn).ok()?;
        let local = self.anchor.checked_add(self.period.checked_mul(turn)?).ok()?;
        place(&self.zone, local)
    }

    /// Gives the number of turns that fit between the anchor and a local time, rounded down.
    fn turns_until(&self, local: DateTime) -> i64 {
        let gone = local.duration_since(self.anchor).as_secs();
        gone.div_euclid(self.period.as_secs())
    }

    /// Gives the turn at a moment, counted from 0 at the anchor; negative before it.
    pub fn turn(&self, at: Timestamp) -> i64 {
        let local = self.local(at);
        let latest = self.turns_until(local.saturating_add(CLOCK_CHANGE_MAX));
        let least = self.turns_until(local.saturating_sub(CLOCK_CHANGE_MAX)) - 1;
        (least..=latest)
            .rev()
            .find(|turn| self.handover(*turn).is_some_and(|begins| begins <= at))
            .unwrap_or(least)
    }

    /// Gives the next handover after a moment.
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let first = self.turn(at) + 1;
        let last = self.turns_until(self.local(at).saturating_add(CLOCK_CHANGE_MAX)) + 1;
        (first..=last.max(first))
            .filter_map(|turn| self.handover(turn))
            .filter(|begins| *begins > at)
            .min()
    }
}

/// Places a local time on the line of time.
pub(super) fn place(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let moment = zone.to_ambiguous_timestamp(local).compatible().ok()?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

fn moment(at: Timestamp) -> Moment {
    Moment::from_millisecond(at.millis()).unwrap_or(if at.millis() < 0 { Moment::MIN } else { Moment::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rotation(zone: &str, starts: &str, handover: &str, day: Option<Weekday>, hours: u64) -> Rotation {
        let zone = TimeZone::get(zone).expect("zone");
        let handover: Time = handover.parse().expect("time");
        let starts: DateTime = starts.parse().expect("start");
        Rotation::new(zone, starts, handover, day, Duration::from_secs(hours * 3600)).expect("rotation")
    }

    fn utc(text: &str) -> Timestamp {
        let moment: Moment = text.parse().expect("RFC 3339");
        Timestamp::from_millis(moment.as_millisecond())
    }

    /// Walks the handovers from a moment on.
    fn check(rotation: &Rotation, from: &str, handovers: &[&str]) {
        let mut at = utc(from);
        for (turn, expected) in (rotation.turn(at)..).zip(handovers) {
            at = rotation.next(at).expect("goes on");
            assert_eq!(at, utc(expected), "{from}");
            assert_eq!(rotation.turn(at), turn + 1, "at {expected}");
            assert_eq!(
                rotation.turn(at - Duration::from_millis(1)),
                turn,
                "before {expected}"
            );
        }
    }

    #[test]
    fn a_weekly_handover_at_nine_stays_at_nine_when_the_clocks_change() {
        // Berlin: UTC+1 until 2026-03-29 02:00, then UTC+2 until 2026-10-25 03:00.
        let weekly = rotation(
            "Europe/Berlin",
            "2026-03-16T09:00",
            "09:00",
            Some(Weekday::Monday),
            168,
        );
        check(
            &weekly,
            "2026-03-16T08:00:00Z",
            &[
                "2026-03-23T08:00:00Z",
                "2026-03-30T07:00:00Z",
                "2026-04-06T07:00:00Z",
            ],
        );
        check(&weekly, "2026-10-20T00:00:00Z", &["2026-10-26T08:00:00Z"]);
        assert_eq!(weekly.turn(utc("2026-03-16T08:00:00Z")), 0);
        assert_eq!(weekly.turn(utc("2026-03-16T07:59:59Z")), -1);
    }

    #[test]
    fn a_handover_in_the_skipped_hour_comes_an_hour_later_and_one_in_the_doubled_hour_once() {
        let daily = rotation("Europe/Berlin", "2026-01-01T02:30", "02:30", None, 24);
        // 02:30 on 2026-03-29 does not exist; it is told as 03:30, UTC+2.
        check(
            &daily,
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
        );
        // 02:30 on 2026-10-25 comes at 00:30Z (UTC+2) and again at 01:30Z (UTC+1).
        check(
            &daily,
            "2026-10-24T12:00:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        );
    }

    #[test]
    fn a_turn_that_began_in_the_doubled_hour_goes_on_when_that_hour_comes_again() {
        let daily = rotation("Europe/Berlin", "2026-01-01T02:30", "02:30", None, 24);
        // 02:40, then 02:10 and 02:40 again.
        let moments = [
            "2026-10-25T00:40:00Z",
            "2026-10-25T01:10:00Z",
            "2026-10-25T01:40:00Z",
        ];
        let turns = moments.map(|at| daily.turn(utc(at)));
        assert_eq!(turns, [turns[0]; 3]);
    }

    #[test]
    fn the_first_turn_runs_from_the_start_to_the_next_handover() {
        // A Wednesday; handovers are on Mondays, so the anchor is the Monday before.
        let weekly = rotation(
            "Asia/Shanghai",
            "2026-01-07T00:00",
            "09:00",
            Some(Weekday::Monday),
            168,
        );
        assert_eq!(weekly.turn(utc("2026-01-06T16:00:00Z")), 0);
        check(
            &weekly,
            "2026-01-06T16:00:00Z",
            &["2026-01-12T01:00:00Z", "2026-01-19T01:00:00Z"],
        );
        let three_days = rotation("Asia/Shanghai", "2026-01-07T09:00", "09:00", None, 72);
        check(
            &three_days,
            "2026-01-07T01:00:00Z",
            &["2026-01-10T01:00:00Z", "2026-01-13T01:00:00Z"],
        );
    }

    #[test]
    fn turns_go_forward_over_the_day_that_samoa_left_out() {
        // Apia went from UTC-10 to UTC+14 at the end of 2011-12-29; 2011-12-30 was not.
        let hours = rotation("Pacific/Apia", "2011-12-28T00:00", "00:00", None, 6);
        let mut at = utc("2011-12-28T10:00:00Z");
        let mut turn = hours.turn(at);
        while at < utc("2012-01-02T00:00:00Z") {
            at = hours.next(at).expect("goes on");
            assert!(hours.turn(at) > turn, "at {at}");
            turn = hours.turn(at);
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_no_trap() {
        let daily = rotation("Asia/Shanghai", "2026-01-01T09:00", "09:00", None, 1);
        assert_eq!(daily.next(Timestamp::MAX), None);
        assert!(daily.turn(Timestamp::MIN) < 0);
    }

    proptest! {
        #[test]
        fn turns_and_handovers_agree(
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai", "Pacific/Apia"]),
            hours in prop::sample::select(vec![1u64, 5, 12, 24, 36, 72, 168]),
            hour in 0i8..24,
            at in 1_262_304_000_000i64..1_893_456_000_000,
        ) {
            let starts = DateTime::constant(2009, 6, 3, hour, 0, 0, 0);
            let zone = TimeZone::get(zone).expect("zone");
            let handover = Time::constant(hour, 0, 0, 0);
            let rotation = Rotation::new(zone, starts, handover, None, Duration::from_secs(hours * 3600)).expect("rotation");
            let at = Timestamp::from_millis(at);
            let turn = rotation.turn(at);
            let next = rotation.next(at).expect("goes on");
            prop_assert!(next > at);
            prop_assert!(rotation.turn(next) > turn);
            prop_assert_eq!(rotation.turn(next - Duration::from_millis(1)), turn, "no handover was passed over");
            let whole = Duration::from_secs(hours * 3600) + Duration::from_secs(25 * 3600);
            prop_assert!(next.since(at) <= whole);
        }
    }
}
