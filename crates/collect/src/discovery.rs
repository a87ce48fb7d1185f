//! Where targets come from: lists in the configuration, and files that others write.
//!
//! A file that cannot be read keeps its last good content: a half-written file must not end every series of a fleet.
//!
//! Deliberately absent: the timer that reads files anew; the target task holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::config::{FileDiscovery, StaticGroup};

/// A longer file is refused.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// More files under one pattern are refused.
const FILES_MAX: usize = 10_000;
/// More targets in one file are refused.
const TARGETS_MAX: usize = 1_000_000;

/// Targets from one source, with labels they share.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TargetGroup {
    /// Addresses.
    pub targets: Vec<String>,
    /// Labels of all of them, `__meta_filepath` included.
    pub labels: BTreeMap<String, String>,
}

impl From<&StaticGroup> for TargetGroup {
    fn from(group: &StaticGroup) -> Self {
        TargetGroup {
            targets: group.targets.clone(),
            labels: group.labels.clone(),
        }
    }
}

/// Why a target file cannot be used.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// The system refused to read.
    #[error("cannot read target file {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// It is not a list of groups.
    #[error("target file {path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong, with the line.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Which notation a target file is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileFormat {
    /// By its ending `.json`.
    Json,
    /// By its ending `.yml` or `.yaml`.
    Yaml,
}

impl FileFormat {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(FileFormat::Json),
            "yml" | "yaml" => Some(FileFormat::Yaml),
            _ => None,
        }
    }
}

/// Parses the content of a target file: a list of `{targets, labels}`.
pub fn parse_target_groups(text: &str, format: FileFormat) -> Result<Vec<TargetGroup>, String> {
    let written: Vec<WrittenGroup> = match format {
        FileFormat::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
        FileFormat::Yaml if text.trim().is_empty() => Vec::new(),
        FileFormat::Yaml => crate::config::parse_yaml(text).map_err(|error| error.to_string())?,
    };
    let count: usize = written.iter().map(|group| group.targets.len()).sum();
    if count > TARGETS_MAX {
        return Err(format!("{count} targets, more than the limit of {TARGETS_MAX}"));
    }
    Ok(written
        .into_iter()
        .map(|group| TargetGroup {
            targets: group.targets,
            labels: group.labels,
        })
        .collect())
}

/// Says whether a `file_sd_configs` path is one: a known ending, and `*` only in the last part.
pub fn is_file_pattern(pattern: &str) -> bool {
    let path = Path::new(pattern);
    let folder = path.parent().and_then(Path::to_str).unwrap_or("");
    FileFormat::of(path).is_some() && !folder.contains('*')
}

/// Gives the files that a pattern names, sorted; a pattern without `*` names itself.
fn files_of(pattern: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(pattern);
    let Some(last) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    if !last.contains('*') {
        return vec![path];
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<_> = names
        .filter(|name| fits(last, name))
        .take(FILES_MAX)
        .map(|name| folder.join(name))
        .collect();
    files.sort();
    files
}

/// Says whether a file's name fits a pattern in which `*` stands for any run of characters.
fn fits(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return pattern == name;
    }
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The target files of one job, with the last good content of each.
#[derive(Clone, Debug, Default)]
pub struct FileSource {
    known: BTreeMap<PathBuf, Vec<TargetGroup>>,
}

impl FileSource {
    /// Reads all files of the patterns; blocks. Files that vanished are forgotten, files that cannot be read keep
    /// their last content, and their errors come back.
    pub fn refresh(&mut self, patterns: &[FileDiscovery]) -> Vec<DiscoveryError> {
        let mut errors = Vec::new();
        let mut fresh = BTreeMap::new();
        let paths = patterns
            .iter()
            .flat_map(|discovery| &discovery.files)
            .flat_map(|file| files_of(file));
        for path in paths {
            if fresh.contains_key(&path) {
                continue;
            }
            match read_file(&path) {
                Ok(groups) => {
                    fresh.insert(path, groups);
                }
                Err(error) => {
                    if let Some(kept) = self.known.remove(&path).filter(|_| path.exists()) {
                        fresh.insert(path, kept);
                    }
                    errors.push(error);
                }
            }
        }
        self.known = fresh;
        errors
    }

    /// Gives the groups of all files.
    pub fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.known.values().flatten()
    }
}

