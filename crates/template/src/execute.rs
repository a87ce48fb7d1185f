//! Walks a parsed template with its data and writes the text.
//!
//! Bounded in every direction: bytes written, steps taken, depth of calls. Errors say where they arose as
//! Go says it, down to the column, so that users find the same words as with Prometheus.
//! Missing keys read as the zero value (`missingkey=zero`), as in Prometheus and Alertmanager.

use std::fmt::{self, Write as _};

use crate::error::TemplateError;
use crate::functions::{Body, Environment, Fault, Function, Kind, method};
use crate::print::{Output, write_value};
use crate::template::{Definition, Limits, Template};
use crate::tree::{Call, Command, Control, ControlKind, Node, Operand, OperandKind, Pipe};
use crate::value::Value;

type Outcome<T> = Result<T, TemplateError>;

/// What a node does to the loop around it.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

pub(crate) struct Executor<'t, 'e> {
    template: &'t Template,
    definition: &'t Definition,
    environment: &'e Environment<'e>,
    limits: Limits,
    out: Output,
    variables: Vec<(&'t str, Value)>,
    steps: usize,
    depth: usize,
    /// What is being evaluated: its place, and how it is written.
    place: (usize, &'t dyn fmt::Display),
}

impl<'t, 'e> Executor<'t, 'e> {
    pub(crate) fn new(
        template: &'t Template,
        definition: &'t Definition,
        environment: &'e Environment<'e>,
        limits: Limits,
    ) -> Self {
        Executor {
            template,
            definition,
            environment,
            limits,
            out: Output::new(limits.output_bytes_max),
            variables: Vec::new(),
            steps: 0,
            depth: 0,
            place: (0, &""),
        }
    }

    pub(crate) fn run(mut self, data: &Value) -> Outcome<String> {
        self.variables.push(("$", data.clone()));
        self.list(data, &self.definition.nodes)?;
        Ok(self.out.into_text())
    }

    fn at(&mut self, at: usize, shown: &'t dyn fmt::Display) {
        self.place = (at, shown);
    }

    fn error<T>(&self, reason: impl Into<String>) -> Outcome<T> {
        let source = &self.template.sources[self.definition.source];
        let (at, shown) = self.place;
        let before = &source.text[..at.min(source.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Err(TemplateError::Execute {
            name: source.name.clone(),
            line: 1 + before.matches('\n').count(),
            column: before.len() - line_start,
            executing: self.definition.name.to_string(),
            context: shown.to_string(),
            reason: reason.into(),
        })
    }

    fn limit<T>(&self, what: &'static str, limit: usize) -> Outcome<T> {
        Err(TemplateError::Limit {
            name: self.template.sources[self.definition.source].name.clone(),
            what,
            limit,
        })
    }

    fn step(&mut self) -> Outcome<()> {
        self.steps += 1;
        if self.steps > self.limits.steps_max {
            return self.limit("steps", self.limits.steps_max);
        }
        Ok(())
    }

    fn deeper<T>(&mut self, walk: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth == self.limits.depth_max {
            return self.limit("levels of calls", self.limits.depth_max);
        }
        self.depth += 1;
        let outcome = walk(self);
        self.depth -= 1;
        outcome
    }

    fn write(&mut self, write: impl FnOnce(&mut Output) -> fmt::Result) -> Outcome<()> {
        match write(&mut self.out) {
            Ok(()) => Ok(()),
            Err(fmt::Error) => self.limit("bytes of output", self.limits.output_bytes_max),
        }
    }

    fn list(&mut self, dot: &Value, nodes: &'t [Node]) -> Outcome<Flow> {
        for node in nodes {
            self.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.write(|out| out.write_str(text))?;
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(dot, pipe)?;
                    if pipe.declared.is_empty() {
                        self.print(&value)?;
                    }
                    Flow::Next
                }
                Node::Control(control) => self.control(dot, control)?,
                Node::Template(call) => {
                    self.call_template(dot, call)?;
                    Flow::Next
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Outcome<()> {
        self.write(|out| match value {
            Value::Nil => out.write_str("<no value>"),
            value => write_value(out, value),
        })
    }

    fn control(&mut self, dot: &Value, control: &'t Control) -> Outcome<Flow> {
        let mark = self.variables.len();
        let flow = self.deeper(|executor| {
            let value = executor.pipe(dot, &control.pipe)?;
            match control.kind {
                ControlKind::Range => executor.range(dot, control, value),
                ControlKind::If if value.is_true() => executor.list(dot, &control.body),
                ControlKind::With if value.is_true() => executor.list(&value, &control.body),
                _ => executor.list(dot, &control.otherwise),
            }
        })?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, control: &'t Control, value: Value) -> Outcome<Flow> {
        let mut count = 0usize;
        match &value {
            Value::Nil => {}
            Value::List(list) => {
                for (i, item) in list.items.iter().enumerate() {
                    count += 1;
                    if self.iteration(control, Value::Int(i as i64), item.clone())? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, item) in map.entries.iter() {
                    count += 1;
                    if self.iteration(control, Value::String(key.clone()), item.clone())? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Labels(labels) | Value::Pairs(labels) => {
                for (name, item) in labels {
                    count += 1;
                    if self.iteration(control, name.into(), item.into())? == Flow::Break {
                        break;
                    }
                }
            }
            Value::Int(number) => {
                for i in 0..*number {
                    count += 1;
                    if self.iteration(control, Value::Int(i), Value::Int(i))? == Flow::Break {
                        break;
                    }
                }
            }
            other => {
                return self.error(format!("range can't iterate over {}", shown(other)));
            }
        }
        if count == 0 {
            return self.list(dot, &control.otherwise);
        }
        Ok(Flow::Next)
    }

    fn iteration(&mut self, control: &'t Control, key: Value, item: Value) -> Outcome<Flow> {
        self.step()?;
        let mark = self.variables.len();
        let declared = &control.pipe.declared;
        let (for_key, for_item) = match &declared[..] {
            [] => (None, None),
            [item] => (None, Some(item)),
            [key, item, ..] => (Some(key), Some(item)),
        };
        for (name, value) in [(for_key, key), (for_item, item.clone())] {
            if let Some(name) = name {
                self.set(name, value)?;
            }
        }
        let flow = self.list(&item, &control.body)?;
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn call_template(&mut self, dot: &Value, call: &'t Call) -> Outcome<()> {
        self.at(call.at, call);
        let Some(definition) = self.template.definitions.get(&call.name) else {
            return self.error(format!("template {} not defined", call.quoted));
        };
        let data = match &call.pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let outer = (std::mem::take(&mut self.variables), self.definition);
        self.variables.push(("$", data.clone()));
        self.definition = definition;
        self.deeper(|executor| executor.list(&data, &definition.nodes))?;
        (self.variables, self.definition) = outer;
        Ok(())
    }

    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Outcome<Value> {
        self.at(pipe.at, pipe);
        let value = self.deeper(|executor| {
            let mut fed = None;
            for command in &pipe.commands {
                fed = Some(executor.command(dot, command, fed)?);
            }
            Ok(fed.unwrap_or_default())
        })?;
        for name in &pipe.declared {
            if pipe.is_assign {
                self.set(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn set(&mut self, name: &str, value: Value) -> Outcome<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, held)) => {
                *held = value;
                Ok(())
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    /// Evaluates a command; `fed` is the outcome of the one before it in the pipeline.
    fn command(&mut self, dot: &Value, command: &'t Command, fed: Option<Value>) -> Outcome<Value> {
        self.step()?;
        let (first, rest) = command
            .arguments
            .split_first()
            .expect("a command has a first word");
        match &first.kind {
            OperandKind::Function(function) => {
                self.at(first.at, first);
                self.call(dot, function, (command.at, command), rest, fed)
            }
            OperandKind::Field(fields) => {
                self.at(first.at, first);
                self.fields(dot, dot.clone(), first, fields, rest, fed)
            }
            OperandKind::Variable { name, fields } => {
                self.at(first.at, first);
                let value = self.variable(name)?;
                if fields.is_empty() {
                    self.refuse_arguments(first, rest, &fed)?;
                    return Ok(value);
                }
                self.fields(dot, value, first, fields, rest, fed)
            }
            OperandKind::Chain { of, fields } => {
                self.at(first.at, first);
                let value = self.chained(dot, of)?;
                self.fields(dot, value, first, fields, rest, fed)
            }
            OperandKind::Pipe(pipe) => {
                self.refuse_arguments(first, rest, &fed)?;
                self.pipe(dot, pipe)
            }
            kind => {
                self.at(first.at, first);
                self.refuse_arguments(first, rest, &fed)?;
                match kind {
                    OperandKind::Nil => self.error("nil is not a command"),
                    kind => Ok(literal(dot, kind)),
                }
            }
        }
    }

    fn refuse_arguments(&self, first: &Operand, rest: &[Operand], fed: &Option<Value>) -> Outcome<()> {
        if rest.is_empty() && fed.is_none() {
            return Ok(());
        }
        self.error(format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Outcome<Value> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    fn chained(&mut self, dot: &Value, of: &'t Operand) -> Outcome<Value> {
        if let OperandKind::Nil = of.kind {
            return self.error("indirection through explicit nil in nil");
        }
        self.argument(dot, of, Kind::Any)
    }

    /// Follows fields one after another; the arguments go to the last.
    fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        whole: &'t Operand,
        fields: &'t [Box<str>],
        arguments: &'t [Operand],
        fed: Option<Value>,
    ) -> Outcome<Value> {
        let (last, inner) = fields.split_last().expect("a chain has a field");
        for field in inner {
            receiver = self.field(dot, receiver, whole, field, &[], None)?;
        }
        self.field(dot, receiver, whole, last, arguments, fed)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        whole: &'t Operand,
        name: &str,
        arguments: &'t [Operand],
        fed: Option<Value>,
    ) -> Outcome<Value> {
        if let Some(method) = method(&receiver, name) {
            return self.call_method(dot, method, receiver, whole, arguments, fed);
        }
        let has_arguments = !arguments.is_empty() || fed.is_some();
        let found = match &receiver {
            Value::Nil => Some(Value::Nil),
            Value::Map(map) => Some(map.entries.get(name).cloned().unwrap_or_default()),
            Value::Labels(labels) | Value::Pairs(labels) => Some(labels.get(name).unwrap_or("").into()),
            Value::Record(record) => record.field(name).cloned(),
            Value::List(list) => list
                .views
                .iter()
                .find(|(view, _)| *view == name)
                .map(|(_, value)| value.clone()),
            _ => None,
        };
        match found {
            Some(_) if has_arguments => self.error(format!("{name} is not a method but has arguments")),
            Some(value) => Ok(value),
            None => self.error(format!(
                "can't evaluate field {name} in type {}",
                receiver.type_name()
            )),
        }
    }

    fn call_method(
        &mut self,
        dot: &Value,
        method: &'static Function,
        receiver: Value,
        whole: &'t Operand,
        operands: &'t [Operand],
        fed: Option<Value>,
    ) -> Outcome<Value> {
        let given = operands.len() + usize::from(fed.is_some());
        let wanted = method.arguments.len() - 1;
        if given != wanted {
            return self.error(format!(
                "wrong number of args for {}: want {wanted} got {given}",
                method.name
            ));
        }
        let mut values = vec![receiver];
        for operand in operands {
            let kind = method.kind(values.len());
            values.push(self.argument(dot, operand, kind)?);
        }
        if let Some(value) = fed {
            values.push(self.checked(value, method.kind(values.len()))?);
        }
        self.invoke(method, (whole.at, whole), &values)
    }

    /// Calls a function: checks the number of arguments, evaluates them, and computes.
    fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        place: (usize, &'t dyn fmt::Display),
        operands: &'t [Operand],
        fed: Option<Value>,
    ) -> Outcome<Value> {
        let given = operands.len() + usize::from(fed.is_some());
        let least = function.arguments.len();
        if function.rest.is_some() && given < least {
            return self.error(format!(
                "wrong number of args for {}: want at least {least} got {}",
                function.name,
                operands.len()
            ));
        }
        if function.rest.is_none() && given != least {
            return self.error(format!(
                "wrong number of args for {}: want {least} got {given}",
                function.name
            ));
        }
        match function.body {
            Body::And => return self.until(dot, false, operands, fed),
            Body::Or => return self.until(dot, true, operands, fed),
            Body::Plain(_) => {}
        }
        let mut values = Vec::with_capacity(given);
        for operand in operands {
            let kind = function.kind(values.len());
            values.push(self.argument(dot, operand, kind)?);
        }
        if let Some(value) = fed {
            values.push(self.checked(value, function.kind(values.len()))?);
        }
        self.invoke(function, place, &values)
    }

    /// Evaluates until a value decides, and gives that or the last.
    fn until(
        &mut self,
        dot: &Value,
        deciding: bool,
        operands: &'t [Operand],
        fed: Option<Value>,
    ) -> Outcome<Value> {
        let mut value = Value::Nil;
        for operand in operands {
            value = self.argument(dot, operand, Kind::Any)?;
            if value.is_true() == deciding {
                return Ok(value);
            }
        }
        Ok(fed.unwrap_or(value))
    }

    fn invoke(
        &mut self,
        function: &'static Function,
        place: (usize, &'t dyn fmt::Display),
        values: &[Value],
    ) -> Outcome<Value> {
        let Body::Plain(body) = function.body else {
            return Ok(Value::Nil);
        };
        match body(self.environment, values) {
            Ok(value) => Ok(value),
            Err(Fault::Reason(reason)) => {
                self.place = place;
                self.error(format!("error calling {}: {reason}", function.name))
            }
            Err(Fault::TooLong) => self.limit("bytes in one text", crate::functions::TEXT_BYTES_MAX),
        }
    }

    fn argument(&mut self, dot: &Value, operand: &'t Operand, kind: Kind) -> Outcome<Value> {
        self.step()?;
        self.at(operand.at, operand);
        let value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => {
                return match kind {
                    Kind::Any => Ok(Value::Nil),
                    kind => self.error(format!("cannot assign nil to {}", kind.type_name())),
                };
            }
            OperandKind::Field(fields) => self.fields(dot, dot.clone(), operand, fields, &[], None)?,
            OperandKind::Variable { name, fields } => {
                let value = self.variable(name)?;
                if fields.is_empty() {
                    value
                } else {
                    self.fields(dot, value, operand, fields, &[], None)?
                }
            }
            OperandKind::Chain { of, fields } => {
                let value = self.chained(dot, of)?;
                self.fields(dot, value, operand, fields, &[], None)?
            }
            OperandKind::Pipe(pipe) => self.pipe(dot, pipe)?,
            OperandKind::Function(function) => self.call(dot, function, (operand.at, operand), &[], None)?,
            kind_of_literal => return self.literal_argument(operand, literal(dot, kind_of_literal), kind),
        };
        self.checked(value, kind)
    }

    fn literal_argument(&self, operand: &Operand, value: Value, kind: Kind) -> Outcome<Value> {
        match (kind, &value) {
            (Kind::Any, _) | (Kind::String, Value::String(_)) => Ok(value),
            (Kind::String, _) => self.error(format!("expected string; found {operand}")),
            // A number is a duration of nanoseconds, as an untyped constant is in Go.
            (Kind::Duration, Value::Int(number)) => Ok(Value::Duration(*number)),
            (kind, _) => self.error(format!(
                "can't handle {operand} for arg of type {}",
                kind.type_name()
            )),
        }
    }

    fn checked(&self, value: Value, kind: Kind) -> Outcome<Value> {
        if kind.accepts(&value) {
            return Ok(value);
        }
        match value {
            Value::Nil => self.error(format!("invalid value; expected {}", kind.type_name())),
            value => self.error(format!(
                "wrong type for value; expected {}; got {}",
                kind.type_name(),
                value.type_name()
            )),
        }
    }
}

fn literal(dot: &Value, kind: &OperandKind) -> Value {
    match kind {
        OperandKind::Bool(is_true) => Value::Bool(*is_true),
        OperandKind::Number { value, .. } | OperandKind::String { value, .. } => value.clone(),
        OperandKind::Dot => dot.clone(),
        _ => Value::Nil,
    }
}

/// Prints a value for a message, cut short.
fn shown(value: &Value) -> String {
    let mut out = Output::new(200);
    // What does not fit is left out; this is only a message.
    let _ = write_value(&mut out, value);
    out.into_text()
}
