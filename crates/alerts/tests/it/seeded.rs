//! A hundred lives in simulated time, each of a few hours with faults of every kind, judged by an oracle of its own.
//!
//! `MARKETPRISM_SEED=n` lives one of them; `MARKETPRISM_TEST_SCALE` multiplies their number.

mod fragile;
mod life;
mod oracle;
mod plan;
mod postman;

use std::sync::atomic::{AtomicU64, Ordering};

use life::Life;
use parking_lot::Mutex;

const SEEDS: u64 = 100;
const WORKERS: usize = 2;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")),
    )
}

#[test]
fn whatever_befalls_it_whatever_fired_is_told_and_whatever_was_opened_is_closed() {
    let one = from_environment("MARKETPRISM_SEED");
    let (first, count) = match one {
        Some(seed) => (seed, 1),
        None => (1, SEEDS * from_environment("MARKETPRISM_TEST_SCALE").unwrap_or(1)),
    };
    let next = AtomicU64::new(first);
    let (faults, totals) = (Mutex::new(Vec::new()), Mutex::new(Vec::<(&str, usize)>::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let mut life = Life::new(seed);
                    life.live();
                    add(&mut totals.lock(), &life.oracle.counts.all());
                    faults.lock().extend(life.oracle.fault.map(|fault| (seed, fault)));
                }
            });
        }
    });
    let mut faults = faults.into_inner();
    faults.sort();
    let first_lines =
        |(seed, fault): &(u64, String)| format!("{seed}: {}", fault.lines().next().unwrap_or(""));
    let seeds: Vec<String> = faults.iter().map(first_lines).collect();
    if let Some((seed, fault)) = faults.first() {
        panic!(
            "{} of {count} lives went wrong:\n  {}\nto see this one again:\n  MARKETPRISM_SEED={seed} \
             cargo test -p marketprism-alerts --test it seeded\n{fault}",
            seeds.len(),
            seeds.join("\n  ")
        );
    }
    let totals = totals.into_inner();
    let idle: Vec<&str> = totals
        .iter()
        .filter(|(_, count)| *count == 0)
        .map(|(name, _)| *name)
        .collect();
    assert!(
        one.is_some() || idle.is_empty(),
        "never happened: {idle:?} of {totals:?}"
    );
}

fn add(totals: &mut Vec<(&'static str, usize)>, counts: &[(&'static str, usize)]) {
    totals.resize(counts.len(), ("", 0));
    for (total, (name, count)) in totals.iter_mut().zip(counts) {
        *total = (*name, total.1 + count);
    }
}
