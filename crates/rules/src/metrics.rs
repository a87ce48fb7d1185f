//! What the rules say about themselves, under Prometheus' names with our prefix.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::evaluate::Tick;
use crate::group::Group;
use crate::rule::GroupSpec;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct GroupLabel {
    rule_group: String,
}

impl GroupLabel {
    pub(crate) fn of(spec: &GroupSpec) -> Self {
        GroupLabel {
            rule_group: format!("{};{}", spec.file, spec.name),
        }
    }
}

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

pub(crate) struct Metrics {
    evaluations: Family<GroupLabel, Counter>,
    failures: Family<GroupLabel, Counter>,
    iterations: Family<GroupLabel, Counter>,
    missed: Family<GroupLabel, Counter>,
    over_limit: Family<GroupLabel, Counter>,
    missing: Family<GroupLabel, Gauge>,
    last_duration: Family<GroupLabel, Seconds>,
    last_rule_duration_sum: Family<GroupLabel, Seconds>,
    last_evaluation: Family<GroupLabel, Seconds>,
    interval: Family<GroupLabel, Seconds>,
    rules: Family<GroupLabel, Gauge>,
    samples: Family<GroupLabel, Gauge>,
    samples_refused: Counter,
    duration: Histogram,
    rule_duration: Histogram,
    pub(crate) workers: Workers,
}

/// How busy the workers are; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Workers {
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) running_max: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics {
            evaluations: Family::default(),
            failures: Family::default(),
            iterations: Family::default(),
            missed: Family::default(),
            over_limit: Family::default(),
            missing: Family::default(),
            last_duration: Family::default(),
            last_rule_duration_sum: Family::default(),
            last_evaluation: Family::default(),
            interval: Family::default(),
            rules: Family::default(),
            samples: Family::default(),
            samples_refused: Counter::default(),
            duration: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            rule_duration: Histogram::new(exponential_buckets(0.0001, 4.0, 9)),
            workers: Workers::default(),
        };
        let m = &metrics;
        let name = |rest: &str| format!("marketprism_rule_{rest}");
        registry.register(name("evaluations"), "Rules evaluated", m.evaluations.clone());
        registry.register(
            name("evaluation_failures"),
            "Rules whose evaluation failed",
            m.failures.clone(),
        );
        registry.register(
            name("limit_exceeded"),
            "Rules that yielded more than their group's limit",
            m.over_limit.clone(),
        );
        registry.register(
            name("missing_series"),
            "Label sets whose data is missing and that a rule treats specially",
            m.missing.clone(),
        );
        registry.register_with_unit(
            name("evaluation_duration"),
            "How long rules take",
            Unit::Seconds,
            m.rule_duration.clone(),
        );
        registry.register_with_unit(
            name("group_last_rule_duration_sum"),
            "How long the rules of the last tick took together",
            Unit::Seconds,
            m.last_rule_duration_sum.clone(),
        );
        registry.register(
            name("group_iterations"),
            "Ticks of groups that ran",
            m.iterations.clone(),
        );
        registry.register(
            name("group_iterations_missed"),
            "Ticks of groups that were skipped because they came too late",
            m.missed.clone(),
        );
        registry.register_with_unit(
            name("group_last_duration"),
            "How long the last tick took",
            Unit::Seconds,
            m.last_duration.clone(),
        );
        registry.register_with_unit(
            name("group_last_evaluation_timestamp"),
            "The last tick, in seconds since the Unix epoch",
            Unit::Seconds,
            m.last_evaluation.clone(),
        );
        registry.register_with_unit(
            name("group_interval"),
            "How often a group runs",
            Unit::Seconds,
            m.interval.clone(),
        );
        registry.register(name("group_rules"), "Rules in a group", m.rules.clone());
        registry.register(
            name("group_last_evaluation_samples"),
            "Samples that the last tick wrote",
            m.samples.clone(),
        );
        registry.register(
            name("samples_refused"),
            "Samples of rules that the store refused",
            m.samples_refused.clone(),
        );
        registry.register_with_unit(
            name("group_duration"),
            "How long ticks take",
            Unit::Seconds,
            m.duration.clone(),
        );
        let workers = &m.workers;
        registry.register(
            name("batches_running"),
            "Batches of groups that are being evaluated",
            workers.running.clone(),
        );
        registry.register(
            name("batches_waiting"),
            "Batches of groups that wait for a free worker",
            workers.waiting.clone(),
        );
        registry.register(
            name("batches_running_max"),
            "The most batches evaluated at the same time",
            workers.running_max.clone(),
        );
        metrics
    }

    /// Shows a group before its first tick, so that alerts on its counters have a beginning.
    pub(crate) fn introduce(&self, spec: &GroupSpec) {
        let label = GroupLabel::of(spec);
        let counters = [
            &self.evaluations,
            &self.failures,
            &self.iterations,
            &self.missed,
            &self.over_limit,
        ];
        for counter in counters {
            drop(counter.get_or_create(&label));
        }
        self.interval
            .get_or_create(&label)
            .set(spec.interval.as_secs_f64());
        self.rules.get_or_create(&label).set(spec.rules.len() as i64);
    }

    pub(crate) fn ticked(&self, group: &Group, tick: &Tick) {
        let label = GroupLabel::of(group.spec());
        self.evaluations.get_or_create(&label).inc_by(tick.evaluations);
        self.failures.get_or_create(&label).inc_by(tick.failures);
        self.iterations.get_or_create(&label).inc();
        self.over_limit.get_or_create(&label).inc_by(tick.over_limit);
        let missing: usize = group.rules.iter().map(|rule| rule.memory.missing).sum();
        self.missing.get_or_create(&label).set(missing as i64);
        let mut sum = 0.0;
        for time in &tick.rule_times {
            sum += time.as_secs_f64();
            self.rule_duration.observe(time.as_secs_f64());
        }
        self.last_rule_duration_sum.get_or_create(&label).set(sum);
        let seconds = group.evaluation_time.as_secs_f64();
        self.last_duration.get_or_create(&label).set(seconds);
        if let Some(at) = group.last_at {
            self.last_evaluation.get_or_create(&label).set(at.seconds_f64());
        }
        self.samples.get_or_create(&label).set(tick.samples as i64);
        self.samples_refused.inc_by(tick.samples_refused as u64);
        self.duration.observe(seconds);
    }

    pub(crate) fn missed(&self, spec: &GroupSpec, count: u64) {
        self.missed.get_or_create(&GroupLabel::of(spec)).inc_by(count);
    }

    /// Forgets a group that is no longer there.
    pub(crate) fn forget(&self, spec: &GroupSpec) {
        let label = GroupLabel::of(spec);
        self.evaluations.remove(&label);
        self.failures.remove(&label);
        self.iterations.remove(&label);
        self.missed.remove(&label);
        self.over_limit.remove(&label);
        self.missing.remove(&label);
        self.last_rule_duration_sum.remove(&label);
        self.last_duration.remove(&label);
        self.last_evaluation.remove(&label);
        self.interval.remove(&label);
        self.rules.remove(&label);
        self.samples.remove(&label);
    }
}
