//! What an evaluation costs. Run with
//! `cargo test --release -p marketprism-alerts --test it -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use marketprism_model::Lifecycle;

use crate::world::*;

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures the machine")]
fn the_cost_of_rules_that_see_nothing_and_of_rules_that_do() {
    let world = World::new(config());
    let quiet: Vec<_> = (0..1_000).map(|n| rule(&format!("Q{n}"), MINUTE)).collect();
    // Other rules' alerts stand meanwhile.
    let busy = rule("B", Duration::ZERO);
    let many: Vec<_> = (0..1_000).map(|i| seen("B", &i.to_string(), "#")).collect();
    world.evaluate(&busy, many.clone());
    const ROUNDS: u32 = 1_000;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for rule in &quiet {
            assert!(
                world
                    .alerts
                    .observe(rule, world.now(), Vec::new())
                    .expect("observe")
                    .is_empty()
            );
        }
    }
    let each = begun.elapsed() / (ROUNDS * 1_000);
    println!("a rule that sees nothing: {each:?}");
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        world.alerts.commit(world.now()).expect("commit");
    }
    println!("a commit of nothing: {:?}", begun.elapsed() / ROUNDS);
    let batches: Vec<_> = (0..100).map(|_| many.clone()).collect();
    let begun = Instant::now();
    for batch in batches {
        assert_eq!(
            world
                .alerts
                .observe(&busy, world.now(), batch)
                .expect("observe")
                .len(),
            1_000
        );
    }
    println!(
        "a rule that sees 1,000 firing alerts, each alert: {:?}",
        begun.elapsed() / 100_000
    );
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(world.alerts.active().len(), 1_000);
    }
    println!(
        "the list of active alerts, unchanged: {:?}",
        begun.elapsed() / ROUNDS
    );
    assert!(
        each < Duration::from_micros(1),
        "a rule that sees nothing costs {each:?}"
    );
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures the machine")]
fn the_cost_of_ten_thousand_alerts_that_fire_at_once_in_one_group() {
    let folder = tempfile::tempdir().expect("folder");
    let db = marketprism_state::Database::open(&folder.path().join("records.db")).expect("open");
    let world = World::with_database(
        marketprism_alerts::Config {
            max_active_alerts: 100_000,
            ..config()
        },
        db,
    );
    let rule = rule("A", Duration::ZERO);
    let many: Vec<_> = (0..10_000).map(|i| seen("A", &i.to_string(), "#")).collect();
    let timed = |what: &str, step: &mut dyn FnMut()| {
        let begun = Instant::now();
        step();
        let took = begun.elapsed();
        println!("{what}: {took:?}");
        took
    };
    let fire = timed("to fire", &mut || drop(world.observe(&rule, many.clone())));
    timed("to write that", &mut || {
        world.alerts.commit(world.now()).expect("commit");
    });
    world.pass(MINUTE);
    timed("to flush the group for two channels, written", &mut || {
        world.alerts.flush(world.now()).expect("flush");
    });
    let messages = world.messages();
    let bytes: Vec<usize> = messages
        .iter()
        .map(|message| serde_json::to_string(&message.content).expect("json").len())
        .collect();
    println!(
        "{} messages, the longest of {:?} bytes",
        bytes.len(),
        bytes.iter().max()
    );
    timed("to end", &mut || drop(world.observe(&rule, Vec::new())));
    timed("to fire again before the end was told", &mut || {
        drop(world.observe(&rule, many.clone()));
    });
    timed("to write that", &mut || {
        world.alerts.commit(world.now()).expect("commit");
    });
    assert!(
        fire < Duration::from_secs(1),
        "10,000 alerts took {fire:?} to fire"
    );
}
