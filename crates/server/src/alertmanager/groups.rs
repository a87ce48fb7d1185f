//! `alerts/groups`: what fires, as it is told together.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use marketprism_alerts::{Alerts, GroupView, Routing};
use marketprism_model::{Alert, Labels};

use super::alerts::{fingerprint_of, is_shown, wants_status, writer};
use super::answer::Failure;
use super::document::{Shown, Status, Writer};
use super::filter::AlertQuery;
use super::stream::{self, Bits};
use crate::Server;
use crate::problem::Problem;
use crate::prometheus::write_json::{push_labels, push_string};
use crate::request::Query;

/// `GET alerts/groups`: groups by their labels and receivers, in each the alerts by job, instance and labels.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Failure> {
    let wanted = AlertQuery::read(&query.params)?;
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let writer = writer(&server, &parts.alerts, now);
    let gathered = server.act(move || Ok::<_, Problem>(gather(&parts.alerts, wanted, writer)));
    Ok(stream::answer(gathered.await?, query.gzip))
}

/// One group as it is shown.
struct ShownGroup {
    receiver: String,
    labels: Labels,
    members: Vec<(Arc<Alert>, Status)>,
}

fn gather(alerts: &Alerts, query: AlertQuery, writer: Writer) -> GroupBits {
    let active = alerts.active();
    let mut groups = Vec::new();
    for view in alerts.groups(writer.now) {
        let is_wanted = query.wants_receiver(&view.receiver) && (query.muted || view.muted_by.is_empty());
        if !is_wanted {
            continue;
        }
        let GroupView {
            receiver,
            labels,
            alerts: members,
            muted_by,
            ..
        } = view;
        let shown = members
            .into_iter()
            .filter(|alert| is_shown(alert, writer.now) && query.wants_labels(&alert.sent_labels()));
        let members = shown.filter_map(|alert| {
            let reasons = alerts.suppressions(&alert, writer.now);
            let mut status = Status::of(&reasons, |id| fingerprint_of(&active, id));
            let is_wanted = wants_status(&query, &status);
            status.muted_by.clone_from(&muted_by);
            is_wanted.then_some((alert, status))
        });
        let mut members: Vec<_> = members.collect();
        if members.is_empty() {
            continue;
        }
        members.sort_by(|(left, _), (right, _)| order_of_alerts(&left.labels, &right.labels));
        groups.push(ShownGroup {
            receiver,
            labels,
            members,
        });
    }
    groups.sort_by(|left, right| {
        order_of_labels(&left.labels, &right.labels).then_with(|| left.receiver.cmp(&right.receiver))
    });
    GroupBits {
        groups,
        at: (0, 0),
        is_ended: false,
        routing: alerts.routing(),
        query,
        writer,
    }
}

/// By job, then by instance, those without one last; then by all labels.
fn order_of_alerts(left: &Labels, right: &Labels) -> Ordering {
    let by = |name: &str| match (left.get(name), right.get(name)) {
        (Some(left), Some(right)) => left.cmp(right),
        (left, right) => left.is_none().cmp(&right.is_none()),
    };
    by("job")
        .then_with(|| by("instance"))
        .then_with(|| order_of_labels(left, right))
}

/// The order of Prometheus' label sets: fewer labels first; then by the first name that only one has, or that differs in
/// value.
fn order_of_labels(left: &Labels, right: &Labels) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| {
        let mut pairs = left.iter().zip(right.iter());
        let differing = pairs.find(|(left, right)| left != right);
        differing.map_or(Ordering::Equal, |((name, value), (other_name, other_value))| {
            // Whoever lacks the smaller name comes first.
            other_name.cmp(name).then_with(|| value.cmp(other_value))
        })
    })
}

/// Writes groups, an alert at a time.
struct GroupBits {
    groups: Vec<ShownGroup>,
    /// The group, and the alert in it, to be written next.
    at: (usize, usize),
    is_ended: bool,
    routing: Routing,
    query: AlertQuery,
    writer: Writer,
}

impl Bits for GroupBits {
    fn push_next(&mut self, text: &mut String) -> bool {
        if self.is_ended {
            return false;
        }
        let (group, alert) = self.at;
        let Some(shown) = self.groups.get(group) else {
            text.push_str(if group == 0 { "[]\n" } else { "]\n" });
            self.is_ended = true;
            return true;
        };
        let Some((member, status)) = shown.members.get(alert) else {
            text.push_str("],\"labels\":");
            push_labels(text, &shown.labels);
            text.push_str(",\"receiver\":{\"name\":");
            push_string(text, &shown.receiver);
            text.push_str("},\"routeLabels\":{}}");
            self.at = (group + 1, 0);
            return true;
        };
        text.push_str(match (group, alert) {
            (0, 0) => "[{\"alerts\":[",
            (_, 0) => ",{\"alerts\":[",
            _ => ",",
        });
        let tree = self.routing.tree();
        let routes = tree.find(&member.sent_labels());
        let names = routes
            .into_iter()
            .map(|route| tree.route(route).receiver.as_str());
        let mut receivers: Vec<&str> = names.filter(|name| self.query.wants_receiver(name)).collect();
        receivers.sort_unstable();
        let one = Shown {
            alert: member,
            status,
            receivers: &receivers,
        };
        self.writer.push(text, &one);
        self.at = (group, alert + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against `LabelSet.Before` of prometheus/common by hand.
    #[test]
    fn labels_stand_in_the_order_of_alertmanager() {
        let check = |left: &[(&str, &str)], right: &[(&str, &str)], expected: Ordering| {
            let [one, other] = [left, right].map(|pairs| Labels::from_pairs(pairs.iter().copied()));
            assert_eq!(order_of_labels(&one, &other), expected, "{one} {other}");
            assert_eq!(order_of_labels(&other, &one), expected.reverse());
        };
        check(&[], &[], Ordering::Equal);
        check(&[("z", "9")], &[("a", "1"), ("b", "1")], Ordering::Less);
        check(&[("a", "1")], &[("a", "2")], Ordering::Less);
        // The left one lacks `a`, so it comes first.
        check(&[("b", "1")], &[("a", "1")], Ordering::Less);
        check(
            &[("a", "1"), ("c", "1")],
            &[("a", "1"), ("b", "1")],
            Ordering::Less,
        );
    }

    #[test]
    fn alerts_of_a_group_stand_by_job_and_instance_first() {
        let check = |left: &[(&str, &str)], right: &[(&str, &str)]| {
            let [one, other] = [left, right].map(|pairs| Labels::from_pairs(pairs.iter().copied()));
            assert_eq!(order_of_alerts(&one, &other), Ordering::Less, "{one} {other}");
        };
        check(&[("a", "9"), ("job", "x")], &[("a", "1"), ("job", "y")]);
        check(&[("a", "9"), ("job", "x")], &[("a", "1")]);
        check(
            &[("a", "9"), ("instance", "1"), ("job", "x")],
            &[("a", "1"), ("instance", "2"), ("job", "x")],
        );
        check(&[("a", "1")], &[("a", "2")]);
    }
}
