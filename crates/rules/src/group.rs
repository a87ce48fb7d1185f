//! A group that runs: its rules, and what each of them holds between ticks.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use marketprism_model::{ActiveAlert, RuleContext, RuleId, SampleSink, Timestamp};
use marketprism_promql::{Engine, Expr, Prepared, parse};

use crate::missing::{Asked, Memory};
use crate::output::Outputs;
use crate::over_limit;
use crate::pace;
use crate::rule::{GroupSpec, Rule};
use crate::set::RuleSet;
use crate::snapshot::{GroupSnapshot, Health, RuleSnapshot};

/// Targets that cannot be scraped.
static DOWN: LazyLock<Expr> = LazyLock::new(|| parse("up == 0").expect("it is an expression"));

/// A group and its memory. One evaluation at a time owns it.
pub struct Group {
    pub(crate) spec: Arc<GroupSpec>,
    pub(crate) rules: Vec<RunningRule>,
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) evaluation_time: Duration,
    pub(crate) iterations: u64,
    /// Whether the last commit failed; the log says so once, for a database may be away for hours.
    pub(crate) is_commit_failing: bool,
    pub(crate) missed: u64,
}

/// A rule and its memory.
pub(crate) struct RunningRule {
    pub rule: Arc<Rule>,
    pub prepared: Prepared,
    /// What a recovery looks at.
    pub operand: Option<Prepared>,
    /// What a policy for missing data asks.
    pub asked: Option<Asked>,
    pub memory: Memory,
    /// Who holds the alert about the group's limit.
    pub over_limit: Option<Box<RuleContext>>,
    /// Its own interval, and the moment after an interval's beginning when it is due.
    own_pace: Option<(Duration, Duration)>,
    pub outputs: Outputs,
    pub alerts: Arc<[ActiveAlert]>,
    pub health: Health,
    pub last_error: Option<Arc<str>>,
    pub last_at: Option<Timestamp>,
    pub evaluation_time: Duration,
}

impl RunningRule {
    fn new(rule: &Arc<Rule>, group: &GroupSpec, engine: &Engine) -> Self {
        let alerting = rule.alerting();
        let recovery = alerting.and_then(|alerting| alerting.recovery.as_ref());
        let missing = alerting.and_then(|alerting| alerting.missing_data.as_ref());
        RunningRule {
            rule: Arc::clone(rule),
            prepared: engine.prepare(&rule.parsed),
            operand: recovery.map(|recovery| engine.prepare(&recovery.operand)),
            asked: missing.map(|missing| Asked {
                presence: missing.presence.as_ref().map(|expr| engine.prepare(expr)),
                down: engine.prepare(&DOWN),
            }),
            memory: Memory::default(),
            over_limit: over_limit::context(group, rule).map(Box::new),
            own_pace: rule.interval.map(|own| (own, pace::offset_of(group))),
            outputs: Outputs::default(),
            alerts: Arc::from([]),
            health: Health::Unknown,
            last_error: None,
            last_at: None,
            evaluation_time: Duration::ZERO,
        }
    }

    /// Says whether it has to be evaluated at a tick of its group: with an interval of its own, when a moment of that has
    /// come since it was evaluated last.
    pub(crate) fn is_due(&self, at: Timestamp) -> bool {
        let (Some((interval, offset)), Some(last_at)) = (self.own_pace, self.last_at) else {
            return true;
        };
        let slot = pace::slot_before(at, interval, offset);
        // A clock that was set back is no reason to wait for it.
        slot > last_at || last_at.since(at) > interval
    }

    /// Takes over what a rule of the same identity held before a reload.
    fn inherit(&mut self, before: RunningRule) {
        self.outputs = before.outputs;
        self.alerts = before.alerts;
        self.health = before.health;
        self.last_error = before.last_error;
        self.last_at = before.last_at;
        self.evaluation_time = before.evaluation_time;
        let missing = |rule: &Rule| Some(rule.alerting()?.missing_data.clone());
        if before.rule.expr == self.rule.expr && missing(&before.rule) == missing(&self.rule) {
            self.memory = before.memory;
        }
    }

