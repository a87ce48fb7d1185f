//! A parsed template, ready to be expanded any number of times.

use std::collections::HashMap;

use crate::error::TemplateError;
use crate::execute::Executor;
use crate::functions::{Dialect, Environment};
use crate::parser;
use crate::tree::Node;
use crate::value::Value;

/// How far one expansion may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the text that comes out.
    pub output_bytes_max: usize,
    /// Nodes visited and values evaluated, loops counted each time round.
    pub steps_max: usize,
    /// Levels of controls, parentheses and calls of templates inside one another.
    pub depth_max: usize,
}

impl Default for Limits {
    /// 256 KiB of output, a million steps, 200 levels.
    fn default() -> Self {
        Limits {
            output_bytes_max: 256 << 10,
            steps_max: 1_000_000,
            depth_max: 200,
        }
    }
}

/// The text of one template, definitions included, may have this many bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// A parsed template. Parsing is done once; expanding takes `&self` and may be done from many threads.
#[derive(Debug)]
pub struct Template {
    name: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) definitions: HashMap<Box<str>, Definition>,
    /// The whole text when it holds no action, so that expanding is a copy.
    plain: Option<String>,
}

/// A text that was parsed, kept to name lines and columns.
#[derive(Debug)]
pub(crate) struct Source {
    pub name: String,
    pub text: String,
}

/// What one name stands for.
#[derive(Debug)]
pub(crate) struct Definition {
    pub name: Box<str>,
    pub source: usize,
    pub nodes: Vec<Node>,
}

impl Template {
    /// Parses a text. `definitions` are further texts (name, text), whose `define`s it may use; a later
    /// definition of a name replaces an earlier one, and the text's own come last.
    pub fn parse(
        dialect: Dialect,
        name: &str,
        text: &str,
        definitions: &[(&str, &str)],
    ) -> Result<Self, TemplateError> {
        let mut template = Template {
            name: name.to_owned(),
            sources: Vec::new(),
            definitions: HashMap::new(),
            plain: (definitions.is_empty() && !text.contains("{{")).then(|| text.to_owned()),
        };
        for (name, text) in definitions.iter().copied().chain([(name, text)]) {
            template.add(dialect, name, text)?;
        }
        Ok(template)
    }

    fn add(&mut self, dialect: Dialect, name: &str, text: &str) -> Result<(), TemplateError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TemplateError::Limit {
                name: name.to_owned(),
                what: "bytes of template",
                limit: TEXT_BYTES_MAX,
            });
        }
        let source = self.sources.len();
        let parsed = parser::parse(dialect, name, text)?;
        self.sources.push(Source {
            name: name.to_owned(),
            text: text.to_owned(),
        });
        for (name, nodes) in parsed.definitions {
            self.define(name, source, nodes);
        }
        self.define(name.into(), source, parsed.nodes);
        Ok(())
    }

    /// Keeps an earlier definition when the new one is empty, as Go does.
    fn define(&mut self, name: Box<str>, source: usize, nodes: Vec<Node>) {
        if parser::is_empty(&nodes) && self.definitions.contains_key(&name) {
            return;
        }
        let definition = Definition {
            name: name.clone(),
            source,
            nodes,
        };
        self.definitions.insert(name, definition);
    }

    /// Gives the template's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says whether there is a definition of that name, the template's own included.
    pub fn is_defined(&self, name: &str) -> bool {
        self.definitions.contains_key(name)
    }

    /// Expands the template with data.
    pub fn execute(
        &self,
        data: &Value,
        environment: &Environment<'_>,
        limits: &Limits,
    ) -> Result<String, TemplateError> {
        if let Some(text) = &self.plain {
            return Ok(text.clone());
        }
        self.execute_named(&self.name, data, environment, limits)
    }

    /// Expands one of the template's definitions with data.
    pub fn execute_named(
        &self,
        name: &str,
        data: &Value,
        environment: &Environment<'_>,
        limits: &Limits,
    ) -> Result<String, TemplateError> {
        let Some(definition) = self.definitions.get(name) else {
            return Err(TemplateError::Missing {
                wanted: name.to_owned(),
                name: self.name.clone(),
            });
        };
        Executor::new(self, definition, environment, *limits).run(data)
    }
}
