//! The parsed template: what the parser makes and the executor walks.
//!
//! Every part prints as it was written, for that is how errors name it.

use std::fmt;

use crate::functions::Function;
use crate::value::Value;

/// A piece of a template that stands by itself.
#[derive(Debug)]
pub(crate) enum Node {
    /// Text that is copied.
    Text(Box<str>),
    /// `{{pipeline}}`
    Action(Pipe),
    /// `{{if}}`, `{{with}}` or `{{range}}`.
    Control(Box<Control>),
    /// `{{template "name" pipeline}}`
    Template(Call),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// Which control an action is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ControlKind {
    If,
    With,
    Range,
}

/// A control and what it governs.
#[derive(Debug)]
pub(crate) struct Control {
    pub kind: ControlKind,
    pub pipe: Pipe,
    pub body: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// A call of another template.
#[derive(Debug)]
pub(crate) struct Call {
    pub at: usize,
    pub name: Box<str>,
    pub quoted: Box<str>,
    pub pipe: Option<Pipe>,
}

/// Commands, each fed with the outcome of the one before.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub at: usize,
    pub is_assign: bool,
    pub declared: Vec<Box<str>>,
    pub commands: Vec<Command>,
}

/// A function or a value, and its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    pub at: usize,
    pub arguments: Vec<Operand>,
}

/// One operand and where it stands.
#[derive(Debug)]
pub(crate) struct Operand {
    pub at: usize,
    pub kind: OperandKind,
}

/// What an operand is.
#[derive(Debug)]
pub(crate) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number { value: Value, text: Box<str> },
    String { value: Value, text: Box<str> },
    Field(Vec<Box<str>>),
    Variable { name: Box<str>, fields: Vec<Box<str>> },
    Chain { of: Box<Operand>, fields: Vec<Box<str>> },
    Function(&'static Function),
    Pipe(Pipe),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.declared.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        if !self.declared.is_empty() {
            f.write_str(if self.is_assign { " = " } else { " := " })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            fmt::Display::fmt(command, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, argument) in self.arguments.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            fmt::Display::fmt(argument, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write_fields = |f: &mut fmt::Formatter<'_>, fields: &[Box<str>]| {
            fields.iter().try_for_each(|field| write!(f, ".{field}"))
        };
        match &self.kind {
            OperandKind::Dot => f.write_str("."),
            OperandKind::Nil => f.write_str("nil"),
            OperandKind::Bool(is_true) => write!(f, "{is_true}"),
            OperandKind::Number { text, .. } | OperandKind::String { text, .. } => f.write_str(text),
            OperandKind::Field(fields) => write_fields(f, fields),
            OperandKind::Variable { name, fields } => {
                f.write_str(name)?;
                write_fields(f, fields)
            }
            OperandKind::Chain { of, fields } => {
                fmt::Display::fmt(of, f)?;
                write_fields(f, fields)
            }
            OperandKind::Function(function) => f.write_str(function.name),
            OperandKind::Pipe(pipe) => write!(f, "({pipe})"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", self.quoted)?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}
