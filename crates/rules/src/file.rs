//! Reads one rule file: Prometheus' format, unchanged, and our keys: `levels`, `recover`, `missing`, a rule's own
//! `interval`, a group's `jitter`.
//!
//! Strict as promtool is: an unknown key is an error that names the nearest known one. All faults of a
//! file are told at once, each with its line; only what breaks the YAML itself, or an unknown key, ends
//! the reading.
//!
//! Source: the documentation of Prometheus, "Defining recording rules" and "Alerting rules".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Labels, Level, RuleContext, RuleId, duration, labels};
use marketprism_promql::Expr;
use marketprism_template::RuleText;
use serde_saphyr::{Location, Spanned};

use crate::error::RuleFileError;
use crate::level::{LevelSpec, Threshold};
use crate::missing::MissingPolicy;
use crate::raw::{RawFile, RawGroup, RawLevel, RawMissing, RawRule, Text, TextMap};
use crate::recovery::Recovery;
use crate::rule::{AlertingRule, GroupSpec, Origin, Rule, RuleKind};
use crate::set::{GroupDefaults, of_file};
use crate::{scalar, yaml};

/// What one file holds.
#[derive(Debug, Default)]
pub struct RuleFile {
    /// Its groups, in order.
    pub groups: Vec<GroupSpec>,
    /// What is suspicious but runs.
    pub warnings: Vec<RuleFileError>,
}

/// A rule may have this many labels or annotations.
const TEXTS_MAX: usize = 256;
/// How long a name of a label or an annotation may be.
const NAME_BYTES_MAX: usize = 512;

/// Reads and checks a file. `name` is how errors call it. Never panics, whatever the bytes.
pub fn parse_file(name: &str, text: &[u8], defaults: &GroupDefaults) -> Result<RuleFile, Vec<RuleFileError>> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(vec![of_file(name, "file is not UTF-8".to_owned())]);
    };
    let raw: Option<RawFile> = yaml::read(name, text).map_err(|error| vec![error])?;
    let mut reader = Reader::new(name, text, defaults);
    let mut groups: Vec<GroupSpec> = Vec::new();
    for raw_group in raw.and_then(|raw| raw.groups).unwrap_or_default() {
        let group = reader.group(raw_group);
        if groups.iter().any(|known| known.name == group.name) {
            let reason = format!(
                "group name {:?} is repeated in the same file; names must be unique",
                group.name
            );
            reader.fault_at(group.line, 0, reason);
        }
        groups.push(group);
    }
    if reader.errors.is_empty() {
        Ok(RuleFile {
            groups,
            warnings: reader.warnings,
        })
    } else {
        Err(reader.errors)
    }
}

/// An alerting rule as it is written, its place, and its expression.
struct Written<'a> {
    raw: &'a RawRule,
    at: Location,
    parsed: Option<&'a Expr>,
}

