//! Why a template cannot be parsed or expanded, in Go's words where users know them.

use thiserror::Error;

/// Why a template cannot be parsed or expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("template: {name}:{line}: {reason}")]
    Parse {
        /// The template's name.
        name: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The template cannot be expanded with this data.
    #[error("template: {name}:{line}:{column}: executing {executing:?} at <{context}>: {reason}")]
    Execute {
        /// The name of the text that was parsed.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Byte in the line, from 0, as Go counts.
        column: usize,
        /// The template or `define` that was being executed.
        executing: String,
        /// The part that failed, as it is written.
        context: String,
        /// What is wrong there.
        reason: String,
    },
    /// There is no template of that name.
    #[error("template: no template {wanted:?} associated with template {name:?}")]
    Missing {
        /// The name that was asked for.
        wanted: String,
        /// The template that was asked.
        name: String,
    },
    /// A bound was reached.
    #[error("template: {name}: more than {limit} {what}")]
    Limit {
        /// The template's name.
        name: String,
        /// What there was too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}
