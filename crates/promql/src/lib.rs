//! Parses, plans and evaluates PromQL.

mod ast;
mod check;
mod functions;
pub mod guard;
mod parse;
mod print;

pub use ast::*;
pub use functions::{Function, Signature};
pub use parse::{ParseError, parse, parse_selector};