/// Checks what was read and notes every fault with its place.
pub(crate) struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    defaults: &'a GroupDefaults,
    group: Option<String>,
    rule: Option<String>,
    pub errors: Vec<RuleFileError>,
    pub warnings: Vec<RuleFileError>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &str, text: &'a str, defaults: &'a GroupDefaults) -> Self {
        Reader {
            file: Arc::from(file),
            text,
            defaults,
            group: None,
            rule: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn error(&self, line: usize, column: usize, reason: String) -> RuleFileError {
        RuleFileError {
            file: self.file.to_string(),
            line,
            column,
            group: self.group.clone(),
            rule: self.rule.clone(),
            reason,
        }
    }

    fn fault_at(&mut self, line: usize, column: usize, reason: String) {
        let error = self.error(line, column, reason);
        self.errors.push(error);
    }

    pub(crate) fn fault(&mut self, at: Location, reason: impl Into<String>) {
        self.fault_at(at.line() as usize, at.column() as usize, reason.into());
    }

    fn duration(&mut self, text: Option<&Text>) -> Option<Duration> {
        let text = text?;
        match duration::parse(text.value.trim()) {
            Ok(span) => Some(span),
            Err(error) => {
                self.fault(text.referenced, error.to_string());
                None
            }
        }
    }

    pub(crate) fn group(&mut self, raw: Spanned<RawGroup>) -> GroupSpec {
        let at = raw.referenced;
        let raw = raw.value;
        let name = raw.name.map(|name| name.value).unwrap_or_default();
        (self.group, self.rule) = (Some(name.clone()), None);
        if name.is_empty() {
            self.fault(at, "group has no name");
        }
        let interval = self.duration(raw.interval.as_ref());
        let query_offset = self.duration(raw.query_offset.as_ref());
        let jitter = self.duration(raw.jitter.as_ref()).unwrap_or_default();
        let labels = self.labels(raw.labels.as_ref(), at);
        let mut rules = Vec::new();
        let mut seen = HashSet::new();
        for raw_rule in raw.rules.unwrap_or_default() {
            let Some(rule) = self.rule(raw_rule, &name, &labels) else {
                continue;
            };
            if !seen.insert((rule.alerting().is_some(), rule.name.clone(), rule.labels.clone())) {
                let reason = "a rule of this name and these labels stands in the group before it".to_owned();
                let warning = self.error(rule.line, 0, reason);
                self.warnings.push(warning);
            }
            rules.push(rule);
        }
        self.rule = None;
        let interval = match interval {
            Some(interval) if !interval.is_zero() => interval,
            _ => self.defaults.interval,
        };
        for rule in &mut rules {
            let own = rule.interval.unwrap_or(interval);
            rule.interval = rule.interval.filter(|own| *own != interval);
            if let RuleKind::Alerting(alerting) = &mut rule.kind {
                alerting.context.interval = own;
            }
        }
        let shortest = rules.iter().filter_map(|rule| rule.interval).min();
        let shortest = shortest.map_or(interval, |own| own.min(interval));
        if let Some(text) = raw.jitter.as_ref().filter(|_| jitter * 2 > shortest) {
            let reason = format!(
                "jitter must not be longer than half the shortest interval of the group, {}",
                duration::format(shortest / 2)
            );
            self.fault(text.referenced, reason);
        }
        GroupSpec {
            origin: Origin::File,
            file: Arc::clone(&self.file),
            name: Arc::from(name),
            interval,
            query_offset: query_offset.unwrap_or(self.defaults.query_offset),
            jitter,
            limit: raw.limit.map_or(0, |limit| limit.value),
            line: at.line() as usize,
            rules: rules.into_iter().map(Arc::new).collect(),
        }
    }

    /// Refuses names that are longer than any that people give; YAML itself reads no key of more than 1,024 characters.
    fn bound_name(&mut self, kind: &str, name: &str, place: Location) {
        if name.len() > NAME_BYTES_MAX {
            let length = name.len();
            self.fault(
                place,
                format!("{kind} name of {length} bytes, more than {NAME_BYTES_MAX}"),
            );
        }
    }

    /// Checks label names; gives pairs, those with an empty value included, for they remove a label.
    fn labels(&mut self, raw: Option<&TextMap>, at: Location) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in raw.into_iter().flatten() {
            let place = value.as_ref().map_or(at, |value| value.referenced);
            if name.is_empty() || name == labels::METRIC_NAME {
                self.fault(place, format!("invalid label name {name:?}"));
            }
            self.bound_name("label", name, place);
            let value = value.as_ref().map_or("", |value| value.value.as_str());
            pairs.push((name.clone(), value.to_owned()));
        }
        if pairs.len() > TEXTS_MAX {
            self.fault(at, format!("{} labels, more than {TEXTS_MAX}", pairs.len()));
        }
        pairs
    }

    fn rule(
        &mut self,
        raw: Spanned<RawRule>,
        group: &str,
        group_labels: &[(String, String)],
    ) -> Option<Rule> {
        let at = raw.referenced;
        let raw = raw.value;
        let faults_before = self.errors.len();
        let name = self.name(&raw, at)?;
        let is_alerting = raw.alert.is_some();
        let mut pairs: BTreeMap<String, String> = group_labels.iter().cloned().collect();
        pairs.extend(self.labels(raw.labels.as_ref(), at));
        let parsed = self.expr(raw.expr.as_ref(), at);
        let interval = self.interval(raw.interval.as_ref());
        if !is_alerting {
            self.refuse_in_recording(&raw);
        }
        let expr: Arc<str> = Arc::from(raw.expr.as_ref().map_or("", |expr| expr.value.as_str()));
        let written = Labels::from_pairs(pairs.iter());
        let removed = pairs.iter().filter(|(_, value)| value.is_empty());
        let removed = removed.map(|(name, _)| name.as_str().into()).collect();
        let name: Arc<str> = Arc::from(name);
        let kind = if is_alerting {
            let written = Written {
                raw: &raw,
                at,
                parsed: parsed.as_ref(),
            };
            let alerting = self.alerting(&written, &name, group, &expr, &pairs);
            RuleKind::Alerting(Box::new(alerting))
        } else {
            RuleKind::Recording
        };
        if self.errors.len() > faults_before {
            return None;
        }
        let expr_place = raw.expr.as_ref().map_or((0, 0), |expr| {
            let place = expr.referenced;
            (place.line() as usize, place.column() as usize)
        });
        Some(Rule {
            id: RuleId::new(&name, &written, 0),
            name,
            expr,
            parsed: parsed?,
            labels: written,
            removed,
            interval,
            line: at.line() as usize,
            expr_place,
            kind,
        })
    }

    /// Reads a rule's own interval.
    fn interval(&mut self, text: Option<&Text>) -> Option<Duration> {
        let interval = self.duration(text)?;
        if interval.is_zero() {
            self.fault(text?.referenced, "interval must be longer than 0");
        }
        Some(interval)
    }

    fn name(&mut self, raw: &RawRule, at: Location) -> Option<String> {
        self.rule = None;
        let name = match (&raw.record, &raw.alert) {
            (Some(_), Some(_)) => {
                self.fault(at, "only one of 'record' and 'alert' must be set");
                return None;
            }
            (None, None) => {
                self.fault(at, "one of 'record' or 'alert' must be set");
                return None;
            }
            (Some(name), None) | (None, Some(name)) => name,
        };
        self.rule = Some(name.value.clone());
        if name.value.is_empty() {
            self.fault(name.referenced, "the name is empty");
        }
        if raw.record.is_some() && name.value.contains(['{', '}']) {
            self.fault(
                name.referenced,
                format!(
                    "braces present in the recording rule name {:?}; should it be in expr?",
                    name.value
                ),
            );
        }
        Some(name.value.clone())
    }

    fn expr(&mut self, raw: Option<&Text>, at: Location) -> Option<Expr> {
        let Some(raw) = raw.filter(|raw| !raw.value.trim().is_empty()) else {
            self.fault(at, "field 'expr' must be set in rule");
            return None;
        };
        match marketprism_promql::parse(&raw.value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let (begin, offset) = (raw.referenced, error.position.unwrap_or(0));
                let begin = (begin.line() as usize, begin.column() as usize);
                let (line, column) = scalar::place(self.text, begin, &raw.value, offset).unwrap_or(begin);
                self.fault_at(line, column, format!("could not parse expression: {error}"));
                None
            }
        }
    }

    fn refuse_in_recording(&mut self, raw: &RawRule) {
        let places = [
            ("for", raw.r#for.as_ref().map(|text| text.referenced)),
            (
                "keep_firing_for",
                raw.keep_firing_for.as_ref().map(|text| text.referenced),
            ),
            ("levels", raw.levels.as_ref().map(|levels| levels.referenced)),
            ("recover", raw.recover.as_ref().map(|text| text.referenced)),
            ("missing", raw.missing.as_ref().map(|missing| missing.referenced)),
            (
                "annotations",
                raw.annotations
                    .as_ref()
                    .and_then(|texts| texts.values().flatten().next().map(|text| text.referenced)),
            ),
        ];
        for (field, place) in places {
            if let Some(place) = place {
                self.fault(place, format!("invalid field '{field}' in recording rule"));
            }
        }
    }

    fn alerting(
        &mut self,
        written: &Written<'_>,
        name: &Arc<str>,
        group: &str,
        expr: &Arc<str>,
        pairs: &BTreeMap<String, String>,
    ) -> AlertingRule {
        let Written { raw, at, parsed } = *written;
        let hold_for = self.duration(raw.r#for.as_ref()).unwrap_or_default();
        let keep_firing_for = self.duration(raw.keep_firing_for.as_ref()).unwrap_or_default();
        let levels = self.levels(raw.levels.as_ref(), hold_for, keep_firing_for);
        if raw.levels.is_some() && pairs.contains_key(labels::SEVERITY) {
            self.fault(
                at,
                "a rule with levels must not set 'severity': it follows the level",
            );
        }
        let recovery = self.recovery(raw, parsed);
        let missing_data = self.missing_data(raw, parsed);
        let of_labels = raw.labels.as_ref();
        let label_texts = pairs
            .iter()
            .filter_map(|(label, text)| {
                let place = of_labels.and_then(|texts| texts.get(label)?.as_ref());
                let place = place.map_or(at, |text| text.referenced);
                Some((
                    label.as_str().into(),
                    self.text(name, "label", label, text, place)?,
                ))
            })
            .collect();
        let annotation_texts = self.annotation_texts(written, name);
        AlertingRule {
            hold_for,
            keep_firing_for,
            annotations: Labels::from_pairs(
                annotation_texts.iter().map(|(name, text)| (name, text.source())),
            ),
            context: RuleContext {
                id: RuleId(0),
                name: Arc::clone(name),
                group: Arc::from(group),
                file: Arc::clone(&self.file),
                expr: Arc::clone(expr),
                conditions: AlertingRule::conditions(
                    &levels,
                    hold_for,
                    keep_firing_for,
                    missing_data.as_ref().and_then(|missing| missing.at_most),
                ),
                interval: self.defaults.interval,
            },
            levels,
            recovery,
            missing_data,
            label_texts,
            annotation_texts,
        }
    }

    fn annotation_texts(&mut self, written: &Written<'_>, name: &Arc<str>) -> Vec<(Box<str>, RuleText)> {
        let Written { raw, at, .. } = *written;
        let mut texts: Vec<(Box<str>, RuleText)> = Vec::new();
        for (annotation, text) in raw.annotations.iter().flatten() {
            let place = text.as_ref().map_or(at, |text| text.referenced);
            if annotation.is_empty() {
                self.fault(place, "an annotation has no name");
            }
            self.bound_name("annotation", annotation, place);
            let text = text.as_ref().map_or("", |text| text.value.as_str());
            if let Some(parsed) = self.text(name, "annotation", annotation, text, place) {
                texts.push((annotation.as_str().into(), parsed));
            }
        }
        if texts.len() > TEXTS_MAX {
            self.fault(at, format!("{} annotations, more than {TEXTS_MAX}", texts.len()));
        }
        texts
    }

    fn recovery(&mut self, raw: &RawRule, parsed: Option<&Expr>) -> Option<Recovery> {
        let text = raw.recover.as_ref()?;
        if raw.levels.is_some() {
            self.fault(
                text.referenced,
                "a rule with levels says 'recover' in each of them",
            );
            return None;
        }
        match Recovery::read(&text.value, parsed?) {
            Ok(recovery) => Some(recovery),
            Err(reason) => {
                self.fault(text.referenced, reason);
                None
            }
        }
    }

    fn missing_data(&mut self, raw: &RawRule, parsed: Option<&Expr>) -> Option<MissingPolicy> {
        let written: &Spanned<RawMissing> = raw.missing.as_ref()?;
        match MissingPolicy::read(&written.value, parsed?, raw.levels.is_some()) {
            Ok(policy) => Some(policy).filter(|policy| !policy.is_plain()),
            Err(reason) => {
                self.fault(written.referenced, reason);
                None
            }
        }
    }

    fn text(&mut self, rule: &str, kind: &str, name: &str, text: &str, place: Location) -> Option<RuleText> {
        match RuleText::parse(rule, text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(place, format!("{kind} {name:?}: {error}"));
                None
            }
        }
    }

    fn levels(
        &mut self,
        raw: Option<&Spanned<Vec<RawLevel>>>,
        hold_for: Duration,
        keep_firing_for: Duration,
    ) -> Vec<LevelSpec> {
        let Some(raw) = raw else {
            return Vec::new();
        };
        let mut levels: Vec<LevelSpec> = Vec::new();
        for level in &raw.value {
            if let Some(spec) = self.level(level, hold_for, keep_firing_for) {
                if levels.iter().any(|known| known.level == spec.level) {
                    self.fault(
                        level.level.referenced,
                        format!("level {} stands there twice", spec.level),
                    );
                }
                levels.push(spec);
            }
        }
        if raw.value.is_empty() {
            self.fault(raw.referenced, "levels is empty; leave it out or name a level");
        }
        levels.sort_by_key(|level| std::cmp::Reverse(level.level));
        levels
    }

    fn level(&mut self, raw: &RawLevel, hold_for: Duration, keep_firing_for: Duration) -> Option<LevelSpec> {
        let faults_before = self.errors.len();
        let level: Option<Level> = match raw.level.value.parse() {
            Ok(level) => Some(level),
            Err(error) => {
                self.fault(raw.level.referenced, format!("{error}"));
                None
            }
        };
        let when = self.threshold(&raw.when);
        let recover = raw.recover.as_ref().and_then(|text| self.threshold(text));
        let hold_for = match &raw.r#for {
            Some(text) => self.duration(Some(text))?,
            None => hold_for,
        };
        let keep_firing_for = match &raw.keep_firing_for {
            Some(text) => self.duration(Some(text))?,
            None => keep_firing_for,
        };
        if self.errors.len() > faults_before {
            return None;
        }
        let spec = LevelSpec {
            level: level?,
            when: when?,
            when_text: raw.when.value.trim().to_owned(),
            recover,
            recover_text: raw.recover.as_ref().map(|text| text.value.trim().to_owned()),
            hold_for,
            keep_firing_for,
        };
        if let Some(reason) = spec.fault() {
            self.fault(raw.when.referenced, reason);
        }
        Some(spec)
    }

    fn threshold(&mut self, text: &Text) -> Option<Threshold> {
        match Threshold::parse(&text.value) {
            Ok(threshold) => Some(threshold),
            Err(reason) => {
                self.fault(text.referenced, reason);
                None
            }
        }
    }
}

/// Reads any bytes as a rule file, and as what is sent by API; never panics. For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = parse_file("fuzz", bytes, &GroupDefaults::default());
    for is_json in [false, true] {
        crate::submission::fuzz(bytes, is_json);
    }
}
