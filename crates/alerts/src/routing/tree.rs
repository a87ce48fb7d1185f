//! The tree of routes: built once from the configuration, then asked for each alert.
//!
//! What children inherit is settled when the tree is built. Children of one parent that ask one label for one
//! value are found by that value, so that a thousand of them cost a look-up.
//! Source: Alertmanager, `dispatch/route.go`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use marketprism_model::{Labels, Matcher, MatcherOp};
use serde::Serialize;

use super::config::RouteConfig;
use super::fault::{Faults, RoutingError};
use super::{matchers, read::Reader};

/// A tree has at most so many routes.
pub const ROUTES_MAX: usize = 20_000;
/// A route has at most so many routes above it.
pub const ROUTE_DEPTH_MAX: usize = 50;
/// From so many children on, they are found by value.
const INDEXED_FROM: usize = 8;

/// Names a route of one tree: routes are counted as they are written, the root is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct RouteIndex(u32);

impl RouteIndex {
    /// The root.
    pub const ROOT: RouteIndex = RouteIndex(0);

    fn at(place: usize) -> Self {
        RouteIndex(u32::try_from(place).expect("a tree has no more than ROUTES_MAX routes"))
    }

    /// Gives the place in [`RoutingTree::routes`].
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// The labels that make a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// All.
    All,
    /// These, sorted.
    Labels(Vec<String>),
}

/// One route with all that it has and inherited.
#[derive(Clone, Debug)]
pub struct Route {
    /// Alertmanager's key: `{}/{a="b"}`. Where siblings ask for the same, the later ones have their number behind
    /// it (`/1`, `/2`, …), so that a key names one route.
    pub key: String,
    /// Where it stands in the configuration, such as `route.routes[1]`.
    pub place: String,
    /// How many routes are above it.
    pub depth: usize,
    /// What an alert must match; in Alertmanager's order.
    pub matchers: Vec<Matcher>,
    /// Whether siblings after it are looked at, too.
    pub is_continuing: bool,
    /// The receiver's name.
    pub receiver: String,
    /// The labels that make a group.
    pub group_by: GroupBy,
    /// How long a new group waits for company.
    pub group_wait: Duration,
    /// How long until news of a group is told.
    pub group_interval: Duration,
    /// How long until the same is told again.
    pub repeat_interval: Duration,
    /// Names of intervals within which nothing is told.
    pub mute: Vec<String>,
    /// Names of intervals outside of which nothing is told; none for always.
    pub active: Vec<String>,
    /// The name of the escalation policy.
    pub escalation: Option<String>,
    children: Children,
}

impl Route {
    /// Gives the labels of an alert that make its group.
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => {
                labels.filtered(|name| names.binary_search_by(|known| (**known).cmp(name)).is_ok())
            }
        }
    }

    /// Gives its children, as they are written.
    pub fn children(&self) -> &[RouteIndex] {
        &self.children.all
    }

    /// Says whether labels match, wherever the route stands.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }
}

/// What a tree may name.
#[derive(Clone, Copy, Default, Debug)]
pub struct KnownNames<'a> {
    /// Receivers.
    pub receivers: &'a [&'a str],
    /// Named time intervals.
    pub time_intervals: &'a [&'a str],
    /// Escalation policies.
    pub escalations: &'a [&'a str],
}

/// All routes.
#[derive(Clone, Debug)]
pub struct RoutingTree {
    routes: Vec<Route>,
}

impl RoutingTree {
    /// Builds the tree; fails with every fault that the configuration has.
    pub fn new(root: &RouteConfig, known: KnownNames<'_>) -> Result<Self, RoutingError> {
        let mut builder = Builder {
            known,
            routes: Vec::new(),
            faults: Faults::default(),
        };
        builder.check_root(root);
        builder.add(root, "route".to_owned(), None, 0);
        let Builder { routes, faults, .. } = builder;
        faults.or(RoutingTree { routes })
    }

    /// Gives the routes that an alert goes to, in Alertmanager's order; at least one.
    pub fn find(&self, labels: &Labels) -> Vec<RouteIndex> {
        let mut found = Vec::new();
        self.walk(RouteIndex::ROOT, labels, &mut found);
        found
    }

    fn walk(&self, index: RouteIndex, labels: &Labels, found: &mut Vec<RouteIndex>) {
        let before = found.len();
        self.route(index).children.each(labels, |child| {
            let route = self.route(child);
            if !route.matches(labels) {
                return true;
            }
            self.walk(child, labels, found);
            route.is_continuing
        });
        if found.len() == before {
            found.push(index);
        }
    }

    /// Gives a route.
    ///
    /// # Panics
    /// When the index is of another tree.
    pub fn route(&self, index: RouteIndex) -> &Route {
        &self.routes[index.place()]
    }

