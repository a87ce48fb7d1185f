//! Moment by moment, by the groups of the running program.
//!
//! The slow way that holds for all rules, and so the measure for the quick one (`columns`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use marketprism_model::Timestamp;

use crate::backtest::BacktestError;
use crate::backtest::clock::SimulatedClock;
use crate::backtest::run::{Asking, Course};
use crate::evaluate::{Ports, evaluate_alone};
use crate::group::Group;

pub(crate) fn run(course: &mut Course<'_>) -> Result<(), BacktestError> {
    let engine = course.given.engine;
    let clock = SimulatedClock::at(course.request.start);
    let interrupt = Asking(course.given.interrupt);
    let ports = Ports {
        engine,
        source: course.overlay,
        sink: course.memory,
        lifecycle: course.given.lifecycle,
        clock: &clock,
        interrupt: &interrupt,
        installation: course.given.installation,
    };
    let mut groups: Vec<Group> = course
        .groups()
        .iter()
        .map(|spec| Group::new(spec, engine))
        .collect();
    let due = course
        .schedules
        .iter()
        .enumerate()
        .filter(|(_, schedule)| schedule.count > 0);
    let mut due: BinaryHeap<Reverse<(Timestamp, usize)>> = due
        .map(|(place, schedule)| Reverse((schedule.first, place)))
        .collect();
    while let Some(Reverse((at, place))) = due.pop() {
        course.move_to(at)?;
        clock.move_to(at);
        let group = &mut groups[place];
        evaluate_alone(group, at, &ports);
        course.check()?;
        course.check_written()?;
        let snapshot = group.snapshot();
        let mut evaluated = 0;
        for (rule, follower) in snapshot.rules.iter().zip(&mut course.followers[place]) {
            if rule.last_evaluation != Some(at) {
                continue;
            }
            follower.evaluated(1);
            evaluated += 1;
            match &rule.last_error {
                Some(error) => follower.failed(error.to_string()),
                None => follower.follow(at, &rule.alerts)?,
            }
        }
        course.count(evaluated);
        let next = course.schedules[place].after(at);
        if at < next && next <= course.request.end {
            due.push(Reverse((next, place)));
        }
    }
    Ok(())
}
