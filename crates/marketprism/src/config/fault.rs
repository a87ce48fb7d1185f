//! What is wrong with a configuration file: place, key and reason of each fault.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::tree::Place;

/// As many faults are told at once; whoever has more will read the file anew anyway.
pub const FAULTS_MAX: usize = 100;

/// One fault. Shown as `line:column: key.path: reason`, whatever of it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where; `None` when it concerns the file as a whole.
    pub at: Option<Place>,
    /// The path of the key; empty when the text itself is broken.
    pub path: String,
    /// What is wrong, never with a secret's value.
    pub reason: String,
    /// Whether nothing behind it can be read.
    pub(super) is_final: bool,
}

impl Fault {
    /// Makes a fault of the text at a place.
    pub fn at(at: Place, reason: impl Into<String>) -> Self {
        Fault {
            at: Some(at),
            path: String::new(),
            reason: reason.into(),
            is_final: false,
        }
    }

    /// Makes a fault behind which nothing is read.
    pub(super) fn final_at(at: Place, reason: impl Into<String>) -> Self {
        Fault {
            is_final: true,
            ..Fault::at(at, reason)
        }
    }

    /// Makes a fault of a key.
    pub fn of_key(at: Place, path: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault {
            path: path.into(),
            ..Fault::at(at, reason)
        }
    }

    /// Makes a fault of the file as a whole.
    pub fn of_file(reason: impl Into<String>) -> Self {
        Fault {
            at: None,
            path: String::new(),
            reason: reason.into(),
            is_final: true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &self.path)
    }
}

impl Fault {
    fn write(&self, f: &mut fmt::Formatter<'_>, path: &str) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{}:{}", at.line, at.column)?;
        }
        let space = if self.at.is_some() { ": " } else { "" };
        match path {
            "" => write!(f, "{space}{}", self.reason),
            path => write!(f, "{space}{path}: {}", self.reason),
        }
    }
}

/// A file that another includes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Included {
    /// The file's name.
    pub name: String,
    /// The path of the section that it stands for.
    pub section: &'static str,
}

/// Gives the name of a place's file, and a path as it is written there.
pub(super) fn name_and_path<'a>(
    name: &'a str,
    included: &'a [Included],
    at: Option<Place>,
    path: &'a str,
) -> (&'a str, &'a str) {
    let file = at.map_or(0, |at| at.file);
    match file.checked_sub(1).and_then(|index| included.get(index)) {
        None => (name, path),
        Some(included) => {
            let inner = path.strip_prefix(included.section);
            let inner = inner.map(|inner| inner.trim_start_matches('.'));
            (&included.name, inner.unwrap_or(path))
        }
    }
}

/// Everything that is wrong with a file, sorted by line; shown one fault a line, each with the file's name.
#[derive(Debug, Error)]
pub struct ConfigError {
    /// The file's name.
    pub name: String,
    /// The faults, at least one.
    pub faults: Vec<Fault>,
    /// The files that it includes, as places count them from 1; in them paths begin where they do.
    pub included: Vec<Included>,
    /// The files that were read for it, so that a change in one of them is worth another attempt.
    pub watched: Vec<PathBuf>,
}

impl ConfigError {
    /// Sorts faults by their place and leaves out doubles.
    pub(super) fn new(name: &str, mut faults: Vec<Fault>, watched: Vec<PathBuf>) -> Self {
        faults.sort_by_key(|fault| (fault.at.is_none(), fault.at));
        faults.dedup();
        for fault in &mut faults {
            // Some rooms explain with a drawing; a fault is one line.
            let lines: Vec<&str> = fault.reason.lines().map(str::trim).collect();
            let told: Vec<&str> = lines
                .into_iter()
                .filter(|line| !line.trim_matches('^').is_empty())
                .collect();
            fault.reason = told.join(" ");
        }
        if faults.len() > FAULTS_MAX + 1 {
            faults.truncate(FAULTS_MAX);
            faults.push(Fault::of_file(format!(
                "there are more than {FAULTS_MAX} faults; correct these first"
            )));
        }
        ConfigError {
            name: name.to_owned(),
            faults,
            included: Vec::new(),
            watched,
        }
    }

    /// Gives what is wrong, without the file's name.
    pub(super) fn reason(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(Fault::to_string).collect();
        faults.join("; ")
    }

    /// Makes the error of a file that cannot be read at all.
    pub(super) fn of_file(name: &str, reason: impl Into<String>) -> Self {
        ConfigError::new(name, vec![Fault::of_file(reason)], Vec::new())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            let space = if fault.at.is_some() { "" } else { " " };
            let (name, path) = name_and_path(&self.name, &self.included, fault.at, &fault.path);
            write!(f, "{line_end}{name}:{space}")?;
            fault.write(f, path)?;
        }
        Ok(())
    }
}
