//! Rules as they run: read, checked, parsed.
//!
//! A rule never changes; what happens to it stands in [`crate::group`].

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Condition, Labels, Level, RuleContext, RuleGroupRecord, RuleId, Verdict};
use marketprism_promql::Expr;
use marketprism_template::RuleText;

use crate::level::LevelSpec;
use crate::missing::MissingPolicy;
use crate::recovery::Recovery;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// The name of the series that it records, or of the alert.
    pub name: Arc<str>,
    /// Its identity across reloads.
    pub id: RuleId,
    /// The expression as it is written.
    pub expr: Arc<str>,
    /// The same, parsed.
    pub parsed: Expr,
    /// The labels that it sets, those of its group included, before templating.
    pub labels: Labels,
    /// The labels that it removes: written with an empty value.
    pub(crate) removed: Vec<Box<str>>,
    /// How often it runs, when that is not its group's interval.
    pub interval: Option<Duration>,
    /// The line in its file, from 1.
    pub line: usize,
    /// Line and column where its expression begins in the file, from 1, and with its quotes.
    pub(crate) expr_place: (usize, usize),
    /// What it does with what the expression yields.
    pub kind: RuleKind,
}

/// What a rule does with what its expression yields.
#[derive(Debug)]
pub enum RuleKind {
    /// Records it as a series.
    Recording,
    /// Raises alerts of it.
    Alerting(Box<AlertingRule>),
}

/// What only alerting rules have.
#[derive(Debug)]
pub struct AlertingRule {
    /// How long it must hold before it fires.
    pub hold_for: Duration,
    /// How long it keeps firing after it last held.
    pub keep_firing_for: Duration,
    /// The levels in falling order; empty for a plain rule.
    pub levels: Vec<LevelSpec>,
    /// When a plain rule's alert is over; as soon as its condition fails, if absent.
    pub recovery: Option<Recovery>,
    /// What is made of missing data; as Prometheus does, if absent.
    pub missing_data: Option<MissingPolicy>,
    /// The annotations before templating.
    pub annotations: Labels,
    /// What the lifecycle is told.
    pub context: RuleContext,
    pub(crate) label_texts: Vec<(Box<str>, RuleText)>,
    pub(crate) annotation_texts: Vec<(Box<str>, RuleText)>,
}

impl Rule {
    /// Gives what only alerting rules have.
    pub fn alerting(&self) -> Option<&AlertingRule> {
        match &self.kind {
            RuleKind::Recording => None,
            RuleKind::Alerting(alerting) => Some(alerting),
        }
    }

    /// Gives how often it runs in a group.
    pub fn interval_in(&self, group: &GroupSpec) -> Duration {
        self.interval.unwrap_or(group.interval)
    }

    /// Gives `recording` or `alerting`.
    pub fn kind_word(&self) -> &'static str {
        match self.kind {
            RuleKind::Recording => "recording",
            RuleKind::Alerting(_) => "alerting",
        }
    }

    /// Gives the labels under which a recording rule writes what it found under `found`.
    pub(crate) fn recorded(&self, found: &Labels) -> Labels {
        let mut builder = found.to_builder();
        builder.set(METRIC_NAME, &self.name);
        for (name, value) in &self.labels {
            builder.set(name, value);
        }
        for name in &self.removed {
            builder.set(name, "");
        }
        builder.build()
    }

    /// Reads something of what an evaluation needs of it; of no meaning.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        let alerting = self.alerting().map_or(0, |alerting| {
            alerting.levels.len()
                ^ alerting.context.conditions.len()
                ^ usize::from(alerting.recovery.is_some())
                ^ usize::from(alerting.missing_data.is_some())
        });
        alerting ^ self.removed.len() ^ self.line
    }

    /// Gives the identity among all rules; a recording rule is never an alerting one.
    pub(crate) fn key(&self) -> (bool, RuleId) {
        (matches!(self.kind, RuleKind::Alerting(_)), self.id)
    }
}

impl AlertingRule {
    /// Says how each condition stands for a value.
    ///
    /// A plain rule's condition is the expression itself: what it yields holds.
    pub(crate) fn verdicts(&self, value: f64) -> Vec<Verdict> {
        match &self.levels[..] {
            [] => vec![Verdict::Holds],
            levels => levels.iter().map(|level| level.verdict(value)).collect(),
        }
    }

    /// Gives the conditions that the levels make, or the one of a plain rule.
    pub(crate) fn conditions(
        levels: &[LevelSpec],
        hold_for: Duration,
        keep: Duration,
        unknown_max: Option<Duration>,
    ) -> Vec<Condition> {
        let plain = |level: Option<Level>, hold_for, keep_firing_for| Condition {
            level,
            hold_for,
            keep_firing_for,
            unknown_max,
        };
        match levels {
            [] => vec![plain(None, hold_for, keep)],
            levels => levels
                .iter()
                .map(|level| plain(Some(level.level), level.hold_for, level.keep_firing_for))
                .collect(),
        }
    }
}

/// Where a group comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    /// A rule file, or the program itself.
    #[default]
    File,
    /// Somebody made it by API.
    Api(Arc<RuleGroupRecord>),
}

/// A group: rules that run in order, at one pace.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Where it comes from.
    pub origin: Origin,
    /// The file that holds it, as shown to the user; [`crate::API_FILE`] for what was made by API.
    pub file: Arc<str>,
    /// Its name, unique in the file.
    pub name: Arc<str>,
    /// How often it runs.
    pub interval: Duration,
    /// How far in the past its expressions are evaluated.
    pub query_offset: Duration,
    /// How much later than its moment a tick may begin; what is evaluated stays the moment.
    pub jitter: Duration,
    /// How many series or alerts one rule may yield; 0 for any number.
    pub limit: usize,
    /// The line in its file, from 1.
    pub line: usize,
    /// Its rules, in order.
    pub rules: Vec<Arc<Rule>>,
}
