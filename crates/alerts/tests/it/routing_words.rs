//! Configurations for the tests of routing: read as an operator's file is, and generated from a seed.

use std::collections::BTreeMap;

use marketprism_alerts::calendar::{CalendarConfig, Calendars};
use marketprism_alerts::inhibition::Inhibitor;
use marketprism_alerts::routing::{
    InhibitRuleConfig, KnownNames, NamedTimeInterval, RouteConfig, RoutingTree,
};
use marketprism_alerts::time_interval::TimeIntervals;
use marketprism_model::{Chance, Labels};
use marketprism_testkit::SeededChance;
use serde::{Deserialize, Serialize};

/// What this room reads of an `alertmanager.yml`.
#[derive(Deserialize, Serialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    #[serde(rename = "global", default, skip_serializing)]
    _global: serde_json::Value,
    pub route: RouteConfig,
    #[serde(default)]
    pub receivers: Vec<ReceiverName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibit_rules: Vec<InhibitRuleConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_intervals: Vec<NamedTimeInterval>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<CalendarConfig>,
}

#[derive(Deserialize, Serialize, Debug, Default, Clone)]
#[serde(deny_unknown_fields)]
pub struct ReceiverName {
    pub name: String,
}

/// All parts of one configuration.
pub struct Parts {
    pub tree: RoutingTree,
    pub intervals: TimeIntervals,
}

/// Reads a configuration; the error is what the operator would see.
pub fn read(yaml: &str) -> Result<Parts, String> {
    let whole: Whole = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    build(&whole)
}

pub fn build(whole: &Whole) -> Result<Parts, String> {
    let calendars = Calendars::new(&whole.calendars).map_err(|error| error.to_string())?;
    let intervals =
        TimeIntervals::new(&whole.time_intervals, &calendars).map_err(|error| error.to_string())?;
    Inhibitor::new(&whole.inhibit_rules).map_err(|error| error.to_string())?;
    let receivers: Vec<&str> = whole
        .receivers
        .iter()
        .map(|receiver| receiver.name.as_str())
        .collect();
    let known = KnownNames {
        receivers: &receivers,
        time_intervals: &intervals.names(),
        escalations: &["nights"],
    };
    let tree = RoutingTree::new(&whole.route, known).map_err(|error| error.to_string())?;
    Ok(Parts { tree, intervals })
}

/// Gives the receivers of an alert, as `amtool config routes test` prints them.
pub fn receivers(tree: &RoutingTree, labels: &Labels) -> String {
    let found = tree.find(labels);
    let names: Vec<&str> = found
        .iter()
        .map(|index| tree.route(*index).receiver.as_str())
        .collect();
    names.join(",")
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

pub const NAMES: [&str; 5] = ["severity", "team", "service", "env", "zone"];
/// Values with everything that quoting has to get right.
pub const VALUES: [&str; 9] = ["a", "b", "c", "d", "x,y", "q\"q", "back\\slash", "日本", "{z}"];
const RECEIVERS: usize = 12;

pub struct Dice(SeededChance);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(SeededChance::new(seed))
    }

    pub fn below(&self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).expect("small")
    }

    pub fn one_of<'a>(&self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn is_one_in(&self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// Makes a tree whose children ask for what alerts are likely to have.
    pub fn whole(&self) -> Whole {
        let mut route = self.route(0);
        route.receiver = Some("r0".to_owned());
        route.matchers.clear();
        route.match_equal.clear();
        route.match_regex.clear();
        route.is_continuing = false;
        let receivers = (0..RECEIVERS).map(|number| ReceiverName {
            name: format!("r{number}"),
        });
        Whole {
            route,
            receivers: receivers.collect(),
            ..Whole::default()
        }
    }

    fn route(&self, depth: usize) -> RouteConfig {
        let mut route = RouteConfig {
            is_continuing: self.is_one_in(2),
            ..RouteConfig::default()
        };
        if !self.is_one_in(3) {
            route.receiver = Some(format!("r{}", self.below(RECEIVERS)));
        }
        if self.is_one_in(3) {
            route.group_by = Some(vec![self.one_of(&NAMES).to_owned()]);
        }
        for _ in 0..=self.below(2) {
            let (name, value) = (self.one_of(&NAMES), self.one_of(&VALUES));
            match self.below(6) {
                0 => drop(route.match_equal.insert(name.to_owned(), value.to_owned())),
                1 => drop(
                    route
                        .match_regex
                        .insert(name.to_owned(), escaped_expression(value)),
                ),
                _ => route.matchers.push(self.matcher(name, value)),
            }
        }
        let width = [5, 4, 3, 0][depth];
        let children = if depth == 0 {
            width + self.below(8)
        } else {
            self.below(width + 1)
        };
        route.routes = (0..children).map(|_| self.route(depth + 1)).collect();
        route
    }

    fn matcher(&self, name: &str, value: &str) -> String {
        let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        match self.below(12) {
            0 => format!("{name}!={quoted}"),
            1 => format!("{name}=\"\""),
            2 => format!("{name}=~\".+\""),
            3 => format!("{name}!~\"a|b\""),
            4 => format!(" {name} =~ \"a|b|{}\" ", self.one_of(&["c", "d", ".*"])),
            5 => format!("{{{name}={quoted},{}!=\"zzz\"}}", self.one_of(&NAMES)),
            6 => format!("{name}=a"),
            _ => format!("{name}={quoted}"),
        }
    }

    /// Makes labels that some route asks for, and a few more by chance.
    pub fn labels(&self, tree: &RoutingTree) -> Labels {
        let mut pairs: BTreeMap<&str, &str> = BTreeMap::new();
        for name in NAMES {
            if self.is_one_in(2) {
                pairs.insert(name, self.one_of(&VALUES));
            }
        }
        let routes: Vec<_> = tree.routes().map(|(_, route)| route).collect();
        let wanted = 1 + self.below(routes.len() - 1);
        // The route and all above it, from the bottom up.
        let mut above = routes[wanted].depth + 1;
        let mut matchers = Vec::new();
        for route in routes[..=wanted].iter().rev() {
            if route.depth < above {
                above = route.depth;
                matchers.extend(&route.matchers);
            }
        }
        for name in NAMES {
            let mut asked = matchers
                .iter()
                .filter(|matcher| &*matcher.name == name)
                .peekable();
            if asked.peek().is_none() {
                continue;
            }
            let asked: Vec<_> = asked.collect();
            let fits = |value: &&str| asked.iter().all(|matcher| matcher.matches(value));
            let fitting: Vec<&str> = VALUES.iter().copied().filter(fits).collect();
            if fitting.is_empty() {
                pairs.remove(name);
            } else {
                pairs.insert(name, self.one_of(&fitting));
            }
        }
        Labels::from_pairs(pairs)
    }
}

/// Writes an expression that matches one value only.
fn escaped_expression(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        if character.is_ascii_punctuation() {
            text.push('\\');
        }
        text.push(character);
    }
    text
}
