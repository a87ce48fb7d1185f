//! Parses, plans and evaluates PromQL as Prometheus 3 does.
//!
//! The way of a query: [`parse`] makes a checked tree of a text, [`Engine::prepare`] plans it, and the
//! plan is evaluated at one moment ([`Engine::instant`]), over a range ([`Engine::range`]), or together
//! with the other rules of a tick ([`Engine::session`]). Values stand in columns, series by series;
//! labels are shared, and made anew only for what survives.
//!
//! Invariant: this room is given everything. It reads no clock, starts no thread, opens no file.
//! The language is that of Prometheus 3.14, native histograms and all that it calls experimental included.
//! Deliberately absent: flags that would switch parts of it off.

mod aggregate;
mod answer;
mod arithmetic;
mod assemble;
mod ast;
mod cache;
mod check;
mod column;
mod date;
mod engine;
mod evaluate;
mod functions;
pub mod fuzz;
mod histogram;
mod info;
mod instant;
mod join;
mod length;
mod lex;
pub mod memory;
mod native;
pub mod notation;
mod notes;
mod number;
mod parse;
mod plan;
mod pretty;
mod print;
mod quote;
mod relabel;
mod rollup;
mod select;
mod session;
mod sets;
mod smooth;
mod span;
mod sum;
mod tree;

pub use answer::{Answer, InstantSample, QueryError, Series, Stop, Value, cut_remarks};
pub use ast::{
    Aggregate, AggregateOp, Arithmetic, At, Binary, BinaryOp, Cardinality, Comparison, Expr, ExprKind,
    Extension, FinalComparison, LabelChoice, Matching, Number, Selector, SetOp, Subquery, ValueType,
};
pub use engine::{CallerThread, Engine, EngineConfig, Interrupt, Uninterrupted, Workers};
pub use functions::{Function, Signature};
pub use length::{Length, LengthExpr, LengthKind};
pub use native::{HistogramBucket, histogram_buckets, histogram_text};
pub use parse::{DEPTH_MAX, ParseError, TEXT_BYTES_MAX, parse, parse_selector};
pub use plan::Prepared;
pub use session::Session;
pub use span::{Place, Span};
pub use tree::tree_json;
