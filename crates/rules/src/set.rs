//! All rules together, as they are started or replaced.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Id, Labels, RuleContext, RuleId};

use crate::error::RuleFileError;
use crate::file::parse_file;
use crate::over_limit;
use crate::rule::{GroupSpec, Origin, Rule, RuleKind};

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
#[derive(Clone, Debug, Default)]
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
    /// Takes groups and gives each rule its identity. Rules of equal names and labels are told apart by the order
    /// of their expressions, and only equal ones by their place: so neither a file that is renamed nor rules
    /// that change places take each other's alerts.
    pub fn new(groups: Vec<GroupSpec>, is_complete: bool) -> Self {
        let groups = identified(groups, None);
        RuleSet { groups, is_complete }
    }

    /// Adds groups that were made by API. Each rule's identity is made of its own record alone, so that no change of
    /// another group, and none of a file, takes its alerts.
    pub(crate) fn with_api(&self, groups: Vec<GroupSpec>, is_complete: bool) -> Self {
        let mut all = self.groups.clone();
        for group in groups {
            let record = match &group.origin {
                Origin::File => None,
                Origin::Api(record) => Some(record.id),
            };
            all.extend(identified(vec![group], record));
        }
        RuleSet {
            groups: all,
            is_complete: self.is_complete && is_complete,
        }
    }

    /// Gives the groups, in the order of files.
    pub fn groups(&self) -> &[Arc<GroupSpec>] {
        &self.groups
    }

    /// Counts the rules.
    pub fn rule_count(&self) -> usize {
        self.groups.iter().map(|group| group.rules.len()).sum()
    }

    /// Gives the identities of all rules that hold alerts, those about a group's limit included.
    pub(crate) fn alerting_ids(&self) -> Vec<RuleId> {
        let rules = self
            .groups
            .iter()
            .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
        let ids = rules.flat_map(|(group, rule)| {
            let own = rule.alerting().map(|_| rule.id);
            own.into_iter()
                .chain(over_limit::context(group, rule).map(|limit| limit.id))
        });
        ids.collect()
    }

    /// Gives the rules made by API that were taken away, as they end: with nothing that keeps their alerts firing.
    /// `resting` are records that are there and whose groups do not run: theirs are not among them.
    pub(crate) fn taken_away(&self, new: &RuleSet, resting: &[Id]) -> Vec<RuleContext> {
        let kept: HashSet<RuleId> = new.alerting_ids().into_iter().collect();
        let is_deletable = |group: &&Arc<GroupSpec>| match &group.origin {
            Origin::File => false,
            Origin::Api(record) => !resting.contains(&record.id),
        };
        let mut gone = Vec::new();
        for group in self.groups.iter().filter(is_deletable) {
            for rule in &group.rules {
                gone.extend(rule.alerting().map(|alerting| alerting.context.clone()));
                gone.extend(over_limit::context(group, rule));
            }
        }
        gone.retain(|context| !kept.contains(&context.id));
        for condition in gone.iter_mut().flat_map(|context| &mut context.conditions) {
            condition.keep_firing_for = Duration::ZERO;
        }
        gone
    }
}

/// What tells two rules not apart.
type Namesake = (bool, Arc<str>, Labels);

fn namesake(rule: &Rule) -> Namesake {
    (
        rule.alerting().is_some(),
        Arc::clone(&rule.name),
        rule.labels.clone(),
    )
}

/// Gives each rule its identity: among the rules of all files, or within the group of one record.
fn identified(mut groups: Vec<GroupSpec>, record: Option<Id>) -> Vec<Arc<GroupSpec>> {
    let mut namesakes: HashMap<Namesake, Vec<(Arc<str>, usize, usize)>> = HashMap::new();
    for (group_at, group) in groups.iter().enumerate() {
        for (rule_at, rule) in group.rules.iter().enumerate() {
            let place = (Arc::clone(&rule.expr), group_at, rule_at);
            namesakes.entry(namesake(rule)).or_default().push(place);
        }
    }
    for mut places in namesakes.into_values() {
        places.sort_unstable();
        for (ordinal, (_, group_at, rule_at)) in (0..).zip(places) {
            if let Some(rule) = Arc::get_mut(&mut groups[group_at].rules[rule_at]) {
                identify(rule, record, ordinal);
            }
        }
    }
    groups.into_iter().map(Arc::new).collect()
}

fn identify(rule: &mut Rule, record: Option<Id>, ordinal: u32) {
    rule.id = match record {
        None => RuleId::new(&rule.name, &rule.labels, ordinal),
        Some(record) => RuleId::new(&format!("{record}/{}", rule.name), &rule.labels, ordinal),
    };
    if let RuleKind::Alerting(alerting) = &mut rule.kind {
        alerting.context.id = rule.id;
    }
}

/// Reads the files that the patterns name, relative to `base`, after the `embedded` ones (name, text).
///
/// Faulty files do not stop the others; the caller decides what to do with the errors. A pattern without a
/// wildcard whose file is missing is an error, one with a wildcard may match nothing, as in Prometheus. A folder
/// or a link that cannot be read is an error: its rules are unknown, not removed.
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
    let mut known: HashSet<PathBuf> = HashSet::new();
    let mut take = |path: PathBuf, found: &mut Vec<PathBuf>| {
        if known.insert(path.clone()) {
            found.push(path);
        }
    };
    for pattern in patterns {
        let full = base.join(pattern);
        let text = full.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            take(full, &mut found);
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
                for found_here in matches.take(FILES_MAX + 1) {
                    match found_here {
                        // What leads nowhere is taken too: reading it names the fault.
                        Ok(path) if std::fs::metadata(&path).is_ok_and(|found| !found.is_file()) => {}
                        Ok(path) => take(path, &mut found),
                        Err(error) => {
                            errors.push(of_file(
                                &error.path().display().to_string(),
                                error.error().to_string(),
                            ));
                        }
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

/// Reads a file within its limit, for what a device or a pipe will give is not known beforehand.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(said)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(said)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("file has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
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
