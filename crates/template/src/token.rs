//! Splits a template's text into tokens.
//!
//! The grammar is Go's `text/template` with the delimiters `{{` and `}}`. Trim markers are applied
//! here, so that the parser sees only the text that remains. A fault becomes the last token, for what
//! stands before it may hold an earlier one.
//!
//! Source: the documentation of Go's `text/template`, and `text/template/parse` for the words of errors.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    Text,
    LeftDelimiter,
    RightDelimiter,
    Space,
    Bool,
    Character,
    CharacterConstant,
    Number,
    Assign,
    Declare,
    Pipe,
    LeftParenthesis,
    RightParenthesis,
    Dot,
    Nil,
    Field,
    Variable,
    Identifier,
    String,
    RawString,
    Keyword(Keyword),
    Error,
    End,
}

/// The words that steer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

const KEYWORDS: [(&str, Keyword); 10] = [
    ("block", Keyword::Block),
    ("break", Keyword::Break),
    ("continue", Keyword::Continue),
    ("define", Keyword::Define),
    ("else", Keyword::Else),
    ("end", Keyword::End),
    ("if", Keyword::If),
    ("range", Keyword::Range),
    ("template", Keyword::Template),
    ("with", Keyword::With),
];

/// One token: where it stands, or, for an error, why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub at: Range<usize>,
    pub line: usize,
    pub error: Option<String>,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
const COMMENT_START: &str = "/*";
const COMMENT_END: &str = "*/";