    /// Gives all routes, as they are written.
    pub fn routes(&self) -> impl Iterator<Item = (RouteIndex, &Route)> {
        self.routes
            .iter()
            .enumerate()
            .map(|(place, route)| (RouteIndex::at(place), route))
    }

    /// Gives the route that has a key.
    pub fn by_key(&self, key: &str) -> Option<RouteIndex> {
        self.routes()
            .find(|(_, route)| route.key == key)
            .map(|(index, _)| index)
    }

    /// Says how many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Is never true: a tree has a root.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// The children of a route, and where to look for those that ask for one value.
#[derive(Clone, Default, Debug)]
struct Children {
    all: Vec<RouteIndex>,
    /// Label, value, children; each child stands once, either here or in `others`.
    by_value: HashMap<String, HashMap<String, Vec<RouteIndex>>>,
    others: Vec<RouteIndex>,
}

impl Children {
    fn new(all: Vec<RouteIndex>, routes: &[Route]) -> Self {
        let mut children = Children {
            all,
            ..Children::default()
        };
        if children.all.len() < INDEXED_FROM {
            return children;
        }
        for &child in &children.all {
            let asked = routes[child.place()]
                .matchers
                .iter()
                .find(|matcher| matcher.op == MatcherOp::Equal && !matcher.value.is_empty());
            match asked {
                Some(matcher) => children
                    .by_value
                    .entry((*matcher.name).to_owned())
                    .or_default()
                    .entry((*matcher.value).to_owned())
                    .or_default()
                    .push(child),
                None => children.others.push(child),
            }
        }
        children
    }

    /// Visits in order the children that may match, until told to stop.
    fn each(&self, labels: &Labels, mut visit: impl FnMut(RouteIndex) -> bool) {
        if self.by_value.is_empty() {
            for &child in &self.all {
                if !visit(child) {
                    return;
                }
            }
            return;
        }
        let mut likely = self.others.clone();
        for (label, values) in &self.by_value {
            if let Some(asked) = labels.get(label).and_then(|value| values.get(value)) {
                likely.extend_from_slice(asked);
            }
        }
        likely.sort_unstable();
        for child in likely {
            if !visit(child) {
                return;
            }
        }
    }
}

struct Builder<'a> {
    known: KnownNames<'a>,
    routes: Vec<Route>,
    faults: Faults,
}

