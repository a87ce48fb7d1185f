//! Keys of which only the presence matters here.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Whether a key stands in the file with a value; an empty text, `false`, 0 and nothing are none, as in a file that
/// Alertmanager wrote itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Given(pub bool);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, is: bool) -> Result<Given, E> {
                Ok(Given(is))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Given, E> {
                Ok(Given(number != 0))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Given, E> {
                Ok(Given(number != 0))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Given, E> {
                Ok(Given(number != 0.0))
            }
            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given(!text.is_empty()))
            }
            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given(false))
            }
            fn visit_none<E>(self) -> Result<Given, E> {
                Ok(Given(false))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
                let mut is_empty = true;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    is_empty = false;
                }
                Ok(Given(!is_empty))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut is_empty = true;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    is_empty = false;
                }
                Ok(Given(!is_empty))
            }
        }
        deserializer.deserialize_any(Anything)
    }
}

/// Names those of the fields that are given.
macro_rules! fields {
    ($of:ident: $($field:ident),+ $(,)?) => {
        [$((stringify!($field), $of.$field.0)),+]
            .into_iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(name, _)| name.trim_start_matches("r#"))
    };
}
pub(super) use fields;
