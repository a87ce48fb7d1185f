//! Writes exposition text.

use std::fmt::Write as _;

/// Appends families and samples to a text.
pub(super) struct Exposition<'a> {
    text: &'a mut String,
    family: String,
}

impl<'a> Exposition<'a> {
    pub(super) fn new(text: &'a mut String) -> Self {
        Exposition {
            text,
            family: String::new(),
        }
    }

    /// Begins a family; the samples that follow belong to it.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        name.clone_into(&mut self.family);
        self
    }

    /// Writes one sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.push_str(&self.family);
        let mut separator = '{';
        for (name, value) in labels {
            self.text.push(separator);
            let _ = write!(self.text, "{name}=\"");
            for c in value.chars() {
                match c {
                    '"' => self.text.push_str("\\\""),
                    '\\' => self.text.push_str("\\\\"),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }

    /// Writes a family of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help).sample(&[], value);
    }
}
