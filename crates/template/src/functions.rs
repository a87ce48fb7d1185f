//! The functions that a template may call, and the methods of values.
//!
//! Tables say how many arguments of which kind each takes; the executor checks them before it calls, so
//! the bodies only compute. Deliberately absent: `call`, for there are no function values.

use std::fmt::Write as _;

use marketprism_model::{Labels, Timestamp};

use crate::print::Output;
use crate::value::Value;
use crate::{alertmanager, builtin, prometheus};

/// A text made by one function is at most this long.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;

/// Whose functions a template may call, besides those of Go itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Those of rule files.
    Prometheus,
    /// Those of notification templates.
    Alertmanager,
}

impl Dialect {
    /// Finds a function by name.
    pub(crate) fn function(self, name: &str) -> Option<&'static Function> {
        let own = match self {
            Dialect::Prometheus => prometheus::FUNCTIONS,
            Dialect::Alertmanager => alertmanager::FUNCTIONS,
        };
        own.iter()
            .chain(builtin::FUNCTIONS)
            .find(|function| function.name == name)
    }
}

/// The value of a series as templates see it.
#[derive(Clone, PartialEq, Debug)]
pub enum SampleValue {
    /// A number, with which functions calculate.
    Number(f64),
    /// A native histogram, written out.
    Histogram(String),
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        SampleValue::Number(value)
    }
}

impl SampleValue {
    pub(crate) fn to_value(&self) -> Value {
        match self {
            SampleValue::Number(value) => Value::Float(*value),
            SampleValue::Histogram(text) => Value::string(text),
        }
    }
}

/// One series and its value, as `query` gives it to a template.
#[derive(Clone, PartialEq, Debug)]
pub struct QuerySample {
    /// The series.
    pub labels: Labels,
    /// Its value.
    pub value: SampleValue,
}

/// Answers the expressions that a template asks.
pub trait QuerySource {
    /// Evaluates an expression at a moment; the error is shown to the user.
    fn query(&self, expression: &str, at: Timestamp) -> Result<Vec<QuerySample>, String>;
}

/// What a template may know besides its data.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The moment that `now`, `since` and `query` mean.
    pub now: Timestamp,
    /// The address under which users reach the program, without a final slash.
    pub external_url: &'a str,
    /// Who answers `query`; it fails without.
    pub queries: Option<&'a dyn QuerySource>,
}

/// Why a function gave nothing.
pub(crate) enum Fault {
    /// The reason, shown to the user.
    Reason(String),
    /// The text became too long.
    TooLong,
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Reason(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Fault::Reason(reason.to_owned())
    }
}

impl From<std::fmt::Error> for Fault {
    fn from(_: std::fmt::Error) -> Self {
        Fault::TooLong
    }
}

pub(crate) type Outcome = Result<Value, Fault>;

/// Which values an argument may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Any,
    String,
    Strings,
    Samples,
    Sample,
    Pairs,
    Time,
    Duration,
}

pub(crate) const SAMPLES_TYPE: &str = "template.queryResult";
pub(crate) const SAMPLE_TYPE: &str = "*template.sample";
pub(crate) const STRINGS_TYPE: &str = "[]string";

impl Kind {
    pub(crate) fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Kind::Any, _)
            | (Kind::String, Value::String(_))
            | (Kind::Pairs, Value::Pairs(_))
            | (Kind::Time, Value::Time(_))
            | (Kind::Duration, Value::Duration(_)) => true,
            (Kind::Strings, Value::List(list)) => list.type_name == STRINGS_TYPE,
            (Kind::Samples, Value::List(list)) => list.type_name == SAMPLES_TYPE,
            (Kind::Sample, Value::Record(record)) => record.type_name == SAMPLE_TYPE,
            _ => false,
        }
    }

    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Kind::Any => "interface {}",
            Kind::String => "string",
            Kind::Strings => STRINGS_TYPE,
            Kind::Samples => SAMPLES_TYPE,
            Kind::Sample => SAMPLE_TYPE,
            Kind::Pairs => "template.KV",
            Kind::Time => "time.Time",
            Kind::Duration => "time.Duration",
        }
    }
}

