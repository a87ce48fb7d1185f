//! A real process, killed at every named point, again and again on the same folder.
//!
//! The child writes a history that is a function of the step, and says on its standard output what was
//! acknowledged; the parent knows the function, so it can tell lost from kept and real from invented.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use marketprism_model::sample::Durability;
use marketprism_model::{Clock, kill_point};
use marketprism_storage::{Config, POINTS, SyncMode};

use crate::harness::*;

const FOLDER: &str = "MARKETPRISM_STORAGE_TEST_FOLDER";
const RETENTION_HOURS: &str = "MARKETPRISM_STORAGE_TEST_RETENTION_HOURS";
const FIRST_STEP: &str = "MARKETPRISM_STORAGE_TEST_FIRST_STEP";
/// The child's last step, counted from its first: seven hours, in which two or three blocks are cut.
const STEPS: i64 = 7 * 60;
const SIGABRT: i32 = 6;

/// The store under test: late samples of up to 6 h are taken, so blocks of two-hour ranges overlap.
fn crash_config(dir: &Path, retention_hours: u64) -> Config {
    let mut config = config(dir);
    config.sync = SyncMode::Interval(std::time::Duration::from_millis(1));
    config.out_of_order_window = std::time::Duration::from_secs(6 * 3600);
    config.retention = std::time::Duration::from_secs(retention_hours * 3600);
    config
}

/// Everything that is appended at one step: a minute's scrape of three series, and two late samples.
fn samples_at(step: i64) -> Vec<(usize, i64, f64)> {
    let time = START + step * MINUTE;
    let value = |series: i64| ((step * 7 + series * 31) % 1_000) as f64 / 4.0;
    let mut samples: Vec<_> = (0..3).map(|n| (n as usize, time, value(n))).collect();
    samples.push((3, time - 20 * MINUTE + 1_000 * (step % 2), value(3)));
    if step % 5 == 0 {
        samples.push((0, time - 30 * MINUTE + 500, value(4)));
        samples.push((1, time - 4 * HOUR + 250, value(5)));
    }
    samples
}

/// The histograms of a step: one of a series of its own, and late ones in series of either kind.
fn histograms_at(step: i64) -> Vec<(usize, i64, u32)> {
    let time = START + step * MINUTE;
    let mut histograms = vec![(5, time, (step * 3) as u32)];
    if step % 5 == 0 {
        histograms.push((5, time - 30 * MINUTE + 500, step as u32));
        histograms.push((1, time - 3 * HOUR + 750, step as u32));
    }
    histograms
}

fn contents_of(steps: impl Iterator<Item = i64>) -> Contents {
    let mut contents = Contents::new();
    for step in steps {
        let numbers = samples_at(step)
            .into_iter()
            .map(|(n, time, value)| (n, time, value.to_bits()));
        let histograms = histograms_at(step)
            .into_iter()
            .map(|(n, time, seed)| (n, time, histogram_bits(seed)));
        for (number, time, bits) in numbers.chain(histograms) {
            contents.entry(series(number)).or_default().insert(time, bits);
        }
    }
    contents
}

#[test]
#[ignore = "runs as the child of the crash test, which kills it"]
fn child() {
    let folder = std::env::var(FOLDER).expect("set by the crash test");
    let retention = std::env::var(RETENTION_HOURS).expect("set by the crash test");
    let retention: u64 = retention.parse().expect("a number");
    let first: i64 = std::env::var(FIRST_STEP)
        .expect("set by the crash test")
        .parse()
        .expect("a number");
    let clock = clock_at(START + first * MINUTE);
    let store = open(crash_config(folder.as_ref(), retention), &clock);
    let mut out = std::io::stdout().lock();
    for step in first..first + STEPS {
        clock.advance(minutes(u64::from(step > first)));
        let durability = if step % 20 == 0 {
            Durability::Synced
        } else {
            Durability::Interval
        };
        writeln!(out, "\ntried {step}").expect("the parent listens");
        let numbers = append(&store, &samples_at(step), durability).expect("a whole disk");
        let histograms = append_histograms(&store, &histograms_at(step), durability).expect("a whole disk");
        for appended in [numbers, histograms] {
            // With a short retention the latest of the late samples are too old; the parent does not ask for them.
            let is_refused =
                appended.refused() > appended.too_old || (retention > 24 && appended.too_old > 0);
            assert!(!is_refused, "step {step}: {appended:?}");
        }
        writeln!(out, "\nacknowledged {step}").expect("the parent listens");
        if step % 30 == 29 {
            store.maintain(clock.now()).expect("a whole disk");
        }
    }
    store.shutdown().expect("a whole disk");
}

