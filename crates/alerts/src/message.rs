//! What a message of a group carries, frozen as the group stands when it is decided.
//!
//! Deliberately absent: texts, languages, and who hears it.

use marketprism_model::records::GroupRecord;
use marketprism_model::{
    Alert, AlertState, Id, Labels, Notification, NotificationContent, NotificationStatus, NotifiedAlert,
    Purpose, Timestamp,
};

use crate::plan::Plan;

/// A message carries at most this many alerts. News beyond it fills further messages; of what was told before,
/// the rest is a number.
pub const ALERTS_TOLD_MAX: usize = 1_000;

/// What one message carries.
pub(crate) struct Part<'a> {
    pub alerts: Vec<&'a Alert>,
    pub truncated: usize,
}

/// Parts what is to be told, firing ones first, into messages: whatever is news (`true`) is in one of them, for
/// what a receiver never heard of it cannot close, and what it opened it must; of the rest as much as fits.
pub(crate) fn parts(told: Vec<(&Alert, bool)>) -> Vec<Part<'_>> {
    let (mut news, mut known) = (Vec::new(), Vec::new());
    for (alert, is_news) in told {
        if is_news {
            news.push(alert)
        } else {
            known.push(alert)
        }
    }
    let mut parts: Vec<Part<'_>> = news
        .chunks(ALERTS_TOLD_MAX)
        .map(|alerts| Part {
            alerts: alerts.to_vec(),
            truncated: 0,
        })
        .collect();
    if parts.is_empty() {
        parts.push(Part {
            alerts: Vec::new(),
            truncated: 0,
        });
    }
    if let Some(last) = parts.last_mut() {
        let room = known.len().min(ALERTS_TOLD_MAX - last.alerts.len());
        last.truncated = known.len() - room;
        last.alerts.splice(0..0, known.drain(..room));
        last.alerts.sort_by(|a, b| order(a).cmp(&order(b)));
    }
    parts
}

/// The order of a message: firing ones first, then since when, then by name.
pub(crate) fn order(alert: &Alert) -> (bool, Option<Timestamp>, &Labels) {
    (alert.state == AlertState::Resolved, alert.fired_at, &alert.labels)
}

/// To whom a message goes, and why.
pub(crate) struct Address<'a> {
    pub receiver: &'a str,
    pub channel: &'a str,
    pub purpose: Purpose,
}

pub(crate) fn message(
    id: Id,
    group: &GroupRecord,
    address: Address<'_>,
    part: &Part<'_>,
    plan: &Plan,
    now: Timestamp,
) -> Notification {
    let alerts: Vec<NotifiedAlert> = part.alerts.iter().map(|alert| notified(alert)).collect();
    let has_firing = part.alerts.iter().any(|alert| alert.state == AlertState::Firing);
    Notification {
        id,
        group_key: group.key.clone(),
        receiver: address.receiver.to_owned(),
        channel: address.channel.to_owned(),
        created_at: now,
        due_at: now,
        deadline_at: now + plan.config.notification_deadline,
        attempts: 0,
        status: NotificationStatus::Waiting,
        content: NotificationContent {
            state: if has_firing {
                AlertState::Firing
            } else {
                AlertState::Resolved
            },
            group_labels: group.labels.clone(),
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            truncated_alerts: u32::try_from(part.truncated).unwrap_or(u32::MAX),
            alerts,
            purpose: address.purpose,
        },
    }
}

fn notified(alert: &Alert) -> NotifiedAlert {
    NotifiedAlert {
        id: alert.id,
        state: alert.state,
        level: alert.level,
        labels: alert.sent_labels(),
        annotations: alert.annotations.clone(),
        value: alert.value,
        starts_at: alert.fired_at.unwrap_or(alert.active_at),
        ends_at: alert.resolved_at,
        fingerprint: format!("{:016x}", alert.fingerprint()),
        expr: alert.expr.clone(),
        generator_url: alert
            .external
            .as_ref()
            .map(|source| source.generator_url.clone())
            .filter(|url| !url.is_empty()),
        flaps: alert.flaps,
    }
}

/// Gives the pairs that all sets share.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else {
        return Labels::empty();
    };
    sets.fold(first.clone(), |shared, set| {
        if shared.iter().all(|(name, value)| set.get(name) == Some(value)) {
            return shared;
        }
        Labels::from_sorted(
            shared
                .iter()
                .filter(|(name, value)| set.get(name) == Some(*value)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_labels_are_those_that_all_share() {
        let sets = [
            Labels::from_pairs([("a", "1"), ("b", "2"), ("c", "3")]),
            Labels::from_pairs([("a", "1"), ("b", "x")]),
            Labels::from_pairs([("a", "1"), ("b", "2"), ("d", "4")]),
        ];
        assert_eq!(common(sets.iter()), Labels::from_pairs([("a", "1")]));
        assert_eq!(common([].iter()), Labels::empty());
    }
}
