//! What a client asks to see: matchers, a receiver, and which states.
//!
//! Words of truth are read as go-openapi reads them, where everything that is not yes is no. Unknown parameters are
//! ignored, as there.

use marketprism_alerts::routing::matchers::parse_one;
use marketprism_model::{Labels, Matcher, MatcherOp};

use super::answer::Failure;
use crate::prometheus::params::Params;

/// A request may give this many matchers of a kind.
const MATCHERS_MAX: usize = 64;
/// What go-openapi takes for yes.
const YES: [&str; 10] = [
    "true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled",
];

/// Which alerts are shown.
#[derive(Debug)]
pub struct AlertQuery {
    matchers: Vec<Matcher>,
    receiver: Option<Matcher>,
    /// Whether receivers without labels of their own, which all of ours are, are shown.
    has_receivers: bool,
    /// Whether those are shown that nothing holds back.
    pub active: bool,
    /// Whether silenced ones are.
    pub silenced: bool,
    /// Whether inhibited ones are.
    pub inhibited: bool,
    /// Whether groups are whose route is muted now.
    pub muted: bool,
}

impl AlertQuery {
    /// Reads the parameters of a request.
    pub fn read(params: &Params) -> Result<Self, Failure> {
        let receiver = match params.get("receiver") {
            "" => None,
            pattern => Some(
                Matcher::new("receiver", MatcherOp::Matches, pattern).map_err(|error| {
                    Failure::bad_request(format!("failed to parse receiver param: {}", error.reason))
                })?,
            ),
        };
        Ok(AlertQuery {
            matchers: matchers(params, "filter")?,
            receiver,
            has_receivers: has_receivers(params)?,
            active: flag(params, "active"),
            silenced: flag(params, "silenced"),
            inhibited: flag(params, "inhibited"),
            muted: flag(params, "muted"),
        })
    }

    /// Says whether the labels are wanted.
    pub fn wants_labels(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }

    /// Says whether every receiver is wanted.
    pub fn wants_all_receivers(&self) -> bool {
        self.has_receivers && self.receiver.is_none()
    }

    /// Says whether a receiver is wanted.
    pub fn wants_receiver(&self, name: &str) -> bool {
        self.has_receivers && self.receiver.as_ref().is_none_or(|matcher| matcher.matches(name))
    }
}

/// Says whether receivers without labels are wanted.
pub fn has_receivers(params: &Params) -> Result<bool, Failure> {
    let wanted = matchers(params, "receiver_matchers").map_err(|Failure(problem)| {
        Failure::bad_request(format!(
            "failed to parse receiver_matchers param: {}",
            problem.detail
        ))
    })?;
    Ok(wanted.iter().all(Matcher::matches_empty))
}

/// Reads matchers, each in a parameter of its own.
pub fn matchers(params: &Params, name: &'static str) -> Result<Vec<Matcher>, Failure> {
    let mut matchers = Vec::new();
    for text in params.all(name) {
        if matchers.len() == MATCHERS_MAX {
            return Err(Failure::bad_request(format!(
                "{name}: more than {MATCHERS_MAX} matchers"
            )));
        }
        matchers.push(parse_one(text).map_err(|error| Failure::bad_request(error.to_string()))?);
    }
    Ok(matchers)
}

/// Reads a word of truth; absent means yes.
pub fn flag(params: &Params, name: &str) -> bool {
    let word = params.get(name);
    word.is_empty() || YES.iter().any(|yes| word.eq_ignore_ascii_case(yes))
}