struct Run {
    was_killed: bool,
    acknowledged: Vec<i64>,
    tried: i64,
}

fn run_child(dir: &Path, retention: u64, first: i64, point: &str, passing: u32) -> Run {
    let output = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([
            "--ignored",
            "--exact",
            "crash::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, dir)
        .env(RETENTION_HOURS, retention.to_string())
        .env(FIRST_STEP, first.to_string())
        .env(kill_point::VARIABLE, format!("{point}:{passing}"))
        .stderr(Stdio::piped())
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = |word: &str| -> Vec<i64> {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(word)?.trim().parse().ok());
        lines.collect()
    };
    let was_killed = output.status.signal() == Some(SIGABRT);
    assert!(
        was_killed || output.status.success(),
        "{point}:{passing}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Run {
        was_killed,
        acknowledged: numbers("acknowledged "),
        tried: numbers("tried ").last().copied().unwrap_or(first - 1),
    }
}

/// Kills children at one point, on one folder, each later than the one before; gives how many died there.
fn kill_at(point: &str, retention: u64, counts: &[u32]) -> usize {
    let dir = tempfile::tempdir().expect("a folder");
    // Before the first step there is history for late samples to fall into.
    let (mut next, mut kills) = (0, 0);
    let mut acknowledged: Vec<i64> = Vec::new();
    let mut tried: Vec<i64> = Vec::new();
    for passing in counts {
        let run = run_child(dir.path(), retention, next, point, *passing);
        kills += usize::from(run.was_killed);
        tried.extend(next..=run.tried);
        acknowledged.extend(&run.acknowledged);
        next = run.tried + 1;
        let clock = clock_at(START + next * MINUTE);
        let store = open(crash_config(dir.path(), retention), &clock);
        let stats = store.stats();
        let what = format!("{point}:{passing}, killed at step {}", run.tried);
        assert_eq!(stats.replay.lost, [], "{what}");
        assert_eq!(stats.damaged_blocks, [], "{what}");
        let (kept, given) = (
            contents_of(acknowledged.iter().copied()),
            contents_of(tried.iter().copied()),
        );
        let found = read_all(&store);
        let oldest_kept = START + acknowledged.last().unwrap_or(&0) * MINUTE - retention as i64 * HOUR;
        let mut lost = missing(&kept, &found);
        lost.retain(|(_, time)| *time >= oldest_kept);
        assert_eq!(lost, [], "{what}: acknowledged and lost");
        assert_eq!(missing(&found, &given), [], "{what}: invented");
        let held = stats.head_samples + stats.block_samples;
        assert_eq!(
            held,
            count(&found) as u64,
            "{what}: each sample is held once, in memory or in a block"
        );
        drop(store);
        let names = std::fs::read_dir(dir.path().join("blocks")).expect("a folder");
        for name in names {
            let name = name.expect("an entry").file_name().into_string().expect("a ULID");
            assert!(!name.contains('.'), "{what}: {name} was left behind");
        }
    }
    kills
}

#[test]
fn no_acknowledged_sample_is_lost_and_none_invented_at_any_named_point() {
    for point in POINTS {
        let retention = if point.starts_with("retention") {
            3
        } else {
            30 * 24
        };
        // Points on the way of every append are passed hundreds of times, the others once a cut.
        let counts: Vec<u32> = (0..10 * scale())
            .map(|round| match *point {
                "wal.append.before_write" | "wal.append.after_write" => 1 + round * 37 % 400,
                "wal.before_fsync" | "wal.after_fsync" => 1 + round * 3 % 20,
                _ => 1 + round % 2,
            })
            .collect();
        let kills = kill_at(point, retention, &counts);
        assert!(
            kills * 2 >= counts.len(),
            "{point} was hit in {kills} of {} runs",
            counts.len()
        );
    }
}