/// What happens when a function is called.
pub(crate) enum Body {
    /// `and`: evaluates its arguments until one is false.
    And,
    /// `or`: evaluates its arguments until one is true.
    Or,
    /// Computes from arguments that have been checked.
    Plain(fn(&Environment<'_>, &[Value]) -> Outcome),
}

/// A function or, with the receiver as its first argument, a method.
pub(crate) struct Function {
    pub name: &'static str,
    pub arguments: &'static [Kind],
    /// The kind of any number of further arguments.
    pub rest: Option<Kind>,
    pub body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    pub(crate) const fn new(
        name: &'static str,
        arguments: &'static [Kind],
        body: fn(&Environment<'_>, &[Value]) -> Outcome,
    ) -> Self {
        Function {
            name,
            arguments,
            rest: None,
            body: Body::Plain(body),
        }
    }

    pub(crate) const fn variadic(
        name: &'static str,
        arguments: &'static [Kind],
        rest: Kind,
        body: fn(&Environment<'_>, &[Value]) -> Outcome,
    ) -> Self {
        Function {
            name,
            arguments,
            rest: Some(rest),
            body: Body::Plain(body),
        }
    }

    /// Gives the kind of the `position`-th argument.
    pub(crate) fn kind(&self, position: usize) -> Kind {
        self.arguments
            .get(position)
            .copied()
            .or(self.rest)
            .unwrap_or(Kind::Any)
    }
}

/// Finds a method of a value.
pub(crate) fn method(of: &Value, name: &str) -> Option<&'static Function> {
    let table = match of {
        Value::Pairs(_) => alertmanager::PAIRS_METHODS,
        Value::Time(_) => crate::moment::TIME_METHODS,
        Value::Duration(_) => crate::moment::DURATION_METHODS,
        _ => return None,
    };
    table.iter().find(|method| method.name == name)
}

/// Gives a text argument; the kind was checked before the call.
pub(crate) fn text(arguments: &[Value], position: usize) -> &str {
    match arguments.get(position) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

/// Replaces whatever matches, with Go's `$1`, `${name}` and `$$` in the replacement.
pub(crate) fn replace_all(pattern: &str, replacement: &str, text: &str) -> Outcome {
    let regex = regex(pattern)?;
    let mut out = Output::new(TEXT_BYTES_MAX);
    let mut copied = 0;
    for captures in regex.captures_iter(text) {
        let Some(found) = captures.get_match() else {
            continue;
        };
        out.write_str(&text[copied..found.start()])?;
        expand(&mut out, &regex, &captures, replacement, text)?;
        copied = found.end();
    }
    out.write_str(&text[copied..])?;
    Ok(out.into_text().into())
}

type Regex = regex_automata::meta::Regex;
type Captures = regex_automata::util::captures::Captures;

/// A compiled expression may take this much memory; what needs more is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;

pub(crate) fn regex(pattern: &str) -> Result<Regex, Fault> {
    Regex::builder()
        .configure(Regex::config().nfa_size_limit(Some(REGEX_BYTES_MAX)))
        .build(pattern)
        .map_err(|error| {
            let reason = match error.syntax_error() {
                Some(syntax) => syntax.to_string(),
                None => error.to_string(),
            };
            Fault::Reason(format!("bad regular expression {pattern:?}: {reason}"))
        })
}

fn expand(
    out: &mut Output,
    regex: &Regex,
    captures: &Captures,
    replacement: &str,
    text: &str,
) -> std::fmt::Result {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.write_str(&rest[..at])?;
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.write_str("$")?;
            rest = tail;
            continue;
        }
        let Some((name, tail)) = group_name(after) else {
            out.write_str("$")?;
            rest = after;
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) if name.bytes().all(|b| b.is_ascii_digit()) => captures.get_group(number),
            _ => regex
                .group_info()
                .to_index(regex_automata::PatternID::ZERO, name)
                .and_then(|number| captures.get_group(number)),
        };
        if let Some(span) = group {
            out.write_str(&text[span.range()])?;
        }
        rest = tail;
    }
    out.write_str(rest)
}

/// Takes `name` or `{name}` from the front; the longest run of letters, digits and underscores.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (inside, is_braced) = match text.strip_prefix('{') {
        Some(inside) => (inside, true),
        None => (text, false),
    };
    let length: usize = inside
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .map(char::len_utf8)
        .sum();
    let (name, tail) = inside.split_at(length);
    if name.is_empty() {
        return None;
    }
    match is_braced {
        true => tail.strip_prefix('}').map(|tail| (name, tail)),
        false => Some((name, tail)),
    }
}
