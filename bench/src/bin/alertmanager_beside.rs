//! Measures alert management against Debian's Alertmanager and prints the table.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use marketprism_bench::alertmanager::sides::Kind;
use marketprism_bench::alertmanager::{flood, latency, standing};
use marketprism_bench::report::Report;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Flood,
    Latency,
    Standing,
}

/// Measures alert management beside Debian's Alertmanager.
#[derive(Parser)]
struct Arguments {
    /// Our binary.
    #[arg(long, default_value = "target/release/marketprism")]
    binary: PathBuf,
    /// Only these sides.
    #[arg(long, value_delimiter = ',', default_values = ["alertmanager", "marketprism"])]
    sides: Vec<String>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let work = tempfile::tempdir()?;
    let mut report = Report::default();
    let mut names = Vec::new();
    let is_wanted = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    for kind in [Kind::Alertmanager, Kind::MarketPrism(arguments.binary.clone())] {
        let name = kind.name();
        if !arguments.sides.iter().any(|side| side.eq_ignore_ascii_case(name)) {
            continue;
        }
        names.push(name);
        let folder = work.path().join(name);
        if is_wanted(Scenario::Flood) {
            eprintln!("{name}: alerts through group and dedupe, load {}", load()?);
            flood::run(&kind, &folder, &mut report)?;
        }
        if is_wanted(Scenario::Latency) {
            eprintln!("{name}: from breach to message, load {}", load()?);
            latency::run(&kind, &folder, &mut report)?;
        }
        if is_wanted(Scenario::Standing) {
            eprintln!("{name}: 100,000 alerts stand, load {}", load()?);
            standing::run(&kind, &folder, &mut report)?;
        }
    }
    println!("{}", report.markdown("MarketPrism", &names));
    if report.agrees() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("answers differ, and where they do the times prove nothing");
    Ok(ExitCode::FAILURE)
}

fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg").context("the machine's load")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
