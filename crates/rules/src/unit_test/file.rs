//! Reads a file of unit tests, in the format of `promtool test rules`.
//!
//! Strict as promtool is: an unknown key is an error. Deliberately absent: running anything.
//!
//! Source: the documentation of Prometheus, "Unit testing for rules".

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use marketprism_model::{Timestamp, duration};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use crate::error::RuleFileError;
use crate::set::of_file;
use crate::yaml;

type Text = Spanned<String>;
/// Names and texts; a text that is not written is empty.
pub type TextMap = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule_files: Option<Vec<String>>,
    evaluation_interval: Option<Text>,
    #[serde(default)]
    group_eval_order: Option<Vec<String>>,
    #[serde(default)]
    tests: Option<Vec<Spanned<RawTest>>>,
    #[serde(default)]
    fuzzy_compare: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    interval: Option<Text>,
    input_series: Option<Vec<RawSeries>>,
    alert_rule_test: Option<Vec<RawAlertTest>>,
    promql_expr_test: Option<Vec<RawExprTest>>,
    external_labels: Option<BTreeMap<String, Option<String>>>,
    external_url: Option<String>,
    name: Option<String>,
    start_timestamp: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    series: Option<Text>,
    values: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlertTest {
    eval_time: Option<Text>,
    alertname: Option<String>,
    exp_alerts: Option<Vec<RawAlert>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlert {
    exp_labels: Option<BTreeMap<String, Option<String>>>,
    exp_annotations: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExprTest {
    expr: Option<Text>,
    eval_time: Option<Text>,
    exp_samples: Option<Vec<RawSample>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    labels: Option<Text>,
    value: Option<Number>,
    histogram: Option<Text>,
}

/// A number that is written as one: what stands in quotes is a text.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Plain;
        impl Visitor<'_> for Plain {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }
        }
        deserializer.deserialize_any(Plain)
    }
}

/// A file of tests, read.
#[derive(Debug)]
pub struct TestFile {
    /// Patterns of the rule files, relative to this file's folder.
    pub rule_files: Vec<String>,
    /// How often all groups are evaluated.
    pub evaluation_interval: Duration,
    /// Groups in the order in which they are evaluated; those not named come first.
    pub group_order: Vec<String>,
    /// Whether the last bit of a number does not count.
    pub is_fuzzy: bool,
    /// The tests.
    pub tests: Vec<TestCase>,
}

/// A text, and the line where it stands.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    /// The text.
    pub text: String,
    /// Its line, from 1; 0 when it is not written.
    pub line: usize,
}

/// One test: input, and what is expected of it.
#[derive(Debug)]
pub struct TestCase {
    /// Its name; `unnamed#N` when it has none.
    pub name: String,
    /// Whether the name was written.
    pub is_named: bool,
    /// The line where it begins.
    pub line: usize,
    /// The distance of the input's values.
    pub interval: Duration,
    /// Where its time begins.
    pub start: Timestamp,
    /// Series as they are written, and their values.
    pub input: Vec<(Placed, Placed)>,
    /// What alerts are expected.
    pub alerts: Vec<AlertTest>,
    /// What expressions are expected to yield.
    pub expressions: Vec<ExprTest>,
    /// Labels that templates see.
    pub external_labels: TextMap,
    /// The address that templates see.
    pub external_url: String,
}

/// The alerts of one name that are expected to fire at one moment.
#[derive(Debug)]
pub struct AlertTest {
    /// The moment, from the start.
    pub eval_time: Duration,
    /// Their name.
    pub alert_name: String,
    /// Labels, without the name, and annotations.
    pub expected: Vec<(TextMap, TextMap)>,
}

/// What an expression is expected to yield at one moment.
#[derive(Debug)]
pub struct ExprTest {
    /// The expression.
    pub expr: Placed,
    /// The moment, from the start.
    pub eval_time: Duration,
    /// The samples.
    pub expected: Vec<ExpectedSample>,
}

/// A sample as it is written.
#[derive(Debug)]
pub struct ExpectedSample {
    /// Its labels, as `name{label="value"}`.
    pub labels: Placed,
    /// Its number.
    pub value: f64,
    /// Its histogram in place of a number.
    pub histogram: Option<Placed>,
}

/// A file may have this many tests.
const TESTS_MAX: usize = 100_000;

/// Reads a file of tests; all faults are told at once. Never panics, whatever the bytes.
pub fn parse(name: &str, bytes: &[u8]) -> Result<TestFile, Vec<RuleFileError>> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(vec![of_file(name, "file is not UTF-8".to_owned())]);
    };
    let raw: Option<RawFile> = yaml::read(name, text).map_err(|error| vec![error])?;
    let mut reader = Reader {
        file: name,
        errors: Vec::new(),
    };
    let file = reader.file(raw);
    if reader.errors.is_empty() {
        Ok(file)
    } else {
        Err(reader.errors)
    }
}

struct Reader<'a> {
    file: &'a str,
    errors: Vec<RuleFileError>,
}

