//! Who hears when a message was given up: the fallback receiver.
//!
//! It hears what the message said, as it stands now: what still fires, and what is over meanwhile as over. What it heard
//! as firing is remembered in the group's log of its channel, so that it is closed there too, and so that a receiver
//! which stays dead does not bring the same again before repeats are due.
//! It hears nothing of what is acknowledged, silenced, inhibited or muted by now: its own group tells that again when the
//! reason is gone.
//! Deliberately absent: a fallback of the fallback. And an end that could not be told is told to nobody else, for whoever
//! stands in heard of no beginning, or of the end by their own log.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use marketprism_model::records::ToldRecord;
use marketprism_model::{Alert, AlertState, Id, Notification, NotifiedAlert, Purpose, Timestamp};

use crate::book::Book;
use crate::group::{Member, is_news, told_level};
use crate::message::{Address, message, order, parts};
use crate::plan::Plan;

/// Messages that were given up and wait for the next turn; beyond it the oldest are left to the log of messages.
const FALLEN_MAX: usize = 10_000;

impl Book {
    /// Keeps a message that was given up for the next turn; says whether anybody stands in for its receiver.
    pub fn note_fallen(&mut self, message: &Notification) -> bool {
        let has_fallback = self.plan.config.fallback_receiver.is_some();
        if !has_fallback || matches!(message.content.purpose, Purpose::Fallback { .. }) {
            return false;
        }
        if self.fallen.len() >= FALLEN_MAX {
            self.fallen.pop_front();
        }
        self.fallen.push_back(message.clone());
        true
    }

    /// Gives the alerts of fallen messages that are not in memory any more, each once.
    pub fn fallen_strangers(&self) -> BTreeSet<Id> {
        self.fallen
            .iter()
            .flat_map(|message| &message.content.alerts)
            .filter(|told| told.state == AlertState::Firing && self.grouped(told.id).is_none())
            .map(|told| told.id)
            .collect()
    }

    /// Tells the fallback receiver of every fallen message; gives the number of messages. `strangers` are records of
    /// alerts that are not in memory any more.
    pub fn fall_back(&mut self, strangers: &HashMap<Id, Arc<Alert>>, now: Timestamp) -> usize {
        let plan = Arc::clone(&self.plan);
        let fallen = std::mem::take(&mut self.fallen);
        if !plan.config.is_telling {
            return 0;
        }
        let Some(receiver) = plan.config.fallback_receiver.as_deref() else {
            return 0;
        };
        fallen
            .iter()
            .map(|message| self.fall_back_one(&plan, receiver, message, strangers, now))
            .sum()
    }

    fn fall_back_one(
        &mut self,
        plan: &Plan,
        receiver: &str,
        fallen: &Notification,
        strangers: &HashMap<Id, Arc<Alert>>,
        now: Timestamp,
    ) -> usize {
        let fires_anew = |alert: &Alert| {
            let newest = self.active.get(&alert.fingerprint());
            alert.state == AlertState::Resolved
                && newest.is_some_and(|newest| newest.state == AlertState::Firing)
        };
        // Of something that fires anew the newer alert is told, by its own message.
        let as_now = |told: &NotifiedAlert| {
            let alert = self.grouped(told.id).or_else(|| strangers.get(&told.id));
            alert.filter(|alert| !fires_anew(alert))
        };
        let group = self.groups.get(&fallen.group_key);
        let is_quiet = |alert: &Alert| {
            alert.state == AlertState::Firing
                && (alert.acknowledged.is_some()
                    || !self.suppressions_by_labels(alert, now).is_empty()
                    || group.is_some_and(|group| !self.mutes_of(alert, group, now).is_empty()))
        };
        let mut alerts: Vec<Arc<Alert>> = fallen
            .content
            .alerts
            .iter()
            .filter(|told| told.state == AlertState::Firing)
            .filter_map(|told| as_now(told).filter(|alert| !is_quiet(alert)).map(Arc::clone))
            .collect();
        alerts.sort_by(|a, b| order(a).cmp(&order(b)));
        let (record, repeat) = match group {
            Some(group) => (group.record.clone(), plan.repeat(&group.kind)),
            None => (crate::join::record_of(fallen), std::time::Duration::MAX),
        };
        let mut messages = 0;
        for channel in plan.channels(receiver) {
            // Whoever belongs to the receiver itself has a message of their own.
            let mut own = plan.channels(&fallen.receiver).iter();
            if own.any(|own| own.name == channel.name) {
                continue;
            }
            let log = record.told.iter().find(|log| log.channel == channel.name);
            let is_due = log.is_none_or(|log| now.since(log.at) >= repeat);
            let told: Vec<(&Alert, bool)> = alerts
                .iter()
                .filter(|alert| is_worth_telling(alert, log, is_due))
                .map(|alert| (&**alert, true))
                .collect();
            if told.is_empty() {
                continue;
            }
            let opened: Vec<Member> = told
                .iter()
                .filter(|(alert, _)| alert.state == AlertState::Firing)
                .map(|(alert, _)| member(alert))
                .collect();
            for part in parts(told) {
                let address = Address {
                    receiver,
                    channel: &channel.name,
                    purpose: Purpose::Fallback {
                        receiver: fallen.receiver.clone(),
                        channel: fallen.channel.clone(),
                    },
                };
                let id = Id::new(now, self.chance.as_ref());
                self.changes
                    .message(message(id, &record, address, &part, plan, now));
                messages += 1;
            }
            self.remember_opened(&fallen.group_key, &channel.name, &opened, now);
        }
        messages
    }

    /// Notes in a group that a channel which is not its own heard of alerts, so that it hears of their ends; in another
    /// of their groups when a reload took them there since.
    fn remember_opened(&mut self, key: &str, channel: &str, opened: &[Member], now: Timestamp) {
        for member in opened {
            let alert = self.active.get(&member.fingerprint);
            let homes = alert.map_or(&[][..], |alert| self.groups.of(alert.id));
            let home = homes
                .iter()
                .find(|home| ***home == *key)
                .or_else(|| homes.first());
            let Some(home) = home.map(Arc::clone) else {
                continue;
            };
            self.groups.change(&home, |group| {
                note_opened(&mut group.record.told, channel, member, now)
            });
            self.changed_groups.insert(home);
        }
    }
}

/// Notes in the logs of a group that a channel heard of an alert.
fn note_opened(logs: &mut Vec<ToldRecord>, channel: &str, member: &Member, now: Timestamp) {
    if logs.iter().all(|log| log.channel != channel) {
        logs.push(ToldRecord {
            channel: channel.to_owned(),
            at: now,
            firing: Vec::new(),
            resolved: Vec::new(),
        });
    }
    let Some(log) = logs.iter_mut().find(|log| log.channel == channel) else {
        return;
    };
    log.at = now;
    let entry = (member.fingerprint, member.level);
    let place = log
        .firing
        .binary_search_by_key(&member.fingerprint, |(known, _)| *known);
    match place {
        Ok(place) => log.firing[place] = entry,
        Err(place) => log.firing.insert(place, entry),
    }
}

/// Says whether a stand-in hears of an alert now. An end of what its log has open is told by that log; an older alert with
/// the same labels must not close it.
fn is_worth_telling(alert: &Alert, log: Option<&ToldRecord>, is_due: bool) -> bool {
    if alert.state == AlertState::Firing {
        return is_due || is_news(log, &member(alert));
    }
    log.is_none_or(|log| told_level(log, alert.fingerprint()).is_none())
}

fn member(alert: &Alert) -> Member {
    Member {
        fingerprint: alert.fingerprint(),
        level: alert.level,
        is_acknowledged: false,
    }
}
