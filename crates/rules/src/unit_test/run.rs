//! Runs the tests of one file.
//!
//! Each test has series, groups and a lifecycle of its own; nothing of one is seen by the next.
//! Deliberately absent: reading the file, and how a report is shown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{AlertState, Labels, Timestamp, duration};
use marketprism_promql::{Engine, EngineConfig, Uninterrupted, Value};

use crate::backtest::clock::SimulatedClock;
use crate::backtest::memory::{Memory, Point};
use crate::evaluate::{Installation, Ports, evaluate_alone};
use crate::file::parse_file;
use crate::group::Group;
use crate::set::{GroupDefaults, RuleSet, read};
use crate::unit_test::expected::{SeenAlert, SeenSample};
use crate::unit_test::file::{AlertTest, ExprTest, TestCase, TestFile, parse};
use crate::unit_test::life::Life;
use crate::unit_test::notation;

/// What is told while tests run; every method may stay as it is.
pub trait Watch {
    /// Says whether a test of this name is to run; the name is empty when it has none.
    fn is_chosen(&self, _name: &str) -> bool {
        true
    }

    /// A file was read; so many of its tests will run.
    fn file_begins(&mut self, _tests: usize) {}

    /// A test ended.
    fn test_ends(&mut self, _name: &str) {}
}

/// What a file's tests came to.
#[derive(Debug, Default)]
pub struct FileReport {
    /// The file, as shown to the user.
    pub file: String,
    /// Why its tests did not run at all.
    pub faults: Vec<String>,
    /// What is suspicious but runs.
    pub warnings: Vec<String>,
    /// The tests that ran.
    pub cases: Vec<CaseReport>,
}

impl FileReport {
    /// Says whether everything is as expected.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.cases.iter().all(|case| case.failures.is_empty())
    }
}

/// What one test came to.
#[derive(Debug)]
pub struct CaseReport {
    /// Its name; `unnamed#N` when it has none.
    pub name: String,
    /// The line where it begins.
    pub line: usize,
    /// What is not as expected.
    pub failures: Vec<Failure>,
}

/// One thing that is not as expected.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The input or the rules cannot be read.
    Input(String),
    /// A rule could not be evaluated; the test ends there.
    Evaluation {
        /// The rule.
        rule: String,
        /// The moment, from the start.
        at: Duration,
        /// Why.
        error: String,
    },
    /// Other alerts fire than expected.
    Alerts {
        /// Their name.
        alert_name: String,
        /// The moment, from the start.
        at: Duration,
        /// What was expected, sorted.
        expected: Vec<SeenAlert>,
        /// What fires, sorted.
        found: Vec<SeenAlert>,
    },
    /// An expression yields something else.
    Samples {
        /// The expression.
        expr: String,
        /// Its line.
        line: usize,
        /// The moment, from the start.
        at: Duration,
        /// What was expected, sorted by labels.
        expected: Vec<SeenSample>,
        /// What it yields, sorted by labels.
        found: Vec<SeenSample>,
    },
    /// An expression, or what is expected of it, has a fault.
    Expression {
        /// The expression.
        expr: String,
        /// Its line.
        line: usize,
        /// The moment, from the start.
        at: Duration,
        /// Why.
        error: String,
    },
}

impl Failure {
    /// Says in one line what is wrong.
    pub fn headline(&self) -> String {
        let when = |at: &Duration| duration::format(*at);
        match self {
            Failure::Input(reason) => reason.clone(),
            Failure::Evaluation { rule, at, error } => format!("rule {rule:?} at {}: {error}", when(at)),
            Failure::Alerts { alert_name, at, .. } => format!("alert {alert_name:?} at {}", when(at)),
            Failure::Samples { expr, at, .. } => format!("expression {expr:?} at {}", when(at)),
            Failure::Expression { expr, at, error, .. } => {
                format!("expression {expr:?} at {}: {error}", when(at))
            }
        }
    }

    /// Gives expected and found as lines to be compared; `None` when the headline says it all.
    pub fn sides(&self) -> Option<(Vec<String>, Vec<String>)> {
        match self {
            Failure::Alerts { expected, found, .. } => {
                let lines = |alerts: &[SeenAlert]| alerts.iter().flat_map(SeenAlert::lines).collect();
                Some((lines(expected), lines(found)))
            }
            Failure::Samples { expected, found, .. } => {
                let lines = |samples: &[SeenSample]| samples.iter().map(ToString::to_string).collect();
                Some((lines(expected), lines(found)))
            }
            _ => None,
        }
    }
}