/// Splits the whole text; the last token is `End` or `Error`.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        start: 0,
        position: 0,
        line: 1,
        depth: 0,
        tokens: Vec::new(),
    };
    if let Err(reason) = lexer.run() {
        let at = lexer.start..lexer.position;
        lexer.tokens.push(Token {
            kind: TokenKind::Error,
            at,
            line: lexer.line,
            error: Some(reason),
        });
    }
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    start: usize,
    position: usize,
    line: usize,
    depth: usize,
    tokens: Vec<Token>,
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl<'t> Lexer<'t> {
    fn run(&mut self) -> Result<(), String> {
        loop {
            let Some(found) = self.rest().find(LEFT) else {
                self.position = self.text.len();
                self.emit_text();
                self.emit(TokenKind::End);
                return Ok(());
            };
            self.position += found;
            let delimiter = self.position;
            if has_left_trim(&self.text[delimiter + LEFT.len()..]) {
                let trimmed = self.text[self.start..delimiter].trim_end_matches(is_space).len();
                self.position = self.start + trimmed;
            }
            self.emit_text();
            self.skip_to(delimiter);
            self.action()?;
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.position += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, kind: TokenKind) {
        let at = self.start..self.position;
        self.tokens.push(Token {
            kind,
            at,
            line: self.line,
            error: None,
        });
        self.ignore();
    }

    fn emit_text(&mut self) {
        if self.position > self.start {
            self.emit(TokenKind::Text);
        }
    }

    fn ignore(&mut self) {
        self.line += self.text[self.start..self.position].matches('\n').count();
        self.start = self.position;
    }

    fn skip_to(&mut self, position: usize) {
        self.position = position;
        self.ignore();
    }

    /// Reads from `{{` to `}}` or over a comment.
    fn action(&mut self) -> Result<(), String> {
        let after = self.position + LEFT.len();
        let marker = if has_left_trim(&self.text[after..]) { 2 } else { 0 };
        if self.text[after + marker..].starts_with(COMMENT_START) {
            self.skip_to(after + marker);
            return self.comment();
        }
        self.position = after;
        self.emit(TokenKind::LeftDelimiter);
        self.skip_to(after + marker);
        self.depth = 0;
        loop {
            let (is_right, is_trimmed) = self.at_right();
            if is_right {
                if self.depth > 0 {
                    return Err("unclosed left paren".to_owned());
                }
                self.right(is_trimmed);
                return Ok(());
            }
            self.inside()?;
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let Some(end) = self.rest().find(COMMENT_END) else {
            return Err("unclosed comment".to_owned());
        };
        self.position += end + COMMENT_END.len();
        let (is_right, is_trimmed) = self.at_right();
        if !is_right {
            return Err("comment ends before closing delimiter".to_owned());
        }
        let end = self.position + if is_trimmed { 2 } else { 0 } + RIGHT.len();
        self.skip_to(end);
        if is_trimmed {
            self.trim_following();
        }
        Ok(())
    }

    /// Says whether the action ends here, and whether what follows is trimmed.
    fn at_right(&self) -> (bool, bool) {
        let rest = self.rest();
        if has_right_trim(rest) && rest[2..].starts_with(RIGHT) {
            return (true, true);
        }
        (rest.starts_with(RIGHT), false)
    }

    fn right(&mut self, is_trimmed: bool) {
        if is_trimmed {
            self.skip_to(self.position + 2);
        }
        self.position += RIGHT.len();
        self.emit(TokenKind::RightDelimiter);
        if is_trimmed {
            self.trim_following();
        }
    }

    fn trim_following(&mut self) {
        let rest = self.rest();
        let spaces = rest.len() - rest.trim_start_matches(is_space).len();
        self.skip_to(self.position + spaces);
    }

    /// Reads one token inside an action.
    fn inside(&mut self) -> Result<(), String> {
        let Some(c) = self.next() else {
            return Err("unclosed action".to_owned());
        };
        match c {
            c if is_space(c) => self.space(),
            '=' => self.emit(TokenKind::Assign),
            ':' => {
                if self.next() != Some('=') {
                    return Err("expected :=".to_owned());
                }
                self.emit(TokenKind::Declare);
            }
            '|' => self.emit(TokenKind::Pipe),
            '"' => return self.quoted('"', TokenKind::String, "unterminated quoted string"),
            '\'' => {
                return self.quoted(
                    '\'',
                    TokenKind::CharacterConstant,
                    "unterminated character constant",
                );
            }
            '`' => {
                let Some(end) = self.rest().find('`') else {
                    return Err("unterminated raw quoted string".to_owned());
                };
                self.position += end + 1;
                self.emit(TokenKind::RawString);
            }
            '$' => return self.name_after(TokenKind::Variable, TokenKind::Variable),
            '.' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => {
                return self.name_after(TokenKind::Field, TokenKind::Dot);
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.position = self.start;
                return self.number();
            }
            c if is_word(c) => return self.identifier(),
            '(' => {
                self.depth += 1;
                self.emit(TokenKind::LeftParenthesis);
            }
            ')' => {
                self.emit(TokenKind::RightParenthesis);
                let Some(depth) = self.depth.checked_sub(1) else {
                    return Err("unexpected right paren".to_owned());
                };
                self.depth = depth;
            }
            c if c.is_ascii_graphic() => self.emit(TokenKind::Character),
            c => {
                return Err(format!(
                    "unrecognized character in action: {}",
                    unicode_notation(c)
                ));
            }
        }
        Ok(())
    }

    fn space(&mut self) {
        // The space of a closing ` -}}` belongs to the delimiter.
        self.position = self.start;
        while self.peek().is_some_and(is_space) && !self.at_right().0 {
            self.next();
        }
        if self.position > self.start {
            self.emit(TokenKind::Space);
        }
    }

    fn quoted(&mut self, quote: char, kind: TokenKind, fault: &str) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                None | Some('\n') | Some('\\') => return Err(fault.to_owned()),
                Some(c) if c == quote => {
                    self.emit(kind);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
    }

    /// Reads `.name` or `$name`; with no name it is `alone`.
    fn name_after(&mut self, kind: TokenKind, alone: TokenKind) -> Result<(), String> {
        if self.at_terminator() {
            self.emit(alone);
            return Ok(());
        }
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        self.expect_terminator()?;
        self.emit(kind);
        Ok(())
    }

    fn identifier(&mut self) -> Result<(), String> {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        self.expect_terminator()?;
        let word = &self.text[self.start..self.position];
        let keyword = KEYWORDS.iter().find(|(text, _)| *text == word);
        self.emit(match (word, keyword) {
            (_, Some((_, keyword))) => TokenKind::Keyword(*keyword),
            ("true" | "false", _) => TokenKind::Bool,
            ("nil", _) => TokenKind::Nil,
            _ => TokenKind::Identifier,
        });
        Ok(())
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) => {
                is_space(c)
                    || matches!(c, '.' | ',' | '|' | ':' | ')' | '(')
                    || self.rest().starts_with(RIGHT)
            }
        }
    }

    fn expect_terminator(&mut self) -> Result<(), String> {
        if self.at_terminator() {
            return Ok(());
        }
        let c = self.next().unwrap_or_default();
        Err(format!("bad character {}", unicode_notation(c)))
    }

    fn number(&mut self) -> Result<(), String> {
        let accept = |lexer: &mut Self, set: &str| {
            let has = lexer.peek().is_some_and(|c| set.contains(c));
            if has {
                lexer.next();
            }
            has
        };
        let run = |lexer: &mut Self, set: &str| while accept(lexer, set) {};
        accept(self, "+-");
        let mut digits = "0123456789_";
        if accept(self, "0") {
            if accept(self, "xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if accept(self, "oO") {
                digits = "01234567_";
            } else if accept(self, "bB") {
                digits = "01_";
            }
        }
        run(self, digits);
        if accept(self, ".") {
            run(self, digits);
        }
        if (digits.len() == 11 && accept(self, "eE")) || (digits.len() == 23 && accept(self, "pP")) {
            accept(self, "+-");
            run(self, "0123456789_");
        }
        if self.peek().is_some_and(is_word) {
            self.next();
            return Err(format!(
                "bad number syntax: {:?}",
                &self.text[self.start..self.position]
            ));
        }
        self.emit(TokenKind::Number);
        Ok(())
    }
}

/// Writes a character as Go's `%#U` does.
pub(crate) fn unicode_notation(c: char) -> String {
    if c.is_control() {
        format!("U+{:04X}", c as u32)
    } else {
        format!("U+{:04X} '{c}'", c as u32)
    }
}

fn has_left_trim(after_delimiter: &str) -> bool {
    let mut chars = after_delimiter.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

fn has_right_trim(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next().is_some_and(is_space) && chars.next() == Some('-')
}
