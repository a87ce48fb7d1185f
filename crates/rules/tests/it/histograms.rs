//! Rules over native histograms: recorded whole, and told of as text.

use std::time::Duration;

use marketprism_model::{Labels, Verdict};
use marketprism_promql::memory::Memory;
use marketprism_promql::notation::parse_series;
use marketprism_promql::{Engine, EngineConfig, Uninterrupted, histogram_text};
use marketprism_rules::{Group, Installation, Ports, evaluate_alone};
use marketprism_testkit::{ManualClock, MemorySink};

use crate::lifecycle::CountingLifecycle;
use crate::world::{minute, rule_set};

#[test]
fn a_histogram_is_recorded_whole_and_told_as_text() {
    let rules = "groups:\n- name: g\n  rules:\n  - {record: total, expr: sum(m)}\n  - {record: counted, expr: histogram_count(m)}\n  \
                 - alert: A\n    expr: m\n    annotations: {summary: '{{ $value }}', other: '{{ range query \"m\" }}{{ .Value }}{{ end }}'}\n  \
                 - {alert: B, expr: m, levels: [{level: high, when: '< 5'}]}\n";
    let memory = Memory::new();
    let series = parse_series("m{a=\"1\"} {{schema:0 count:3 sum:4 buckets:[1 2]}}").expect("it is a series");
    memory.load(&series, minute(0), Duration::from_secs(60));
    let engine = Engine::new(EngineConfig::default());
    let (sink, lifecycle) = (MemorySink::new(), CountingLifecycle::default());
    let mut group = Group::new(&rule_set(rules).groups()[0], &engine);
    let ports = Ports {
        engine: &engine,
        source: &memory,
        sink: &sink,
        lifecycle: &lifecycle,
        clock: &ManualClock::new(minute(0)),
        interrupt: &Uninterrupted,
        installation: &Installation {
            external_labels: Labels::empty(),
            external_url: String::new(),
        },
    };
    let tick = evaluate_alone(&mut group, minute(0), &ports);
    assert_eq!(
        (tick.failures, tick.samples),
        (0, 4),
        "two records, and the alert's two series"
    );
    let recorded = sink.histograms_of("total");
    assert_eq!(recorded.len(), 1);
    let text = "{count:3, sum:4, (0.5,1]:1, (1,2]:2}";
    assert_eq!(histogram_text(&recorded[0].1), text);
    assert_eq!(sink.value_of("counted{a=\"1\"}"), Some(3.0));
    let observed = lifecycle.inner.lock().expect("no test panicked").observed.clone();
    assert_eq!(observed["A"][0].annotations.get("summary"), Some(text));
    assert_eq!(observed["A"][0].annotations.get("other"), Some(text));
    assert_eq!(observed["A"][0].verdicts, [Verdict::Holds]);
    assert_eq!(observed["B"], [], "a histogram is not less than five");
}
