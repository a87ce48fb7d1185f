//! What is wrong with a rule file, told so that it can be found and mended.

use std::fmt;

use thiserror::Error;

/// One fault in a rule file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct RuleFileError {
    /// The file, as shown to the user.
    pub file: String,
    /// Line, from 1; 0 when the fault is the file itself.
    pub line: usize,
    /// Column, from 1; 0 when it is not known.
    pub column: usize,
    /// The group, when the fault lies in one.
    pub group: Option<String>,
    /// The rule, when the fault lies in one.
    pub rule: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for RuleFileError {
    /// Writes `rules.yml:12:9: group "host", rule "Down": …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        f.write_str(": ")?;
        if let Some(group) = &self.group {
            write!(f, "group {group:?}")?;
            f.write_str(if self.rule.is_some() { ", " } else { ": " })?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule:?}: ")?;
        }
        f.write_str(&self.reason)
    }
}
