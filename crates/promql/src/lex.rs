//! Takes an expression's text apart into tokens.
//!
//! The tokens and the words about what is none are those of Prometheus, so the lexer keeps the same
//! state: within braces every word is an identifier, within brackets only lengths of time are known.
//! Lazy by design: a token is read when it is asked for, so that the first fault of a text is found first.

use crate::ast::{AggregateOp, Arithmetic, BinaryOp, Comparison, SetOp};
use crate::parse::{ParseError, Read};
use crate::quote::{Quoted, QuotedChar};
use crate::span::Span;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenKind {
    End,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=`
    Equal,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
    /// `@`
    At,
    Number,
    Duration,
    /// A string with its quotes.
    Text,
    Identifier,
    /// An identifier with colons.
    MetricIdentifier,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    /// A word that may be a function of the query's times.
    Moment(Moment),
}

/// A word that modifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// A word for a time of the query, or a choice between lengths of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    pub(crate) fn span(self) -> Span {
        Span::new(self.start, self.end)
    }
}

/// Every word of the language, in any case of letters.
const WORDS: &[(&str, TokenKind)] = &[
    ("and", TokenKind::Operator(BinaryOp::Set(SetOp::And))),
    ("or", TokenKind::Operator(BinaryOp::Set(SetOp::Or))),
    ("unless", TokenKind::Operator(BinaryOp::Set(SetOp::Unless))),
    (
        "atan2",
        TokenKind::Operator(BinaryOp::Arithmetic(Arithmetic::Atan2)),
    ),
    ("sum", TokenKind::Aggregate(AggregateOp::Sum)),
    ("avg", TokenKind::Aggregate(AggregateOp::Avg)),
    ("count", TokenKind::Aggregate(AggregateOp::Count)),
    ("min", TokenKind::Aggregate(AggregateOp::Min)),
    ("max", TokenKind::Aggregate(AggregateOp::Max)),
    ("group", TokenKind::Aggregate(AggregateOp::Group)),
    ("stddev", TokenKind::Aggregate(AggregateOp::Stddev)),
    ("stdvar", TokenKind::Aggregate(AggregateOp::Stdvar)),
    ("topk", TokenKind::Aggregate(AggregateOp::Topk)),
    ("bottomk", TokenKind::Aggregate(AggregateOp::Bottomk)),
    ("count_values", TokenKind::Aggregate(AggregateOp::CountValues)),
    ("quantile", TokenKind::Aggregate(AggregateOp::Quantile)),
    ("limitk", TokenKind::Aggregate(AggregateOp::Limitk)),
    ("limit_ratio", TokenKind::Aggregate(AggregateOp::LimitRatio)),
    ("offset", TokenKind::Keyword(Keyword::Offset)),
    ("smoothed", TokenKind::Keyword(Keyword::Smoothed)),
    ("anchored", TokenKind::Keyword(Keyword::Anchored)),
    ("by", TokenKind::Keyword(Keyword::By)),
    ("without", TokenKind::Keyword(Keyword::Without)),
    ("on", TokenKind::Keyword(Keyword::On)),
    ("ignoring", TokenKind::Keyword(Keyword::Ignoring)),
    ("group_left", TokenKind::Keyword(Keyword::GroupLeft)),
    ("group_right", TokenKind::Keyword(Keyword::GroupRight)),
    ("fill", TokenKind::Keyword(Keyword::Fill)),
    ("fill_left", TokenKind::Keyword(Keyword::FillLeft)),
    ("fill_right", TokenKind::Keyword(Keyword::FillRight)),
    ("bool", TokenKind::Keyword(Keyword::Bool)),
    ("start", TokenKind::Moment(Moment::Start)),
    ("end", TokenKind::Moment(Moment::End)),
    ("step", TokenKind::Moment(Moment::Step)),
    ("range", TokenKind::Moment(Moment::Range)),
    ("max_of", TokenKind::Moment(Moment::MaxOf)),
    ("min_of", TokenKind::Moment(Moment::MinOf)),
    ("inf", TokenKind::Number),
    ("nan", TokenKind::Number),
];

/// No word of the language is longer.
const WORD_BYTES_MAX: usize = 12;

/// Finds what a word means to the language, whatever the case of its letters.
pub(crate) fn word_kind(word: &str) -> Option<TokenKind> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let known = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    known.map(|(_, kind)| *kind)
}

/// Gives the words that may follow an operand.
pub(crate) fn followers() -> impl Iterator<Item = &'static str> {
    let is_follower = |kind: &TokenKind| matches!(kind, TokenKind::Operator(_) | TokenKind::Keyword(_));
    words(is_follower)
}

/// Gives the words that aggregate.
pub(crate) fn aggregations() -> impl Iterator<Item = &'static str> {
    words(|kind| matches!(kind, TokenKind::Aggregate(_)))
}

fn words(is_wanted: impl Fn(&TokenKind) -> bool) -> impl Iterator<Item = &'static str> {
    let wanted = WORDS.iter().filter(move |(_, kind)| is_wanted(kind));
    wanted.map(|(word, _)| *word)
}

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the token at hand began.
    start: usize,
    parens: usize,
    is_brace_open: bool,
    is_bracket_open: bool,
    has_colon: bool,
    has_length: bool,
    /// Whether a bracket was opened and no number has been seen in it.
    expects_length: bool,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer {
            text,
            at: 0,
            start: 0,
            parens: 0,
            is_brace_open: false,
            is_bracket_open: false,
            has_colon: false,
            has_length: false,
            expects_length: false,
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += next.map_or(0, char::len_utf8);
        next
    }

    /// Takes the next character if it is one of `chars`.
    fn accept(&mut self, chars: &str) -> bool {
        let is_one = self.peek().is_some_and(|c| chars.contains(c));
        self.at += usize::from(is_one);
        is_one
    }

    fn is_next(&self, chars: &str) -> bool {
        self.peek().is_some_and(|c| chars.contains(c))
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.bump();
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Read<T> {
        Err(ParseError::boxed(message, Span::new(self.start, self.text.len())))
    }

    /// An error whose place begins after the character at hand.
    fn error_after<T>(&mut self, message: impl Into<String>) -> Read<T> {
        self.start = self.at;
        self.error(message)
    }

    fn token(&self, kind: TokenKind) -> Read<Token> {
        Ok(Token {
            kind,
            start: self.start,
            end: self.at,
        })
    }

    /// Gives the next token; after the last, always [`TokenKind::End`].
    pub(crate) fn next(&mut self) -> Read<Token> {
        loop {
            self.skip_while(is_space);
            self.start = self.at;
            let is_comment = !self.expects_length && self.is_next("#");
            if !is_comment {
                break;
            }
            self.skip_while(|c| c != '\n' && c != '\r');
        }
        if self.is_brace_open {
            self.inside_braces()
        } else if self.expects_length {
            self.length_part()
        } else {
            self.statement()
        }
    }

    fn statement(&mut self) -> Read<Token> {
        let Some(c) = self.bump() else {
            if self.parens != 0 {
                return self.error("unclosed left parenthesis");
            }
            if self.is_bracket_open {
                return self.error("unclosed left bracket");
            }
            return self.token(TokenKind::End);
        };
        match c {
            ',' => self.token(TokenKind::Comma),
            '@' => self.token(TokenKind::At),
            '*' | '/' | '%' | '+' | '-' | '^' => self.arithmetic(c),
            '=' | '!' | '<' | '>' => self.comparison(c),
            '0'..='9' => self.number_or_duration(),
            '.' if self.peek().is_some_and(|next| next.is_ascii_digit()) => self.number_or_duration(),
            '"' | '\'' | '`' => self.text(c),
            '(' => self.left_paren(),
            ')' => self.right_paren(),
            '{' => {
                self.is_brace_open = true;
                self.token(TokenKind::LeftBrace)
            }
            '[' if self.is_bracket_open => self.error("unexpected left bracket '['"),
            '[' => {
                (self.is_bracket_open, self.expects_length) = (true, true);
                (self.has_colon, self.has_length) = (false, false);
                self.token(TokenKind::LeftBracket)
            }
            ']' if !self.is_bracket_open => self.error("unexpected right bracket ']'"),
            ']' => {
                self.is_bracket_open = false;
                self.token(TokenKind::RightBracket)
            }
            c if is_alpha(c) || c == ':' => self.word(c),
            c => self.error(format!("unexpected character: {}", QuotedChar(c))),
        }
    }

    fn arithmetic(&self, c: char) -> Read<Token> {
        let op = match c {
            '*' => Arithmetic::Multiply,
            '/' => Arithmetic::Divide,
            '%' => Arithmetic::Modulo,
            '+' => Arithmetic::Add,
            '-' => Arithmetic::Subtract,
            _ => Arithmetic::Power,
        };
        self.token(TokenKind::Operator(BinaryOp::Arithmetic(op)))
    }

    fn comparison(&mut self, c: char) -> Read<Token> {
        let next = self.peek();
        let op = match (c, next) {
            ('=', Some('~')) => return self.error("unexpected character after '=': '~'"),
            ('=', Some('=')) => BinaryOp::Comparison(Comparison::Equal),
            ('=', _) => return self.token(TokenKind::Equal),
            ('!', Some('=')) => BinaryOp::Comparison(Comparison::NotEqual),
            ('!', other) => {
                let other = QuotedChar(other.unwrap_or(char::REPLACEMENT_CHARACTER));
                return self.error(format!("unexpected character after '!': {other}"));
            }
            ('<', Some('=')) => BinaryOp::Comparison(Comparison::LessOrEqual),
            ('<', Some('/')) => BinaryOp::Arithmetic(Arithmetic::TrimUpper),
            ('<', _) => return self.token(TokenKind::Operator(BinaryOp::Comparison(Comparison::Less))),
            (_, Some('=')) => BinaryOp::Comparison(Comparison::GreaterOrEqual),
            (_, Some('/')) => BinaryOp::Arithmetic(Arithmetic::TrimLower),
            _ => return self.token(TokenKind::Operator(BinaryOp::Comparison(Comparison::Greater))),
        };
        self.bump();
        self.token(TokenKind::Operator(op))
    }

    fn left_paren(&mut self) -> Read<Token> {
        self.parens += 1;
        self.token(TokenKind::LeftParen)
    }

    fn right_paren(&mut self) -> Read<Token> {
        match self.parens.checked_sub(1) {
            None => self.error_after("unexpected right parenthesis ')'"),
            Some(parens) => {
                self.parens = parens;
                self.token(TokenKind::RightParen)
            }
        }
    }

    /// A word, or a colon within brackets.
    fn word(&mut self, c: char) -> Read<Token> {
        if self.is_bracket_open {
            if c == ':' {
                if self.has_colon {
                    return self.error("unexpected colon ':'");
                }
                self.has_colon = true;
                return self.token(TokenKind::Colon);
            }
            return match self.length_word(c) {
                Some(moment) => self.token(TokenKind::Moment(moment)),
                None => self.error(format!("unexpected character: {}, expected ':'", QuotedChar(c))),
            };
        }
        self.skip_while(|c| is_alphanumeric(c) || c == ':');
        let word = &self.text[self.start..self.at];
        match word_kind(word) {
            // Only before a parenthesis, for metrics may have these names.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.text[self.at..].trim_start_matches(is_space).starts_with('(') =>
            {
                self.token(TokenKind::Identifier)
            }
            Some(kind) => self.token(kind),
            None if word.contains(':') => self.token(TokenKind::MetricIdentifier),
            None => self.token(TokenKind::Identifier),
        }
    }

    /// Takes a word that may stand among lengths of time; `first` has been taken already.
    fn length_word(&mut self, first: char) -> Option<Moment> {
        if !"smr".contains(first.to_ascii_lowercase()) {
            return None;
        }
        self.skip_while(is_alpha);
        match word_kind(&self.text[self.start..self.at])? {
            TokenKind::Moment(Moment::Start | Moment::End) => None,
            TokenKind::Moment(moment) => Some(moment),
            _ => None,
        }
    }

    /// A token between a left bracket and the first number after it.
    fn length_part(&mut self) -> Read<Token> {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input in duration expression");
        };
        match c {
            ']' => {
                (self.is_bracket_open, self.has_colon, self.expects_length) = (false, false, false);
                self.token(TokenKind::RightBracket)
            }
            ':' if !self.has_length => {
                self.error_after("unexpected colon before duration in duration expression")
            }
            ':' if self.has_colon => self.error_after("unexpected repeated colon in duration expression"),
            ':' => {
                self.has_colon = true;
                self.token(TokenKind::Colon)
            }
            '(' => self.left_paren(),
            ')' => self.right_paren(),
            '+' | '-' | '*' | '/' | '%' | '^' => self.arithmetic(c),
            ',' => self.token(TokenKind::Comma),
            '0'..='9' | '.' if c != '.' || self.peek().is_some_and(|next| next.is_ascii_digit()) => {
                (self.has_length, self.expects_length) = (true, false);
                self.number_or_duration()
            }
            c => match self.length_word(c) {
                Some(moment) => {
                    self.has_length = true;
                    self.token(TokenKind::Moment(moment))
                }
                None => self.error(format!(
                    "unexpected character in duration expression: {}",
                    QuotedChar(c)
                )),
            },
        }
    }

    fn inside_braces(&mut self) -> Read<Token> {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input inside braces");
        };
        match c {
            ',' => self.token(TokenKind::Comma),
            '"' | '\'' | '`' => self.text(c),
            '=' if self.accept("~") => self.token(TokenKind::Matches),
            '=' => self.token(TokenKind::Equal),
            '!' if self.accept("~") => self.token(TokenKind::NotMatches),
            '!' if self.accept("=") => {
                self.token(TokenKind::Operator(BinaryOp::Comparison(Comparison::NotEqual)))
            }
            '!' => {
                let next = QuotedChar(self.peek().unwrap_or(char::REPLACEMENT_CHARACTER));
                self.error(format!("unexpected character after '!' inside braces: {next}"))
            }
            '{' => self.error("unexpected left brace '{'"),
            '}' => {
                self.is_brace_open = false;
                self.token(TokenKind::RightBrace)
            }
            c if is_alpha(c) => {
                self.skip_while(is_alphanumeric);
                self.token(TokenKind::Identifier)
            }
            c => self.error(format!("unexpected character inside braces: {}", QuotedChar(c))),
        }
    }

    /// A string; its opening quote has been taken.
    fn text(&mut self, quote: char) -> Read<Token> {
        loop {
            match self.bump() {
                None if quote == '`' => return self.error("unterminated raw string"),
                None => return self.error("unterminated quoted string"),
                Some(c) if c == quote => return self.token(TokenKind::Text),
                Some('\n') if quote != '`' => return self.error("unterminated quoted string"),
                Some('\\') if quote != '`' => self.escape(quote)?,
                Some(_) => {}
            }
        }
    }

    /// Steps over an escape; its backslash has been taken.
    fn escape(&mut self, quote: char) -> Read<()> {
        let shown = |c: char| format!("U+{:04X} '{c}'", u32::from(c));
        let (digits, radix, most) = match self.bump() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8, 0xff)
            }
            Some('x') => (2, 16, 0xff),
            Some('u') => (4, 16, u32::from(char::MAX)),
            Some('U') => (8, 16, u32::from(char::MAX)),
            None => return self.error("escape sequence not terminated"),
            Some(c) => return self.error(format!("unknown escape sequence {}", shown(c))),
        };
        let mut value = 0u32;
        for _ in 0..digits {
            match self.bump() {
                None => return self.error("escape sequence not terminated"),
                Some(c) => match c.to_digit(radix) {
                    Some(digit) => value = value.wrapping_mul(radix) | digit,
                    None => {
                        return self.error(format!("illegal character {} in escape sequence", shown(c)));
                    }
                },
            }
        }
        if value > most || (0xd800..0xe000).contains(&value) {
            return self.error("escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }

    /// A number or a duration; its first character has been taken.
    fn number_or_duration(&mut self) -> Read<Token> {
        self.at = self.start;
        if self.scan_number() {
            return self.token(TokenKind::Number);
        }
        if self.scan_rest_of_duration() {
            return self.token(TokenKind::Duration);
        }
        let seen = Quoted(&self.text[self.start..self.at]);
        self.error(format!("bad number or duration syntax: {seen}"))
    }

    /// Takes what may be a number; what is none in spite of it is found when its value is asked for.
    fn scan_number(&mut self) -> bool {
        let begin = self.at;
        let mut digits = "0123456789";
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let is_hex = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut has_dot, mut has_exponent) = (false, false);
        while self.is_next(digits) || self.is_next("._eE") {
            if (has_dot && self.accept(".")) || (has_exponent && self.accept("eE")) {
                return false;
            }
            if self.accept(".") {
                has_dot = true;
                if self.accept("_.") || is_hex {
                    return false;
                }
            } else if self.accept("eE") {
                has_exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                self.skip_while(|c| digits.contains(c));
            }
        }
        self.at > begin && !self.peek().is_some_and(is_alphanumeric)
    }

    /// Takes the rest of `1h30m` after its first number.
    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.skip_while(|c| c.is_ascii_digit());
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }
}
