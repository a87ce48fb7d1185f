//! Alerts and the events of their lives.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Id, Labels, RuleId, Timestamp};

/// Where an alert stands. Acknowledgement and suppression are attributes, not states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The condition holds, but not yet for long enough.
    Pending,
    /// The condition held for long enough.
    Firing,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// Gives the word used in the API, in the store and in `ALERTS`.
    pub const fn as_str(self) -> &'static str {
        match self {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is not one of those known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown {kind} {word:?}; known are {known}")]
pub struct UnknownWord {
    /// What kind of word was expected.
    pub kind: &'static str,
    /// The word that was given.
    pub word: String,
    /// The words that are known.
    pub known: &'static str,
}

impl FromStr for AlertState {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "pending" => Ok(AlertState::Pending),
            "firing" => Ok(AlertState::Firing),
            "resolved" => Ok(AlertState::Resolved),
            _ => Err(UnknownWord {
                kind: "alert state",
                word: word.to_owned(),
                known: "pending, firing, resolved",
            }),
        }
    }
}

/// How bad it is. Ordered: `Low < Medium < High < Critical`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// P4.
    Low,
    /// P3.
    Medium,
    /// P2.
    High,
    /// P1.
    Critical,
}

impl Level {
    /// All levels, the worst first.
    pub const ALL: [Level; 4] = [Level::Critical, Level::High, Level::Medium, Level::Low];

    /// Gives the word used in rules, labels and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }

    /// Derives the level from a `severity` label, whose words differ between shops; medium when it is
    /// absent or unknown, so that nothing pages by accident and nothing is hidden.
    pub fn from_severity(severity: &str) -> Self {
        match severity.to_ascii_lowercase().as_str() {
            "critical" | "page" | "disaster" | "emergency" | "p1" => Level::Critical,
            "high" | "error" | "major" | "p2" => Level::High,
            "low" | "info" | "none" | "notice" | "p4" => Level::Low,
            _ => Level::Medium,
        }
    }

    /// Gives the priority that people are paged by.
    pub const fn priority(self) -> Priority {
        Priority(self)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Level::ALL
            .into_iter()
            .find(|level| level.as_str() == word)
            .ok_or_else(|| UnknownWord {
                kind: "level",
                word: word.to_owned(),
                known: "critical, high, medium, low",
            })
    }
}

/// A level as people say it: `P1` (critical) to `P4` (low).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Priority(Level);

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Level::Critical => "P1",
            Level::High => "P2",
            Level::Medium => "P3",
            Level::Low => "P4",
        })
    }
}

/// Why an alert is stored but not told, or not told everywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suppression {
    /// More alerts fire than `alert_manager.max_active_alerts` allows.
    Limit,
    /// A silence matches it.
    Silence(Id),
    /// Another alert says it already; that one's record.
    Inhibition(Id),
    /// A time interval of its route mutes it, by the interval's name; or an active one has not begun.
    Mute(String),
    /// So many alerts began at once that a digest speaks for it.
    Storm,
}

impl Suppression {
    /// Gives the word used in the API and in figures.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Suppression::Limit => "limit",
            Suppression::Silence(_) => "silence",
            Suppression::Inhibition(_) => "inhibition",
            Suppression::Mute(_) => "mute",
            Suppression::Storm => "storm",
        }
    }
}

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Machines and what runs on them.
    System,
    /// What the business counts.
    Business,
    /// How fast it is.
    Performance,
    /// Who got in, and who tried.
    Security,
    /// How full it is.
    Capacity,
}

impl Category {
    /// All categories, in the order in which people are shown them.
    pub const ALL: [Category; 5] = [
        Category::System,
        Category::Business,
        Category::Performance,
        Category::Security,
        Category::Capacity,
    ];

    /// Gives the word used in labels and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Category::System => "system",
            Category::Business => "business",
            Category::Performance => "performance",
            Category::Security => "security",
            Category::Capacity => "capacity",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Category {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Category::ALL
            .into_iter()
            .find(|category| category.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| UnknownWord {
                kind: "category",
                word: word.to_owned(),
                known: "system, business, performance, security, capacity",
            })
    }
}

/// Who is to see to an alert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Who is to.
    pub to: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What another program said of an alert that it sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExternalSource {
    /// When it ends unless the sender speaks again, or ended.
    pub ends_at: Timestamp,
    /// Whether the end was not given, but follows from the resolve timeout.
    pub is_timeout: bool,
    /// The sender's link to where it came from; possibly empty.
    pub generator_url: String,
}

/// That somebody has taken an alert in hand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when it holds; until the alert resolves or rises when `None`.
    pub until: Option<Timestamp>,
    /// What they said, possibly nothing.
    pub note: String,
    /// The level that was acknowledged; a higher one ends it.
    pub level: Level,
}

