//! Why an alert went where it went: the walk through the tree, node by node.

use marketprism_model::{Labels, Matcher};
use serde::Serialize;

use super::tree::{RouteIndex, RoutingTree};

/// What became of the alert at one route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A matcher does not hold.
    Refused,
    /// The route matches, and one below took the alert.
    HandedDown,
    /// The route matches, and none below does: its receiver hears of the alert.
    Chosen,
}

/// One matcher against one alert.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// The matcher.
    pub matcher: Matcher,
    /// The label's value; an absent one is matched as the empty text.
    pub value: Option<String>,
    /// Whether it holds.
    pub is_match: bool,
}

/// One route that was looked at.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Visit {
    /// The route.
    pub route: RouteIndex,
    /// Its key.
    pub key: String,
    /// Where it stands in the configuration.
    pub place: String,
    /// How many routes are above it.
    pub depth: usize,
    /// Its receiver.
    pub receiver: String,
    /// Its matchers, all of them, whether or not one before decided.
    pub verdicts: Vec<Verdict>,
    /// What became of the alert here.
    pub outcome: Outcome,
    /// Siblings that were not looked at any more, for this route took the alert and does not continue.
    pub passed_over: Vec<RouteIndex>,
}

impl RoutingTree {
    /// Tells the way of an alert through the tree: every route that was looked at, in order. The routes whose
    /// outcome is [`Outcome::Chosen`] are those that [`RoutingTree::find`] gives.
    pub fn explain(&self, labels: &Labels) -> Vec<Visit> {
        let mut visits = Vec::new();
        self.visit(RouteIndex::ROOT, labels, &mut visits);
        visits
    }

    /// Gives whether the route matches.
    fn visit(&self, index: RouteIndex, labels: &Labels, visits: &mut Vec<Visit>) -> bool {
        let route = self.route(index);
        let verdicts: Vec<Verdict> = route
            .matchers
            .iter()
            .map(|matcher| Verdict {
                matcher: matcher.clone(),
                value: labels.get(&matcher.name).map(str::to_owned),
                is_match: matcher.matches_labels(labels),
            })
            .collect();
        let is_match = verdicts.iter().all(|verdict| verdict.is_match);
        let own = visits.len();
        visits.push(Visit {
            route: index,
            key: route.key.clone(),
            place: route.place.clone(),
            depth: route.depth,
            receiver: route.receiver.clone(),
            verdicts,
            outcome: if is_match {
                Outcome::Chosen
            } else {
                Outcome::Refused
            },
            passed_over: Vec::new(),
        });
        if !is_match {
            return false;
        }
        let children = route.children();
        for (number, &child) in children.iter().enumerate() {
            let place = visits.len();
            if !self.visit(child, labels, visits) {
                continue;
            }
            visits[own].outcome = Outcome::HandedDown;
            if !self.route(child).is_continuing {
                visits[place].passed_over = children[number + 1..].to_vec();
                break;
            }
        }
        true
    }
}
