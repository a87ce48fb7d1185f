//! Makes a tree of a template's tokens.
//!
//! Functions and variables are looked up here, so a template that parses names nothing that is unknown.
//! Nesting is bounded, for the executor walks the tree by recursion.
//!
//! Source: the documentation of Go's `text/template`; the words of errors are those of
//! `text/template/parse`, for users know them.

use crate::error::TemplateError;
use crate::functions::Dialect;
use crate::number;
use crate::print::quote;
use crate::token::{Keyword, Token, TokenKind, is_space, tokens};
use crate::tree::{Call, Command, Control, ControlKind, Node, Operand, OperandKind, Pipe};
use crate::unquote;
use crate::value::Value;

/// Parentheses and controls nest at most this deep.
const NESTING_MAX: usize = 100;

/// What one text holds: its own nodes first, then whatever it defines.
pub(crate) struct Parsed {
    pub nodes: Vec<Node>,
    pub definitions: Vec<(Box<str>, Vec<Node>)>,
}

/// Parses one text.
pub(crate) fn parse(dialect: Dialect, name: &str, text: &str) -> Result<Parsed, TemplateError> {
    let mut parser = Parser {
        dialect,
        name,
        text,
        tokens: tokens(text),
        next: 0,
        variables: vec!["$".into()],
        range_depth: 0,
        nesting: 0,
        action_line: 0,
        definitions: Vec::new(),
    };
    let nodes = parser.top()?;
    Ok(Parsed {
        nodes,
        definitions: parser.definitions,
    })
}

type Outcome<T> = Result<T, TemplateError>;

/// What ended a list of nodes.
enum Ending {
    End,
    Else,
}

enum Item {
    Node(Node),
    Ending(Ending),
}

struct Parser<'t> {
    dialect: Dialect,
    name: &'t str,
    text: &'t str,
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<Box<str>>,
    range_depth: usize,
    nesting: usize,
    action_line: usize,
    definitions: Vec<(Box<str>, Vec<Node>)>,
}

impl<'t> Parser<'t> {
    fn token(&self, index: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[index.min(last)]
    }

    fn peek(&self) -> &Token {
        self.token(self.next)
    }

    fn peek_after_space(&mut self) -> &Token {
        while self.peek().kind == TokenKind::Space {
            self.next += 1;
        }
        self.token(self.next)
    }

    /// Takes the next token and gives its index.
    fn take(&mut self) -> usize {
        let index = self.next.min(self.tokens.len() - 1);
        self.next = index + 1;
        index
    }

    fn take_after_space(&mut self) -> usize {
        self.peek_after_space();
        self.take()
    }

