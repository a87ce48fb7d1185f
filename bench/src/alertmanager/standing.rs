//! A hundred thousand alerts that stand: what they weigh, and what it costs to ask for some of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::sides::{Kind, Side};
use super::wording::{Pace, alert, bodies};
use crate::clock::{self, Stopwatch};
use crate::report::{Measure, Report};

const ALERTS: usize = 100_000;
/// How often each question is asked.
const ROUNDS: usize = 5;
/// Pages of our own list, one after the other.
const PAGES: usize = 50;
/// What one page may take.
const GOAL_MS: f64 = 100.0;
/// Nobody is told within the run: what is measured is standing.
const PACE: Pace = Pace {
    group_by: "[alertname, cluster]",
    wait: "1h",
    interval: "1h",
};

const MEMORY: Measure = Measure {
    what: "100,000 alerts stand: resident memory more than before",
    unit: "B / alert",
    goals: &[],
};
const TAKEN: Measure = Measure {
    what: "the same: taking them",
    unit: "CPU-s / M alerts",
    goals: &[],
};
const ONE: Measure = asked("the same: `alerts?filter=id=\"77777\"`, 1 alert");
const MANY: Measure = asked("the same: `alerts?filter=alertname=\"Alert07\"`, 2,000 alerts");
const ALL: Measure = asked("the same: `alerts`, all");
const PAGE: Measure = Measure {
    what: "the same: a page of 100 of our own list",
    unit: "wall ms / page",
    goals: &[],
};
const PAGE_FILTERED: Measure = Measure {
    what: "the same, filtered by a label, 1 in 50",
    unit: "wall ms / page",
    goals: &[],
};

const fn asked(what: &'static str) -> Measure {
    Measure {
        what,
        unit: "CPU-ms / query",
        goals: &[],
    }
}

/// Measures one side.
pub fn run(kind: &Kind, folder: &Path, report: &mut Report) -> Result<()> {
    let side = Side::start(kind, &folder.join("standing"), PACE, None)?;
    clock::pause(Duration::from_secs(2));
    let (memory, cpu) = (side.memory()?.resident_bytes, side.cpu()?);
    let now_ms = clock::now_ms();
    let bodies = bodies((0..ALERTS).map(|number| alert(number, now_ms, now_ms + 7_200_000)));
    side.flood(&bodies)?;
    drop(bodies);
    clock::pause(Duration::from_secs(5));
    let spent = (side.cpu()? - cpu).as_secs_f64() * 1e6 / ALERTS as f64;
    report.measured(TAKEN, side.name(), &[spent]);
    let more = side.memory()?.resident_bytes.saturating_sub(memory) as f64;
    report.measured(MEMORY, side.name(), &[more / ALERTS as f64]);
    let questions = [
        (ONE, "/alerts?filter=id%3D%2277777%22", 1, 20),
        (MANY, "/alerts?filter=alertname%3D%22Alert07%22", 2_000, 4),
        (ALL, "/alerts", ALERTS, 1),
    ];
    for (measure, path, count, times) in questions {
        ask(&side, measure, path, count, times, report)?;
    }
    if matches!(kind, Kind::MarketPrism(_)) {
        pages(&side, PAGE, "", report)?;
        pages(&side, PAGE_FILTERED, "&label=alertname:Alert07", report)?;
    }
    Ok(())
}

/// Asks several times; `times` in each measurement, for the kernel counts in steps of 10 ms.
fn ask(
    side: &Side,
    measure: Measure,
    path: &str,
    count: usize,
    times: u32,
    report: &mut Report,
) -> Result<()> {
    let answer: Value = serde_json::from_slice(&side.ask(path)?)?;
    let found = answer.as_array().context("no list of alerts")?.len();
    let difference = (found != count).then(|| format!("{found} alerts, expected {count}"));
    report.compared(format!("{}: {path}", side.name()), difference);
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        let before = side.cpu()?;
        (0..times).try_for_each(|_| side.ask(path).map(drop))?;
        figures.push((side.cpu()? - before).as_secs_f64() * 1e3 / f64::from(times));
    }
    report.measured(measure, side.name(), &figures);
    Ok(())
}

/// Follows our own list from page to page.
fn pages(side: &Side, measure: Measure, filter: &str, report: &mut Report) -> Result<()> {
    let (mut figures, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let path = format!("/api/v1/alerts?state=firing&limit=100{filter}&cursor={cursor}");
        let watch = Stopwatch::start();
        let body = side.ask_own(&path)?;
        figures.push(watch.elapsed().as_secs_f64() * 1e3);
        let page: Value = serde_json::from_slice(&body)?;
        let count = page["items"].as_array().map_or(0, Vec::len);
        ensure!(count == 100, "{path}: {count} alerts on a page");
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let mut slowest = 0.0;
    let mut position = 0;
    for (nth, &figure) in figures.iter().enumerate() {
        if figure > slowest {
            (slowest, position) = (figure, nth + 1);
        }
    }
    let verdict = if slowest < GOAL_MS { "hit" } else { "**miss**" };
    let count = figures.len();
    report.measured(measure, side.name(), &figures);
    report.note(format!(
        "{}, goal < {GOAL_MS} ms: {verdict} (slowest of {count} {slowest:.1} ms, page {position})",
        measure.what
    ));
    Ok(())
}