    /// Reads something of each of its lines; of no meaning.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        self.alerts.len()
            ^ self.outputs.len()
            ^ self.memory.missing
            ^ usize::from(self.health == Health::Ok)
            ^ usize::from(self.over_limit.is_some())
            ^ self.evaluation_time.subsec_nanos() as usize
    }

    fn snapshot(&self) -> RuleSnapshot {
        RuleSnapshot {
            rule: Arc::clone(&self.rule),
            health: self.health,
            last_error: self.last_error.clone(),
            last_evaluation: self.last_at,
            evaluation_time: self.evaluation_time,
            series: self.outputs.len(),
            missing: self.memory.missing,
            alerts: Arc::clone(&self.alerts),
        }
    }
}

impl Group {
    /// Makes a group that has not run yet.
    pub fn new(spec: &Arc<GroupSpec>, engine: &Engine) -> Self {
        Group {
            spec: Arc::clone(spec),
            rules: spec
                .rules
                .iter()
                .map(|rule| RunningRule::new(rule, spec, engine))
                .collect(),
            last_at: None,
            evaluation_time: Duration::ZERO,
            iterations: 0,
            is_commit_failing: false,
            missed: 0,
        }
    }

    /// Gives what the group was made of.
    pub fn spec(&self) -> &Arc<GroupSpec> {
        &self.spec
    }

    /// Gives the tick that was evaluated last.
    pub fn last_evaluation(&self) -> Option<Timestamp> {
        self.last_at
    }

    /// Gives what others may see.
    pub fn snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            spec: Arc::clone(&self.spec),
            last_evaluation: self.last_at,
            evaluation_time: self.evaluation_time,
            iterations: self.iterations,
            missed: self.missed,
            rules: self.rules.iter().map(RunningRule::snapshot).collect(),
        }
    }
}

/// What a reload leaves behind: series of rules that are no longer there.
pub struct Leftovers {
    outputs: Vec<(Duration, Outputs)>,
}

impl Leftovers {
    /// Marks the end of the series.
    pub fn end(mut self, sink: &dyn SampleSink, now: Timestamp) {
        for (query_offset, outputs) in &mut self.outputs {
            outputs.end_all(sink, now - *query_offset);
        }
    }
}

/// Makes the groups of a new set out of the old ones: a rule of the same name and labels keeps its series,
/// its alerts and its health, in whatever file or group it stands now.
pub fn take_over(old: Vec<Group>, set: &RuleSet, engine: &Engine) -> (Vec<Group>, Leftovers) {
    let mut known: HashMap<(bool, RuleId), (Duration, RunningRule)> = HashMap::new();
    let mut counts = HashMap::new();
    for group in old {
        let key = (Arc::clone(&group.spec.file), Arc::clone(&group.spec.name));
        counts.insert(
            key,
            (
                group.last_at,
                group.evaluation_time,
                group.iterations,
                group.missed,
            ),
        );
        for rule in group.rules {
            known.insert(rule.rule.key(), (group.spec.query_offset, rule));
        }
    }
    let groups = set
        .groups
        .iter()
        .map(|spec| {
            let mut group = Group::new(spec, engine);
            let key = (Arc::clone(&spec.file), Arc::clone(&spec.name));
            if let Some((last_at, evaluation_time, iterations, missed)) = counts.get(&key) {
                group.last_at = *last_at;
                group.evaluation_time = *evaluation_time;
                group.iterations = *iterations;
                group.missed = *missed;
            }
            for rule in &mut group.rules {
                if let Some((_, before)) = known.remove(&rule.rule.key()) {
                    rule.inherit(before);
                }
            }
            group
        })
        .collect();
    let outputs = known
        .into_values()
        .map(|(query_offset, rule)| (query_offset, rule.outputs))
        .collect();
    (groups, Leftovers { outputs })
}
