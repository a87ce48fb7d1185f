//! Rule files as they are written: the keys of Prometheus, and ours.
//!
//! Every text knows its place. What was read can be written again, as JSON: that is how a group that was made by
//! API is kept. Deliberately absent: what the texts mean.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

pub(crate) type Text = Spanned<String>;
pub(crate) type TextMap = BTreeMap<String, Option<Text>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFile {
    pub groups: Option<Vec<Spanned<RawGroup>>>,
}

#[derive(Deserialize, Serialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_offset: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Spanned<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<TextMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Spanned<RawRule>>>,
}

#[derive(Deserialize, Serialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Spanned<RawMissing>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<TextMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<TextMap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<Spanned<Vec<RawLevel>>>,
}

#[derive(Deserialize, Serialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLevel {
    pub level: Text,
    pub when: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#for: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover: Option<Text>,
}

/// `missing: keep`, or its parts.
#[derive(Serialize, Clone)]
#[serde(untagged)]
pub(crate) enum RawMissing {
    Word(String),
    Parts(RawMissingParts),
}

#[derive(Deserialize, Serialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMissingParts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<String>,
}

impl<'de> Deserialize<'de> for RawMissing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawMissing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("resolve, keep or alert, or a map of series, scrape, empty and at_most")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<RawMissing, E> {
                Ok(RawMissing::Word(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawMissing, A::Error> {
                RawMissingParts::deserialize(MapAccessDeserializer::new(map)).map(RawMissing::Parts)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What is sent to make or change a group by API: a group, a file of one group, or one rule of a group.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSubmission {
    pub groups: Option<Vec<Spanned<RawGroup>>>,
    pub group: Option<Text>,
    pub comment: Option<String>,
    pub version: Option<u32>,
    // A group.
    pub name: Option<Text>,
    pub query_offset: Option<Text>,
    pub jitter: Option<Text>,
    pub limit: Option<Spanned<usize>>,
    pub rules: Option<Vec<Spanned<RawRule>>>,
    // A group or a rule.
    pub interval: Option<Text>,
    pub labels: Option<TextMap>,
    // A rule.
    pub record: Option<Text>,
    pub alert: Option<Text>,
    pub expr: Option<Text>,
    pub r#for: Option<Text>,
    pub keep_firing_for: Option<Text>,
    pub recover: Option<Text>,
    pub missing: Option<Spanned<RawMissing>>,
    pub annotations: Option<TextMap>,
    pub levels: Option<Spanned<Vec<RawLevel>>>,
}
