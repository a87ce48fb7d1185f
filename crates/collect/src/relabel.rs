//! Relabelling: rules that rewrite or drop label sets, exactly as Prometheus' `relabel_configs`.
//!
//! Rules are compiled when the configuration is read, so that a bad expression is an error with a line number
//! and not a surprise at the first scrape. They cost only on first sight of a series; see `scrape::lines`.
//!
//! Source: "Configuration", section `relabel_config`, and `github.com/prometheus/prometheus/model/relabel`.

use std::borrow::Cow;
use std::fmt;

use marketprism_model::LabelsBuilder;
use marketprism_model::matcher::anchored;
use md5::{Digest, Md5};
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelabelAction {
    /// Writes `replacement` to `target_label` when the sources match.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Drops what differs from the target label.
    KeepEqual,
    /// Drops what equals the target label.
    DropEqual,
    /// Writes the hash of the sources modulo `modulus`.
    HashMod,
    /// Copies labels whose name matches to the name that `replacement` gives.
    LabelMap,
    /// Removes labels whose name matches.
    LabelDrop,
    /// Removes labels whose name does not match.
    LabelKeep,
    /// Writes the sources in lower case.
    Lowercase,
    /// Writes the sources in upper case.
    Uppercase,
}

impl RelabelAction {
    const ALL: [(&'static str, RelabelAction); 11] = [
        ("replace", RelabelAction::Replace),
        ("keep", RelabelAction::Keep),
        ("drop", RelabelAction::Drop),
        ("keepequal", RelabelAction::KeepEqual),
        ("dropequal", RelabelAction::DropEqual),
        ("hashmod", RelabelAction::HashMod),
        ("labelmap", RelabelAction::LabelMap),
        ("labeldrop", RelabelAction::LabelDrop),
        ("labelkeep", RelabelAction::LabelKeep),
        ("lowercase", RelabelAction::Lowercase),
        ("uppercase", RelabelAction::Uppercase),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, action)| *action == self)
            .map_or("", |(name, _)| name)
    }
}

impl<'de> Deserialize<'de> for RelabelAction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<str>::deserialize(deserializer)?;
        let lower = word.to_lowercase();
        Self::ALL
            .iter()
            .find(|(name, _)| *name == lower)
            .map(|(_, action)| *action)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
                serde::de::Error::custom(format_args!(
                    "unknown relabel action {word:?}; known are {}",
                    known.join(", ")
                ))
            })
    }
}

/// A rule as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelabelConfig {
    /// The labels whose values are joined and matched.
    #[serde(default)]
    pub source_labels: Vec<String>,
    /// What stands between the joined values.
    #[serde(default = "default_separator")]
    pub separator: String,
    /// Must match the joined values, or the label's name, from end to end.
    #[serde(default = "default_regex")]
    pub regex: String,
    /// For `hashmod`; not 0.
    #[serde(default)]
    pub modulus: u64,
    /// The label that is written or compared.
    #[serde(default)]
    pub target_label: String,
    /// What is written; `$1` and `${name}` are groups of the expression.
    #[serde(default = "default_replacement")]
    pub replacement: String,
    /// What is done.
    #[serde(default)]
    pub action: RelabelAction,
}

fn default_separator() -> String {
    ";".to_owned()
}

fn default_regex() -> String {
    "(.*)".to_owned()
}

fn default_replacement() -> String {
    "$1".to_owned()
}

impl Default for RelabelConfig {
    fn default() -> Self {
        RelabelConfig {
            source_labels: Vec::new(),
            separator: default_separator(),
            regex: default_regex(),
            modulus: 0,
            target_label: String::new(),
            replacement: default_replacement(),
            action: RelabelAction::default(),
        }
    }
}

/// Why a rule cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RelabelError {
    /// The expression cannot be compiled.
    #[error("relabel rule: bad regular expression {pattern:?}: {reason}")]
    Regex {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The action needs a key.
    #[error("relabel action {action} needs {key}")]
    Missing {
        /// The action.
        action: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The action has no use for a key.
    #[error("relabel action {action} takes no {key}")]
    Useless {
        /// The action.
        action: &'static str,
        /// The key.
        key: &'static str,
    },
}

/// A rule ready to be applied. Equal when written equally.
#[derive(Clone, Deserialize)]
#[serde(try_from = "RelabelConfig")]
pub struct RelabelRule {
    config: RelabelConfig,
    regex: Regex,
    replacement: Template,
    target: Template,
}

impl PartialEq for RelabelRule {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl fmt::Debug for RelabelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl Serialize for RelabelRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.config.serialize(serializer)
    }
}

