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
