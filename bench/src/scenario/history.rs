//! Four hours of history: written, asked, measured on disk, killed, opened again, asked cold.
//!
//! Prometheus goes first, and its answers are what the others are held against before any time counts.

use std::time::Duration;

use anyhow::Result;

use super::{Plan, SEED};
use crate::answer::Answer;
use crate::clock::{self, Stopwatch};
use crate::expressions::{COLD, COMPARED, HOT, aggregations};
use crate::fleet::{Fleet, STEP_MS};
use crate::measures;
use crate::peer::Peer;
use crate::process::folder_bytes;
use crate::report::Report;
use crate::running::Running;

const BLOCK_MS: i64 = 2 * 3_600_000;
/// Samples stand beside whole minutes, where the steps of subqueries fall.
const BESIDE_MS: i64 = 4_000;
/// Queries stand between two samples: on a sample's own moment Prometheus 2 and 3 differ by intent, for
/// ranges were closed on the left before version 3.
const BETWEEN_MS: i64 = 7_000;
const EXACT: f64 = 1e-9;
/// For a peer whose `rate` is another function by intent.
const LOOSE: f64 = 0.05;

/// When the history begins and ends.
#[derive(Clone, Copy)]
struct Span {
    from_ms: i64,
    to_ms: i64,
}

/// Runs the scenario on every peer, in the given order; the first one is the reference.
pub fn run(peers: &[&dyn Peer], plan: &Plan, report: &mut Report) -> Result<()> {
    let length_ms = plan.history_steps as i64 * STEP_MS;
    let from_ms = (clock::now_ms() - length_ms - 60_000).div_euclid(BLOCK_MS) * BLOCK_MS + BESIDE_MS;
    let span = Span {
        from_ms,
        to_ms: from_ms + length_ms - STEP_MS,
    };
    let mut reference = None;
    for peer in peers {
        let folder = format!("history-{}", peer.name());
        let mut running = Running::start(*peer, plan.launch(&folder, None)?)?;
        write(&running, plan, span, report)?;
        running.wait_until_idle(Duration::from_secs(120))?;
        let answers = ask(&running, span)?;
        match &reference {
            None => reference = Some(answers),
            Some(expected) => compare(*peer, expected, &answers, report),
        }
        time_queries(&running, plan, span, report)?;
        measure_rest(&running, plan, report)?;
        reopen(&mut running, plan, span, report)?;
        drop(running);
        std::fs::remove_dir_all(plan.work.join(folder))?;
    }
    Ok(())
}

fn write(running: &Running<'_>, plan: &Plan, span: Span, report: &mut Report) -> Result<()> {
    const SLICES: usize = 5;
    let name = running.peer().name();
    let mut fleet = Fleet::new(plan.hosts, SEED);
    let begin = running.cpu()?;
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    let slice_steps = plan.history_steps.div_ceil(SLICES);
    let per_step = fleet.series_count() as f64 / 1e6;
    for first in (0..plan.history_steps).step_by(slice_steps) {
        let steps = slice_steps.min(plan.history_steps - first);
        let before = running.cpu()?;
        let mut sending = Duration::ZERO;
        for step in first..first + steps {
            // Making the data costs the harness time that is not the peer's.
            let bodies: Vec<_> = fleet.step(span.from_ms + step as i64 * STEP_MS).collect();
            let watch = Stopwatch::start();
            bodies.iter().try_for_each(|body| running.write(body))?;
            sending += watch.elapsed();
        }
        let millions = steps as f64 * per_step;
        cpu.push((running.cpu()? - before).as_secs_f64() / millions);
        wall.push(sending.as_secs_f64() / millions);
    }
    report.measured(measures::INGEST, name, &cpu);
    report.measured(measures::INGEST_WALL, name, &wall);
    running.wait_until_idle(Duration::from_secs(120))?;
    let all = (running.cpu()? - begin).as_secs_f64() / (plan.history_steps as f64 * per_step);
    report.measured(measures::INGEST_ALL, name, &[all]);
    let memory = running.memory()?;
    let per_series = |bytes: u64| bytes as f64 / 1e3 / fleet.series_count() as f64;
    report.measured(measures::RESIDENT, name, &[per_series(memory.resident_bytes)]);
    report.measured(measures::PEAK, name, &[per_series(memory.peak_bytes)]);
    Ok(())
}

/// Everything that is compared: the question, and the answer.
fn ask(running: &Running<'_>, span: Span) -> Result<Vec<(String, Result<Answer>)>> {
    let at_ms = span.to_ms + BETWEEN_MS;
    let mut answers = Vec::new();
    let range = range_query(running, HOT, span);
    answers.push((format!("{HOT} over 4 h"), range));
    answers.push((HOT.to_owned(), running.query(HOT, at_ms)));
    for expr in [
        "max by (instance) (node_load1)",
        "http_requests_total{instance=\"i3\"}",
    ] {
        answers.push((format!("{expr} over 4 h"), range_query(running, expr, span)));
    }
    for expr in COMPARED
        .iter()
        .map(|expr| (*expr).to_owned())
        .chain(aggregations())
    {
        let answer = running.query(&expr, at_ms);
        answers.push((expr, answer));
    }
    for metric in COLD {
        let expr = cold_expression(metric);
        let answer = running.query(&expr, cold_moment(span));
        answers.push((format!("{expr} in the oldest block"), answer));
    }
    Ok(answers)
}