impl Builder<'_> {
    /// The root takes whatever no other route takes, so nothing may narrow it.
    fn check_root(&mut self, root: &RouteConfig) {
        if root.receiver.as_deref().unwrap_or_default().is_empty() {
            self.faults.add(
                "route.receiver",
                "the root needs a receiver; it hears of whatever no other route takes",
            );
        }
        let narrowed = [
            ("matchers", !root.matchers.is_empty()),
            ("match", !root.match_equal.is_empty()),
            ("match_re", !root.match_regex.is_empty()),
            ("mute_time_intervals", !root.mute_time_intervals.is_empty()),
            ("active_time_intervals", !root.active_time_intervals.is_empty()),
            ("continue", root.is_continuing),
        ];
        for (key, is_given) in narrowed {
            if is_given {
                self.faults.add(
                    format!("route.{key}"),
                    "the root takes every alert at all times; write it at a route below",
                );
            }
        }
    }

    fn add(
        &mut self,
        config: &RouteConfig,
        place: String,
        parent: Option<RouteIndex>,
        sibling: usize,
    ) -> Option<RouteIndex> {
        let depth = parent.map_or(0, |parent| self.routes[parent.place()].depth + 1);
        if depth > ROUTE_DEPTH_MAX {
            self.faults.add(
                place,
                format!("routes are nested too deeply; at most {ROUTE_DEPTH_MAX} above each other"),
            );
            return None;
        }
        if self.routes.len() == ROUTES_MAX {
            self.faults
                .add(place, format!("too many routes; at most {ROUTES_MAX} in a tree"));
            return None;
        }
        let index = RouteIndex::at(self.routes.len());
        let route = self.read(config, &place, parent, depth, sibling);
        self.routes.push(route);
        let mut children = Vec::new();
        let mut twins: HashMap<String, usize> = HashMap::new();
        for (number, child) in config.routes.iter().enumerate() {
            let written = self.written(child);
            let twin = twins.entry(written).or_default();
            let sibling = *twin;
            *twin += 1;
            let place = format!("{place}.routes[{number}]");
            match self.add(child, place, Some(index), sibling) {
                Some(child) => children.push(child),
                None => break,
            }
        }
        self.routes[index.place()].children = Children::new(children, &self.routes);
        Some(index)
    }

    /// Gives a route's matchers as they stand in its key; faults are noted when the route itself is read.
    fn written(&self, config: &RouteConfig) -> String {
        let mut unnoted = Faults::default();
        let mut matchers = Reader::new(&mut unnoted).route_matchers(config, "");
        matchers::sort(&mut matchers);
        matchers::write(&matchers)
    }

    fn read(
        &mut self,
        config: &RouteConfig,
        place: &str,
        parent: Option<RouteIndex>,
        depth: usize,
        sibling: usize,
    ) -> Route {
        let mut reader = Reader::new(&mut self.faults);
        let mut matchers = reader.route_matchers(config, place);
        matchers::sort(&mut matchers);
        // An empty list is as good as none, as in Alertmanager: the parent's labels hold.
        let said = config.group_by.as_deref().filter(|labels| !labels.is_empty());
        let group_by = reader.group_by(said, &format!("{place}.group_by"));
        let least = Duration::from_millis(100);
        let year = Duration::from_secs(365 * 86_400);
        let group_wait = reader.span(config.group_wait, Duration::ZERO, year, place, "group_wait");
        let group_interval = reader.span(config.group_interval, least, year, place, "group_interval");
        let repeat_interval = reader.span(config.repeat_interval, least, 10 * year, place, "repeat_interval");
        self.check_names(config, place);
        let parent = parent.map(|parent| &self.routes[parent.place()]);
        let written = matchers::write(&matchers);
        let mut key = match parent {
            Some(parent) => format!("{}/{written}", parent.key),
            None => written,
        };
        if sibling > 0 {
            key.push_str(&format!("/{sibling}"));
        }
        let seconds = Duration::from_secs;
        Route {
            key,
            place: place.to_owned(),
            depth,
            matchers,
            is_continuing: config.is_continuing,
            receiver: given(config.receiver.as_ref())
                .cloned()
                .or_else(|| parent.map(|parent| parent.receiver.clone()))
                .unwrap_or_default(),
            group_by: group_by
                .or_else(|| parent.map(|parent| parent.group_by.clone()))
                .unwrap_or(GroupBy::Labels(Vec::new())),
            group_wait: group_wait.unwrap_or(parent.map_or(seconds(30), |parent| parent.group_wait)),
            group_interval: group_interval
                .unwrap_or(parent.map_or(seconds(300), |parent| parent.group_interval)),
            repeat_interval: repeat_interval
                .unwrap_or(parent.map_or(seconds(4 * 3600), |parent| parent.repeat_interval)),
            mute: config.mute_time_intervals.clone(),
            active: config.active_time_intervals.clone(),
            escalation: given(config.escalation.as_ref())
                .cloned()
                .or_else(|| parent.and_then(|parent| parent.escalation.clone())),
            children: Children::default(),
        }
    }

    fn check_names(&mut self, config: &RouteConfig, place: &str) {
        let mut check = |place: String, kind: &str, name: &str, known: &[&str]| {
            if !known.contains(&name) {
                self.faults.add_unknown(place, kind, name, known);
            }
        };
        if let Some(receiver) = given(config.receiver.as_ref()) {
            check(
                format!("{place}.receiver"),
                "receiver",
                receiver,
                self.known.receivers,
            );
        }
        if let Some(escalation) = given(config.escalation.as_ref()) {
            let known = self.known.escalations;
            check(
                format!("{place}.escalation"),
                "escalation policy",
                escalation,
                known,
            );
        }
        let lists = [
            ("mute_time_intervals", &config.mute_time_intervals),
            ("active_time_intervals", &config.active_time_intervals),
        ];
        for (key, names) in lists {
            for (number, name) in names.iter().enumerate() {
                let known = self.known.time_intervals;
                check(format!("{place}.{key}[{number}]"), "time interval", name, known);
            }
        }
    }
}

/// Gives a name that is there and not empty; an empty one is as good as none, as in Alertmanager.
fn given(name: Option<&String>) -> Option<&String> {
    name.filter(|name| !name.is_empty())
}

/// Checks and sorts the labels of a group.
pub(super) fn group_by(labels: &[String], place: &str, faults: &mut Faults) -> GroupBy {
    const ALL: &str = "...";
    if labels.iter().any(|label| label == ALL) {
        if labels.iter().any(|label| label != ALL) {
            faults.add(place, "\"...\" means all labels and must stand alone");
        }
        return GroupBy::All;
    }
    let mut seen = HashSet::new();
    for (number, label) in labels.iter().enumerate() {
        if label.is_empty() {
            faults.add(format!("{place}[{number}]"), "the label's name is empty");
        } else if !seen.insert(label) {
            faults.add(
                format!("{place}[{number}]"),
                format!("label {label:?} is there twice"),
            );
        }
    }
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    GroupBy::Labels(labels)
}
