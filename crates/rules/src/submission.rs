//! What somebody sends to make or change a group by API.
//!
//! A group under the keys of a rule file, a rule file of one group as it is pasted, or one rule with the name of its
//! `group`; YAML or JSON, which is read as YAML so that faults have their places. `comment` and `version` may stand
//! beside. The same checks as for files apply. What is kept is the group as JSON with the same keys.

use marketprism_model::RuleGroupRecord;
use serde_saphyr::{Location, Spanned};

use crate::error::RuleFileError;
use crate::file::Reader;
use crate::raw::{RawGroup, RawRule, RawSubmission, Text};
use crate::rule::GroupSpec;
use crate::set::{GroupDefaults, of_file};
use crate::yaml;

/// The file under which groups made by API are shown.
pub const API_FILE: &str = "api";
/// What is sent may have this many bytes.
pub const SUBMISSION_BYTES_MAX: usize = 256 << 10;
/// A group made by API may have this many rules.
const RULES_MAX: usize = 1_000;
/// The name of a group may have this many bytes; names are indexed.
const NAME_BYTES_MAX: usize = 200;
/// A comment may have this many bytes.
const COMMENT_BYTES_MAX: usize = 2_000;

/// What was sent, read but not judged yet.
pub struct Submission {
    kind: Kind,
    /// What was read, for the places of faults within expressions.
    text: String,
    /// What is said of the change.
    pub comment: Option<String>,
    /// The version that was seen.
    pub version: Option<u32>,
}

enum Kind {
    Group(Box<Spanned<RawGroup>>),
    Rule {
        group: Text,
        rule: Box<Spanned<RawRule>>,
    },
}

/// A group that was found good.
#[derive(Debug)]
pub(crate) struct Definition {
    pub name: String,
    /// The group as it is kept.
    pub json: String,
    pub group: GroupSpec,
}

impl Submission {
    /// Reads what was sent; `is_json` says that it must be JSON.
    pub fn read(text: &[u8], is_json: bool) -> Result<Self, Vec<RuleFileError>> {
        let fault = |reason: String| vec![of_file(API_FILE, reason)];
        if text.len() > SUBMISSION_BYTES_MAX {
            return Err(fault(format!("more than {SUBMISSION_BYTES_MAX} bytes")));
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(fault("text is not UTF-8".to_owned()));
        };
        let rewritten;
        let text = match is_json {
            true => {
                let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
                    vec![RuleFileError {
                        line: error.line(),
                        column: error.column(),
                        ..of_file(API_FILE, error.to_string())
                    }]
                })?;
                // Characters beyond the first plane are two escapes in JSON, which YAML does not know.
                match text.contains("\\u") {
                    true => {
                        rewritten = value.to_string();
                        &rewritten
                    }
                    false => text,
                }
            }
            false => text,
        };
        let raw: Option<RawSubmission> = yaml::read(API_FILE, text).map_err(|error| vec![error])?;
        let raw = raw.ok_or_else(|| fault("nothing was sent".to_owned()))?;
        if raw
            .comment
            .as_ref()
            .is_some_and(|comment| comment.len() > COMMENT_BYTES_MAX)
        {
            return Err(fault(format!("comment has more than {COMMENT_BYTES_MAX} bytes")));
        }
        let (comment, version) = (raw.comment.clone(), raw.version);
        Ok(Submission {
            kind: kind(raw).map_err(fault)?,
            text: text.to_owned(),
            comment,
            version,
        })
    }

    /// Gives the name of the group that one rule was sent for; `None` when a group was sent.
    pub(crate) fn group_of_rule(&self) -> Option<&str> {
        match &self.kind {
            Kind::Group(_) => None,
            Kind::Rule { group, .. } => Some(&group.value),
        }
    }

    /// Judges it; a rule that was sent alone joins the group that `stands`, or makes one.
    pub(crate) fn judge(
        self,
        stands: Option<&RuleGroupRecord>,
        defaults: &GroupDefaults,
    ) -> Result<Definition, Vec<RuleFileError>> {
        let (raw, is_joining) = match self.kind {
            Kind::Group(group) => (*group, false),
            Kind::Rule { group, rule } => {
                let at = rule.referenced;
                let mut raw = match stands {
                    Some(record) => read_definition(&record.definition)?,
                    None => RawGroup {
                        name: Some(group),
                        ..RawGroup::default()
                    },
                };
                raw.rules.get_or_insert_default().push(*rule);
                (Spanned::new(raw, at, at), stands.is_some())
            }
        };
        judge(raw, &self.text, is_joining, defaults)
    }
}

fn kind(mut raw: RawSubmission) -> Result<Kind, String> {
    let has_rule = raw.alert.is_some() || raw.record.is_some();
    let has_group = raw.name.is_some() || raw.rules.is_some();
    match (raw.groups.take(), has_group, has_rule) {
        (Some(_), true, _) | (Some(_), _, true) => {
            Err("groups stands beside keys of a group or a rule; send one of them".to_owned())
        }
        (Some(mut groups), false, false) => match (groups.pop(), groups.len()) {
            (Some(group), 0) => Ok(Kind::Group(Box::new(group))),
            (_, more) => Err(format!(
                "groups holds {} groups; send one group at a time",
                more + usize::from(more > 0)
            )),
        },
        (None, true, true) => Err(
            "keys of a group (name, rules) stand beside those of a rule (alert, record); send one of them"
                .to_owned(),
        ),
        (None, true, false) => group(raw),
        (None, false, true) => single_rule(raw),
        (None, false, false) => {
            Err("send a group (name, rules), or a rule (group, and alert or record)".to_owned())
        }
    }
}

