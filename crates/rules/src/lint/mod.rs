//! Finds what is valid in a rule and yet likely wrong.
//!
//! A finding says where, what, and what to do, and can be allowed by its name. Few false alarms are worth more than many
//! findings: a lint speaks only where the text itself shows the fault, or the data does. Deliberately absent: faults that
//! keep a rule from running; those are errors of the reader.

mod catalogue;
mod expression;
mod fact;
mod labels;
mod place;
mod rule;
mod tree;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use marketprism_promql::Selector;
use serde::Serialize;

use crate::file::RuleFile;
use crate::language::Text;
use crate::lint::place::Source;

pub use catalogue::{CATALOGUE, Lint};
pub use fact::Fact;

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Worth knowing.
    Info,
    /// Likely a fault.
    Warning,
}

/// One finding. As JSON it speaks English, whatever the language of its reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The lint's name.
    pub lint: &'static str,
    /// How much it weighs.
    pub weight: Weight,
    /// The file, as shown to the user.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1; 0 when only the line is known.
    pub column: usize,
    /// The group.
    pub group: String,
    /// The rule.
    pub rule: String,
    /// What was found in this rule.
    #[serde(rename = "message")]
    pub fact: Fact,
    /// What to do about it.
    pub advice: Text,
}

/// What lints are given.
pub struct Options<'a> {
    /// Names of lints that say nothing.
    pub allowed: BTreeSet<String>,
    /// How often targets are scraped at the most.
    pub scrape_interval: Duration,
    /// Says whether any series is chosen by a selector; asked only when there is data.
    pub has_series: Option<&'a dyn Fn(&Selector) -> Result<bool, String>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            allowed: BTreeSet::new(),
            scrape_interval: Duration::from_secs(15),
            has_series: None,
        }
    }
}

/// A file, its text, and what was read from it.
pub struct Read<'a> {
    /// Its text.
    pub text: &'a str,
    /// What it holds.
    pub file: &'a RuleFile,
}

/// Looks at all rules of some files together; the findings come by file and line.
///
/// # Errors
/// When data could not be read.
pub fn lint(files: &[Read<'_>], options: &Options<'_>) -> Result<Vec<Finding>, String> {
    let recorded: BTreeSet<&str> = rules_of(files)
        .filter(|rule| rule.alerting().is_none())
        .map(|rule| &*rule.name)
        .collect();
    let has_absent = rules_of(files).any(|rule| tree::any(&rule.parsed, &|expr| tree::is_absence(expr)));
    let mut findings = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    for read in files {
        for group in &read.file.groups {
            for rule in &group.rules {
                let source = Source::new(read.text, rule);
                let mut look = rule::Look {
                    group,
                    rule,
                    source,
                    options,
                    has_absent,
                    recorded: &recorded,
                    findings: &mut findings,
                };
                look.all(&mut seen)?;
            }
        }
    }
    findings.sort_by(|a, b| (&a.file, a.line, a.column, a.lint).cmp(&(&b.file, b.line, b.column, b.lint)));
    findings.dedup();
    Ok(findings)
}

fn rules_of<'a>(files: &'a [Read<'_>]) -> impl Iterator<Item = &'a crate::rule::Rule> {
    files
        .iter()
        .flat_map(|read| &read.file.groups)
        .flat_map(|group| &group.rules)
        .map(|rule| &**rule)
}
