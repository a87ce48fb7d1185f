//! Reads a tree into a room's structure, and says where that failed and why in plain words.
//!
//! The target's type decides how a scalar is understood, as in Prometheus' own reader: `5` is a text where a text
//! is wanted. No message shows the value of a text, for it may be a secret.
//! Deliberately absent: going on after an error, which serde does not know; `super::judge` takes the faulty entry
//! out and reads again.

use std::fmt;

use serde::de::{self, DeserializeSeed, Error as _, Expected, Unexpected, Visitor};

use super::tree::{Node, Pair, Place, Scalar, Step, Value};
use super::words;

/// Why a tree does not fit a structure.
#[derive(Debug)]
pub struct ReadError {
    /// The way to the faulty value, innermost step first.
    steps: Vec<Step>,
    /// Where; set by the innermost reader that knows.
    pub at: Option<Place>,
    /// The key that is missing or unknown.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: Box<str>,
    /// Whether `field` is missing.
    pub is_missing: bool,
    /// The keys that are known where `field` is not.
    pub known: &'static [&'static str],
}

impl ReadError {
    fn of(reason: String) -> Self {
        ReadError {
            steps: Vec::new(),
            at: None,
            field: None,
            reason: reason.into(),
            is_missing: false,
            known: &[],
        }
    }

    fn under(mut self, step: Step, at: Place) -> Self {
        self.steps.push(step);
        self.at.get_or_insert(at);
        self
    }

    /// Gives the way to the faulty value.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        ReadError::of(reason.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::of(format!(
            "expected {}, found {}",
            words::expected(&expected.to_string()),
            words::found(found)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::of(format!(
            "{} is out of range; expected {}",
            words::found(found),
            words::expected(&expected.to_string())
        ))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        ReadError::of(format!(
            "unknown value {variant:?}; known are {}{}",
            expected.join(", "),
            words::hint(variant, expected.iter().copied())
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        ReadError {
            field: Some(field.to_owned()),
            known: expected,
            ..ReadError::of("unknown key".to_owned())
        }
    }

    fn missing_field(field: &'static str) -> Self {
        ReadError {
            field: Some(field.to_owned()),
            is_missing: true,
            ..ReadError::of("is missing".to_owned())
        }
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a Node);

type Outcome<T> = Result<T, ReadError>;

impl<'a> Reader<'a> {
    fn scalar(self, expected: &dyn Expected) -> Outcome<&'a Scalar> {
        match &self.0.value {
            Value::Scalar(scalar) => Ok(scalar),
            Value::List(_) => Err(ReadError::invalid_type(Unexpected::Seq, expected)),
            Value::Map(_) => Err(ReadError::invalid_type(Unexpected::Map, expected)),
        }
    }

    fn number<V: Visitor<'a>>(self, visitor: V) -> Outcome<V::Value> {
        let scalar = self.scalar(&visitor)?;
        match number(&scalar.text) {
            Some(Number::Whole(n)) => visitor.visit_u64(n),
            Some(Number::Negative(n)) => visitor.visit_i64(n),
            Some(Number::Broken(n)) => visitor.visit_f64(n),
            None => Err(ReadError::invalid_type(scalar.unexpected(), &visitor)),
        }
    }

    fn keys(self, expected: &dyn Expected) -> Outcome<&'a [Pair]> {
        match &self.0.value {
            Value::Map(pairs) => Ok(pairs),
            Value::List(_) => Err(ReadError::invalid_type(Unexpected::Seq, expected)),
            Value::Scalar(scalar) if scalar.is_null() => Ok(&[]),
            Value::Scalar(scalar) => Err(ReadError::invalid_type(scalar.unexpected(), expected)),
        }
    }
}

impl Scalar {
    fn unexpected(&self) -> Unexpected<'static> {
        if self.is_null() {
            Unexpected::Unit
        } else if !self.is_plain || self.is_filled {
            Unexpected::Str("")
        } else {
            match (number(&self.text), truth(&self.text)) {
                (Some(Number::Whole(n)), _) => Unexpected::Unsigned(n),
                (Some(Number::Negative(n)), _) => Unexpected::Signed(n),
                (Some(Number::Broken(n)), _) => Unexpected::Float(n),
                (None, Some(is_true)) => Unexpected::Bool(is_true),
                (None, None) => Unexpected::Str(""),
            }
        }
    }
}