/// Runs the tests of a file.
pub fn run_file(path: &Path, watch: &mut dyn Watch) -> FileReport {
    let name = path.display().to_string();
    let mut report = FileReport {
        file: name.clone(),
        ..FileReport::default()
    };
    let parsed = match read(path) {
        Ok(bytes) => parse(&name, &bytes).map_err(|errors| errors.iter().map(ToString::to_string).collect()),
        Err(reason) => Err(vec![format!("{name}: {reason}")]),
    };
    let file: TestFile = match parsed {
        Ok(file) => file,
        Err(faults) => {
            report.faults = faults;
            return report;
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let paths = match rule_files(&file, folder, &mut report.warnings) {
        Ok(paths) => paths,
        Err(fault) => {
            report.faults.push(fault);
            return report;
        }
    };
    let name_of = |test: &TestCase| {
        if test.is_named {
            test.name.clone()
        } else {
            String::new()
        }
    };
    let chosen: Vec<&TestCase> = file
        .tests
        .iter()
        .filter(|test| watch.is_chosen(&name_of(test)))
        .collect();
    watch.file_begins(chosen.len());
    let mut rules = Rules {
        paths,
        known: HashMap::new(),
    };
    for test in chosen {
        let failures = match rules.of(test.interval) {
            Ok(set) => Run::new(&file, test, &set).run(),
            Err(errors) => errors.into_iter().map(Failure::Input).collect(),
        };
        watch.test_ends(&test.name);
        report.cases.push(CaseReport {
            name: test.name.clone(),
            line: test.line,
            failures,
        });
    }
    report
}

/// Finds the rule files. A pattern that names none is told and changes nothing, as in promtool.
fn rule_files(file: &TestFile, folder: &Path, warnings: &mut Vec<String>) -> Result<Vec<PathBuf>, String> {
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in &file.rule_files {
        let escaped = PathBuf::from(glob::Pattern::escape(&folder.to_string_lossy()));
        let full = if Path::new(pattern).is_absolute() {
            PathBuf::from(pattern)
        } else {
            escaped.join(pattern)
        };
        let options = glob::MatchOptions {
            require_literal_separator: true,
            ..glob::MatchOptions::new()
        };
        let matches = glob::glob_with(&full.to_string_lossy(), options)
            .map_err(|error| format!("rule_files: {pattern:?} is no pattern: {error}"))?;
        let before = found.len();
        let mut count = 0;
        for path in matches.take(crate::set::FILES_MAX).flatten() {
            count += 1;
            if !found.contains(&path) {
                found.push(path);
            }
        }
        found[before..].sort();
        if count == 0 {
            warnings.push(format!("rule_files: no file matches {pattern:?}"));
        }
    }
    Ok(found)
}

/// The rules of the file, which depend on a test's interval alone.
struct Rules {
    paths: Vec<PathBuf>,
    known: HashMap<Duration, Result<Arc<RuleSet>, Vec<String>>>,
}

impl Rules {
    fn of(&mut self, interval: Duration) -> Result<Arc<RuleSet>, Vec<String>> {
        let paths = &self.paths;
        let known = self.known.entry(interval);
        known.or_insert_with(|| rules_of(paths, interval)).clone()
    }
}

fn rules_of(paths: &[PathBuf], interval: Duration) -> Result<Arc<RuleSet>, Vec<String>> {
    let defaults = GroupDefaults {
        interval,
        ..GroupDefaults::default()
    };
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => match parse_file(&name, &text, &defaults) {
                Ok(file) => groups.extend(file.groups),
                Err(faults) => errors.extend(faults.iter().map(ToString::to_string)),
            },
            Err(reason) => errors.push(format!("{name}: {reason}")),
        }
    }
    if errors.is_empty() {
        Ok(Arc::new(RuleSet::new(groups, true)))
    } else {
        Err(errors)
    }
}

/// One test while it runs.
struct Run<'a> {
    file: &'a TestFile,
    test: &'a TestCase,
    engine: Engine,
    memory: Memory,
    clock: SimulatedClock,
    life: Life,
    groups: Vec<Group>,
    installation: Installation,
    failures: Vec<Failure>,
}

impl<'a> Run<'a> {
    fn new(file: &'a TestFile, test: &'a TestCase, set: &RuleSet) -> Self {
        let engine = Engine::new(EngineConfig {
            subquery_step: file.evaluation_interval,
            ..EngineConfig::default()
        });
        let mut groups: Vec<Group> = set
            .groups()
            .iter()
            .map(|spec| Group::new(spec, &engine))
            .collect();
        let place = |group: &Group| {
            let name = &*group.spec().name;
            file.group_order
                .iter()
                .position(|known| known == name)
                .unwrap_or(0)
        };
        groups.sort_by_key(place);
        Run {
            file,
            test,
            engine,
            memory: Memory::default(),
            clock: SimulatedClock::at(test.start),
            life: Life::default(),
            groups,
            installation: Installation {
                external_labels: Labels::from_pairs(&test.external_labels),
                external_url: test.external_url.clone(),
            },
            failures: Vec::new(),
        }
    }

    fn run(mut self) -> Vec<Failure> {
        if let Err(reason) = self.load() {
            return vec![Failure::Input(reason)];
        }
        let mut asked: BTreeMap<Duration, Vec<&AlertTest>> = BTreeMap::new();
        for alert in &self.test.alerts {
            asked.entry(alert.eval_time).or_default().push(alert);
        }
        let of_alerts = self.test.alerts.iter().map(|test| test.eval_time);
        let of_expressions = self.test.expressions.iter().map(|test| test.eval_time);
        let length = of_alerts.chain(of_expressions).max().unwrap_or_default();
        let step = self.file.evaluation_interval;
        let mut passed = Duration::ZERO;
        while passed <= length {
            if !self.tick(self.test.start + passed, passed) {
                return self.failures;
            }
            for (at, tests) in asked.range(passed..passed.saturating_add(step)) {
                tests.iter().for_each(|test| self.alerts(*at, test));
            }
            passed = passed.saturating_add(step);
        }
        for test in &self.test.expressions {
            self.expression(test);
        }
        self.failures
    }

