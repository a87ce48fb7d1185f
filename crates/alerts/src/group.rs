//! Groups: which alerts are told together, and whether a channel needs to hear of a group now.
//!
//! The rules are Alertmanager's, from its notification log, with four differences that users asked for
//! there: what was told as firing is always told as resolved, even while it is silenced or muted, and only that; a
//! level that rises is news; an acknowledged alert is no reason to repeat; and what is silenced for a while is not
//! told again for that when the silence ends.
//! Pure by design, as in `condition`.
//!
//! Source: `github.com/prometheus/alertmanager`, `dispatch.getGroupLabels`, `notify.DedupStage.needsUpdate`.

use std::time::Duration;

use marketprism_model::labels::SEVERITY;
use marketprism_model::records::ToldRecord;
use marketprism_model::{Alert, Labels, Level, Timestamp};

use crate::config::ChannelRoute;
use crate::routing::Route;

/// A flush may come this much early and still count as the one that repeats; less when repeats are frequent.
const TICK_TOLERANCE: Duration = Duration::from_secs(1);

/// Gives the labels that make an alert's group on a route.
pub fn group_labels(route: &Route, alert: &Alert) -> Labels {
    let labels = route.group_labels(&alert.labels);
    if alert.has_levels {
        // It would move the alert between groups, though the identity has none then.
        labels.without(SEVERITY)
    } else {
        labels
    }
}

/// Gives a group's key as Alertmanager writes it: the key of the route and the labels.
pub fn group_key(route: &str, labels: &Labels) -> String {
    format!("{route}:{labels}")
}

/// One firing alert of a group, as far as the decision needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its identity.
    pub fingerprint: u64,
    /// The level that stands.
    pub level: Level,
    /// Whether somebody has it in hand.
    pub is_acknowledged: bool,
}

/// Why a channel hears of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// An alert fires that the channel was not told of.
    Fired,
    /// A level is higher than was told.
    Rose,
    /// Something that was told as firing is over.
    Ended,
    /// The repeat interval has passed.
    Repeat,
}

/// What a channel hears, and what stands in its log afterwards.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Why it hears of the group, `None` when it does not.
    pub cause: Option<Cause>,
    /// Fingerprints to tell as resolved, sorted.
    pub ended: Vec<u64>,
    /// The log afterwards; `None` when the channel was never told anything.
    pub told: Option<ToldRecord>,
}

/// Gives the level at which a channel was told that something fires, `None` when it does not know of it.
pub fn told_level(told: &ToldRecord, fingerprint: u64) -> Option<Level> {
    let known = told
        .firing
        .binary_search_by_key(&fingerprint, |(known, _)| *known);
    known.ok().map(|at| told.firing[at].1)
}

/// Says whether a channel does not know of a firing alert, or knows it at a lower level.
pub fn is_news(told: Option<&ToldRecord>, member: &Member) -> bool {
    let known = told.and_then(|told| told_level(told, member.fingerprint));
    known.is_none_or(|level| level < member.level)
}

/// The alerts of a group at a flush; no fingerprint is in two of the lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Members<'a> {
    /// Those that fire and may be told.
    pub audible: &'a [Member],
    /// Those that are not to be spoken of now, firing or over; the channel's log of them stands. Sorted.
    pub quiet: &'a [u64],
    /// Those that are over. After the flush they leave the group, so this is the only time they are considered.
    pub ended: &'a [u64],
}

/// Decides what one channel hears of a group at a flush.
pub fn decide(
    told: Option<&ToldRecord>,
    members: Members<'_>,
    channel: &ChannelRoute,
    repeat_interval: Duration,
    now: Timestamp,
) -> Decision {
    let told_level = |fingerprint: u64| told.and_then(|told| told_level(told, fingerprint));
    let firing = members.audible;
    // Only what this channel heard of can end for it.
    let mut ended: Vec<u64> = members
        .ended
        .iter()
        .copied()
        .filter(|fingerprint| told_level(*fingerprint).is_some())
        .collect();
    ended.sort_unstable();
    let has_news = firing
        .iter()
        .any(|member| told_level(member.fingerprint).is_none());
    let has_risen = firing
        .iter()
        .any(|member| told_level(member.fingerprint).is_some_and(|level| level < member.level));
    let tolerance = TICK_TOLERANCE.min(repeat_interval / 20);
    let may_repeat = firing.iter().any(|member| !member.is_acknowledged)
        && told.is_some_and(|told| now.since(told.at) + tolerance >= repeat_interval);
    let cause = if has_news {
        Some(Cause::Fired)
    } else if has_risen {
        Some(Cause::Rose)
    } else if channel.send_resolved && !ended.is_empty() {
        Some(Cause::Ended)
    } else if may_repeat {
        Some(Cause::Repeat)
    } else {
        None
    };
    let told = after(told, members, &ended, channel, cause.is_some(), now);
    if !channel.send_resolved {
        ended.clear();
    }
    Decision { cause, ended, told }
}