fn group(raw: RawSubmission) -> Result<Kind, String> {
    if raw.expr.is_some() || raw.annotations.is_some() || raw.r#for.is_some() || raw.levels.is_some() {
        return Err("keys of a rule (expr, for, annotations, levels) belong under rules".to_owned());
    }
    if raw.group.is_some() {
        return Err("group names the group of a single rule; a group has a name".to_owned());
    }
    let group = RawGroup {
        name: raw.name,
        interval: raw.interval,
        query_offset: raw.query_offset,
        jitter: raw.jitter,
        limit: raw.limit,
        labels: raw.labels,
        rules: raw.rules,
    };
    let group = Spanned::new(group, first_line(), first_line());
    Ok(Kind::Group(Box::new(group)))
}

fn single_rule(raw: RawSubmission) -> Result<Kind, String> {
    let group = raw
        .group
        .ok_or("a single rule needs the name of its group: group")?;
    if raw.query_offset.is_some() || raw.jitter.is_some() || raw.limit.is_some() {
        return Err("query_offset, jitter and limit belong to a group, not to a single rule".to_owned());
    }
    let rule = RawRule {
        record: raw.record,
        alert: raw.alert,
        expr: raw.expr,
        interval: raw.interval,
        r#for: raw.r#for,
        keep_firing_for: raw.keep_firing_for,
        recover: raw.recover,
        missing: raw.missing,
        labels: raw.labels,
        annotations: raw.annotations,
        levels: raw.levels,
    };
    let at = group.referenced;
    Ok(Kind::Rule {
        group,
        rule: Box::new(Spanned::new(rule, at, at)),
    })
}

fn first_line() -> Location {
    Location::UNKNOWN
}

fn judge(
    raw: Spanned<RawGroup>,
    text: &str,
    is_joining: bool,
    defaults: &GroupDefaults,
) -> Result<Definition, Vec<RuleFileError>> {
    let json = serde_json::to_string(&raw.value)
        .map_err(|error| vec![of_file(API_FILE, format!("the group cannot be kept: {error}"))])?;
    let at = raw.referenced;
    let mut reader = Reader::new(API_FILE, text, defaults);
    let group = reader.group(raw);
    let name = group.name.to_string();
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let reason = format!("the name must have at most {NAME_BYTES_MAX} bytes and no control characters");
        reader.fault(at, reason);
    }
    if group.rules.is_empty() && reader.errors.is_empty() {
        reader.fault(at, "the group has no rules");
    }
    if group.rules.len() > RULES_MAX {
        reader.fault(at, format!("{} rules, more than {RULES_MAX}", group.rules.len()));
    }
    if json.len() > SUBMISSION_BYTES_MAX {
        reader.fault(
            at,
            format!("the group would have more than {SUBMISSION_BYTES_MAX} bytes"),
        );
    }
    if is_joining {
        reader.errors.append(&mut reader.warnings);
    }
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    Ok(Definition { name, json, group })
}

fn read_definition(json: &str) -> Result<RawGroup, Vec<RuleFileError>> {
    let raw: Option<RawGroup> = yaml::read(API_FILE, json).map_err(|error| vec![error])?;
    raw.ok_or_else(|| vec![of_file(API_FILE, "the group that stands is empty".to_owned())])
}

/// Reads a kept group again.
pub(crate) fn parse_definition(
    json: &str,
    defaults: &GroupDefaults,
) -> Result<GroupSpec, Vec<RuleFileError>> {
    let raw = read_definition(json)?;
    let raw = Spanned::new(raw, first_line(), first_line());
    judge(raw, json, false, defaults).map(|definition| definition.group)
}

/// Writes a kept group as a rule file.
///
/// # Errors
/// The definition is damaged.
pub fn definition_to_yaml(json: &str) -> Result<String, RuleFileError> {
    #[derive(serde::Serialize)]
    struct File {
        groups: [RawGroup; 1],
    }
    let damaged = |reason: String| of_file(API_FILE, reason);
    let group = read_definition(json).map_err(|mut errors| errors.remove(0))?;
    serde_saphyr::to_string(&File { groups: [group] }).map_err(|error| damaged(error.to_string()))
}

/// Reads any bytes as what is sent by API. What is found good must be so when it is read again, or a group that was
/// accepted would not run after a restart.
pub(crate) fn fuzz(bytes: &[u8], is_json: bool) {
    let defaults = GroupDefaults::default();
    let Ok(sent) = Submission::read(bytes, is_json) else {
        return;
    };
    if let Ok(definition) = sent.judge(None, &defaults) {
        let again = parse_definition(&definition.json, &defaults);
        let again = again.unwrap_or_else(|faults| panic!("{faults:?} in {}", definition.json));
        assert_eq!(again.rules.len(), definition.group.rules.len());
        for (one, other) in again.rules.iter().zip(&definition.group.rules) {
            assert_eq!(
                (&one.name, &one.expr, one.labels.clone()),
                (&other.name, &other.expr, other.labels.clone())
            );
        }
    }
}