enum Number {
    Whole(u64),
    Negative(i64),
    Broken(f64),
}

/// Reads a number of YAML's core schema.
fn number(text: &str) -> Option<Number> {
    let based = |prefix: &str, base| {
        let digits = text.strip_prefix(prefix)?;
        u64::from_str_radix(digits, base).ok().map(Number::Whole)
    };
    if let Some(number) = based("0x", 16).or_else(|| based("0o", 8)) {
        return Some(number);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
            return Some(Number::Broken(f64::INFINITY * sign));
        }
        ".nan" | ".NaN" | ".NAN" => return Some(Number::Broken(f64::NAN)),
        _ => {}
    }
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    if !is_number {
        return None;
    }
    if let Ok(whole) = text.trim_start_matches('+').parse() {
        return Some(Number::Whole(whole));
    }
    if let Ok(negative) = text.parse() {
        return Some(Number::Negative(negative));
    }
    text.parse().ok().map(Number::Broken)
}

/// Reads a truth of YAML 1.1, which Prometheus' reader takes too.
fn truth(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match () {
        () if is_one_of(["true", "yes", "on"]) => Some(true),
        () if is_one_of(["false", "no", "off"]) => Some(false),
        () => None,
    }
}

impl<'de> de::Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match &self.0.value {
            Value::Map(_) => self.deserialize_map(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Scalar(scalar) if scalar.is_null() && scalar.is_filled => visitor.visit_str(&scalar.text),
            Value::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            Value::Scalar(scalar) if !scalar.is_plain => visitor.visit_str(&scalar.text),
            Value::Scalar(scalar) => match (number(&scalar.text), &*scalar.text) {
                (Some(_), _) => self.number(visitor),
                (None, "true" | "True" | "TRUE") => visitor.visit_bool(true),
                (None, "false" | "False" | "FALSE") => visitor.visit_bool(false),
                (None, text) => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let scalar = self.scalar(&visitor)?;
        match truth(&scalar.text) {
            Some(is_true) => visitor.visit_bool(is_true),
            None => Err(ReadError::invalid_type(scalar.unexpected(), &visitor)),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.number(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let scalar = self.scalar(&visitor)?;
        if scalar.is_null() && !scalar.is_filled {
            return Err(ReadError::invalid_type(Unexpected::Unit, &visitor));
        }
        visitor.visit_str(&scalar.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        if self.0.is_null() {
            visitor.visit_unit()
        } else {
            Err(ReadError::custom("nothing may stand here"))
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let items: &[Option<Node>] = match &self.0.value {
            Value::List(items) => items,
            Value::Map(_) => return Err(ReadError::invalid_type(Unexpected::Map, &visitor)),
            // `rule_files:` with every item commented out is an empty list.
            Value::Scalar(scalar) if scalar.is_null() => &[],
            Value::Scalar(scalar) => return Err(ReadError::invalid_type(scalar.unexpected(), &visitor)),
        };
        visitor.visit_seq(Items {
            rest: items.iter().enumerate(),
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let pairs = self.keys(&visitor)?;
        visitor.visit_map(Entries {
            rest: pairs.iter(),
            current: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let known = format!("one of {}", variants.join(", "));
        let scalar = self.scalar(&&*known)?;
        visitor.visit_enum(de::value::StrDeserializer::<ReadError>::new(&scalar.text))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf unit_struct tuple tuple_struct }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Option<Node>>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        for (index, item) in self.rest.by_ref() {
            if let Some(item) = item {
                let read = seed.deserialize(Reader(item));
                return read
                    .map(Some)
                    .map_err(|error| error.under(Step::Item(index), item.at));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Pair>,
    current: Option<&'a Pair>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Outcome<Option<K::Value>> {
        let Some(pair) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some(pair);
        let key = de::value::StrDeserializer::<ReadError>::new(&pair.key);
        let key = seed.deserialize(key);
        key.map(Some)
            .map_err(|error| error.under(Step::Key(pair.key.clone()), pair.at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Outcome<V::Value> {
        let pair = self.current.expect("serde asks for a value after its key");
        // A faulty scalar is shown where it stands, a faulty list or map where its key stands.
        let at = match pair.value.value {
            Value::Scalar(_) if !pair.value.is_null() => pair.value.at,
            _ => pair.at,
        };
        seed.deserialize(Reader(&pair.value))
            .map_err(|error| error.under(Step::Key(pair.key.clone()), at))
    }
}
