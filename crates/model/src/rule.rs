//! What the lifecycle must know of a rule.
//!
//! How a rule is written in a file stands in `rules`; here is only what crosses the border to `alerts`.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Level;
use crate::labels::Labels;

/// The identity of a rule across reloads: its name and static labels, not its file, group or expression.
///
/// So moving a rule between files or correcting its expression keeps its alerts. Equal rules are told
/// apart by their ordinal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u64);

impl RuleId {
    /// Names the `ordinal`-th rule (from 0) of this name and these labels as written, before templating.
    pub fn new(name: &str, labels: &Labels, ordinal: u32) -> Self {
        let mut hash = Fnv1a::default();
        hash.write(name.as_bytes());
        hash.write(&[0xff]);
        for (label, value) in labels {
            hash.write(label.as_bytes());
            hash.write(&[0xff]);
            hash.write(value.as_bytes());
            hash.write(&[0xff]);
        }
        hash.write(&ordinal.to_le_bytes());
        RuleId(hash.finish())
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every release, unlike the standard library's hasher.
pub struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// One condition of an alerting rule. A plain rule has one; a rule with levels has one a level.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Condition {
    /// The level it raises; `None` for a plain rule, whose level follows its `severity` label.
    pub level: Option<Level>,
    /// How long it must hold before it fires.
    pub hold_for: Duration,
    /// How long it keeps firing after it last held.
    pub keep_firing_for: Duration,
    /// How long it stands while nobody can tell whether it holds; `None` for as long as that lasts.
    pub unknown_max: Option<Duration>,
}

/// What the lifecycle is told of the rule that observed.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleContext {
    /// The rule's identity.
    pub id: RuleId,
    /// The alert's name.
    pub name: Arc<str>,
    /// The group's name.
    pub group: Arc<str>,
    /// The file that holds it, as shown to the user.
    pub file: Arc<str>,
    /// The expression, for links and histories.
    pub expr: Arc<str>,
    /// The conditions in falling order of level; never empty.
    pub conditions: Vec<Condition>,
    /// How often it is evaluated.
    pub interval: Duration,
}
