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
        if let Some(at) = self.at {
            write!(f, "{}:{}", at.line, at.column)?;
        }
        let space = if self.at.is_some() { ": " } else { "" };
        match self.path.as_str() {
            "" => write!(f, "{space}{}", self.reason),
            path => write!(f, "{space}{path}: {}", self.reason),
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
            watched,
        }
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
            write!(f, "{line_end}{}:{space}{fault}", self.name)?;
        }
        Ok(())
    }
}