/// Gives the log after the decision.
fn after(
    told: Option<&ToldRecord>,
    members: Members<'_>,
    ended: &[u64],
    channel: &ChannelRoute,
    is_sent: bool,
    now: Timestamp,
) -> Option<ToldRecord> {
    if is_sent {
        let told = told.map_or(&[][..], |told| &told.firing);
        let is_quiet = |(fingerprint, _): &(u64, Level)| members.quiet.binary_search(fingerprint).is_ok();
        let mut firing: Vec<(u64, Level)> = members
            .audible
            .iter()
            .map(|member| (member.fingerprint, member.level))
            .chain(told.iter().copied().filter(is_quiet))
            .collect();
        firing.sort_unstable();
        let resolved = if channel.send_resolved {
            ended.to_vec()
        } else {
            Vec::new()
        };
        return Some(ToldRecord {
            channel: channel.name.clone(),
            at: now,
            firing,
            resolved,
        });
    }
    told.map(|told| ToldRecord {
        // A log from the future, after the clock was set back, would hold repeats up for as long.
        at: told.at.min(now),
        // What ended is forgotten even where ends are not told, so that it is news when it fires again.
        firing: told
            .firing
            .iter()
            .copied()
            .filter(|(fingerprint, _)| ended.binary_search(fingerprint).is_err())
            .collect(),
        ..told.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPEAT: Duration = Duration::from_secs(4 * 3600);

    fn channel(send_resolved: bool) -> ChannelRoute {
        ChannelRoute::new("mail", send_resolved)
    }

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Duration::from_secs(60 * minutes)
    }

    fn firing(fingerprint: u64) -> Member {
        Member {
            fingerprint,
            level: Level::High,
            is_acknowledged: false,
        }
    }

    fn members<'a>(audible: &'a [Member], ended: &'a [u64]) -> Members<'a> {
        Members {
            audible,
            quiet: &[],
            ended,
        }
    }

    /// One group's flushes in turn: minute, who fires, who ended; gives why each was told, and the ends.
    fn flushes(send_resolved: bool, steps: &[(u64, &[Member], &[u64])]) -> Vec<(Option<Cause>, Vec<u64>)> {
        let mut told = None;
        steps
            .iter()
            .map(|(minute, firing, ended)| {
                let decision = decide(
                    told.as_ref(),
                    members(firing, ended),
                    &channel(send_resolved),
                    REPEAT,
                    at(*minute),
                );
                told = decision.told;
                (decision.cause, decision.ended)
            })
            .collect()
    }

    #[test]
    fn a_new_alert_is_told_and_the_same_again_only_after_the_repeat_interval() {
        let steps: &[(u64, &[Member], &[u64])] = &[
            (0, &[firing(1)], &[]),
            (5, &[firing(1)], &[]),
            (235, &[firing(1)], &[]),
            (240, &[firing(1)], &[]),
            (245, &[firing(1)], &[]),
        ];
        let causes: Vec<_> = flushes(true, steps).into_iter().map(|(cause, _)| cause).collect();
        assert_eq!(
            causes,
            [Some(Cause::Fired), None, None, Some(Cause::Repeat), None]
        );
    }

    #[test]
    fn what_was_told_is_told_to_be_over_once_and_only_that() {
        let steps: &[(u64, &[Member], &[u64])] = &[
            (0, &[firing(1), firing(2)], &[]),
            // 3 came and went between two flushes: nobody heard of it.
            (5, &[firing(1)], &[2, 3]),
            (10, &[], &[1]),
        ];
        assert_eq!(
            flushes(true, steps),
            [
                (Some(Cause::Fired), vec![]),
                (Some(Cause::Ended), vec![2]),
                (Some(Cause::Ended), vec![1]),
            ]
        );
    }

    #[test]
    fn an_alert_that_came_and_went_before_the_first_flush_is_not_told() {
        assert_eq!(flushes(true, &[(0, &[], &[1])]), [(None, vec![])]);
    }

    #[test]
    fn a_channel_that_hears_no_ends_is_told_when_the_same_fires_again() {
        let steps: &[(u64, &[Member], &[u64])] = &[
            (0, &[firing(1), firing(2)], &[]),
            (5, &[firing(2)], &[1]),
            (10, &[firing(1), firing(2)], &[]),
            (15, &[], &[1, 2]),
        ];
        assert_eq!(
            flushes(false, steps),
            [
                (Some(Cause::Fired), vec![]),
                (None, vec![]),
                (Some(Cause::Fired), vec![]),
                (None, vec![])
            ]
        );
    }

    #[test]
    fn a_level_that_rises_is_news_and_one_that_falls_is_not() {
        let critical = Member {
            level: Level::Critical,
            ..firing(1)
        };
        let steps: &[(u64, &[Member], &[u64])] = &[
            (0, &[firing(1)], &[]),
            (5, &[critical], &[]),
            (10, &[firing(1)], &[]),
            // Critical was the last that was told.
            (15, &[critical], &[]),
        ];
        let causes: Vec<_> = flushes(true, steps).into_iter().map(|(cause, _)| cause).collect();
        assert_eq!(causes, [Some(Cause::Fired), Some(Cause::Rose), None, None]);
    }

    #[test]
    fn acknowledged_alerts_are_told_once_and_not_repeated_unless_others_are() {
        let taken = Member {
            is_acknowledged: true,
            ..firing(1)
        };
        let steps: &[(u64, &[Member], &[u64])] = &[
            (0, &[taken], &[]),
            (300, &[taken], &[]),
            (600, &[taken, firing(2)], &[]),
            (900, &[taken, firing(2)], &[]),
        ];
        let causes: Vec<_> = flushes(true, steps).into_iter().map(|(cause, _)| cause).collect();
        assert_eq!(
            causes,
            [Some(Cause::Fired), None, Some(Cause::Fired), Some(Cause::Repeat)]
        );
    }

    #[test]
    fn what_is_quiet_is_no_news_and_no_repeat_and_keeps_its_place_in_the_log() {
        let decide = |told: Option<&ToldRecord>, audible: &[Member], quiet: &[u64], ended: &[u64], minute| {
            let members = Members {
                audible,
                quiet,
                ended,
            };
            decide(told, members, &channel(true), REPEAT, at(minute))
        };
        let first = decide(None, &[firing(1)], &[2], &[], 0);
        assert_eq!(first.cause, Some(Cause::Fired));
        // 1 is silenced now: no repeat, however long it lasts.
        let silenced = decide(first.told.as_ref(), &[], &[1, 2], &[], 500);
        assert_eq!((silenced.cause, &silenced.told), (None, &first.told));
        // 3 is news; 1 stays known, 2 unknown.
        let news = decide(silenced.told.as_ref(), &[firing(3)], &[1, 2], &[], 505);
        assert_eq!(news.cause, Some(Cause::Fired));
        // The silence is over: only 2 is news.
        let known = decide(news.told.as_ref(), &[firing(1), firing(3)], &[2], &[], 510);
        assert_eq!(known.cause, None);
        // What was opened is closed, even while it is silenced, and only that.
        let ended = decide(news.told.as_ref(), &[], &[3], &[1, 2], 515);
        assert_eq!((ended.cause, ended.ended), (Some(Cause::Ended), vec![1]));
    }

    #[test]
    fn a_log_from_the_future_does_not_hold_repeats_up() {
        let told = decide(None, members(&[firing(1)], &[]), &channel(true), REPEAT, at(6000)).told;
        let quiet = decide(
            told.as_ref(),
            members(&[firing(1)], &[]),
            &channel(true),
            REPEAT,
            at(0),
        );
        assert_eq!(quiet.cause, None);
        let repeat = decide(
            quiet.told.as_ref(),
            members(&[firing(1)], &[]),
            &channel(true),
            REPEAT,
            at(240),
        );
        assert_eq!(repeat.cause, Some(Cause::Repeat));
    }

    #[test]
    fn keys_are_alertmanagers() {
        let labels = Labels::from_pairs([("alertname", "X"), ("a", "q\"\\")]);
        assert_eq!(group_key("{}", &labels), r#"{}:{a="q\"\\", alertname="X"}"#);
        assert_eq!(group_key("{}", &Labels::empty()), "{}:{}");
    }
}
