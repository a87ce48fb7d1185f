//! The process dies at each named point; the next start goes on, and nobody is told twice or not at all.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use marketprism_alerts::POINTS;
use marketprism_model::Lifecycle;
use marketprism_state::Database;

use crate::world::*;

const FOLDER: &str = "MARKETPRISM_ALERTS_TEST_FOLDER";
/// A point is passed several times in the story below; the process dies at each passing in turn.
const PASSINGS_MAX: usize = 20;

fn world(folder: &Path) -> World {
    World::with_database(config(), Database::open(&folder.join("state.db")).expect("open"))
}

/// Two minutes of one alert, then its end, minute by minute, up to minute 12; begins at the minute given.
fn live(world: &World, from: u32) {
    let rule = rule("A", MINUTE);
    for minute in from..=12 {
        world.clock.jump_to(start() + MINUTE * minute);
        let observations = if minute <= 7 {
            vec![seen("A", "1", "#")]
        } else {
            vec![]
        };
        world.observe(&rule, observations);
        world.alerts.commit(world.now()).expect("commit");
        world.alerts.heartbeat(world.now()).expect("flush");
        std::fs::write(
            std::env::var(FOLDER).map_or_else(|_| "/dev/null".into(), |folder| format!("{folder}/minute")),
            minute.to_string(),
        )
        .expect("note the minute");
    }
}

#[test]
#[ignore = "the crash test starts it as a process of its own"]
fn twelve_minutes() {
    let folder = std::env::var(FOLDER).expect("set by the crash test");
    live(&world(Path::new(&folder)), 0);
}

#[test]
fn whatever_the_moment_of_death_everybody_hears_everything_once() {
    for point in POINTS {
        let mut deaths = 0;
        for passing in 1..=PASSINGS_MAX {
            let folder = tempfile::tempdir().expect("folder");
            let output = Command::new(std::env::current_exe().expect("this test"))
                .args(["--ignored", "--exact", "crash::twelve_minutes"])
                .env(FOLDER, folder.path())
                .env("MARKETPRISM_KILL_POINT", format!("{point}:{passing}"))
                .output()
                .expect("start");
            if output.status.success() {
                break;
            }
            deaths += 1;
            let done = std::fs::read_to_string(folder.path().join("minute")).ok();
            let next = done
                .and_then(|minute| minute.parse::<u32>().ok())
                .map_or(0, |minute| minute + 1);
            let world = world(folder.path());
            live(&world, next);
            let place = format!("{point}, passing {passing}, minute {next}");
            assert_eq!(
                world.story(world.only_stored().id),
                ["0 pending", "1 fired medium", "8 resolved: the condition cleared"],
                "{place}"
            );
            assert_eq!(world.heard("pager"), ["2 +1:medium"], "{place}");
            assert_eq!(
                world.heard("mail"),
                ["2 +1:medium", "12 -1:medium"].map(str::to_owned),
                "{place}"
            );
        }
        assert!(deaths > 0, "{point} was never passed");
    }
}

#[test]
fn what_is_decided_without_a_death() {
    let world = World::new(config());
    live(&world, 0);
    assert_eq!(world.heard("mail"), ["2 +1:medium", "12 -1:medium"]);
    world.pass(Duration::from_secs(1));
}
