//! Lints of a rule as a whole.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use marketprism_model::labels::{METRIC_NAME, SEVERITY};
use marketprism_promql::{BinaryOp, Comparison, Expr, ExprKind, Function, SetOp, Span};

use crate::level::{LevelSpec, Threshold};
use crate::lint::fact::Fact;
use crate::lint::labels::yielded;
use crate::lint::place::Source;
use crate::lint::{Finding, Options, catalogue, expression, tree};
use crate::rule::{AlertingRule, GroupSpec, Rule};
use crate::set::GroupDefaults;

/// Annotations that say to people what is wrong, and those that say what to do.
const SUMMARIES: [&str; 4] = ["summary", "description", "message", "title"];
const RUNBOOKS: [&str; 5] = ["runbook_url", "runbook", "action", "playbook", "documentation"];

/// One rule under the eyes of the lints.
pub(super) struct Look<'a> {
    pub group: &'a GroupSpec,
    pub rule: &'a Rule,
    pub source: Source<'a>,
    pub options: &'a Options<'a>,
    pub has_absent: bool,
    pub recorded: &'a BTreeSet<&'a str>,
    pub findings: &'a mut Vec<Finding>,
}

impl Look<'_> {
    fn say(&mut self, lint: &str, place: (usize, usize), fact: Fact) {
        let lint = catalogue::of(lint);
        if self.options.allowed.contains(lint.name) {
            return;
        }
        self.findings.push(Finding {
            lint: lint.name,
            weight: lint.weight,
            file: self.group.file.to_string(),
            line: place.0,
            column: place.1,
            group: self.group.name.to_string(),
            rule: self.rule.name.to_string(),
            fact,
            advice: lint.advice,
        });
    }

    fn say_of(&mut self, lint: &str, span: Span, fact: Fact) {
        let place = self.source.of_span(span);
        self.say(lint, place, fact);
    }

    pub(super) fn all(&mut self, seen: &mut HashMap<String, String>) -> Result<(), String> {
        let rule = self.rule;
        let scrape_ms = i64::try_from(self.options.scrape_interval.as_millis()).unwrap_or(i64::MAX / 2);
        let mut found = Vec::new();
        expression::look(&rule.parsed, scrape_ms, &mut found);
        for (lint, span, fact) in found {
            self.say_of(lint, span, fact);
        }
        self.data()?;
        self.duplicate(seen);
        match rule.alerting() {
            None => self.name(),
            Some(alerting) => self.alert(alerting),
        }
        Ok(())
    }

    /// Selectors that no stored series meets, and that no rule of these files makes.
    fn data(&mut self) -> Result<(), String> {
        let Some(has_series) = self.options.has_series else {
            return Ok(());
        };
        let mut missing = Vec::new();
        let mut failure = None;
        tree::each(&self.rule.parsed, &mut |part| {
            let (ExprKind::Selector(selector) | ExprKind::Range(selector, _)) = &part.kind else {
                return;
            };
            let is_made = self.recorded.iter().any(|name| selector.may_read(name))
                || ["ALERTS", "ALERTS_FOR_STATE"]
                    .iter()
                    .any(|name| selector.metric_name() == Some(name));
            if is_made {
                return;
            }
            match has_series(selector) {
                Ok(true) => {}
                Ok(false) => missing.push((part.span, part.to_string())),
                Err(error) => failure = Some(error),
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        // Whoever asks for absence expects to find nothing.
        let absences = tree::any(&self.rule.parsed, &tree::is_absence);
        for (span, selector) in missing {
            // What contradicts itself is never there, and is told already.
            let place = self.source.of_span(span);
            let is_told = self.findings.iter().any(|one| {
                one.lint == "contradiction"
                    && one.rule == *self.rule.name
                    && one.file == *self.group.file
                    && (one.line, one.column) == place
            });
            if !absences && !is_told {
                self.say("absent-series", place, Fact::NotStored { selector });
            }
        }
        Ok(())
    }

    fn duplicate(&mut self, seen: &mut HashMap<String, String>) {
        let rule = self.rule;
        let hold_for = rule.alerting().map(|alerting| alerting.hold_for);
        let key = format!(
            "{} {} {} {} {hold_for:?}",
            rule.kind_word(),
            rule.name,
            rule.labels,
            rule.parsed
        );
        let place = format!("{}:{}", self.group.file, rule.line);
        match seen.get(&key) {
            Some(first) => {
                let place = first.clone();
                self.say("duplicate", (rule.line, 0), Fact::StandsAlready { place });
            }
            None => {
                seen.insert(key, place);
            }
        }
    }

    fn name(&mut self) {
        if !self.rule.name.contains(':') {
            let place = self.source.of_key("record");
            let name = self.rule.name.to_string();
            self.say("record-name", place, Fact::NoColon { name });
        }
    }

    fn alert(&mut self, alerting: &AlertingRule) {
        let rule = self.rule;
        let line = (rule.line, 0);
        let has = |names: &[&str]| {
            alerting.annotation_texts.iter().any(|(name, _)| {
                names
                    .iter()
                    .any(|wanted| **name == **wanted || name.strip_suffix("_en") == Some(wanted))
            })
        };
        if alerting.levels.is_empty() && !alerting.label_texts.iter().any(|(name, _)| &**name == SEVERITY) {
            self.say("no-severity", line, Fact::NoSeverity);
        }
        if !has(&SUMMARIES) {
            self.say("no-summary", line, Fact::NoSummary);
        }
        if !has(&RUNBOOKS) {
            self.say("no-runbook", line, Fact::NoRunbook);
        }
        self.short_for(alerting);
        self.texts(alerting);
        self.condition(alerting);
        self.levels(&alerting.levels);
        self.up(&rule.parsed);
    }

    fn short_for(&mut self, alerting: &AlertingRule) {
        let interval = self.rule.interval.unwrap_or(self.group.interval);
        // The usual interval is not known: the configuration may say anything.
        let is_known = interval != GroupDefaults::default().interval;
        if is_known && alerting.hold_for > Duration::ZERO && alerting.hold_for < interval {
            let told = marketprism_model::duration::format;
            let fact = Fact::ForTooShort {
                hold_for: told(alerting.hold_for),
                interval: told(interval),
            };
            let place = self.source.of_key("for");
            self.say("for-short", place, fact);
        }
    }

    /// Texts that use labels that are not there, and labels that hold the value.
    fn texts(&mut self, alerting: &AlertingRule) {
        let known = yielded(&self.rule.parsed);
        let own: BTreeSet<&str> = alerting.label_texts.iter().map(|(name, _)| &**name).collect();
        let texts = alerting.annotation_texts.iter().chain(&alerting.label_texts);
        let mut lost = Vec::new();
        for (name, text) in texts {
            for label in labels_used(text.source()) {
                if !known.may_have(&label) && label != METRIC_NAME {
                    // $labels are those of the series; the rule's own are not among them.
                    let is_own = own.contains(label.as_str());
                    lost.push((name, label, is_own));
                }
            }
        }
        for (key, label, is_own) in lost {
            let place = self.source.of_key(key);
            let text = key.to_string();
            self.say("label-lost", place, Fact::LabelLost { text, label, is_own });
        }
        for (name, text) in &alerting.label_texts {
            if shows_value(text.source()) {
                let place = self.source.of_key(name);
                let label = name.to_string();
                self.say("value-in-label", place, Fact::ValueInLabel { label });
            }
        }
    }

    /// Alerts that fire whatever the values are.
    fn condition(&mut self, alerting: &AlertingRule) {
        if !alerting.levels.is_empty() {
            return;
        }
        let top = self.rule.parsed.without_parens();
        let is_certain = match &top.kind {
            ExprKind::Binary(binary) => match binary.op {
                BinaryOp::Comparison(_) => binary.is_bool,
                _ => false,
            },
            _ => false,
        };
        if is_certain {
            self.say_of("always-holds", top.span, Fact::BoolFires);
        } else if is_bare(top) {
            self.say_of("always-holds", top.span, Fact::NothingCompared);
        }
    }

    fn levels(&mut self, levels: &[LevelSpec]) {
        for (worse, milder) in levels.iter().zip(levels.iter().skip(1)) {
            if is_sooner(&worse.when, &milder.when) {
                let shown = |one: &LevelSpec| format!("{} ({})", one.level, one.when_text);
                let fact = Fact::HoldsSooner {
                    worse: shown(worse),
                    milder: shown(milder),
                };
                let place = self.source.of_key("levels");
                self.say("levels-unordered", place, fact);
            }
        }
    }

    /// `up == 0` says nothing of targets that are gone.
    fn up(&mut self, expr: &Expr) {
        if self.has_absent {
            return;
        }
        let mut found = None;
        tree::each(expr, &mut |part| {
            if let ExprKind::Binary(binary) = &part.kind
                && binary.op == BinaryOp::Comparison(Comparison::Equal)
                && tree::number(&binary.right) == Some(0.0)
                && let ExprKind::Selector(selector) = &binary.left.without_parens().kind
                && selector.metric_name() == Some("up")
            {
                found = Some(part.span);
            }
        });
        if let Some(span) = found {
            self.say_of("absent-missing", span, Fact::UpAlone);
        }
    }
}

/// Says whether an expression is made of series alone, without anything that leaves some of them out.
fn is_bare(expr: &Expr) -> bool {
    let chooses = tree::any(expr, &|part| match &part.kind {
        ExprKind::Binary(binary) => {
            matches!(
                binary.op,
                BinaryOp::Comparison(_) | BinaryOp::Set(SetOp::And | SetOp::Unless)
            )
        }
        ExprKind::Call(Function::ToVector, _) => true,
        _ => tree::is_absence(part),
    });
    // What is recorded, or what alerts are, may have been chosen where it was made.
    let is_made = |name: &str| name.contains(':') || name == "ALERTS";
    let selectors = expr.selectors();
    // Whoever asks for certain labels may mean series that are there only when something is wrong.
    let is_plain = |selector: &&marketprism_promql::Selector| {
        selector.metric_name().is_some_and(|name| !is_made(name))
            && selector
                .matchers
                .iter()
                .all(|matcher| [METRIC_NAME, "job"].contains(&&*matcher.name))
    };
    !chooses && !selectors.is_empty() && selectors.iter().all(is_plain)
}

fn is_sooner(worse: &Threshold, milder: &Threshold) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match (worse.op, milder.op) {
        (Greater | GreaterOrEqual, Greater | GreaterOrEqual) => worse.bound < milder.bound,
        (Less | LessOrEqual, Less | LessOrEqual) => worse.bound > milder.bound,
        _ => false,
    }
}

/// Gives the labels that a template takes from `$labels`.
fn labels_used(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for inside in actions(text) {
        for (at, _) in inside.match_indices("$labels.") {
            let rest = &inside[at + "$labels.".len()..];
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if !name.is_empty() {
                used.insert(name);
            }
        }
    }
    used
}

/// Says whether a template writes the value, and does not only compare it.
fn shows_value(text: &str) -> bool {
    actions(text).any(|inside| {
        let words = inside.trim().trim_matches('-').trim();
        let is_block = ["if", "with", "range", "else", "end"]
            .iter()
            .any(|word| words.split_whitespace().next() == Some(word));
        !is_block && (words.contains("$value") || words == ".Value" || words.starts_with(".Value |"))
    })
}

/// Gives what stands between `{{` and `}}`.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next())
}
