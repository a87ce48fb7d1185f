//! The language by example.

use crate::script::{Outcome, run};

/// Runs one of our scripts: every eval must run and pass.
fn check(script: &str) {
    let reports = run(script).expect("a script");
    let failed: Vec<String> = reports
        .iter()
        .filter(|report| report.outcome != Outcome::Passed)
        .map(|report| format!("line {}: {}\n    {:?}", report.line, report.query, report.outcome))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(!reports.is_empty());
}

#[test]
fn selectors_choose_series_and_samples() {
    check(include_str!("../data/scripts/selectors.test"));
}

#[test]
fn functions_roll_ranges_up() {
    check(include_str!("../data/scripts/rollups.test"));
}

#[test]
fn aggregations_make_one_of_many() {
    check(include_str!("../data/scripts/aggregations.test"));
}

#[test]
fn operators_calculate_compare_and_match() {
    check(include_str!("../data/scripts/operators.test"));
}

#[test]
fn functions_change_values_and_labels() {
    check(include_str!("../data/scripts/functions.test"));
}

#[test]
fn extended_ranges_look_beyond_their_borders() {
    check(include_str!("../data/scripts/extended.test"));
}

#[test]
fn info_adds_labels_of_info_series() {
    check(include_str!("../data/scripts/info.test"));
}

#[test]
fn lengths_are_calculated() {
    check(include_str!("../data/scripts/lengths.test"));
}

#[test]
fn some_of_the_series_are_chosen() {
    check(include_str!("../data/scripts/limits.test"));
}

#[test]
fn histograms_have_quantiles_and_fractions() {
    check(include_str!("../data/scripts/histograms.test"));
}

#[test]
fn native_histograms_are_values_too() {
    check(include_str!("../data/scripts/native.test"));
}

#[test]
fn expressions_are_put_together_as_written() {
    check(include_str!("../data/scripts/grammar.test"));
}

#[test]
fn native_histograms_are_values_everywhere() {
    check(include_str!("../data/scripts/natives.test"));
}

#[test]
fn a_wrong_expectation_is_found() {
    let script = "load 1m\n a 1\neval instant at 0 a\n a 2\neval instant at 0 a\n expect warn\n a 1\n";
    let outcomes: Vec<_> = run(script)
        .expect("a script")
        .into_iter()
        .map(|report| report.outcome)
        .collect();
    assert!(
        matches!(&outcomes[..], [Outcome::Failed(_), Outcome::Failed(_)]),
        "{outcomes:?}"
    );
}

/// Runs the scripts of a folder that is not ours, and tells what share of them passes.
#[test]
#[ignore = "needs PROMQLTEST_DIR to name a checkout's promql/promqltest/testdata"]
fn foreign_scripts_pass() {
    let folder = std::env::var("PROMQLTEST_DIR").expect("PROMQLTEST_DIR names the scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut all = (0, 0, 0);
    let mut reasons = std::collections::BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "test"))
    {
        let script = std::fs::read_to_string(file).unwrap();
        let reports = run(&script).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (mut passed, mut skipped, mut failed) = (0, 0, 0);
        for report in &reports {
            match &report.outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(reason) => {
                    skipped += 1;
                    *reasons.entry(*reason).or_insert(0) += 1;
                }
                Outcome::Failed(why) => {
                    failed += 1;
                    println!("{}:{} {}\n    {why}", file.display(), report.line, report.query);
                }
            }
        }
        println!(
            "{}: {passed} passed, {skipped} skipped, {failed} failed",
            file.display()
        );
        all = (all.0 + passed, all.1 + skipped, all.2 + failed);
    }
    println!("skipped for: {reasons:?}");
    println!("all: {} passed, {} skipped, {} failed", all.0, all.1, all.2);
    assert_eq!(all.2, 0);
}
