//! Expands Go templates as Prometheus and Alertmanager users write them.
//!
//! The language is Go's `text/template`, the functions are those that rule files and notification
//! templates use. Pure by design: `now`, the answers of queries and the address come from the caller, so
//! the same data gives the same text; every expansion is bounded in output, steps and depth.
//! Deliberately absent: clocks, files, `html/template`'s contextual escaping, and `call`.
//!
//! Source: the documentation of Go's `text/template` and `fmt`, Prometheus' "Template reference" and
//! Alertmanager's "Notification template reference".

mod alertmanager;
mod builtin;
mod error;
mod execute;
mod functions;
mod layout;
mod moment;
mod number;
mod parser;
mod print;
mod printf;
mod prometheus;
mod rule;
mod template;
mod token;
mod tree;
mod unquote;
mod value;

pub use error::TemplateError;
pub use functions::{Dialect, Environment, QuerySample, QuerySource, SampleValue};
pub use rule::{RuleData, RuleText, expand_rule_text, fuzz};
pub use template::{Limits, TEXT_BYTES_MAX, Template};
pub use value::{List, Map, Record, Value};
