//! Rules at scale: a hundred thousand alert rules over a million series, all of them due every 15 s.
//!
//! Run on its own and by one side at a time: the question is whether ticks stay on time on this machine while
//! samples go on arriving, and how much of it is left. A group that comes too late skips a tick and counts it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Plan, SEED};
use crate::clock;
use crate::expressions::{alert_name, watching_rules};
use crate::fleet::{Fleet, HOT_ONE_IN, STEP_MS, WATCHED};
use crate::measures;
use crate::peer::Peer;
use crate::report::Report;
use crate::running::Running;

/// Eleven minutes of samples stand there before the first window, more than the longest range of a rule.
const BACKFILL_STEPS: i64 = 44;
/// Hosts in one rule file.
const HOSTS_PER_FILE: usize = 500;

/// Ten alert rules a host in groups of 200, each group every 15 s.
pub fn run(peers: &[&dyn Peer], plan: &Plan, report: &mut Report) -> Result<()> {
    let interval_s = STEP_MS as usize / 1_000;
    let files: Vec<String> = (0..plan.scale_hosts)
        .step_by(HOSTS_PER_FILE)
        .map(|first| {
            let hosts = first..plan.scale_hosts.min(first + HOSTS_PER_FILE);
            watching_rules(hosts, &format!("{interval_s}s"))
        })
        .collect();
    for peer in peers {
        let launch = plan.launch_with_files(&format!("scale-{}", peer.name()), &files)?;
        let running = Running::start(*peer, launch)?;
        let mut fleet = Fleet::new(plan.scale_hosts, SEED);
        let mut next_ms = clock::now_ms() - BACKFILL_STEPS * STEP_MS;
        let mut send = |running: &Running<'_>| -> Result<f64> {
            clock::wait_until(next_ms);
            for body in fleet.step(next_ms) {
                running.write(&body)?;
            }
            next_ms += STEP_MS;
            Ok((clock::now_ms() - (next_ms - STEP_MS)) as f64 / 1e3)
        };
        // The past, and then until every group has had four ticks on complete data, so that what was caught up with
        // and the first time of each group stay out of the windows.
        while send(&running)? > STEP_MS as f64 / 1e3 {}
        (0..4).try_for_each(|_| send(&running).map(drop))?;
        let mut cpu_s = Vec::new();
        let before = (running.iterations()?, missed(&running)?);
        for _ in 0..plan.scale_windows {
            let cpu = running.cpu()?;
            send(&running)?;
            clock::wait_until(clock::now_ms() / STEP_MS * STEP_MS + STEP_MS - 500);
            cpu_s.push((running.cpu()? - cpu).as_secs_f64());
        }
        let ticks = running.iterations()? - before.0;
        let missed = missed(&running)? - before.1;
        ensure!(ticks > 0.0, "{}: no rule was evaluated in a window", peer.name());
        report.measured(measures::SCALE_CPU, peer.name(), &cpu_s);
        report.measured(
            measures::SCALE_MISSED,
            peer.name(),
            &[100.0 * missed / (ticks + missed)],
        );
        let memory = running.memory()?;
        report.measured(
            measures::SCALE_MEMORY,
            peer.name(),
            &[memory.resident_bytes as f64 / (1u64 << 30) as f64],
        );
        compare_alerts(&running, plan.scale_hosts, report)?;
    }
    Ok(())
}

fn missed(running: &Running<'_>) -> Result<f64> {
    running.sum_of(running.peer().missed_metric())
}

/// Holds the firing alerts against what the data make true.
fn compare_alerts(running: &Running<'_>, hosts: usize, report: &mut Report) -> Result<()> {
    let expected: BTreeSet<String> = (0..hosts)
        .filter(|host| host % HOT_ONE_IN < WATCHED.len())
        .flat_map(|host| {
            let position = host % HOT_ONE_IN;
            [position, position + WATCHED.len()]
                .map(|rule| format!("{} i{host} firing", alert_name(rule, host)))
        })
        .collect();
    clock::pause(Duration::from_secs(1));
    let active = running.alerts()?;
    let difference = expected.symmetric_difference(&active).next().map(|odd| {
        format!(
            "{odd:?} is on one side only ({} expected, {} active)",
            expected.len(),
            active.len()
        )
    });
    report.compared(
        format!("{}: firing alerts at scale", running.peer().name()),
        difference,
    );
    Ok(())
}