/// One alert: one thing that is wrong, from its first sign to its end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// UUID version 7; a new one each time the same labels fire anew.
    pub id: Id,
    /// Labels of its identity: complete but for `severity` when the rule has levels.
    pub labels: Labels,
    /// The newest annotations.
    pub annotations: Labels,
    /// Where it stands.
    pub state: AlertState,
    /// How bad it is, now or, when resolved, at the end.
    pub level: Level,
    /// Whether the level comes from the rule's `levels`, and `severity` therefore from it.
    pub has_levels: bool,
    /// The newest value.
    #[serde(with = "crate::sample::float")]
    pub value: f64,
    /// When the condition began to hold.
    pub active_at: Timestamp,
    /// When it began to fire; `None` while pending.
    pub fired_at: Option<Timestamp>,
    /// When it resolved.
    pub resolved_at: Option<Timestamp>,
    /// When the record changed last.
    pub updated_at: Timestamp,
    /// The rules that hold it.
    pub rules: Vec<RuleId>,
    /// The name of the rule's group, for links and filters.
    pub group: String,
    /// The expression that saw it.
    pub expr: String,
    /// Who has taken it in hand.
    pub acknowledged: Option<Acknowledgement>,
    /// Why it is not told, possibly for several reasons; sorted.
    pub suppressed_by: Vec<Suppression>,
    /// Who is to see to it.
    pub assigned: Option<Assignment>,
    /// What its sender said, when another program sent it; no rule of ours holds it alone then.
    pub external: Option<ExternalSource>,
    /// The incident that it is part of.
    pub incident: Option<Id>,
    /// How often it came back within the flapping window; 0 while it does not flap.
    pub flaps: u32,
}

impl Alert {
    /// Gives the labels as they are sent: with levels, `severity` of the level that stands.
    pub fn sent_labels(&self) -> Labels {
        if self.has_levels {
            self.labels.with(crate::labels::SEVERITY, self.level.as_str())
        } else {
            self.labels.clone()
        }
    }

    /// Gives the alert's name.
    pub fn name(&self) -> &str {
        self.labels.get(crate::labels::ALERT_NAME).unwrap_or("")
    }

    /// Gives what it is about: the label `category`, `system` when that is absent or unknown.
    pub fn category(&self) -> Category {
        let word = self.labels.get("category").unwrap_or("");
        word.parse().unwrap_or(Category::System)
    }

    /// Gives the identity that Alertmanager's clients know.
    pub fn fingerprint(&self) -> u64 {
        self.labels.fingerprint()
    }
}

/// What happened to an alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AlertEventKind {
    /// The condition began to hold.
    Pending,
    /// It fires.
    Fired {
        /// The level it fires at.
        level: Level,
        /// Why it fires, when the reason is not the condition alone.
        reason: Option<String>,
    },
    /// The level rose or fell.
    LevelChanged {
        /// Before.
        from: Level,
        /// After.
        to: Level,
    },
    /// It is over.
    Resolved {
        /// Why: the condition cleared, the rule was removed, or by hand.
        reason: String,
    },
    /// Somebody has taken it in hand.
    Acknowledged {
        /// What they said.
        note: String,
    },
    /// The acknowledgement ended.
    Unacknowledged {
        /// Why.
        reason: String,
    },
    /// It is stored, but not told.
    Suppressed {
        /// Why.
        by: Suppression,
    },
    /// The reason not to tell it has passed, and it is told.
    Unsuppressed {
        /// What has passed.
        by: Suppression,
    },
    /// Somebody is to see to it.
    Assigned {
        /// Who; `None` when nobody is any more.
        to: Option<String>,
    },
    /// Somebody wrote something down.
    Noted {
        /// What.
        note: String,
    },
    /// Nobody took it in hand in time, and further people were told.
    Escalated {
        /// The policy.
        policy: String,
        /// The step, counted from 1.
        step: u32,
        /// The receivers who were told.
        receivers: Vec<String>,
    },
    /// It comes and goes so often that its ends are held back.
    Flapping {
        /// How often it came back within the window.
        count: u32,
    },
    /// It no longer flaps.
    Steady,
    /// It became part of an incident.
    JoinedIncident {
        /// The incident.
        incident: Id,
    },
    /// A message about it was delivered, failed for good, or may or may not have arrived.
    Notified {
        /// The channel.
        channel: String,
        /// `delivered`, `failed` or `uncertain`.
        outcome: String,
    },
}

/// One line of an alert's story.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlertEvent {
    /// UUID version 7.
    pub id: Id,
    /// The alert.
    pub alert: Id,
    /// When.
    pub at: Timestamp,
    /// Who; `None` when the program itself did it.
    pub actor: Option<String>,
    /// What.
    #[serde(flatten)]
    pub kind: AlertEventKind,
}
