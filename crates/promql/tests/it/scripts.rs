//! The language by example.

use crate::script::{Outcome, run};

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
        let reports = run(&std::fs::read_to_string(file).unwrap());
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
