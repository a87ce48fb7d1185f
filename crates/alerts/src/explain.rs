//! Why somebody was, or was not, told of an alert.
//!
//! Everything that decides is asked anew: the way through the tree, each group with when it is due and what its
//! channels heard, and whatever keeps the alert quiet.

use std::sync::Arc;

use marketprism_model::alert::Suppression;
use marketprism_model::records::EscalationRecord;
use marketprism_model::{Alert, AlertState, Id, Level, Silence, StoreError, Timestamp};

use crate::alerts::Alerts;
use crate::book::Book;
use crate::group::told_level;
use crate::groups::{Group, Kind};
use crate::routing::Visit;

/// All that decides who hears of an alert.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The alert as it stands.
    pub alert: Arc<Alert>,
    /// Whether anybody is told anything at all.
    pub is_telling: bool,
    /// Until when nothing is told after the start.
    pub settles_at: Option<Timestamp>,
    /// The most alerts that are told at once, when that keeps this one quiet.
    pub limit: Option<usize>,
    /// Every reason why it is not told now, sorted.
    pub suppressions: Vec<Suppression>,
    /// The silences among them.
    pub silences: Vec<Arc<Silence>>,
    /// The alert that says it already, among them.
    pub inhibited_by: Option<Arc<Alert>>,
    /// Until when its end is held back, for it flaps.
    pub held_until: Option<Timestamp>,
    /// Its way through the tree with the labels that it has now.
    pub walk: Vec<Visit>,
    /// Its groups, while it fires or its end is still to be told.
    pub groups: Vec<GroupExplanation>,
}

/// One group of the alert.
#[derive(Clone, Debug)]
pub struct GroupExplanation {
    /// The group's key.
    pub key: String,
    /// Where its route stands in the configuration; `None` for the group of a storm.
    pub place: Option<String>,
    /// Who hears of it.
    pub receiver: String,
    /// When it is looked at next.
    pub due_at: Timestamp,
    /// Whether it waits for company still.
    pub is_waiting: bool,
    /// The intervals that mute it now.
    pub muted_by: Vec<String>,
    /// When that may change.
    pub muted_until: Option<Timestamp>,
    /// What each channel heard of the alert.
    pub channels: Vec<ChannelExplanation>,
    /// The policy by which it escalates.
    pub policy: Option<String>,
    /// How far that has come.
    pub escalation: Option<EscalationRecord>,
    /// When its next step is due.
    pub step_due_at: Option<Timestamp>,
}

/// One channel of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelExplanation {
    /// The channel's name.
    pub channel: String,
    /// Whether it hears of ends.
    pub sends_resolved: bool,
    /// Whether it belongs to the group's receiver; one that does not heard by a fallback or by former routes, and hears
    /// only of the end.
    pub is_own: bool,
    /// The level at which it heard that the alert fires; `None` when it did not.
    pub told: Option<Level>,
    /// When a message of the group to it was last decided, be it of this alert or of others in the group.
    pub told_at: Option<Timestamp>,
}

impl Alerts {
    /// Explains an alert, also one that is over; `None` when there is none of this id.
    pub fn explain(&self, id: Id, now: Timestamp) -> Result<Option<Explanation>, StoreError> {
        let unsettled = self.unsettled();
        let settles_at = (!unsettled.is_zero()).then(|| now + unsettled);
        let known = self.book.lock().grouped(id).map(Arc::clone);
        let alert = match known {
            Some(alert) => alert,
            None => match self.store.alert(id)? {
                Some(alert) => Arc::new(alert),
                None => return Ok(None),
            },
        };
        let book = self.book.lock();
        Ok(Some(Explanation {
            settles_at,
            ..book.explain(alert, now)
        }))
    }
}

impl Book {
    fn explain(&self, alert: Arc<Alert>, now: Timestamp) -> Explanation {
        let plan = &self.plan;
        let suppressions = if alert.state == AlertState::Firing {
            self.suppressions(&alert, now)
        } else {
            Vec::new()
        };
        let silences = suppressions.iter().filter_map(|by| match by {
            Suppression::Silence(id) => self.silences.get(*id).map(Arc::clone),
            _ => None,
        });
        let inhibited_by = suppressions.iter().find_map(|by| match by {
            Suppression::Inhibition(id) => self.grouped(*id).map(Arc::clone),
            _ => None,
        });
        let held_until = alert
            .resolved_at
            .filter(|_| self.is_held(&alert, now) && self.ended.get(alert.id).is_some())
            .map(|at| at + plan.config.flapping.hold);
        Explanation {
            is_telling: plan.config.is_telling,
            settles_at: None,
            limit: suppressions
                .contains(&Suppression::Limit)
                .then_some(plan.config.max_active_alerts),
            silences: silences.collect(),
            inhibited_by,
            held_until,
            walk: plan.tree.explain(&alert.sent_labels()),
            groups: self
                .groups
                .of(alert.id)
                .iter()
                .filter_map(|key| self.groups.get(key))
                .map(|group| self.explain_group(group, &alert, now))
                .collect(),
            suppressions,
            alert,
        }
    }

    fn explain_group(&self, group: &Group, alert: &Alert, now: Timestamp) -> GroupExplanation {
        let (plan, record) = (&self.plan, &group.record);
        let fingerprint = alert.fingerprint();
        let own = plan.channels(&record.receiver);
        let log = |name: &str| record.told.iter().find(|log| log.channel == name);
        let explained = |name: &str, sends_resolved, is_own| ChannelExplanation {
            channel: name.to_owned(),
            sends_resolved,
            is_own,
            told: log(name).and_then(|log| told_level(log, fingerprint)),
            told_at: log(name).map(|log| log.at),
        };
        let strangers = record
            .told
            .iter()
            .filter(|log| own.iter().all(|channel| channel.name != log.channel))
            .filter_map(|log| plan.channel(&log.channel));
        let mutes = self.mutes(group, now);
        GroupExplanation {
            key: record.key.clone(),
            place: match group.kind {
                Kind::Route(index) => Some(plan.tree.route(index).place.clone()),
                Kind::Storm(_) => None,
            },
            receiver: record.receiver.clone(),
            due_at: group.due_at(),
            is_waiting: !record.is_flushed,
            muted_until: if mutes.is_empty() {
                None
            } else {
                self.mute_end(group, now)
            },
            muted_by: mutes
                .into_iter()
                .filter_map(|by| match by {
                    Suppression::Mute(name) => Some(name),
                    _ => None,
                })
                .collect(),
            channels: own
                .iter()
                .map(|channel| explained(&channel.name, channel.send_resolved, true))
                .chain(strangers.map(|(_, channel)| explained(&channel.name, channel.send_resolved, false)))
                .collect(),
            policy: plan
                .policy(&group.kind)
                .map(|policy| policy.config().name.clone()),
            escalation: record.escalation.clone(),
            step_due_at: self.escalation_due(plan, group),
        }
    }
}
