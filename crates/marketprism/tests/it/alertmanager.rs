//! The same `alertmanager.yml` and the same alerts go to Debian's Alertmanager and to the whole program, and the
//! webhook messages of both are compared, case by case.
//!
//! All cases run at once, as subtrees of one configuration, in one timeline of about a minute. What a case does
//! happens at even seconds and every flush at an odd one, so that neither side can be early or late for a step.
//! Where we mean to differ, the case says how, and exactly that difference must show.

mod cases;
mod compare;
mod kinds;
mod mutes;
mod sides;

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Clock, Timestamp};
use marketprism_testkit::MachineClock;

use cases::{Act, Case};
use compare::Message;
use sides::{Ours, Side, Theirs};

/// The timeline ends at this second; nothing is done during the last eight.
const END: u64 = 64;

/// Of the plain cases at least this many of a hundred must have led to a message.
const TOLD_PERCENT: usize = 80;

/// What both sides were sent to until a second of the timeline: how many messages had come to each.
type Arrivals = Vec<[usize; 2]>;

/// A step that is done this much later than planned may have been too late for a tick.
const LATE: Duration = Duration::from_millis(900);

/// A machine that was too busy gets the timeline again, at most so often.
const TIMELINES: usize = 3;

#[test]
fn the_messages_are_those_of_debians_alertmanager_but_for_what_is_meant() {
    let is_through = (0..TIMELINES).any(|_| is_compared());
    assert!(is_through, "the machine was too busy for {TIMELINES} timelines");
}

/// Runs the timeline and judges it; false when a step came too late to judge anything.
#[expect(clippy::print_stdout, reason = "a differential run reports its counts")]
fn is_compared() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let clock = MachineClock::default();
    // The minute turns while the timeline runs, so that intervals of time begin and end in its middle.
    let begin = next_begin(clock.now() + Duration::from_secs(20));
    let minute = begin.millis().div_euclid(60_000);
    let turn = 60 - u64::try_from(begin.millis().rem_euclid(60_000) / 1000).expect("seconds of a minute");
    let cases = cases::all(minute, turn);
    let theirs = Theirs::start(&cases);
    let ours = Ours::start(&cases);
    let mut arrivals = Arrivals::new();
    let mut sides: [Box<dyn Side + Send>; 2] = [Box::new(theirs), Box::new(ours)];
    for second in (0..=END).step_by(2) {
        let due = begin + Duration::from_secs(second);
        runtime.block_on(clock.sleep_until(due));
        arrivals.push([sides[0].received().len(), sides[1].received().len()]);
        step(&cases, second, begin, &mut sides);
        let late = clock.now().since(due);
        if late > LATE {
            println!("second {second} was done {late:?} late; the timeline is run again");
            return false;
        }
    }
    let mut messages = Vec::new();
    for (at, side) in sides.iter().enumerate() {
        let mut received = side.received();
        received.truncate(arrivals.last().expect("there were steps")[at]);
        messages.push(compare::by_group(&received, |nth| {
            let window = arrivals.iter().position(|counts| nth < counts[at]);
            window.expect("it came before the end") as u64 * 2
        }));
    }
    let ours = messages.pop().expect("two sides");
    let theirs = messages.pop().expect("two sides");
    judge(&cases, &theirs, &ours);
    true
}

/// Gives the first even second after a moment from which on the minute turns between 24 and 48 seconds later.
fn next_begin(after: Timestamp) -> Timestamp {
    let second = |at: Timestamp| at.millis().rem_euclid(60_000) / 1000;
    let mut begin = after.align_down(Duration::from_secs(2)) + Duration::from_secs(2);
    while !(12..=36).contains(&second(begin)) {
        begin = begin + Duration::from_secs(2);
    }
    begin
}

/// Does on both sides what all cases do at a second.
fn step(cases: &[Case], second: u64, begin: Timestamp, sides: &mut [Box<dyn Side + Send>; 2]) {
    let now = begin + Duration::from_secs(second);
    let mut alerts = Vec::new();
    for case in cases {
        for (_, act) in case.steps.iter().filter(|(at, _)| *at == second) {
            match act {
                Act::Silence { key, matchers } => {
                    let silence = cases::silence(matchers, now);
                    let name = format!("{}/{key}", case.name);
                    sides.iter_mut().for_each(|side| side.silence(&name, &silence));
                }
                Act::Unsilence { key } => {
                    let name = format!("{}/{key}", case.name);
                    sides.iter_mut().for_each(|side| side.unsilence(&name));
                }
                Act::Fire(labels) => alerts.push(cases::alert(labels, now, None)),
                Act::Resolve(labels, fired) => {
                    let started = begin + Duration::from_secs(*fired);
                    alerts.push(cases::alert(labels, started, Some(now)));
                }
            }
        }
    }
    if !alerts.is_empty() {
        let body = serde_json::to_vec(&alerts).expect("plain data");
        // At the same time, so that neither waits for the other.
        std::thread::scope(|scope| {
            for side in sides.iter_mut() {
                scope.spawn(|| side.alerts(&body));
            }
        });
    }
}

/// Compares the sequences, and reports how many there were.
#[expect(clippy::print_stdout, reason = "a differential run reports its counts")]
fn judge(cases: &[Case], theirs: &BTreeMap<String, Vec<Message>>, ours: &BTreeMap<String, Vec<Message>>) {
    let mut faults = Vec::new();
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for case in cases {
        let [theirs, ours] = [theirs, ours].map(|messages| compare::of_case(messages, case));
        let told: usize = theirs.values().map(Vec::len).sum();
        let count = counts.entry(case.kind).or_default();
        count[0] += 1;
        count[1] += usize::from(told > 0);
        count[2] += told;
        if let Err(fault) = compare::judge(case, &theirs, &ours) {
            faults.push(fault);
        }
    }
    for (kind, [cases, told, messages]) in &counts {
        println!(
            "{kind}: {cases} cases generated, {told} told something, {messages} messages of Alertmanager"
        );
    }
    let plain: Vec<&Case> = cases.iter().filter(|case| case.difference.is_none()).collect();
    let told = counts.values().map(|[_, told, _]| told).sum::<usize>();
    println!(
        "{} cases generated and compared ({} plain, {} meant to differ), {told} with messages, {} faults",
        cases.len(),
        plain.len(),
        cases.len() - plain.len(),
        faults.len()
    );
    assert!(
        faults.is_empty(),
        "{} cases differ:\n{}",
        faults.len(),
        faults[..faults.len().min(12)].join("\n")
    );
    assert!(
        told * 100 >= cases.len() * TOLD_PERCENT,
        "only {told} of {} cases led to a message",
        cases.len()
    );
}
