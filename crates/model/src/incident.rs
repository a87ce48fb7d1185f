//! Incidents: related alerts as one story, with an owner, notes and a timeline.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::alert::UnknownWord;
use crate::{Id, Labels, Level, Timestamp};

/// Where an incident stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    /// Some of its alerts fire, or it was opened by hand.
    Open,
    /// It is over.
    Resolved,
}

impl IncidentState {
    /// Gives the word used in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            IncidentState::Open => "open",
            IncidentState::Resolved => "resolved",
        }
    }
}

impl fmt::Display for IncidentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IncidentState {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "open" => Ok(IncidentState::Open),
            "resolved" => Ok(IncidentState::Resolved),
            _ => Err(UnknownWord {
                kind: "incident state",
                word: word.to_owned(),
                known: "open, resolved",
            }),
        }
    }
}

/// A guess at the cause, from whoever ranks such things; the best one first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hint {
    /// How much it explains, 0 to 1.
    pub score: f64,
    /// What it says.
    pub text: String,
    /// The alert it points to.
    pub alert: Option<Id>,
    /// An expression that shows it.
    pub expr: Option<String>,
}

/// Alerts that belong together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// UUID version 7.
    pub id: Id,
    /// What it is about, in a line: the worst alert's name and the labels that all share, unless a person said it.
    pub title: String,
    /// Whether a person gave it its title, which then stays.
    pub is_renamed: bool,
    /// Whether a person opened it anew, so that it stays open until a person resolves it.
    pub is_held_open: bool,
    /// Where it stands.
    pub state: IncidentState,
    /// The worst level any of its alerts had.
    pub level: Level,
    /// When its first alert fired.
    pub opened_at: Timestamp,
    /// When its last alert ended.
    pub resolved_at: Option<Timestamp>,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When one of its alerts last joined, rose or ended; what comes soon after may join.
    pub moved_at: Timestamp,
    /// Who sees to it.
    pub owner: Option<String>,
    /// Topology labels that its alerts share.
    pub labels: Labels,
    /// Its alerts, in the order in which they joined.
    pub alerts: Vec<Id>,
    /// Guesses at the cause, the best one first.
    pub hints: Vec<Hint>,
}

/// What happened to an incident.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IncidentEventKind {
    /// It began.
    Opened,
    /// An alert became part of it.
    AlertJoined {
        /// The alert.
        alert: Id,
        /// The alert's name.
        name: String,
        /// Why it is related: `first`, `group`, `inhibition`, or the name of the label that it shares.
        relation: String,
    },
    /// One of its alerts is over.
    AlertResolved {
        /// The alert.
        alert: Id,
        /// The alert's name.
        name: String,
    },
    /// The worst level rose.
    LevelRose {
        /// Before.
        from: Level,
        /// After.
        to: Level,
    },
    /// Somebody sees to it.
    Owned {
        /// Who; `None` when nobody does any more.
        owner: Option<String>,
    },
    /// It was given another title.
    Renamed {
        /// The title.
        title: String,
    },
    /// Somebody wrote something down.
    Noted {
        /// What.
        note: String,
    },
    /// It is over.
    Resolved {
        /// Why.
        reason: String,
    },
    /// It began again.
    Reopened,
}

/// One line of an incident's timeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct IncidentEvent {
    /// UUID version 7.
    pub id: Id,
    /// The incident.
    pub incident: Id,
    /// When.
    pub at: Timestamp,
    /// Who; `None` when the program itself did it.
    pub actor: Option<String>,
    /// What.
    #[serde(flatten)]
    pub kind: IncidentEventKind,
}

/// Which incidents a list shows; empty lists mean "all".
#[derive(Clone, PartialEq, Debug, Default)]
pub struct IncidentFilter {
    /// States.
    pub states: Vec<IncidentState>,
    /// Levels.
    pub levels: Vec<Level>,
    /// Who sees to it.
    pub owner: Option<String>,
    /// Those with at least this many alerts; 2 leaves out alerts that stand alone.
    pub alerts_min: usize,
    /// Those opened at or after this moment.
    pub since: Option<Timestamp>,
    /// Those opened before this moment.
    pub until: Option<Timestamp>,
    /// At most this many, 1 to 1000.
    pub limit: usize,
    /// Where the page begins.
    pub cursor: Option<String>,
}
