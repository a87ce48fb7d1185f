//! Runs the scenarios on every peer and prints the table.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program speaks to its terminal"
)]

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use marketprism_bench::clock;
use marketprism_bench::peer::{MarketPrism, Peer, Prometheus, VictoriaMetrics};
use marketprism_bench::report::Report;
use marketprism_bench::scenario::{Plan, history, live, scale};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Prometheus,
    Marketprism,
    VictoriaMetrics,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    History,
    Alerts,
    Aggregations,
    /// A hundred thousand alert rules over a million series; only when it is named, and best with one side.
    Scale,
}

/// Measures whole processes side by side.
#[derive(Parser)]
struct Arguments {
    /// A short run with a fifth of the series and without VictoriaMetrics.
    #[arg(long)]
    quick: bool,
    /// Our binary.
    #[arg(long, default_value = "target/release/marketprism")]
    binary: PathBuf,
    /// Only these sides.
    #[arg(long, value_enum, value_delimiter = ',')]
    sides: Vec<Side>,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Where the table is written.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// Where the data of the run lies; removed at its end.
    #[arg(long)]
    work: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let work = match &arguments.work {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let plan = if arguments.quick {
        Plan::quick(work.path())
    } else {
        Plan::full(work.path())
    };
    let ours = MarketPrism {
        program: arguments.binary.clone(),
    };
    let peers = peers(&arguments, &ours);
    let mut report = Report::default();
    let wants = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    if wants(Scenario::History) {
        eprintln!(
            "history: {} hosts, {} samples a series",
            plan.hosts, plan.history_steps
        );
        history::run(&peers, &plan, &mut report)?;
    }
    if wants(Scenario::Alerts) {
        eprintln!("alert rules");
        live::alerts(&peers, &plan, &mut report)?;
    }
    if wants(Scenario::Aggregations) {
        eprintln!("aggregations");
        live::recordings(&peers, &plan, &mut report)?;
    }
    if arguments.scenarios.contains(&Scenario::Scale) {
        eprintln!("rules at scale: {} hosts", plan.scale_hosts);
        scale::run(&peers, &plan, &mut report)?;
    }
    let text = write_up(&arguments, &plan, &report, &peers)?;
    println!("{text}");
    save(&arguments, &text)?;
    if report.agrees() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("answers differ, and where they do the times prove nothing");
    Ok(ExitCode::FAILURE)
}

/// The sides of the run; the reference first.
fn peers<'a>(arguments: &Arguments, ours: &'a MarketPrism) -> Vec<&'a dyn Peer> {
    let all: [(Side, &dyn Peer); 3] = [
        (Side::Prometheus, &Prometheus),
        (Side::Marketprism, ours),
        (Side::VictoriaMetrics, &VictoriaMetrics),
    ];
    let is_wanted = |side: Side| match arguments.sides.as_slice() {
        [] => !arguments.quick || side != Side::VictoriaMetrics,
        sides => sides.contains(&side),
    };
    all.into_iter()
        .filter(|(side, _)| is_wanted(*side))
        .map(|(_, peer)| peer)
        .collect()
}

fn write_up(arguments: &Arguments, plan: &Plan, report: &Report, peers: &[&dyn Peer]) -> Result<String> {
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name()).collect();
    let series = plan.hosts * marketprism_bench::fleet::SERIES_PER_HOST;
    let mut text = format!(
        "## {}, {} series × {} samples{}\n\n",
        now_text()?,
        series,
        plan.history_steps,
        if arguments.quick { ", quick" } else { "" }
    );
    text += &format!("Machine: {}\n\n", machine()?);
    text += &format!("Peers: {}\n", packages());
    text.push('\n');
    text += &report.markdown("MarketPrism", &names);
    Ok(text)
}

fn save(arguments: &Arguments, text: &str) -> Result<()> {
    std::fs::create_dir_all(&arguments.results)?;
    let kind = if arguments.quick { "quick" } else { "full" };
    let path = arguments
        .results
        .join(format!("side-by-side-{kind}-{}.md", clock::now_ms() / 1_000));
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    eprintln!("written to {}", path.display());
    Ok(())
}

fn now_text() -> Result<String> {
    Ok(jiff::Timestamp::from_millisecond(clock::now_ms())?
        .strftime("%Y-%m-%d %H:%M UTC")
        .to_string())
}

fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_ascii_whitespace()
        .nth(1)
        .unwrap_or_default()
        .parse()?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores of {model}, {} GiB", kib >> 20))
}

/// The versions of the peers, which come as Debian's packages.
fn packages() -> String {
    let mut command = Command::new("dpkg-query");
    command.args([
        "--show",
        "--showformat=${Package} ${Version}; ",
        "prometheus",
        "victoria-metrics",
    ]);
    match command.output() {
        Err(error) => format!("unknown, dpkg-query: {error}"),
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .trim_end_matches("; ")
            .to_owned(),
    }
}