fn read_file(path: &Path) -> Result<Vec<TargetGroup>, DiscoveryError> {
    let shown = path.display().to_string();
    let read = |reason: String| DiscoveryError::Read {
        path: shown.clone(),
        reason,
    };
    let size = std::fs::metadata(path)
        .map_err(|error| read(error.to_string()))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(read(format!(
            "{size} bytes, more than the limit of {FILE_BYTES_MAX}"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| read(error.to_string()))?;
    let format = FileFormat::of(path).unwrap_or(FileFormat::Yaml);
    let content = |reason| DiscoveryError::Content {
        path: shown.clone(),
        reason,
    };
    let mut groups = parse_target_groups(&text, format).map_err(content)?;
    for group in &mut groups {
        group.labels.insert("__meta_filepath".to_owned(), shown.clone());
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read_and_mistakes_are_placed() {
        let yaml = "- targets: ['a:1', 'b:2']\n  labels: {dc: x, port: 9100}\n- targets: []\n";
        let json = r#"[{"targets":["a:1","b:2"],"labels":{"dc":"x","port":"9100"}},{"targets":[]}]"#;
        let groups = parse_target_groups(yaml, FileFormat::Yaml).expect("valid");
        assert_eq!(
            groups,
            parse_target_groups(json, FileFormat::Json).expect("valid")
        );
        assert_eq!(groups[0].labels["port"], "9100");
        let error =
            parse_target_groups("- targets: [a]\n  label: {}\n", FileFormat::Yaml).expect_err("misspelt");
        assert!(
            error.contains("line 2") && error.contains("did you mean \"labels\"?"),
            "{error}"
        );
        let error = parse_target_groups("[{\"targets\": 1}]", FileFormat::Json).expect_err("no list");
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(parse_target_groups("", FileFormat::Yaml), Ok(Vec::new()));
    }

    #[test]
    fn patterns_end_in_a_known_ending_and_star_only_at_the_end() {
        for pattern in ["a.json", "/x/*.yml", "x/a*b.yaml", "X.JSON"] {
            assert!(is_file_pattern(pattern), "{pattern}");
        }
        for pattern in ["a.txt", "/x*/a.yml", "*", ""] {
            assert!(!is_file_pattern(pattern), "{pattern}");
        }
        assert!(fits("a*b*.yml", "axxbyy.yml") && fits("*.yml", ".yml") && !fits("a*.yml", "b.yml"));
        assert!(!fits("ab*ba.yml", "aba.yml"));
    }

    #[test]
    fn a_broken_file_keeps_its_last_content_and_a_removed_one_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(place(name), text).expect("written");
        write("a.json", r#"[{"targets":["a:1"]}]"#);
        write("b.json", r#"[{"targets":["b:1"]}]"#);
        let pattern = FileDiscovery {
            files: vec![place("*.json").display().to_string()],
            refresh_interval: std::time::Duration::from_secs(1),
        };
        let mut source = FileSource::default();
        let mut refresh = || {
            let errors = source.refresh(std::slice::from_ref(&pattern)).len();
            let targets: Vec<_> = source.groups().flat_map(|group| group.targets.clone()).collect();
            (errors, targets.join(" "))
        };
        assert_eq!(refresh(), (0, "a:1 b:1".to_owned()));
        write("a.json", r#"[{"targets":["a:1"#);
        assert_eq!(refresh(), (1, "a:1 b:1".to_owned()));
        std::fs::remove_file(place("b.json")).expect("removed");
        assert_eq!(refresh(), (1, "a:1".to_owned()));
        write("a.json", "[]");
        assert_eq!(refresh(), (0, String::new()));
    }
}
