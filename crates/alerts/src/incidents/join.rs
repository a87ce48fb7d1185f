//! Which incident an alert belongs to, and what becomes of the incident when it joins.

use marketprism_model::{
    Alert, Chance, Id, Incident, IncidentEventKind, IncidentState, Labels, LabelsBuilder, Timestamp,
};

use super::acts::shortened;
use super::index::{Key, place};
use super::{Incidents, KEPT_MAX, Kept};

pub(super) const RELATION_FIRST: &str = "first";
const RELATION_GROUP: &str = "group";
const RELATION_INHIBITION: &str = "inhibition";

impl Incidents {
    /// Finds the incident that an alert belongs to, and why.
    pub(super) fn related(
        &self,
        alert: &Alert,
        groups: &[String],
        linked: &[Id],
        now: Timestamp,
    ) -> Option<(Id, String)> {
        let inhibition = linked.iter().filter_map(|other| self.of(*other));
        let inhibition = inhibition.map(|id| (id, RELATION_INHIBITION));
        if let Some((id, relation)) = inhibition.into_iter().find(|(id, _)| self.has_room(*id)) {
            return Some((id, relation.to_owned()));
        }
        let groups = groups
            .iter()
            .map(|group| (Some(Key::group(group)), RELATION_GROUP));
        let labels = self.config.labels.iter().map(|name| {
            let value = alert.labels.get(name).unwrap_or("");
            (Key::label(name, value), name.as_str())
        });
        groups.chain(labels).find_map(|(key, relation)| {
            let id = self.index.get(key?)?;
            let is_near = |kept: &Kept| now.since(kept.incident.moved_at) <= self.config.window;
            let may_join = self.kept.get(&id).is_some_and(is_near) && self.has_room(id);
            may_join.then(|| (id, relation.to_owned()))
        })
    }

    fn has_room(&self, id: Id) -> bool {
        let kept = self.kept.get(&id);
        kept.is_some_and(|kept| kept.incident.alerts.len() < self.config.alerts_max)
    }

    /// Opens an incident for an alert, which has yet to join.
    pub(super) fn open(&mut self, alert: &Alert, now: Timestamp, chance: &dyn Chance) -> Option<Id> {
        if self.kept.len() >= KEPT_MAX {
            self.refused += 1;
            return None;
        }
        let id = Id::new(now, chance);
        let is_topology = |name: &str| self.config.labels.iter().any(|label| label == name);
        self.keep(Incident {
            id,
            title: String::new(),
            is_renamed: false,
            is_held_open: false,
            state: IncidentState::Open,
            level: alert.level,
            opened_at: now,
            resolved_at: None,
            updated_at: now,
            moved_at: now,
            owner: None,
            labels: alert.labels.filtered(is_topology),
            alerts: Vec::new(),
            hints: Vec::new(),
        });
        if let Some(kept) = self.kept.get_mut(&id) {
            alert.name().clone_into(&mut kept.lead);
            kept.entitle();
        }
        self.event(id, now, None, IncidentEventKind::Opened, chance);
        Some(id)
    }

    pub(super) fn join(
        &mut self,
        id: Id,
        alert: &Alert,
        relation: String,
        now: Timestamp,
        chance: &dyn Chance,
    ) {
        let Some(kept) = self.kept.get_mut(&id) else {
            return;
        };
        let incident = &mut kept.incident;
        let is_reopened = incident.state == IncidentState::Resolved;
        incident.state = IncidentState::Open;
        incident.resolved_at = None;
        incident.moved_at = now;
        incident.alerts.push(alert.id);
        incident.labels = shared(&incident.labels, &alert.labels);
        let from = incident.level;
        let has_risen = from < alert.level;
        if has_risen {
            incident.level = alert.level;
            alert.name().clone_into(&mut kept.lead);
        }
        kept.firing += 1;
        kept.entitle();
        self.of_alert.insert(alert.id, id);
        self.unplan(id);
        if is_reopened {
            self.event(id, now, None, IncidentEventKind::Reopened, chance);
        }
        let name = alert.name().to_owned();
        self.event(
            id,
            now,
            None,
            IncidentEventKind::AlertJoined {
                alert: alert.id,
                name,
                relation,
            },
            chance,
        );
        if has_risen {
            let kind = IncidentEventKind::LevelRose {
                from,
                to: alert.level,
            };
            self.event(id, now, None, kind, chance);
        }
    }
}

impl Kept {
    /// Gives the incident its title, unless a person did.
    pub(super) fn entitle(&mut self) {
        if !self.incident.is_renamed {
            let title = format!("{}{}", self.lead, suffix(&self.incident.labels));
            self.incident.title = shortened(title);
        }
    }
}

/// Writes the shared labels behind a title; nothing when there are none.
pub(super) fn suffix(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if pairs.is_empty() {
        String::new()
    } else {
        format!(" ({})", pairs.join(", "))
    }
}

/// Gives the labels that another alert has as well; of instances that differ by the port alone, the host.
fn shared(labels: &Labels, others: &Labels) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels {
        let other = others.get(name).unwrap_or("");
        if value == other {
            builder.set(name, value);
        } else if place(name, value) == place(name, other) {
            builder.set(name, place(name, value));
        }
    }
    builder.build()
}
