//! `test rules`: promtool's unit tests of rules, run by the program's own rules.
//!
//! What differs is shown line by line, expected against found. Exit codes are promtool's: 0 when everything is as
//! expected, 1 when anything is not.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use indicatif::ProgressBar;
use marketprism_rules::unit_test::{CaseReport, Failure, FileReport, Watch, run_file};
use regex_automata::meta::Regex;
use similar::{ChangeTag, TextDiff};

use crate::cli::TestRules;
use crate::commands::several;
use crate::progress;
use marketprism_rules::xml::escaped;

/// Runs the tests of all files; gives what is to be said, and whether everything is as expected.
pub fn test_rules(options: &TestRules) -> anyhow::Result<(String, bool)> {
    let chosen = match options.run.as_slice() {
        [] => None,
        patterns => Some(Regex::new_many(patterns).context("--run")?),
    };
    let colours = options.diff || std::io::stdout().is_terminal();
    let mut watch = Progress {
        chosen,
        bar: progress::steps("testing"),
    };
    let reports: Vec<FileReport> = options
        .files
        .iter()
        .map(|file| run_file(file, &mut watch))
        .collect();
    watch.bar.finish_and_clear();
    if let Some(file) = &options.junit {
        std::fs::write(file, junit(&reports)).with_context(|| format!("write {}", file.display()))?;
    }
    let text: String = reports.iter().map(|report| of_file(report, colours)).collect();
    Ok((text, reports.iter().all(FileReport::is_good)))
}

/// Shows how far the tests are, and chooses among them.
struct Progress {
    chosen: Option<Regex>,
    bar: ProgressBar,
}

impl Watch for Progress {
    fn is_chosen(&self, name: &str) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.is_match(name))
    }

    fn file_begins(&mut self, tests: usize) {
        self.bar.inc_length(tests as u64);
    }

    fn test_ends(&mut self, _name: &str) {
        self.bar.inc(1);
    }
}

fn of_file(report: &FileReport, colours: bool) -> String {
    let mut text = String::new();
    for warning in &report.warnings {
        let _ = writeln!(text, "{}: warning: {warning}", report.file);
    }
    let failed = report
        .cases
        .iter()
        .filter(|case| !case.failures.is_empty())
        .count();
    let count = report.cases.len();
    if report.is_good() {
        let _ = writeln!(text, "{}: SUCCESS, {}", report.file, several(&count, "test"));
        return text;
    }
    if report.faults.is_empty() {
        let _ = writeln!(text, "{}: FAILED, {failed} of {count} tests", report.file);
    } else {
        let _ = writeln!(text, "{}: FAILED", report.file);
    }
    for fault in &report.faults {
        let _ = writeln!(text, "  {fault}");
    }
    for case in report.cases.iter().filter(|case| !case.failures.is_empty()) {
        let _ = writeln!(text, "  {} (line {}):", case.name, case.line);
        for failure in &case.failures {
            text += &of_failure(failure, colours, "    ");
        }
    }
    text
}

/// Writes what is wrong; lines that are expected and missing begin with `-`, lines that are there with `+`.
fn of_failure(failure: &Failure, colours: bool, indent: &str) -> String {
    let mut text = format!("{indent}{}\n", failure.headline());
    let Some((expected, found)) = failure.sides() else {
        return text;
    };
    if expected.is_empty() {
        let _ = writeln!(text, "{indent}  nothing is expected");
    }
    if found.is_empty() {
        let _ = writeln!(text, "{indent}  nothing is found");
    }
    let (expected, found) = (lines(&expected), lines(&found));
    for change in TextDiff::from_lines(&expected, &found).iter_all_changes() {
        let (mark, colour) = match change.tag() {
            ChangeTag::Equal => (' ', ""),
            ChangeTag::Delete => ('-', "\u{1b}[31m"),
            ChangeTag::Insert => ('+', "\u{1b}[32m"),
        };
        let line = change.value().trim_end_matches('\n');
        if colours && !colour.is_empty() {
            let _ = writeln!(text, "{indent}  {colour}{mark} {line}\u{1b}[0m");
        } else {
            let _ = writeln!(text, "{indent}  {mark} {line}");
        }
    }
    text
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Writes the outcome in the form that build servers read.
fn junit(reports: &[FileReport]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let failures = report
            .cases
            .iter()
            .filter(|case| !case.failures.is_empty())
            .count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{}\">",
            escaped(&report.file),
            report.cases.len(),
            report.faults.len()
        );
        for fault in &report.faults {
            let _ = writeln!(
                text,
                "    <testcase name=\"{}\"><error message=\"{}\"/></testcase>",
                escaped(file_name(&report.file)),
                escaped(fault)
            );
        }
        for case in &report.cases {
            text += &of_case(case);
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn of_case(case: &CaseReport) -> String {
    let name = escaped(&case.name);
    if case.failures.is_empty() {
        return format!("    <testcase name=\"{name}\"/>\n");
    }
    let mut text = format!("    <testcase name=\"{name}\">\n");
    for failure in &case.failures {
        let _ = writeln!(
            text,
            "      <failure message=\"{}\">{}</failure>",
            escaped(&failure.headline()),
            escaped(&of_failure(failure, false, ""))
        );
    }
    text + "    </testcase>\n"
}

fn file_name(path: &str) -> &str {
    Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(path)
}