impl TryFrom<RelabelConfig> for RelabelRule {
    type Error = RelabelError;
    fn try_from(config: RelabelConfig) -> Result<Self, RelabelError> {
        config.check()?;
        let regex = anchored(&config.regex).map_err(|reason| RelabelError::Regex {
            pattern: config.regex.clone(),
            reason,
        })?;
        Ok(RelabelRule {
            replacement: Template::parse(&config.replacement, &regex),
            target: Template::parse(&config.target_label, &regex),
            regex,
            config,
        })
    }
}

impl RelabelConfig {
    fn check(&self) -> Result<(), RelabelError> {
        use RelabelAction as A;
        let action = self.action.as_str();
        let missing = |key| Err(RelabelError::Missing { action, key });
        let useless = |key| Err(RelabelError::Useless { action, key });
        let plain = RelabelConfig::default();
        let writes_target = matches!(
            self.action,
            A::Replace | A::HashMod | A::Lowercase | A::Uppercase | A::KeepEqual | A::DropEqual
        );
        if self.action == A::HashMod && self.modulus == 0 {
            return missing("a modulus above 0");
        }
        if writes_target && self.target_label.is_empty() {
            return missing("target_label");
        }
        if self.action == A::LabelMap && self.replacement.is_empty() {
            return missing("replacement");
        }
        let names_only = matches!(self.action, A::LabelDrop | A::LabelKeep);
        let compares = matches!(self.action, A::KeepEqual | A::DropEqual);
        let folds = matches!(self.action, A::Lowercase | A::Uppercase);
        if names_only && !self.source_labels.is_empty() {
            return useless("source_labels");
        }
        if names_only && !self.target_label.is_empty() {
            return useless("target_label");
        }
        if compares && self.regex != plain.regex {
            return useless("regex");
        }
        if (names_only || compares) && self.modulus != 0 {
            return useless("modulus");
        }
        if (names_only || compares) && self.separator != plain.separator {
            return useless("separator");
        }
        if (names_only || compares || folds) && self.replacement != plain.replacement {
            return useless("replacement");
        }
        Ok(())
    }
}

impl RelabelRule {
    /// Gives the rule as it was written.
    pub fn config(&self) -> &RelabelConfig {
        &self.config
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let value = self.joined(labels);
        let target = &self.config.target_label;
        match self.config.action {
            RelabelAction::Drop => return !self.regex.is_match(&*value),
            RelabelAction::Keep => return self.regex.is_match(&*value),
            RelabelAction::DropEqual => return labels.get(target).unwrap_or("") != value,
            RelabelAction::KeepEqual => return labels.get(target).unwrap_or("") == value,
            RelabelAction::Replace => self.replace(labels, &value),
            RelabelAction::Lowercase => {
                labels.set(target, &value.to_lowercase());
            }
            RelabelAction::Uppercase => {
                labels.set(target, &value.to_uppercase());
            }
            RelabelAction::HashMod => {
                labels.set(target, &hash_mod(&value, self.config.modulus).to_string());
            }
            RelabelAction::LabelMap => self.map(labels),
            RelabelAction::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
            }
            RelabelAction::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
            }
        }
        true
    }

    fn joined(&self, labels: &LabelsBuilder) -> String {
        let mut value = String::new();
        for (at, name) in self.config.source_labels.iter().enumerate() {
            if at > 0 {
                value.push_str(&self.config.separator);
            }
            value.push_str(labels.get(name).unwrap_or(""));
        }
        value
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let mut captures = self.regex.create_captures();
        self.regex.captures(value, &mut captures);
        if !captures.is_match() {
            return;
        }
        let target = self.target.expand(value, &captures);
        if !target.is_empty() {
            labels.set(&target, &self.replacement.expand(value, &captures));
        }
    }

    fn map(&self, labels: &mut LabelsBuilder) {
        let mut mapped = Vec::new();
        let mut captures = self.regex.create_captures();
        for (name, value) in labels.iter() {
            self.regex.captures(name, &mut captures);
            if captures.is_match() {
                mapped.push((
                    name.to_owned(),
                    self.replacement.expand(name, &captures),
                    value.to_owned(),
                ));
            }
        }
        // Where two names map to one, the later in the order of names wins.
        mapped.sort_unstable();
        for (_, name, value) in mapped.iter().filter(|(_, name, _)| !name.is_empty()) {
            labels.set(name, value);
        }
    }
}

