//! Label matchers: `=`, `!=`, `=~`, `!~`.
//!
//! Regular expressions are read as Go reads them, anchored at both ends, and `.` matches a newline, as in
//! Prometheus 3. An absent label matches as the empty string.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Labels, pattern};

/// How a matcher compares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MatcherOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

impl MatcherOp {
    /// All operators.
    pub const ALL: [MatcherOp; 4] = [
        MatcherOp::Equal,
        MatcherOp::NotEqual,
        MatcherOp::Matches,
        MatcherOp::NotMatches,
    ];

    /// Gives the operator as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            MatcherOp::Equal => "=",
            MatcherOp::NotEqual => "!=",
            MatcherOp::Matches => "=~",
            MatcherOp::NotMatches => "!~",
        }
    }

    /// Says whether the operator keeps what does *not* compare.
    pub const fn is_negative(self) -> bool {
        matches!(self, MatcherOp::NotEqual | MatcherOp::NotMatches)
    }
}

/// The regular expression of a matcher cannot be used.
#[derive(Debug, Error)]
#[error("label {name}: bad regular expression {pattern:?}: {reason}")]
pub struct MatcherError {
    /// The label that the matcher names.
    pub name: String,
    /// The expression as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One condition on one label. Equality and hash ignore the compiled expression.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: Arc<str>,
    /// How it compares.
    pub op: MatcherOp,
    /// The value or the expression.
    pub value: Arc<str>,
    regex: Option<Regex>,
}

/// A compiled expression may take this much memory; what needs more is refused.
const REGEX_BYTES_MAX: usize = 4 << 20;
/// While it matches, each thread keeps at most about this much for an expression; a query may hold hundreds.
const REGEX_CACHE_BYTES: usize = 256 << 10;

impl Matcher {
    /// Makes a matcher; only `=~` and `!~` can fail.
    pub fn new(name: &str, op: MatcherOp, value: &str) -> Result<Self, MatcherError> {
        let regex = match op {
            MatcherOp::Equal | MatcherOp::NotEqual => None,
            MatcherOp::Matches | MatcherOp::NotMatches => {
                Some(anchored(value).map_err(|reason| MatcherError {
                    name: name.to_owned(),
                    pattern: value.to_owned(),
                    reason,
                })?)
            }
        };
        Ok(Matcher {
            name: Arc::from(name),
            op,
            value: Arc::from(value),
            regex,
        })
    }

    /// Makes an equality matcher.
    pub fn equal(name: &str, value: &str) -> Self {
        Matcher {
            name: Arc::from(name),
            op: MatcherOp::Equal,
            value: Arc::from(value),
            regex: None,
        }
    }

    /// Gives the same condition on another label, or its opposite; an expression is not compiled anew.
    pub fn renamed(&self, name: &str, op: MatcherOp) -> Option<Self> {
        let is_expression = |op| matches!(op, MatcherOp::Matches | MatcherOp::NotMatches);
        (is_expression(op) == is_expression(self.op)).then(|| Matcher {
            name: Arc::from(name),
            op,
            ..self.clone()
        })
    }

    /// Gives what the compiled expression takes in memory.
    pub fn regex_bytes(&self) -> usize {
        self.regex.as_ref().map_or(0, Regex::memory_usage)
    }

    /// Says whether the value is kept; an absent label is given as the empty string.
    pub fn matches(&self, value: &str) -> bool {
        self.compares(value) != self.op.is_negative()
    }

    /// Says whether the value compares, before a negative operator turns the answer around.
    pub fn compares(&self, value: &str) -> bool {
        match &self.regex {
            None => *self.value == *value,
            Some(regex) => regex.is_match(value),
        }
    }

    /// Says whether a set of labels is kept.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or(""))
    }

    /// Says whether series without the label are kept.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

/// Compiles a pattern that must match a whole value, within a bound of memory. It is read as Go reads it, so
/// `\d`, `\w`, `\s` and `\b` are ASCII; and `.` matches newlines, as in Prometheus 3.
///
/// Relabelling, silences and routes use the same expressions; so does whoever needs captures.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    let translated = pattern::translated(pattern)?;
    Regex::builder()
        // An ASCII edge of a word may lie within a character, but never where a match of whole characters is.
        .syntax(syntax::Config::new().dot_matches_new_line(true).utf8(false))
        .configure(
            Regex::config()
                .nfa_size_limit(Some(REGEX_BYTES_MAX))
                .hybrid_cache_capacity(REGEX_CACHE_BYTES),
        )
        .build(&format!("^(?:{translated})$"))
        .map_err(|error| match error.syntax_error() {
            Some(syntax) => syntax.to_string(),
            None => error.to_string(),
        })
}

/// A matcher as records keep it.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    op: Cow<'a, str>,
    value: Cow<'a, str>,
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            name: Cow::Borrowed(&self.name),
            op: Cow::Borrowed(self.op.as_str()),
            value: Cow::Borrowed(&self.value),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let op = MatcherOp::ALL
            .into_iter()
            .find(|op| op.as_str() == written.op)
            .ok_or_else(|| {
                D::Error::custom(format!("unknown operator {:?}; known are = != =~ !~", written.op))
            })?;
        Matcher::new(&written.name, op, &written.value).map_err(D::Error::custom)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl Hash for Matcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.op, &self.value).hash(state);
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_anchored_and_dots_match_newlines() {
        let check = |op, pattern: &str, value: &str, kept: bool| {
            let matcher = Matcher::new("a", op, pattern).expect(pattern);
            assert_eq!(matcher.matches(value), kept, "{matcher} on {value:?}");
        };
        check(MatcherOp::Matches, "b|c", "b", true);
        check(MatcherOp::Matches, "b|c", "bb", false);
        check(MatcherOp::Matches, "a.b", "a\nb", true);
        check(MatcherOp::NotMatches, ".+", "", true);
        check(MatcherOp::NotEqual, "x", "", true);
        check(MatcherOp::Matches, "(?i)abc", "ABC", true);
    }

    #[test]
    fn a_bad_expression_names_the_label_and_the_fault() {
        let error = Matcher::new("job", MatcherOp::Matches, "(").expect_err("unclosed group");
        assert!(error.to_string().contains("label job") && error.to_string().contains("unclosed group"));
        assert!(Matcher::new("job", MatcherOp::Matches, "(((.{999}){999}){999})").is_err());
    }
}
