//! A password or token that never shows itself.
//!
//! One type for every room, so that none forgets to hide.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A password or token. Prints and serialises as `***`; [`Secret::expose`] is the only way to the value.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// Gives the value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Says whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_in_no_way_but_when_asked() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("a text is a secret");
        let shown = format!(
            "{secret} {secret:?} {}",
            serde_json::to_string(&secret).expect("it serialises")
        );
        assert_eq!(shown, "*** *** \"***\"");
        assert_eq!((secret.expose(), secret.is_empty()), ("hunter2", false));
    }
}
