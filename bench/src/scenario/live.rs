//! Rules on live data: a peer with rules beside the same peer without, both fed with the same samples.
//!
//! The difference of their processor times is what the rules cost; taking samples in cancels out.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Plan, SEED};
use crate::answer::Answer;
use crate::clock;
use crate::expressions::{aggregations, alert_name, alert_rules, recorded_name, recording_rules};
use crate::fleet::{Fleet, HOT_ONE_IN, STEP_MS, WATCHED};
use crate::measures;
use crate::peer::Peer;
use crate::report::Report;
use crate::running::Running;

/// Ten minutes of samples stand there before the first window.
const BACKFILL_STEPS: i64 = 40;
/// A recorded value is held against a later answer only when no sample could still be under way.
const UNDER_WAY_MS: i64 = 3_000;
/// Samples in one window of the alert rules. The kernel counts processor time in steps of 10 ms, and a window ends with
/// four such counts: over a minute of ticks every 5 s they are worth 3 ms a tick at the most.
const ALERT_WINDOW_STEPS: usize = 4;
/// So long before a tick of the aggregations samples are sent.
const LEAD_MS: i64 = 5_000;

/// Five alert rules a host, some of them firing.
pub fn alerts(peers: &[&dyn Peer], plan: &Plan, report: &mut Report) -> Result<()> {
    let rules = alert_rules(plan.hosts, &format!("{}s", plan.alert_interval_s));
    let expected: BTreeSet<String> = (0..plan.hosts)
        .filter(|host| host % HOT_ONE_IN < WATCHED.len())
        .map(|host| format!("{} i{host} firing", alert_name(host % HOT_ONE_IN, host)))
        .collect();
    for peer in peers {
        let mut pair = Pair::start(*peer, plan, "alerts", &rules)?;
        pair.backfill(clock::now_ms())?;
        pair.settle(plan.alert_interval_s)?;
        let figures = pair.measure(plan.alert_windows, ALERT_WINDOW_STEPS, 10.0)?;
        report.measured(measures::ALERT_TICK, peer.name(), &figures);
        let active = pair.with.alerts()?;
        let difference = expected.symmetric_difference(&active).next().map(|odd| {
            format!(
                "{odd:?} is on one side only ({} expected, {} active)",
                expected.len(),
                active.len()
            )
        });
        report.compared(format!("{}: firing alerts", peer.name()), difference);
    }
    Ok(())
}

/// A hundred overlapping aggregations as recording rules.
pub fn recordings(peers: &[&dyn Peer], plan: &Plan, report: &mut Report) -> Result<()> {
    let rules = recording_rules(&format!("{}s", plan.aggregation_interval_s));
    for peer in peers {
        let mut pair = Pair::start(*peer, plan, "aggregations", &rules)?;
        let evaluated_ms = pair.await_evaluation(plan.aggregation_interval_s)?;
        // Samples come shortly before the ticks, but not so shortly that one is under way when a tick reads.
        pair.backfill(evaluated_ms - LEAD_MS)?;
        pair.settle(plan.aggregation_interval_s)?;
        // A window begins before a tick, so that the tick has all of it to end.
        let interval_ms = plan.aggregation_interval_s as i64 * 1_000;
        while (pair.next_ms + LEAD_MS - evaluated_ms).rem_euclid(interval_ms) >= STEP_MS {
            pair.send()?;
        }
        let steps_per_window = plan.aggregation_interval_s * 1_000 / STEP_MS as usize;
        let figures = pair.measure(plan.aggregation_windows, steps_per_window, 1.0)?;
        report.measured(measures::AGGREGATION_TICK, peer.name(), &figures);
        compare_recorded(&pair, report)?;
    }
    Ok(())
}

struct Pair<'a> {
    without: Running<'a>,
    with: Running<'a>,
    fleet: Fleet,
    next_ms: i64,
}

impl<'a> Pair<'a> {
    fn start(peer: &'a dyn Peer, plan: &Plan, name: &str, rules: &str) -> Result<Self> {
        let folder = |kind: &str| format!("{name}-{}-{kind}", peer.name());
        let without = Running::start(peer, plan.launch(&folder("without"), None)?)?;
        let with = Running::start(peer, plan.launch(&folder("with"), Some(rules))?)?;
        Ok(Pair {
            without,
            with,
            fleet: Fleet::new(plan.hosts, SEED),
            next_ms: 0,
        })
    }