impl Reader<'_> {
    fn fault(&mut self, at: Option<Location>, reason: impl Into<String>) {
        let mut error = of_file(self.file, reason.into());
        if let Some(at) = at {
            (error.line, error.column) = (at.line() as usize, at.column() as usize);
        }
        self.errors.push(error);
    }

    fn duration(&mut self, text: Option<&Text>) -> Duration {
        let Some(text) = text else {
            return Duration::ZERO;
        };
        duration::parse(&text.value).unwrap_or_else(|error| {
            self.fault(Some(text.referenced), error.to_string());
            Duration::ZERO
        })
    }

    fn file(&mut self, raw: Option<RawFile>) -> TestFile {
        let raw = raw.unwrap_or(RawFile {
            rule_files: None,
            evaluation_interval: None,
            group_eval_order: None,
            tests: None,
            fuzzy_compare: None,
        });
        let interval = self.duration(raw.evaluation_interval.as_ref());
        let evaluation_interval = if interval.is_zero() {
            Duration::from_secs(60)
        } else {
            interval
        };
        let group_order = raw.group_eval_order.unwrap_or_default();
        for (place, group) in group_order.iter().enumerate() {
            if group_order[..place].contains(group) {
                self.fault(None, format!("group name repeated in evaluation order: {group}"));
            }
        }
        let tests = raw.tests.unwrap_or_default();
        if tests.len() > TESTS_MAX {
            self.fault(None, format!("{} tests, more than {TESTS_MAX}", tests.len()));
        }
        let tests = tests.into_iter().take(TESTS_MAX).enumerate();
        let tests = tests.map(|(place, test)| self.test(place, test, evaluation_interval));
        TestFile {
            tests: tests.collect(),
            rule_files: raw.rule_files.unwrap_or_default(),
            evaluation_interval,
            group_order,
            is_fuzzy: raw.fuzzy_compare.unwrap_or_default(),
        }
    }

    fn test(&mut self, place: usize, raw: Spanned<RawTest>, evaluation_interval: Duration) -> TestCase {
        let at = raw.referenced;
        let raw = raw.value;
        let interval = self.duration(raw.interval.as_ref());
        let name = raw.name.unwrap_or_default();
        let start = match raw.start_timestamp {
            None => Timestamp::from_millis(0),
            Some(text) => moment(text.value.trim()).unwrap_or_else(|| {
                let reason = format!(
                    "start_timestamp {:?} is neither seconds since 1970 nor a time such as 2021-01-01T00:00:00Z",
                    text.value
                );
                self.fault(Some(text.referenced), reason);
                Timestamp::from_millis(0)
            }),
        };
        let input = raw.input_series.unwrap_or_default().into_iter();
        let alerts = raw.alert_rule_test.unwrap_or_default().into_iter();
        let expressions = raw.promql_expr_test.unwrap_or_default().into_iter();
        TestCase {
            is_named: !name.is_empty(),
            name: if name.is_empty() {
                format!("unnamed#{place}")
            } else {
                name
            },
            line: at.line() as usize,
            interval: if interval.is_zero() {
                evaluation_interval
            } else {
                interval
            },
            start,
            input: input
                .map(|series| (placed(series.series), placed(series.values)))
                .collect(),
            alerts: alerts.map(|test| self.alert_test(test, at)).collect(),
            expressions: expressions.map(|test| self.expr_test(test)).collect(),
            external_labels: texts(raw.external_labels),
            external_url: raw.external_url.unwrap_or_default(),
        }
    }

    fn alert_test(&mut self, raw: RawAlertTest, at: Location) -> AlertTest {
        let eval_time = self.duration(raw.eval_time.as_ref());
        let alert_name = raw.alertname.unwrap_or_default();
        if alert_name.is_empty() {
            let at = raw.eval_time.as_ref().map_or(at, |text| text.referenced);
            let when = duration::format(eval_time);
            let reason = format!("an item under alert_rule_test misses its alertname at eval_time {when}");
            self.fault(Some(at), reason);
        }
        let expected = raw.exp_alerts.unwrap_or_default().into_iter();
        AlertTest {
            eval_time,
            alert_name,
            expected: expected
                .map(|alert| (texts(alert.exp_labels), texts(alert.exp_annotations)))
                .collect(),
        }
    }

    fn expr_test(&mut self, raw: RawExprTest) -> ExprTest {
        ExprTest {
            expr: placed(raw.expr),
            eval_time: self.duration(raw.eval_time.as_ref()),
            expected: raw
                .exp_samples
                .unwrap_or_default()
                .into_iter()
                .map(|sample| ExpectedSample {
                    labels: placed(sample.labels),
                    value: sample.value.map_or(0.0, |number| number.0),
                    histogram: sample
                        .histogram
                        .filter(|text| !text.value.is_empty())
                        .map(|text| placed(Some(text))),
                })
                .collect(),
        }
    }
}

fn placed(text: Option<Text>) -> Placed {
    text.map_or_else(Placed::default, |text| Placed {
        line: text.referenced.line() as usize,
        text: text.value,
    })
}

fn texts(raw: Option<BTreeMap<String, Option<String>>>) -> TextMap {
    let pairs = raw.unwrap_or_default().into_iter();
    pairs
        .map(|(name, text)| (name, text.unwrap_or_default()))
        .collect()
}

/// Reads seconds since 1970, or a time of RFC 3339.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < 1e11).then(|| Timestamp::from_seconds_f64(seconds));
    }
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|time| Timestamp::from_millis(time.as_millisecond()))
}
