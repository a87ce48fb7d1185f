//! Why an alert that fires is not told now: silences, inhibition, the intervals of its routes, a storm, the limit.
//!
//! Always asked anew, for each of these changes without the alert. The record's list is brought up to date when a
//! group of the alert is flushed, so that its story tells what kept it quiet.

use marketprism_model::alert::Suppression;
use marketprism_model::{Alert, AlertEventKind, Timestamp};

use crate::book::Book;
use crate::groups::{Group, Kind};
use crate::routing::RouteIndex;

impl Book {
    /// Gives every reason, sorted.
    pub fn suppressions(&self, alert: &Alert, now: Timestamp) -> Vec<Suppression> {
        let mut found = self.suppressions_by_labels(alert, now);
        for key in self.groups.of(alert.id) {
            if let Some(group) = self.groups.get(key) {
                found.extend(self.mutes_of(alert, group, now));
            }
        }
        self.completed(alert, found)
    }

    /// Gives silences and inhibition, which hold for every group of an alert.
    pub fn suppressions_by_labels(&self, alert: &Alert, now: Timestamp) -> Vec<Suppression> {
        let labels = alert.sent_labels();
        let silences = self.silences.silencing(&labels, now, &*self.plan);
        let mut found: Vec<Suppression> = silences.into_iter().map(Suppression::Silence).collect();
        let source = self.inhibitor.inhibited_by(alert.fingerprint(), &labels);
        found.extend(source.map(Suppression::Inhibition));
        found
    }

    /// Gives the intervals that mute one alert of a group now: a storm's digest must not tell what the alert's own route
    /// to the same receiver keeps quiet.
    pub fn mutes_of(&self, alert: &Alert, group: &Group, now: Timestamp) -> Vec<Suppression> {
        if let Kind::Route(_) = group.kind {
            return self.mutes(group, now);
        }
        let mut own = self
            .routes_in_storm(alert, group)
            .map(|index| self.route_mutes(index, now));
        let first = own.next().unwrap_or_default();
        // Whatever one of its routes may tell, the digest may.
        if own.any(|mutes| mutes.is_empty()) {
            Vec::new()
        } else {
            first
        }
    }

    /// Gives the routes of an alert for which the digest of a storm speaks.
    pub fn routes_in_storm(&self, alert: &Alert, group: &Group) -> impl Iterator<Item = RouteIndex> {
        let tree = &self.plan.tree;
        let found = tree.find(&alert.sent_labels()).into_iter();
        found.filter(|index| tree.route(*index).receiver == group.record.receiver)
    }

    /// Gives the intervals that mute a group as a whole now; those of a storm mute single alerts of it.
    pub fn mutes(&self, group: &Group, now: Timestamp) -> Vec<Suppression> {
        match group.kind {
            Kind::Route(route) => self.route_mutes(route, now),
            Kind::Storm(_) => Vec::new(),
        }
    }

    fn route_mutes(&self, route: RouteIndex, now: Timestamp) -> Vec<Suppression> {
        let route = self.plan.tree.route(route);
        let is_within = |name: &String| self.plan.intervals.is_within(name, now);
        let mut found: Vec<Suppression> = route
            .mute
            .iter()
            .filter(|name| is_within(name))
            .map(|name| Suppression::Mute(name.clone()))
            .collect();
        if !route.active.is_empty() && !route.active.iter().any(is_within) {
            found.extend(route.active.iter().map(|name| Suppression::Mute(name.clone())));
        }
        found
    }

    /// Brings an alert's list up to date, with a line in its story for each reason that came or went. `by_labels` and
    /// `muted` are what holds in the group that is flushed.
    pub fn note_suppressions(
        &mut self,
        alert: &Alert,
        by_labels: Vec<Suppression>,
        muted: &[Suppression],
        flushed: &str,
        now: Timestamp,
    ) {
        let mut found = by_labels;
        found.extend_from_slice(muted);
        for key in self.groups.of(alert.id) {
            if **key != *flushed
                && let Some(group) = self.groups.get(key)
            {
                found.extend(self.mutes_of(alert, group, now));
            }
        }
        let found = self.completed(alert, found);
        if found == alert.suppressed_by {
            return;
        }
        let gone = alert.suppressed_by.iter().filter(|by| !found.contains(by));
        let come = found.iter().filter(|by| !alert.suppressed_by.contains(by));
        let events: Vec<AlertEventKind> = gone
            .map(|by| AlertEventKind::Unsuppressed { by: by.clone() })
            .chain(come.map(|by| AlertEventKind::Suppressed { by: by.clone() }))
            .collect();
        self.change(alert.fingerprint(), |alert| {
            alert.suppressed_by = found;
            alert.updated_at = now;
        });
        for kind in events {
            self.event(alert.id, now, None, kind);
        }
    }

    /// Adds the reasons that the record itself keeps.
    fn completed(&self, alert: &Alert, mut found: Vec<Suppression>) -> Vec<Suppression> {
        let is_kept = |by: &&Suppression| matches!(by, Suppression::Limit | Suppression::Storm);
        found.extend(alert.suppressed_by.iter().filter(is_kept).cloned());
        found.sort_unstable();
        found.dedup();
        found
    }
}
