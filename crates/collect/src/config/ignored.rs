//! Keys that are accepted and have no effect.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// A key whose value is read over; only its presence is kept, to be named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ignored {
    /// Whether the key stood there.
    pub is_present: bool,
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Ignored { is_present: true })
    }
}

/// Lists the names of those fields of `$this` that are present.
macro_rules! present_keys {
    ($this:expr, $($key:ident),+ $(,)?) => {
        [$((stringify!($key), $this.$key.is_present)),+]
            .into_iter()
            .filter(|(_, is_present)| *is_present)
            .map(|(name, _)| name)
    };
}
pub(super) use present_keys;
