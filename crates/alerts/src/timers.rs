//! What follows when an alert begins, changes its labels or ends, and what becomes due by time alone.
//!
//! One place tells inhibition, silences and the flapping count of it, so that none of them can be forgotten.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Alert, AlertEventKind, AlertState, Id, Timestamp};

use crate::book::{Book, Timer};

/// An override that is over stays for this long, so that a clock that jumped and is set back finds it again.
const OVERRIDES_KEPT: Duration = Duration::from_secs(12 * 3600);

impl Book {
    /// Lets everybody who must know take note of an alert that fires.
    pub fn note_started(&mut self, fingerprint: u64, at: Timestamp) {
        let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) else {
            return;
        };
        let labels = alert.sent_labels();
        // What is not told explains nothing to anybody.
        if !self.limited.contains(&alert.id) {
            self.inhibitor.started(alert.id, fingerprint, &labels);
        }
        self.silences.started(alert.id, &labels, at);
        if let Some(until) = alert.acknowledged.as_ref().and_then(|taken| taken.until) {
            self.timers.insert((until, Timer::Acknowledgement, fingerprint));
        }
        if alert.flaps > 0 {
            let quiet_at = alert.fired_at.unwrap_or(at) + self.plan.config.flapping.window;
            self.timers.insert((quiet_at, Timer::Flapping, fingerprint));
        }
    }

    /// The same for one whose level, and so its `severity`, has changed.
    pub fn note_relabelled(&mut self, fingerprint: u64, at: Timestamp) {
        let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) else {
            return;
        };
        self.incidents.level_changed(&alert, at, self.chance.as_ref());
        let labels = alert.sent_labels();
        self.silences.started(alert.id, &labels, at);
        if !self.limited.contains(&alert.id) {
            self.inhibitor.started(alert.id, fingerprint, &labels);
            self.join_more_groups(&alert, at);
        }
    }

    /// Lets an alert that begins to fire become part of an incident.
    pub fn join_incident(&mut self, fingerprint: u64, alert: &Alert, at: Timestamp) {
        if !self.plan.config.incidents.is_enabled {
            return;
        }
        let groups: Vec<String> = self
            .groups
            .of(alert.id)
            .iter()
            .map(|key| key.to_string())
            .collect();
        let linked = self.inhibitor.inhibited_by(fingerprint, &alert.sent_labels());
        let linked = linked.as_slice();
        let chance = self.chance.as_ref();
        let Some(incident) = self.incidents.fired(alert, &groups, linked, at, chance) else {
            return;
        };
        self.change(fingerprint, |alert| alert.incident = Some(incident));
        self.event(alert.id, at, None, AlertEventKind::JoinedIncident { incident });
    }

    /// The same for one that is over. Silences that this ends are written with it.
    pub fn note_ended(&mut self, alert: &Alert, at: Timestamp) {
        self.inhibitor.ended(alert.id);
        self.silences.ended(alert.id, at);
        self.incidents.ended(alert, at, self.chance.as_ref());
        for silence in self.silences.finished(at) {
            self.changes.silence(silence);
        }
    }

    /// Writes down that an alert flaps, or that it does so ever more.
    pub fn note_flapping(&mut self, alert: Id, fingerprint: u64, at: Timestamp, count: u32) {
        if count == 0 {
            return;
        }
        self.event(alert, at, None, AlertEventKind::Flapping { count });
        let quiet_at = at + self.plan.config.flapping.window;
        self.timers.insert((quiet_at, Timer::Flapping, fingerprint));
    }

    /// Says whether the end of an alert is held back, for it flaps and may come back at once.
    pub fn is_held(&self, alert: &Alert, now: Timestamp) -> bool {
        let hold = self.plan.config.flapping.hold;
        // One from the future, after the clock was set back, is not held for as long.
        let since = |at: Timestamp| if at > now { hold } else { now.since(at) };
        self.plan.config.flapping.threshold > 0
            && alert.flaps > 0
            && alert.resolved_at.is_some_and(|at| since(at) < hold)
    }

    /// Writes down that an alert whose end is told now had flapped and does no more.
    pub fn settle_steady(&mut self, alert: &Alert, now: Timestamp) {
        if alert.flaps > 0 {
            self.event(alert.id, now, None, AlertEventKind::Steady);
        }
    }

    /// Gives when the next timer is due.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(due, ..)| *due);
        [timer, self.incidents.next_due()].into_iter().flatten().min()
    }

    /// Lets happen what is due by time alone.
    pub fn run_timers(&mut self, now: Timestamp) {
        self.incidents.tick(now, self.chance.as_ref());
        self.overrides
            .retain(|arranged| now.since(arranged.ends_at) <= OVERRIDES_KEPT);
        while let Some(&(due, timer, fingerprint)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            if timer == Timer::External {
                self.expire_external(fingerprint, now);
                continue;
            }
            let Some(alert) = self.active.get(&fingerprint).map(Arc::clone) else {
                continue;
            };
            match timer {
                Timer::External => {}
                Timer::Acknowledgement => {
                    let until = alert.acknowledged.as_ref().and_then(|taken| taken.until);
                    if until.is_some_and(|until| until <= now) {
                        self.end_acknowledgement(fingerprint, now, None, "its time is over");
                    }
                }
                Timer::Flapping => self.end_flapping(fingerprint, &alert, now),
            }
        }
    }

    /// Ends flapping when the alert has fired on for a whole window, as long as that is by now.
    fn end_flapping(&mut self, fingerprint: u64, alert: &Alert, now: Timestamp) {
        if alert.state != AlertState::Firing || alert.flaps == 0 {
            return;
        }
        let window = self.plan.config.flapping.window;
        // What another program sent may have begun, by its word, long before it came here.
        let began_at = self.flaps.newest(fingerprint).max(alert.fired_at);
        let began_at = began_at.map_or(now, |at| at.min(now));
        if now.since(began_at) < window {
            self.timers
                .insert((began_at + window, Timer::Flapping, fingerprint));
        } else {
            self.change(fingerprint, |alert| {
                alert.flaps = 0;
                alert.updated_at = now;
            });
            self.event(alert.id, now, None, AlertEventKind::Steady);
        }
    }
}