    /// Waits for the first tick and gives its moment.
    fn await_evaluation(&self, interval_s: usize) -> Result<i64> {
        let limit = Duration::from_secs(3 * interval_s as u64);
        let mut at_ms = 0;
        clock::poll("first tick", limit, Duration::from_millis(200), || {
            at_ms = self.with.last_evaluation_ms()?;
            Ok(at_ms > 0)
        })?;
        Ok(at_ms)
    }

    /// Sends the past up to now; one of the steps falls, or would fall, on `phase_ms`.
    fn backfill(&mut self, phase_ms: i64) -> Result<()> {
        let now_ms = clock::now_ms();
        self.next_ms = now_ms - BACKFILL_STEPS * STEP_MS - (now_ms - phase_ms).rem_euclid(STEP_MS);
        while self.next_ms < clock::now_ms() {
            self.send()?;
        }
        Ok(())
    }

    /// Sends one step when its moment has come.
    fn send(&mut self) -> Result<()> {
        clock::wait_until(self.next_ms);
        for body in self.fleet.step(self.next_ms) {
            self.without.write(&body)?;
            self.with.write(&body)?;
        }
        self.next_ms += STEP_MS;
        Ok(())
    }

    /// Goes on until every group was evaluated twice on complete data, so that no first time is measured.
    fn settle(&mut self, interval_s: usize) -> Result<()> {
        let steps = 1 + 2 * interval_s * 1_000 / STEP_MS as usize;
        (0..steps).try_for_each(|_| self.send())
    }

    /// Gives milliseconds of processor time a tick, for each window of `steps` samples; a tick is one
    /// evaluation of all `groups`.
    fn measure(&mut self, windows: usize, steps: usize, groups: f64) -> Result<Vec<f64>> {
        let mut figures = Vec::new();
        for _ in 0..windows {
            // Telling the count costs the peer time too, so it stands outside the window.
            let ticks_before = self.with.iterations()?;
            let before = (self.with.cpu()?, self.without.cpu()?);
            (0..steps).try_for_each(|_| self.send())?;
            // The window ends shortly before the next step.
            clock::wait_until(self.next_ms - 500);
            let with = (self.with.cpu()? - before.0).as_secs_f64();
            let without = (self.without.cpu()? - before.1).as_secs_f64();
            let ticks = (self.with.iterations()? - ticks_before) / groups;
            ensure!(
                ticks > 0.0,
                "{}: no rule was evaluated in a window",
                self.with.peer().name()
            );
            figures.push((with - without) * 1e3 / ticks);
        }
        Ok(figures)
    }
}

/// Holds what was recorded against the answer to its expression at the same moment.
fn compare_recorded(pair: &Pair<'_>, report: &mut Report) -> Result<()> {
    let peer = pair.with.peer();
    let mut compared = 0;
    for (position, expr) in aggregations().iter().enumerate() {
        let name = recorded_name(position);
        let recorded = pair.with.query(&format!("{name}[2m]"), clock::now_ms())?;
        let Some(at) = recorded
            .0
            .values()
            .filter_map(|points| points.last())
            .map(|point| point.0)
            .next()
        else {
            report.compared(
                format!("{}: {name}", peer.name()),
                Some("nothing was recorded".to_owned()),
            );
            continue;
        };
        let at_ms = (at * 1e3).round() as i64;
        if (at_ms - pair.next_ms).rem_euclid(STEP_MS) < UNDER_WAY_MS {
            continue;
        }
        compared += 1;
        let mut expected = pair.with.query(expr, at_ms)?;
        let newest = recorded.0.into_iter().map(|(labels, mut points)| {
            let rest = points.split_off(points.len() - 1);
            (
                labels
                    .replace(&format!("\"__name__\":\"{name}\","), "")
                    .replace(&format!("\"__name__\":\"{name}\""), ""),
                rest,
            )
        });
        let newest = Answer(newest.collect());
        // An instant answer carries the moment of the question, a recorded one that of the tick.
        expected.0.values_mut().flatten().for_each(|point| point.0 = at);
        report.compared(
            format!("{}: {name}", peer.name()),
            expected.difference(&newest, 1e-9),
        );
    }
    if compared == 0 {
        report.note(format!(
            "{}: recorded values not compared, samples were under way at each tick",
            peer.name()
        ));
    }
    Ok(())
}