/// Applies rules in order; false says that the label set is dropped, and what `labels` then holds means nothing.
pub fn relabel(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// Gives the last eight bytes of the MD5 sum, read big-endian, modulo `modulus`; which is not 0.
fn hash_mod(value: &str, modulus: u64) -> u64 {
    let sum: [u8; 16] = Md5::digest(value.as_bytes()).into();
    let mut last = [0u8; 8];
    last.copy_from_slice(&sum[8..]);
    u64::from_be_bytes(last) % modulus.max(1)
}

/// A replacement, taken apart once.
///
/// Source: Go's `regexp.Regexp.Expand`: `$name` takes the longest run of letters, digits and `_`; `$$` is a dollar;
/// unknown groups are empty; a dollar that begins nothing stays.
#[derive(Clone, Debug, Default)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Template {
    fn parse(text: &str, regex: &Regex) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = variable(rest) else {
                plain.push('$');
                continue;
            };
            rest = after;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.extend(group_index(name, regex).map(Piece::Group));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Template(pieces)
    }

    fn expand(&self, value: &str, captures: &Captures) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Group(index) => {
                    text.push_str(
                        captures
                            .get_group(*index)
                            .map_or("", |span| &value[span.start..span.end]),
                    );
                }
            }
        }
        text
    }
}

