//! All rules together, as they are started or replaced.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Labels, RuleId};

use crate::error::RuleFileError;
use crate::file::parse_file;
use crate::rule::{GroupSpec, Rule, RuleKind};

/// What a group has that names nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupDefaults {
    /// How often it runs; 1 minute.
    pub interval: Duration,
    /// How far in the past its expressions are evaluated; none.
    pub query_offset: Duration,
}

impl Default for GroupDefaults {
    fn default() -> Self {
        GroupDefaults {
            interval: Duration::from_secs(60),
            query_offset: Duration::ZERO,
        }
    }
}

/// Groups of all files, ready to run.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(crate) groups: Vec<Arc<GroupSpec>>,
    /// Whether every file was good; alerts of rules that are merely unreadable must not resolve.
    pub(crate) is_complete: bool,
}

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The groups of all good files.
    pub set: RuleSet,
    /// The faults of the others.
    pub errors: Vec<RuleFileError>,
    /// What is suspicious but runs: rules that are there twice.
    pub warnings: Vec<RuleFileError>,
}

/// A rule file may have this many bytes.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// All patterns together may name this many files.
pub const FILES_MAX: usize = 10_000;

impl RuleSet {
    /// Takes groups and gives each rule its identity: equal names and labels are told apart by their order.
    pub fn new(groups: Vec<GroupSpec>, is_complete: bool) -> Self {
        let mut ordinals: HashMap<(bool, Arc<str>, Labels), u32> = HashMap::new();
        let groups = groups
            .into_iter()
            .map(|mut group| {
                for rule in &mut group.rules {
                    if let Some(rule) = Arc::get_mut(rule) {
                        identify(rule, &mut ordinals);
                    }
                }
                Arc::new(group)
            })
            .collect();
        RuleSet { groups, is_complete }
    }

    /// Gives the groups, in the order of files.
    pub fn groups(&self) -> &[Arc<GroupSpec>] {
        &self.groups
    }

    /// Counts the rules.
    pub fn rule_count(&self) -> usize {
        self.groups.iter().map(|group| group.rules.len()).sum()
    }

    /// Gives the identities of all alerting rules.
    pub(crate) fn alerting_ids(&self) -> Vec<RuleId> {
        self.groups
            .iter()
            .flat_map(|group| &group.rules)
            .filter(|rule| rule.alerting().is_some())
            .map(|rule| rule.id)
            .collect()
    }
}

fn identify(rule: &mut Rule, ordinals: &mut HashMap<(bool, Arc<str>, Labels), u32>) {
    let is_alerting = rule.alerting().is_some();
    let key = (is_alerting, Arc::clone(&rule.name), rule.labels.clone());
    let ordinal = ordinals.entry(key).or_default();
    rule.id = RuleId::new(&rule.name, &rule.labels, *ordinal);
    *ordinal += 1;
    if let RuleKind::Alerting(alerting) = &mut rule.kind {
        alerting.context.id = rule.id;
    }
}

/// Reads the files that the patterns name, relative to `base`, after the `embedded` ones (name, text).
///
/// Faulty files do not stop the others; the caller decides what to do with the errors. A pattern without a
/// wildcard whose file is missing is an error, one with a wildcard may match nothing, as in Prometheus.
pub fn load(patterns: &[String], base: &Path, embedded: &[(&str, &str)], defaults: &GroupDefaults) -> Loaded {
    let mut loaded = Loaded::default();
    let mut groups = Vec::new();
    let mut take = |name: &str, text: &[u8], loaded: &mut Loaded| match parse_file(name, text, defaults) {
        Ok(mut file) => {
            groups.append(&mut file.groups);
            loaded.warnings.append(&mut file.warnings);
        }
        Err(mut errors) => loaded.errors.append(&mut errors),
    };
    for (name, text) in embedded {
        take(name, text.as_bytes(), &mut loaded);
    }
    for path in paths(patterns, base, &mut loaded.errors) {
        match read(&path) {
            Ok(text) => take(&path.display().to_string(), &text, &mut loaded),
            Err(reason) => loaded.errors.push(of_file(&path.display().to_string(), reason)),
        }
    }
    loaded.set = RuleSet::new(groups, loaded.errors.is_empty());
    loaded
}

/// Finds the files, each once, in the order of patterns and names.
fn paths(patterns: &[String], base: &Path, errors: &mut Vec<RuleFileError>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let full = base.join(pattern);
        let text = full.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            if !found.contains(&full) {
                found.push(full);
            }
            continue;
        }
        // A path made of the base and the pattern: what is special in the base is meant literally.
        let escaped = Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(pattern);
        let options = glob::MatchOptions {
            require_literal_separator: true,
            ..glob::MatchOptions::new()
        };
        match glob::glob_with(&escaped.to_string_lossy(), options) {
            Ok(matches) => {
                let files = matches.filter_map(Result::ok).filter(|path| path.is_file());
                for path in files.take(FILES_MAX) {
                    if !found.contains(&path) {
                        found.push(path);
                    }
                }
            }
            Err(error) => errors.push(of_file(pattern, format!("bad pattern: {error}"))),
        }
    }
    if found.len() > FILES_MAX {
        errors.push(of_file(
            &base.display().to_string(),
            format!("rule_files name {} files, more than {FILES_MAX}", found.len()),
        ));
        found.truncate(FILES_MAX);
    }
    found
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("file has {length} bytes, more than {FILE_BYTES_MAX}"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

pub(crate) fn of_file(file: &str, reason: String) -> RuleFileError {
    RuleFileError {
        file: file.to_owned(),
        line: 0,
        column: 0,
        group: None,
        rule: None,
        reason,
    }
}