    fn word(&self, index: usize) -> &'t str {
        &self.text[self.token(index).at.clone()]
    }

    fn error<T>(&self, reason: impl Into<String>) -> Outcome<T> {
        let latest = self.next.saturating_sub(1);
        Err(TemplateError::Parse {
            name: self.name.to_owned(),
            line: self.token(latest).line,
            reason: reason.into(),
        })
    }

    fn unexpected<T>(&self, index: usize, context: &str) -> Outcome<T> {
        let token = self.token(index);
        if let Some(reason) = &token.error {
            let mut extra = String::new();
            if self.action_line != 0 && self.action_line != token.line {
                let joint = if reason.ends_with(" action") {
                    ""
                } else {
                    " in action"
                };
                extra = format!("{joint} started at {}:{}", self.name, self.action_line);
            }
            return self.error(format!("{reason}{extra}"));
        }
        self.error(format!("unexpected {} in {context}", self.shown(index)))
    }

    fn shown(&self, index: usize) -> String {
        let text = self.word(index);
        match self.token(index).kind {
            TokenKind::End => "EOF".to_owned(),
            TokenKind::Keyword(_) => format!("<{text}>"),
            _ if text.chars().count() > 10 => {
                format!("{}...", quote(&text.chars().take(10).collect::<String>()))
            }
            _ => quote(text),
        }
    }

    fn expect_right(&mut self, context: &str) -> Outcome<()> {
        let index = self.take_after_space();
        if self.token(index).kind != TokenKind::RightDelimiter {
            return self.unexpected(index, context);
        }
        Ok(())
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.nesting == NESTING_MAX {
            return Err(TemplateError::Limit {
                name: self.name.to_owned(),
                what: "levels of nesting",
                limit: NESTING_MAX,
            });
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn top(&mut self) -> Outcome<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().kind != TokenKind::End {
            if self.peek().kind == TokenKind::LeftDelimiter {
                let delimiter = self.next;
                self.take();
                let index = self.take_after_space();
                if self.token(index).kind == TokenKind::Keyword(Keyword::Define) {
                    self.define()?;
                    continue;
                }
                self.next = delimiter;
            }
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(Ending::End) => return self.error("unexpected {{end}}"),
                Item::Ending(Ending::Else) => return self.error("unexpected {{else}}"),
            }
        }
        Ok(nodes)
    }

    fn define(&mut self) -> Outcome<()> {
        let context = "define clause";
        let name = self.name_literal(context)?;
        self.expect_right(context)?;
        let nodes = self.separate_list(context)?;
        self.definitions.push((name, nodes));
        Ok(())
    }

    /// Reads the body of a `define` or `block`, which sees no variables but `$`.
    fn separate_list(&mut self, context: &str) -> Outcome<Vec<Node>> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let outer_ranges = std::mem::replace(&mut self.range_depth, 0);
        let (nodes, ending) = self.nested(Self::list)?;
        self.variables = outer;
        self.range_depth = outer_ranges;
        if let Ending::Else = ending {
            return self.error(format!("unexpected {{{{else}}}} in {context}"));
        }
        Ok(nodes)
    }

    fn name_literal(&mut self, context: &str) -> Outcome<Box<str>> {
        let index = self.take_after_space();
        match self.token(index).kind {
            TokenKind::String | TokenKind::RawString => match unquote::unquote(self.word(index)) {
                Some(name) => Ok(name.into()),
                None => self.error("invalid syntax"),
            },
            _ => self.unexpected(index, context),
        }
    }

    fn list(&mut self) -> Outcome<(Vec<Node>, Ending)> {
        let mut nodes = Vec::new();
        while self.peek().kind != TokenKind::End {
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => return Ok((nodes, ending)),
            }
        }
        self.take();
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Outcome<Item> {
        let index = self.take_after_space();
        match self.token(index).kind {
            TokenKind::Text => Ok(Item::Node(Node::Text(self.word(index).into()))),
            TokenKind::LeftDelimiter => {
                self.action_line = self.token(index).line;
                let item = self.action()?;
                self.action_line = 0;
                Ok(item)
            }
            _ => self.unexpected(index, "input"),
        }
    }

    fn action(&mut self) -> Outcome<Item> {
        let index = self.take_after_space();
        let TokenKind::Keyword(keyword) = self.token(index).kind else {
            self.next = index;
            let pipe = self.pipeline("command", TokenKind::RightDelimiter)?;
            return Ok(Item::Node(Node::Action(pipe)));
        };
        let node = match keyword {
            Keyword::Block => Node::Template(self.block()?),
            Keyword::Break => self.loop_exit("break", Node::Break)?,
            Keyword::Continue => self.loop_exit("continue", Node::Continue)?,
            Keyword::Else => {
                let next = self.peek_after_space().kind;
                if !matches!(next, TokenKind::Keyword(Keyword::If | Keyword::With)) {
                    self.expect_right("else")?;
                }
                return Ok(Item::Ending(Ending::Else));
            }
            Keyword::End => {
                self.expect_right("end")?;
                return Ok(Item::Ending(Ending::End));
            }
            Keyword::If => self.control(ControlKind::If)?,
            Keyword::Range => self.control(ControlKind::Range)?,
            Keyword::With => self.control(ControlKind::With)?,
            Keyword::Template => Node::Template(self.template()?),
            Keyword::Define => return self.unexpected(index, "command"),
        };
        Ok(Item::Node(node))
    }

    fn loop_exit(&mut self, word: &str, node: Node) -> Outcome<Node> {
        let index = self.take_after_space();
        if self.token(index).kind != TokenKind::RightDelimiter {
            return self.unexpected(index, &format!("{{{{{word}}}}}"));
        }
        if self.range_depth == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn control(&mut self, kind: ControlKind) -> Outcome<Node> {
        let variables = self.variables.len();
        let context = match kind {
            ControlKind::If => "if",
            ControlKind::With => "with",
            ControlKind::Range => "range",
        };
        let control = self.nested(|parser| {
            let pipe = parser.pipeline(context, TokenKind::RightDelimiter)?;
            let is_range = usize::from(kind == ControlKind::Range);
            parser.range_depth += is_range;
            let (body, ending) = parser.list()?;
            parser.range_depth -= is_range;
            let otherwise = match ending {
                Ending::End => Vec::new(),
                Ending::Else => parser.otherwise(kind)?,
            };
            Ok(Control {
                kind,
                pipe,
                body,
                otherwise,
            })
        })?;
        self.variables.truncate(variables);
        Ok(Node::Control(Box::new(control)))
    }

    /// Reads what follows `{{else}}`; for `{{else if}}` and `{{else with}}` one `{{end}}` ends both.
    fn otherwise(&mut self, kind: ControlKind) -> Outcome<Vec<Node>> {
        if let TokenKind::Keyword(keyword) = self.peek().kind {
            let index = self.take();
            return match (kind, keyword) {
                (ControlKind::If, Keyword::If) | (ControlKind::With, Keyword::With) => {
                    Ok(vec![self.control(kind)?])
                }
                _ => self.unexpected(index, "else"),
            };
        }
        let (nodes, ending) = self.list()?;
        match ending {
            Ending::End => Ok(nodes),
            Ending::Else => self.error("expected end; found {{else}}"),
        }
    }

    fn block(&mut self) -> Outcome<Call> {
        let at = self.peek_after_space().at.start;
        let context = "block clause";
        let name = self.name_literal(context)?;
        let pipe = self.pipeline(context, TokenKind::RightDelimiter)?;
        let nodes = self.separate_list(context)?;
        self.definitions.push((name.clone(), nodes));
        Ok(Call {
            at,
            quoted: quote(&name).into(),
            name,
            pipe: Some(pipe),
        })
    }

    fn template(&mut self) -> Outcome<Call> {
        let at = self.peek_after_space().at.start;
        let context = "template clause";
        let name = self.name_literal(context)?;
        let pipe = if self.peek_after_space().kind == TokenKind::RightDelimiter {
            self.take();
            None
        } else {
            Some(self.pipeline(context, TokenKind::RightDelimiter)?)
        };
        Ok(Call {
            at,
            quoted: quote(&name).into(),
            name,
            pipe,
        })
    }

    fn pipeline(&mut self, context: &str, end: TokenKind) -> Outcome<Pipe> {
        let at = self.peek_after_space().at.start;
        let (declared, is_assign) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let index = self.take_after_space();
            match self.token(index).kind {
                kind if kind == end => break,
                TokenKind::Bool
                | TokenKind::CharacterConstant
                | TokenKind::Dot
                | TokenKind::Field
                | TokenKind::Identifier
                | TokenKind::Number
                | TokenKind::Nil
                | TokenKind::RawString
                | TokenKind::String
                | TokenKind::Variable
                | TokenKind::LeftParenthesis => {
                    self.next = index;
                    commands.push(self.command()?);
                }
                _ => return self.unexpected(index, context),
            }
        }
        self.check_pipeline(&commands, context)?;
        Ok(Pipe {
            at,
            is_assign,
            declared,
            commands,
        })
    }

    fn check_pipeline(&self, commands: &[Command], context: &str) -> Outcome<()> {
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in commands.iter().enumerate().skip(1) {
            let is_executable = !matches!(
                command.arguments[0].kind,
                OperandKind::Bool(_)
                    | OperandKind::Dot
                    | OperandKind::Nil
                    | OperandKind::Number { .. }
                    | OperandKind::String { .. }
            );
            if !is_executable {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    /// Reads `$x :=`, `$x =` and, for a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Outcome<(Vec<Box<str>>, bool)> {
        let mut declared: Vec<Box<str>> = Vec::new();
        while self.peek_after_space().kind == TokenKind::Variable {
            let variable = self.take();
            let name: Box<str> = self.word(variable).into();
            let kind = self.peek_after_space().kind;
            match kind {
                TokenKind::Assign | TokenKind::Declare => {
                    self.take();
                    self.variables.push(name.clone());
                    declared.push(name);
                    return Ok((declared, kind == TokenKind::Assign));
                }
                TokenKind::Character if self.word(self.next) == "," => {
                    self.take();
                    self.variables.push(name.clone());
                    declared.push(name);
                    if context != "range" || declared.len() >= 2 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    if self.peek_after_space().kind != TokenKind::Variable {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    self.next = variable;
                    break;
                }
            }
        }
        Ok((declared, false))
    }

    fn command(&mut self) -> Outcome<Command> {
        let at = self.peek_after_space().at.start;
        let mut arguments = Vec::new();
        loop {
            self.peek_after_space();
            if let Some(operand) = self.operand()? {
                arguments.push(operand);
            }
            let index = self.take();
            match self.token(index).kind {
                TokenKind::Space => continue,
                TokenKind::RightDelimiter | TokenKind::RightParenthesis => self.next = index,
                TokenKind::Pipe => {}
                _ => return self.unexpected(index, "operand"),
            }
            break;
        }
        if arguments.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { at, arguments })
    }

    /// Reads a term and the fields that follow it directly.
    fn operand(&mut self) -> Outcome<Option<Operand>> {
        let Some(mut term) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != TokenKind::Field {
            return Ok(Some(term));
        }
        let at = self.peek().at.start;
        let mut more: Vec<Box<str>> = Vec::new();
        while self.peek().kind == TokenKind::Field {
            let index = self.take();
            more.push(self.word(index)[1..].into());
        }
        match &mut term.kind {
            OperandKind::Field(fields) | OperandKind::Variable { fields, .. } => {
                fields.append(&mut more);
                term.at = at;
            }
            OperandKind::Bool(_)
            | OperandKind::String { .. }
            | OperandKind::Number { .. }
            | OperandKind::Nil
            | OperandKind::Dot => {
                return self.error(format!("unexpected . after term {}", quote(&term.to_string())));
            }
            _ => {
                let kind = OperandKind::Chain {
                    of: Box::new(term),
                    fields: more,
                };
                return Ok(Some(Operand { at, kind }));
            }
        }
        Ok(Some(term))
    }

    fn term(&mut self) -> Outcome<Option<Operand>> {
        let index = self.take_after_space();
        let (text, at) = (self.word(index), self.token(index).at.start);
        let kind =
            match self.token(index).kind {
                TokenKind::Identifier => match self.dialect.function(text) {
                    Some(function) => OperandKind::Function(function),
                    None => return self.error(format!("function {} not defined", quote(text))),
                },
                TokenKind::Dot => OperandKind::Dot,
                TokenKind::Nil => OperandKind::Nil,
                TokenKind::Bool => OperandKind::Bool(text == "true"),
                TokenKind::Field => OperandKind::Field(vec![text[1..].into()]),
                TokenKind::Variable => {
                    if !self.variables.iter().any(|name| **name == *text) {
                        return self.error(format!("undefined variable {}", quote(text)));
                    }
                    OperandKind::Variable {
                        name: text.into(),
                        fields: Vec::new(),
                    }
                }
                TokenKind::Number => match number_literal(text) {
                    Some(value) => OperandKind::Number {
                        value,
                        text: text.into(),
                    },
                    None => return self.error(format!("{}: {}", number_fault(text), quote(text))),
                },
                TokenKind::CharacterConstant => match unquote::unquote_character(text) {
                    Some(c) => OperandKind::Number {
                        value: Value::Int(i64::from(c as u32)),
                        text: text.into(),
                    },
                    None => return self.error(format!("malformed character constant: {text}")),
                },
                TokenKind::String | TokenKind::RawString => match unquote::unquote(text) {
                    Some(value) => OperandKind::String {
                        value: value.into(),
                        text: text.into(),
                    },
                    None => return self.error("invalid syntax"),
                },
                TokenKind::LeftParenthesis => OperandKind::Pipe(self.nested(|parser| {
                    parser.pipeline("parenthesized pipeline", TokenKind::RightParenthesis)
                })?),
                _ => {
                    self.next = index;
                    return Ok(None);
                }
            };
        Ok(Some(Operand { at, kind }))
    }
}

/// Reads a number: an integer where it can be one and is not written as a float.
fn number_literal(text: &str) -> Option<Value> {
    let is_hexadecimal = text
        .trim_start_matches(['+', '-'])
        .to_ascii_lowercase()
        .starts_with("0x");
    let looks_like_float = text.contains(['.', 'p', 'P']) || (!is_hexadecimal && text.contains(['e', 'E']));
    if !looks_like_float {
        return number::parse_int(text).map(Value::Int);
    }
    number::parse_float(&number::without_underscores(text)?).map(Value::Float)
}

fn number_fault(text: &str) -> &'static str {
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => "integer overflow",
        false => "bad number syntax",
    }
}

/// Says whether a text holds nothing but space, so that a definition by it counts as none.
pub(crate) fn is_empty(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| match node {
        Node::Text(text) => text.chars().all(is_space),
        _ => false,
    })
}
