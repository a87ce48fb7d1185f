//! Alerts through group and dedupe: ten thousand that begin, that are sent again and again, and that come and go.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::sides::{Kind, Side};
use super::wording::{Pace, alert, bodies, receivers_of};
use crate::clock;
use crate::report::Goal::TimesLess;
use crate::report::{Measure, Report};

/// Alerts that stand at once.
const ALERTS: usize = 10_000;
/// Measurements of alerts that are sent again.
const SLICES: usize = 5;
/// How often all are sent again in a slice.
const REPEATS: usize = 10;
/// Rounds in which alerts come and go.
const CHURNS: usize = 5;
/// Alerts that end, and as many that begin, in such a round.
const CHURN: usize = ALERTS / 20;
/// As Prometheus says it: four times its resend delay.
const ENDS_AFTER_MS: i64 = 240_000;
const PACE: Pace = Pace {
    group_by: "[alertname, cluster]",
    wait: "1s",
    interval: "5s",
};
/// After this long without a new message all is told.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

const FIRST: Measure = Measure {
    what: "10,000 alerts begin, and are told",
    unit: "CPU-s / M alerts",
    goals: &[],
};
const AGAIN: Measure = Measure {
    what: "alerts sent again, as Prometheus does",
    unit: "CPU-s / M alerts",
    goals: &[("Alertmanager", TimesLess(10.0))],
};
const AGAIN_WALL: Measure = Measure {
    what: "the same, four connections that wait for each answer",
    unit: "wall s / M alerts",
    goals: &[],
};
const COMING: Measure = Measure {
    what: "sent again, while 1 in 20 ends and as many begin; told",
    unit: "CPU-s / M alerts",
    goals: &[],
};
const WHOLE: Measure = Measure {
    what: "all of it",
    unit: "CPU-s / M alerts",
    goals: &[("Alertmanager", TimesLess(10.0))],
};

/// Posts everything to one side, and holds what it told against what had to be told.
pub fn run(kind: &Kind, folder: &Path, report: &mut Report) -> Result<()> {
    let side = Side::start(kind, &folder.join("flood"), PACE, None)?;
    let mut expected = Expected::default();
    let begun_ms = clock::now_ms();
    let all_before = side.cpu()?;
    let mut posted = 0;

    let standing =
        |from: usize, ends_ms: i64| (from..from + ALERTS).map(move |number| alert(number, begun_ms, ends_ms));
    let first = bodies(standing(0, begun_ms + ENDS_AFTER_MS));
    (0..ALERTS).for_each(|number| expected.told(number, "firing"));
    let before = side.cpu()?;
    side.flood(&first)?;
    expected.wait(&side)?;
    posted += ALERTS;
    report.measured(FIRST, side.name(), &[per_million(side.cpu()? - before, ALERTS)]);

    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..SLICES {
        let again = bodies((0..REPEATS).flat_map(|_| standing(0, clock::now_ms() + ENDS_AFTER_MS)));
        let before = side.cpu()?;
        let elapsed = side.flood(&again)?;
        // What is left to do behind the answers, and the ticks of the groups, belong to it.
        clock::pause(Duration::from_secs(1));
        posted += ALERTS * REPEATS;
        cpu.push(per_million(side.cpu()? - before, ALERTS * REPEATS));
        wall.push(per_million(elapsed, ALERTS * REPEATS));
    }
    report.measured(AGAIN, side.name(), &cpu);
    report.measured(AGAIN_WALL, side.name(), &wall);

    let mut coming = Vec::new();
    for round in 0..CHURNS {
        let from = (round + 1) * CHURN;
        let now_ms = clock::now_ms();
        let ending = (from - CHURN..from).map(|number| alert(number, begun_ms, now_ms - 1));
        let round = bodies(ending.chain(standing(from, now_ms + ENDS_AFTER_MS)));
        (from - CHURN..from).for_each(|number| expected.told(number, "resolved"));
        (from + ALERTS - CHURN..from + ALERTS).for_each(|number| expected.told(number, "firing"));
        let before = side.cpu()?;
        side.flood(&round)?;
        expected.wait(&side)?;
        posted += ALERTS + CHURN;
        coming.push(per_million(side.cpu()? - before, ALERTS + CHURN));
    }
    report.measured(COMING, side.name(), &coming);
    report.measured(
        WHOLE,
        side.name(),
        &[per_million(side.cpu()? - all_before, posted)],
    );
    expected.compare(&side, report);
    Ok(())
}

fn per_million(time: Duration, alerts: usize) -> f64 {
    time.as_secs_f64() * 1e6 / alerts as f64
}

/// What has to be told, by receiver and state.
#[derive(Default)]
struct Expected(BTreeMap<String, usize>);

impl Expected {
    fn told(&mut self, number: usize, state: &str) {
        for receiver in receivers_of(number) {
            *self.0.entry(format!("{receiver} {state}")).or_default() += 1;
        }
    }

    /// Waits until as many were told as have to be.
    fn wait(&self, side: &Side) -> Result<()> {
        let count: usize = self.0.values().sum();
        side.await_told(TOLD_WITHIN, |received| received.first_ms.len() >= count)
    }

    fn compare(&self, side: &Side, report: &mut Report) {
        let received = side.webhook.look(Clone::clone);
        let told = received.told();
        let difference = (told != self.0 || !received.faults.is_empty()).then(|| {
            format!(
                "told {told:?}, expected {:?}, faults {:?}",
                self.0, received.faults
            )
        });
        report.compared(
            format!("{}: alerts told, by receiver and state", side.name()),
            difference,
        );
        report.note(format!(
            "{}: {} messages, {} alerts in them",
            side.name(),
            received.messages,
            received.alerts
        ));
    }
}
