//! What others may look at: settings as they are used, groups, silences, and why an alert is not told now.
//!
//! Each view is asked fresh and changes nothing. None waits for the store.

use std::sync::Arc;

use marketprism_model::alert::Suppression;
use marketprism_model::{Alert, Id, Labels, Matcher, Silence, Timestamp};

use crate::alerts::Alerts;
use crate::config::Config;
use crate::plan::Plan;
use crate::routing::RoutingTree;
use crate::silences::{self, Preview};

/// The settings as they are used. Clones share them; they stay as they were when they were asked for.
#[derive(Clone)]
pub struct Routing(Arc<Plan>);

impl Routing {
    /// Gives the settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Gives the tree of routes.
    pub fn tree(&self) -> &RoutingTree {
        &self.0.tree
    }
}

/// Alerts that are told together.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The group's key: the route's path and the labels.
    pub key: String,
    /// Who hears of it.
    pub receiver: String,
    /// The labels that made it.
    pub labels: Labels,
    /// Its alerts that fire.
    pub alerts: Vec<Arc<Alert>>,
    /// The time intervals that mute it now.
    pub muted_by: Vec<String>,
    /// When it is looked at next.
    pub due_at: Timestamp,
}

impl Alerts {
    /// Gives the settings as they are used.
    pub fn routing(&self) -> Routing {
        Routing(self.plan())
    }

    /// Gives every reason why an alert that fires is not told now, sorted; asked anew, not read from its record.
    pub fn suppressions(&self, alert: &Alert, now: Timestamp) -> Vec<Suppression> {
        self.book.lock().suppressions(alert, now)
    }

    /// Gives all groups in which something fires, in no particular order.
    pub fn groups(&self, now: Timestamp) -> Vec<GroupView> {
        let book = self.book.lock();
        let firing = |id: &Id| {
            let alert = book.active.get(book.by_id.get(id)?)?;
            (alert.id == *id).then(|| Arc::clone(alert))
        };
        let views = book.groups.iter().filter_map(|group| {
            let record = &group.record;
            let alerts: Vec<Arc<Alert>> = record.alerts.iter().filter_map(firing).collect();
            let mutes = book.mutes(group, now);
            let name = |mute: Suppression| match mute {
                Suppression::Mute(name) => Some(name),
                _ => None,
            };
            (!alerts.is_empty()).then(|| GroupView {
                key: record.key.clone(),
                receiver: record.receiver.clone(),
                labels: record.labels.clone(),
                alerts,
                muted_by: mutes.into_iter().filter_map(name).collect(),
                due_at: group.due_at(),
            })
        });
        views.collect()
    }

    /// Gives the silences that are not over, and those that ended lately, in no particular order.
    pub fn silences(&self) -> Vec<Arc<Silence>> {
        self.book.lock().silences.iter().map(Arc::clone).collect()
    }

    /// Gives one of them.
    pub fn silence(&self, id: Id) -> Option<Arc<Silence>> {
        self.book.lock().silences.get(id).map(Arc::clone)
    }

    /// Says whether a silence holds now, its recurrence included, and when that changes next; `None` when it does not
    /// within the time that is looked ahead.
    pub fn silence_holds(&self, silence: &Silence, now: Timestamp) -> (bool, Option<Timestamp>) {
        let plan = self.plan();
        (
            silences::holds(silence, now, &*plan),
            silences::next_turn(silence, now, &*plan),
        )
    }

    /// Says what a silence with these matchers would hit.
    pub fn preview_silence(&self, matchers: &[Matcher], now: Timestamp) -> Preview {
        self.book.lock().silences.preview(matchers, now)
    }
}