fn variable(text: &str) -> Option<(&str, &str)> {
    let (inner, is_braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let length = inner
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(inner.len());
    if length == 0 {
        return None;
    }
    let (name, rest) = inner.split_at(length);
    match is_braced {
        true => rest.strip_prefix('}').map(|rest| (name, rest)),
        false => Some((name, rest)),
    }
}

fn group_index(name: &str, regex: &Regex) -> Option<usize> {
    let groups = regex.group_info();
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_number {
        let index: usize = name.parse().ok()?;
        return (index < groups.group_len(regex_automata::PatternID::ZERO)).then_some(index);
    }
    groups.to_index(regex_automata::PatternID::ZERO, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_yaml;

    fn apply(yaml: &str, labels: &[(&str, &str)]) -> Option<String> {
        let rules: Vec<RelabelRule> = parse_yaml(yaml).expect(yaml);
        let mut builder = LabelsBuilder::default();
        for (name, value) in labels {
            builder.set(name, value);
        }
        relabel(&rules, &mut builder).then(|| builder.build().to_string())
    }

    #[track_caller]
    fn check(yaml: &str, labels: &[(&str, &str)], expected: Option<&str>) {
        assert_eq!(apply(yaml, labels).as_deref(), expected, "{yaml}");
    }

    const ABC: [(&str, &str); 3] = [("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn replace_expands_as_go_does() {
        check(
            r#"[{source_labels: [a], regex: "f(.*)", target_label: d, replacement: "ch${1}-ch${1}"}]"#,
            &ABC,
            Some(r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#),
        );
        check(
            r#"[{source_labels: [a, b], regex: "f(?P<rest>.*);(.*)r", target_label: a, replacement: "b$2m${rest}$$$1x$"}]"#,
            &ABC,
            Some(r#"{a="boo$$", b="bar", c="baz"}"#),
        );
        check(
            r#"[{source_labels: [a], regex: "(x)", target_label: d, replacement: "never"}]"#,
            &ABC,
            Some(r#"{a="foo", b="bar", c="baz"}"#),
        );
        check(
            r#"[{source_labels: [a], regex: "(f).*", target_label: "${1}_label", replacement: "$1$2$9"}]"#,
            &ABC,
            Some(r#"{a="foo", b="bar", c="baz", f_label="f"}"#),
        );
        check(
            r#"[{source_labels: [a], target_label: a, replacement: ""}]"#,
            &ABC,
            Some(r#"{b="bar", c="baz"}"#),
        );
        check(
            r#"[{target_label: d, replacement: fixed}]"#,
            &[],
            Some(r#"{d="fixed"}"#),
        );
    }

    #[test]
    fn expressions_match_from_end_to_end_and_across_lines() {
        check(
            r#"[{source_labels: [a], regex: "fo", action: drop}]"#,
            &ABC,
            Some(r#"{a="foo", b="bar", c="baz"}"#),
        );
        check(
            r#"[{source_labels: [a], regex: "fo|foo", action: drop}]"#,
            &ABC,
            None,
        );
        check(
            r#"[{source_labels: [a], regex: "x.y", action: keep}]"#,
            &[("a", "x\ny")],
            Some(r#"{a="x\ny"}"#),
        );
        check(
            r#"[{source_labels: [z], regex: "", action: keep}]"#,
            &[("a", "1")],
            Some(r#"{a="1"}"#),
        );
    }

    #[test]
    fn comparing_actions_keep_and_drop() {
        let same = [("a", "v"), ("b", "v")];
        check(
            "[{source_labels: [a], target_label: b, action: keepequal}]",
            &same,
            Some(r#"{a="v", b="v"}"#),
        );
        check(
            "[{source_labels: [a], target_label: b, action: dropequal}]",
            &same,
            None,
        );
        check(
            "[{source_labels: [a], target_label: b, action: keepequal}]",
            &ABC,
            None,
        );
        check(
            "[{source_labels: [z], target_label: y, action: DropEqual}]",
            &ABC,
            None,
        );
    }

    #[test]
    fn names_are_mapped_dropped_and_kept() {
        check(
            r#"[{regex: "__meta_(.*)", action: labelmap}, {regex: "__meta_.*", action: labeldrop}]"#,
            &[("__meta_x", "1"), ("__meta_y", "2"), ("z", "3")],
            Some(r#"{x="1", y="2", z="3"}"#),
        );
        check(
            r#"[{regex: "(.)", action: labelmap, replacement: "l_${1}"}]"#,
            &[("a", "1")],
            Some(r#"{a="1", l_a="1"}"#),
        );
        check(
            r#"[{regex: "a|c", action: labelkeep}]"#,
            &ABC,
            Some(r#"{a="foo", c="baz"}"#),
        );
    }

    #[test]
    fn cases_fold() {
        check(
            "[{source_labels: [a], target_label: d, action: uppercase}]",
            &[("a", "fÖo")],
            Some(r#"{a="fÖo", d="FÖO"}"#),
        );
        check(
            "[{source_labels: [a], target_label: d, action: lowercase}]",
            &[("a", "FÖo")],
            Some(r#"{a="FÖo", d="föo"}"#),
        );
    }

    #[test]
    fn hashmod_is_that_of_md5s_last_eight_bytes() {
        // `printf %s foo | md5sum` is acbd18db4cc2f85cedef654fccc4a4d8; 0xedef654fccc4a4d8 % 1000 by `bc`: 696.
        assert_eq!(0xedef_654f_ccc4_a4d8_u64 % 1000, hash_mod("foo", 1000));
        check(
            "[{source_labels: [a], target_label: d, modulus: 1000, action: hashmod}]",
            &[("a", "foo")],
            Some(r#"{a="foo", d="696"}"#),
        );
    }

    #[test]
    fn rules_that_cannot_mean_anything_are_refused() {
        let refuse = |yaml: &str, words: &str| {
            let error = parse_yaml::<Vec<RelabelRule>>(yaml).expect_err(yaml).to_string();
            assert!(error.contains(words), "{yaml}: {error}");
        };
        refuse("[{action: replace}]", "relabel action replace needs target_label");
        refuse("[{action: hashmod, target_label: a}]", "needs a modulus above 0");
        refuse(
            "[{action: labeldrop, source_labels: [a], regex: b}]",
            "labeldrop takes no source_labels",
        );
        refuse(
            "[{action: keepequal, source_labels: [a], target_label: b, regex: c}]",
            "keepequal takes no regex",
        );
        refuse(
            "[{action: lowercase, target_label: b, replacement: c}]",
            "lowercase takes no replacement",
        );
        refuse("[{action: explode}]", "unknown relabel action \"explode\"");
        refuse("[{action: keep, regex: \"(\"}]", "bad regular expression \"(\"");
        refuse(
            "[{action: keep, source_label: [a]}]",
            "did you mean \"source_labels\"?",
        );
    }
}
