//! Routes, inhibition rules and named intervals as they are written: Alertmanager's keys, and ours beside them.
//!
//! Matchers stay text here, so that [`RoutingTree::new`](super::RoutingTree::new) can name all that are faulty.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{TimeInterval, duration};
use serde::{Deserialize, Deserializer, Serialize};

/// One node of `route`. What is not given is inherited from the parent, but for the two lists of intervals.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The receiver's name; the root must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// Labels that make a group, `...` alone for all; an empty list makes one group of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// How long a new group waits for company. 0s to 1y, by default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    pub group_wait: Option<Duration>,
    /// How long until news of a group is told. 100ms to 1y, by default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    pub group_interval: Option<Duration>,
    /// How long until the same is told again. 100ms to 10y, by default 4h.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::optional")]
    pub repeat_interval: Option<Duration>,
    /// What an alert must match to come here; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub matchers: Vec<String>,
    /// Labels that must be equal; the old way to write matchers.
    #[serde(
        rename = "match",
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub match_equal: BTreeMap<String, String>,
    /// Labels that must match an expression; the old way to write matchers.
    #[serde(
        rename = "match_re",
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub match_regex: BTreeMap<String, String>,
    /// Names of intervals within which nothing is told. Not at the root, not inherited.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub mute_time_intervals: Vec<String>,
    /// Names of intervals outside of which nothing is told. Not at the root, not inherited.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub active_time_intervals: Vec<String>,
    /// Whether siblings after this one are looked at, too.
    #[serde(
        rename = "continue",
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_empty"
    )]
    pub is_continuing: bool,
    /// The children; the first that matches takes the alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub routes: Vec<RouteConfig>,
    /// Texts that templates may use, of Alertmanager 0.34 and newer; kept, and without effect until templates are
    /// rendered.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The name of the escalation policy for what comes here; inherited. Ours, unknown to Alertmanager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
}

impl RouteConfig {
    /// Gives a tree of one route, to a receiver, with alerts grouped by some labels.
    pub fn root(receiver: &str, group_by: &[&str]) -> Self {
        RouteConfig {
            receiver: Some(receiver.to_owned()),
            group_by: Some(group_by.iter().map(|label| (*label).to_owned()).collect()),
            ..RouteConfig::default()
        }
    }
}

/// One entry of `inhibit_rules`: while an alert of the source fires, alerts of the target are not told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InhibitRuleConfig {
    /// A name for people; of Alertmanager 0.28 and newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What an alert must match to inhibit others.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub source_matchers: Vec<String>,
    /// The same as labels that must be equal.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub source_match: BTreeMap<String, String>,
    /// The same as labels that must match an expression.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub source_match_re: BTreeMap<String, String>,
    /// What an alert must match to be inhibited.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub target_matchers: Vec<String>,
    /// The same as labels that must be equal.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub target_match: BTreeMap<String, String>,
    /// The same as labels that must match an expression.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_empty"
    )]
    pub target_match_re: BTreeMap<String, String>,
    /// Labels whose values both alerts must share; an absent label is an empty one.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub equal: Vec<String>,
}

/// One entry of `time_intervals`, or of the older `mute_time_intervals`. It holds when any of its intervals does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedTimeInterval {
    /// The name that routes use.
    pub name: String,
    /// The intervals; without any it never holds.
    #[serde(default, deserialize_with = "or_empty")]
    pub time_intervals: Vec<TimeInterval>,
}

/// Reads an absent value from a null, as YAML leaves it behind a key without a value.
pub(crate) fn or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