    /// Loads the input; of a series that is written twice the last one counts, as in promtool.
    fn load(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        let step_ms = i64::try_from(self.test.interval.as_millis()).unwrap_or(i64::MAX);
        for (series, values) in self.test.input.iter().rev() {
            let (labels, points) = notation::series(&series.text, &values.text).map_err(|reason| {
                format!("line {}: input series {:?}: {reason}", series.line, series.text)
            })?;
            if !seen.insert(labels.clone()) {
                continue;
            }
            let mut at = self.test.start.millis();
            let mut timed: Vec<(i64, Point)> = Vec::with_capacity(points.len());
            for point in points {
                timed.extend(point.map(|point| (at, point)));
                at = at.saturating_add(step_ms);
            }
            self.memory.load(&labels, timed);
        }
        Ok(())
    }

    /// Evaluates all groups at a moment; says whether all went well.
    fn tick(&mut self, at: Timestamp, passed: Duration) -> bool {
        self.clock.move_to(at);
        self.memory.show_until(at);
        let ports = Ports {
            engine: &self.engine,
            source: &self.memory,
            sink: &self.memory,
            lifecycle: &self.life,
            clock: &self.clock,
            interrupt: &Uninterrupted,
            installation: &self.installation,
        };
        let mut is_good = true;
        for group in &mut self.groups {
            let tick = evaluate_alone(group, at, &ports);
            if tick.failures == 0 {
                continue;
            }
            for rule in group.snapshot().rules {
                let Some(error) = rule.last_error else { continue };
                is_good = false;
                self.failures.push(Failure::Evaluation {
                    rule: rule.rule.name.to_string(),
                    at: passed,
                    error: error.to_string(),
                });
            }
        }
        is_good
    }

    fn alerts(&mut self, at: Duration, test: &AlertTest) {
        let mut found: Vec<SeenAlert> = Vec::new();
        for rule in self.groups.iter().flat_map(|group| group.snapshot().rules) {
            if *rule.rule.name != *test.alert_name {
                continue;
            }
            let Some(alerting) = rule.rule.alerting() else {
                continue;
            };
            let firing = rule
                .alerts
                .iter()
                .filter(|alert| alert.state == AlertState::Firing);
            found.extend(firing.map(|alert| SeenAlert::seen(alert, alerting)));
        }
        let expected = test.expected.iter();
        let mut expected: Vec<SeenAlert> = expected
            .map(|(labels, annotations)| SeenAlert::expected(&test.alert_name, labels, annotations))
            .collect();
        found.sort();
        expected.sort();
        if found != expected {
            self.failures.push(Failure::Alerts {
                alert_name: test.alert_name.clone(),
                at,
                expected,
                found,
            });
        }
    }

    fn expression(&mut self, test: &ExprTest) {
        let failure = |error: String| Failure::Expression {
            expr: test.expr.text.clone(),
            line: test.expr.line,
            at: test.eval_time,
            error,
        };
        let found = match self.ask(&test.expr.text, self.test.start + test.eval_time) {
            Ok(found) => found,
            Err(error) => return self.failures.push(failure(error)),
        };
        let expected: Result<Vec<SeenSample>, String> =
            test.expected.iter().map(SeenSample::expected).collect();
        let expected = match expected {
            Ok(expected) => expected,
            Err(error) => return self.failures.push(failure(error)),
        };
        let (mut expected, mut found) = (expected, found);
        expected.sort_by(|a, b| a.labels.cmp(&b.labels));
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        let is_same = |(a, b): (&SeenSample, &SeenSample)| a.is_same(b, self.file.is_fuzzy);
        if expected.len() != found.len() || !expected.iter().zip(&found).all(is_same) {
            self.failures.push(Failure::Samples {
                expr: test.expr.text.clone(),
                line: test.expr.line,
                at: test.eval_time,
                expected,
                found,
            });
        }
    }

    fn ask(&self, expr: &str, at: Timestamp) -> Result<Vec<SeenSample>, String> {
        let parsed = marketprism_promql::parse(expr).map_err(|error| error.to_string())?;
        let prepared = self.engine.prepare(&parsed);
        let answer = self.engine.instant(&self.memory, &prepared, at, &Uninterrupted);
        match answer.map_err(|error| error.to_string())?.value {
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|sample| SeenSample {
                    labels: sample.labels,
                    value: sample.value,
                    histogram: sample.histogram,
                })
                .collect()),
            Value::Scalar(value) => Ok(vec![SeenSample {
                labels: Labels::empty(),
                value,
                histogram: None,
            }]),
            _ => Err("the result is no vector or scalar".to_owned()),
        }
    }
}
