//! What a template works on: Go's values, as far as templates meet them.
//!
//! Values are cheap to clone: whatever is large stands behind an `Arc`. Composite values know how deep
//! they nest, so that no template can build one that overflows the stack when it is printed or dropped.
//! Deliberately absent: pointers, channels, unsigned and complex numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{ZonedDateTime, tz::TimeZone};
use marketprism_model::{Labels, Timestamp};

/// Composite values nest at most this deep when a template builds them.
pub(crate) const DEPTH_MAX: u32 = 32;

/// A value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing; prints `<no value>` by itself and `<nil>` inside something.
    #[default]
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `float64`
    Float(f64),
    /// `string`
    String(Arc<str>),
    /// A slice.
    List(List),
    /// `map[string]interface {}`
    Map(Map),
    /// `map[string]string`; a missing key reads as the empty string.
    Labels(Labels),
    /// Alertmanager's `template.KV`: labels with the methods `SortedPairs`, `Names`, `Values`, `Remove`.
    Pairs(Labels),
    /// A struct.
    Record(Record),
    /// `time.Time`
    Time(Arc<ZonedDateTime>),
    /// `time.Duration`, in nanoseconds.
    Duration(i64),
}

/// A slice: items in order, and views that read like methods, as `.Alerts.Firing` does.
#[derive(Clone, Debug)]
pub struct List {
    pub(crate) type_name: &'static str,
    pub(crate) items: Arc<[Value]>,
    pub(crate) views: Arc<[(&'static str, Value)]>,
    depth: u32,
}

/// A map from strings to anything.
#[derive(Clone, Debug)]
pub struct Map {
    pub(crate) entries: Arc<BTreeMap<Arc<str>, Value>>,
    depth: u32,
}

/// A struct: named fields in order.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) type_name: &'static str,
    pub(crate) fields: Arc<[(&'static str, Value)]>,
    depth: u32,
}

impl Record {
    /// Gives a field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }
}

impl Value {
    /// Makes a string.
    pub fn string(text: impl AsRef<str>) -> Self {
        Value::String(Arc::from(text.as_ref()))
    }

    /// Makes a slice of anything.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Value::list_with("[]interface {}", items, [])
    }

    /// Makes a slice of strings.
    pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Self {
        Value::list_with("[]string", items.into_iter().map(Value::string), [])
    }

    /// Makes a slice that has a type name, shown in errors, and named views of it.
    pub fn list_with(
        type_name: &'static str,
        items: impl IntoIterator<Item = Value>,
        views: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Self {
        let items: Arc<[Value]> = items.into_iter().collect();
        let views: Arc<[_]> = views.into_iter().collect();
        let depth = 1 + deepest(items.iter().chain(views.iter().map(|(_, value)| value)));
        Value::List(List {
            type_name,
            items,
            views,
            depth,
        })
    }

    /// Makes a map.
    pub fn map<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let entries: BTreeMap<Arc<str>, Value> = entries
            .into_iter()
            .map(|(key, value)| (Arc::from(key.as_ref()), value))
            .collect();
        let depth = 1 + deepest(entries.values());
        Value::Map(Map {
            entries: Arc::new(entries),
            depth,
        })
    }

    /// Makes a struct that has a type name, shown in errors.
    pub fn record(type_name: &'static str, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let fields: Arc<[_]> = fields.into_iter().collect();
        let depth = 1 + deepest(fields.iter().map(|(_, value)| value));
        Value::Record(Record {
            type_name,
            fields,
            depth,
        })
    }

    /// Makes a time in UTC; a moment that no calendar can name becomes the nearest it can.
    pub fn time(at: Timestamp) -> Self {
        Value::time_in(at, TimeZone::UTC)
    }

    pub(crate) fn time_in(at: Timestamp, zone: TimeZone) -> Self {
        let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(if at.millis() < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        Value::Time(Arc::new(at.to_zoned_datetime(zone)))
    }

    /// Says whether a condition takes the value for true: not nil, not zero, not empty.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(is_true) => *is_true,
            Value::Int(number) | Value::Duration(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Labels(labels) | Value::Pairs(labels) => !labels.is_empty(),
            Value::Record(_) | Value::Time(_) => true,
        }
    }

    /// Gives the name of the type as Go would.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::String(_) => "string",
            Value::List(list) => list.type_name,
            Value::Map(_) => "map[string]interface {}",
            Value::Labels(_) => "map[string]string",
            Value::Pairs(_) => "template.KV",
            Value::Record(record) => record.type_name,
            Value::Time(_) => "time.Time",
            Value::Duration(_) => "time.Duration",
        }
    }

    pub(crate) fn depth(&self) -> u32 {
        match self {
            Value::List(List { depth, .. })
            | Value::Map(Map { depth, .. })
            | Value::Record(Record { depth, .. }) => *depth,
            _ => 0,
        }
    }
}

fn deepest<'v>(values: impl Iterator<Item = &'v Value>) -> u32 {
    values.map(Value::depth).max().unwrap_or(0)
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::string(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(Arc::from(text))
    }
}

impl From<bool> for Value {
    fn from(is_true: bool) -> Self {
        Value::Bool(is_true)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        Value::time(at)
    }
}
