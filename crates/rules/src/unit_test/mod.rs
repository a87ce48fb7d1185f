//! Runs promtool's unit tests of rules, to promtool's verdicts.
//!
//! The groups are the product's own, over series in memory and in simulated time: what a test proves here is what the
//! program does. Every group is evaluated at each step of the file's `evaluation_interval`, whatever its own, as
//! promtool does. Deliberately absent: how a report is shown, and the limit of 10,000 samples that promtool puts on a
//! query.
//!
//! Source: the documentation of Prometheus, "Unit testing for rules"; the program `promtool`.

mod expected;
mod file;
mod life;
mod notation;
mod run;

pub use expected::{SeenAlert, SeenSample};
pub use file::{AlertTest, ExpectedSample, ExprTest, Placed, TestCase, TestFile, TextMap, parse};
pub use run::{CaseReport, Failure, FileReport, Watch, run_file};
