//! The loop, with a clock that the test turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use marketprism_model::{AlertStore, Lifecycle};
use marketprism_testkit::wait_for;
use tokio_util::sync::CancellationToken;

use crate::world::*;

fn running(world: &World) -> (CancellationToken, std::thread::JoinHandle<()>) {
    let cancel = CancellationToken::new();
    let (alerts, token) = (Arc::clone(&world.alerts), cancel.clone());
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime")
            .block_on(alerts.run(token));
    });
    (cancel, thread)
}

/// Turns the clock by seconds until something is true; the loop runs on its own thread.
fn until(world: &World, mut is_true: impl FnMut() -> bool) {
    wait_for(Duration::from_secs(20), || {
        world.pass(Duration::from_secs(1));
        is_true()
    });
}

#[test]
fn the_loop_flushes_when_a_group_is_due_beats_and_ends_when_told() {
    let world = World::new(config());
    let rings = Arc::new(AtomicU32::new(0));
    let rung = Arc::clone(&rings);
    world.alerts.when_outbox_filled(move || {
        rung.fetch_add(1, Ordering::SeqCst);
    });
    let (cancel, thread) = running(&world);
    let rule = rule("A", Duration::ZERO);
    world.observe(&rule, vec![seen("A", "1", "#")]);
    world.alerts.commit(world.now()).expect("commit");
    until(&world, || world.messages().len() == 2);
    until(&world, || rings.load(Ordering::SeqCst) == 1);
    let created_at = world.messages()[0].created_at;
    assert!(
        created_at >= start() + Duration::from_secs(30),
        "told before the group's wait was over"
    );
    let beat = world.store.load().expect("load").heartbeat_at;
    assert!(beat >= Some(start()));

    // What is uncommitted at the end is written.
    world.observe(&rule, vec![]);
    cancel.cancel();
    thread.join().expect("ends");
    assert!(world.only_stored().resolved_at.is_some());
}

#[test]
fn the_loop_tries_again_after_the_store_refused() {
    let world = World::new(config());
    world.store.refuse.store(3, Ordering::SeqCst);
    let (cancel, thread) = running(&world);
    let rule = rule("A", Duration::ZERO);
    world.observe(&rule, vec![seen("A", "1", "#")]);
    until(&world, || world.messages().len() == 2);
    assert_eq!(world.store.refuse.load(Ordering::SeqCst), 0);
    cancel.cancel();
    thread.join().expect("ends");
}
