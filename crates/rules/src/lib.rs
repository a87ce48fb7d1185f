//! Runs rule groups and emits observations and series.
//!
//! Prometheus' rule files as they are, and levels: one rule, one alert that rises and falls. The way of a
//! tick: [`Pace`] says when, the group's rules run in order, each rule's outcome is committed
//! before the next runs. Recorded series and `ALERTS` go to the `SampleSink`, observations to the
//! `Lifecycle`, which decides what they mean.
//! Pure but for one loop: [`evaluate_group`] takes the moment and the ports, so weeks of rules run in
//! milliseconds. Deliberately absent: what an alert does, who hears of it, and where samples are kept.

pub mod backtest;
mod deadline;
mod defaults;
mod error;
mod evaluate;
mod file;
mod group;
mod hold;
mod language;
mod level;
pub mod lint;
mod metrics;
mod missing;
mod observe;
mod output;
mod over_limit;
mod pace;
mod raw;
mod recovery;
mod rule;
mod rulebook;
mod runner;
mod scalar;
mod set;
mod snapshot;
mod submission;
pub mod unit_test;
pub mod xml;
mod yaml;

pub use defaults::defaults;
pub use error::RuleFileError;
pub use evaluate::{Installation, Ports, RuleInterrupt, Tick, evaluate_alone, evaluate_group};
pub use file::{RuleFile, fuzz, parse_file};
pub use group::{Group, Leftovers, take_over};
pub use hold::HasData;
pub use language::{Language, Text};
pub use level::{LevelSpec, Threshold};
pub use missing::{Missing, MissingPolicy};
pub use over_limit::RULE_LIMIT_ALERT;
pub use pace::{Pace, Step};
pub use recovery::Recovery;
pub use rule::{AlertingRule, GroupSpec, Origin, Rule, RuleKind};
pub use rulebook::{ApiGroup, Edit, FileRules, Rulebook, RulebookError, Saved};
pub use runner::{Load, ReplaceError, RulesHandle, Runner, RunnerParts, runner};
pub use set::{FILE_BYTES_MAX, FILES_MAX, GroupDefaults, Loaded, RuleSet, load};
pub use snapshot::{GroupSnapshot, Health, RuleSnapshot, RulesSnapshot};
pub use submission::{API_FILE, SUBMISSION_BYTES_MAX, Submission, definition_to_yaml};