fn compare(
    peer: &dyn Peer,
    expected: &[(String, Result<Answer>)],
    answers: &[(String, Result<Answer>)],
    report: &mut Report,
) {
    // Of another language only the two measured queries are held against ours, and loosely.
    let (count, relative) = if peer.is_exact() {
        (expected.len(), EXACT)
    } else {
        (2, LOOSE)
    };
    for ((what, expected), (_, answer)) in expected.iter().zip(answers).take(count) {
        let difference = match (expected, answer) {
            (Ok(expected), Ok(answer)) if expected.series_count() == 0 => Some(format!(
                "the reference is empty, the answer has {} series",
                answer.series_count()
            )),
            (Ok(expected), Ok(answer)) => expected.difference(answer, relative),
            (Err(error), _) | (_, Err(error)) => Some(format!("{error:#}")),
        };
        report.compared(format!("{}: {what}", peer.name()), difference);
    }
}

fn range_query(running: &Running<'_>, expr: &str, span: Span) -> Result<Answer> {
    let to_ms = span.to_ms + BETWEEN_MS;
    running.query_range(expr, to_ms - 4 * 3_600_000, to_ms, "60")
}

fn time_queries(running: &Running<'_>, plan: &Plan, span: Span, report: &mut Report) -> Result<()> {
    let name = running.peer().name();
    let at_ms = span.to_ms + BETWEEN_MS;
    let hot = cpu_ms_per_call(running, plan.rounds, 400, |call| {
        running.query(HOT, at_ms - (call % 20) as i64 * STEP_MS).map(drop)
    })?;
    report.measured(measures::HOT_INSTANT, name, &hot);
    let range = cpu_ms_per_call(running, plan.rounds, 10, |_| {
        range_query(running, HOT, span).map(drop)
    })?;
    report.measured(measures::RANGE, name, &range);
    Ok(())
}

/// Calls until a second of processor time is spent or `calls_max` is reached, `rounds` times.
fn cpu_ms_per_call(
    running: &Running<'_>,
    rounds: usize,
    calls_max: usize,
    mut call: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let before = running.cpu()?;
        let mut calls = 0;
        let spent = loop {
            call(calls)?;
            calls += 1;
            let spent = running.cpu()? - before;
            if calls == calls_max || spent > Duration::from_secs(1) {
                break spent;
            }
        };
        figures.push(spent.as_secs_f64() * 1e3 / calls as f64);
    }
    Ok(figures)
}

fn measure_rest(running: &Running<'_>, plan: &Plan, report: &mut Report) -> Result<()> {
    let name = running.peer().name();
    let written = (plan.hosts * crate::fleet::SERIES_PER_HOST * plan.history_steps) as u64;
    let all = folder_bytes(&running.launch().data())?;
    report.measured(measures::DISK_ALL, name, &[all as f64 / written as f64]);
    let disk = running.peer().rest(running, written)?;
    report.measured(measures::DISK, name, &[disk.bytes as f64 / disk.samples as f64]);
    let share = 100.0 * disk.samples as f64 / written as f64;
    report.note(format!(
        "{name}: {share:.0} % of the history's samples stand in the measured blocks"
    ));
    Ok(())
}

fn reopen(running: &mut Running<'_>, plan: &Plan, span: Span, report: &mut Report) -> Result<()> {
    let name = running.peer().name();
    // What is to come back must have been written first: a merge under way is not part of the question.
    running.wait_until_idle(Duration::from_secs(120))?;
    let at_ms = span.to_ms + BETWEEN_MS;
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let count = |running: &Running<'_>| -> Result<bool> {
            let answer = running.query("count(up)", at_ms);
            // Until it is ready a peer may refuse to answer.
            let points = answer.ok().and_then(|answer| answer.0.into_values().next());
            Ok(points.is_some_and(|points| points[0].1 == plan.hosts as f64))
        };
        let (spent, passed) = running.kill_and_reopen(count)?;
        cpu.push(spent.as_secs_f64());
        wall.push(passed.as_secs_f64());
    }
    report.measured(measures::REOPEN_CPU, name, &cpu);
    report.measured(measures::REOPEN_WALL, name, &wall);
    running.wait_until_idle(Duration::from_secs(120))?;
    let before = running.cpu()?;
    for metric in COLD {
        running.query(&cold_expression(metric), cold_moment(span))?;
    }
    let spent = (running.cpu()? - before).as_secs_f64() * 1e3 / COLD.len() as f64;
    report.measured(measures::COLD, name, &[spent]);
    Ok(())
}

fn cold_expression(metric: &str) -> String {
    format!("avg by (job) (avg_over_time({metric}[30m]))")
}

fn cold_moment(span: Span) -> i64 {
    span.from_ms + 3_600_000 + BETWEEN_MS
}
