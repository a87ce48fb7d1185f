//! Backup and restore as in the guide: tar of a running service, unpacked in place of what was lost.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::Clock as _;
use marketprism_testkit::{MachineClock, is_true_within};
use serde_json::Value;

use crate::compose::{RULES, host};
use crate::guide::step;
use crate::host::Host;
use crate::program::PATIENCE;
use crate::settings::Settings;
use crate::{remote_write, web};

/// Recorded series enough that every tick writes while tar reads.
const RECORDED: usize = 200;

fn rules() -> String {
    let mut text = RULES.to_owned();
    for number in 0..RECORDED {
        writeln!(text, "      - {{record: 'guide:load:{number}', expr: 'time()'}}").expect("to a String");
    }
    text
}

/// Pushes before tar begins, and series in each.
const PUSHES_BEFORE: usize = 20;
const PUSHED_SERIES: usize = 500;

/// A sender by remote write.
struct Pusher {
    url: String,
    authorization: String,
    pushes: AtomicU64,
    from: i64,
}

impl Pusher {
    fn of(host: &Host) -> Self {
        Pusher {
            url: host.url("/api/v1/write"),
            authorization: host.authorization(),
            pushes: AtomicU64::new(0),
            from: MachineClock::default().now().millis() - 60_000,
        }
    }

    /// Sends one sample of each series; gives how many were acknowledged.
    fn push(&self) -> u64 {
        let at = self.from + self.pushes.fetch_add(1, Ordering::Relaxed) as i64;
        let numbers: Vec<String> = (0..PUSHED_SERIES).map(|number| number.to_string()).collect();
        let series = numbers
            .iter()
            .map(|number| remote_write::series(&[("__name__", "pushed"), ("number", number)], &[(at, 1.0)]));
        let body = remote_write::encode(series.collect());
        let mut headers = remote_write::HEADERS.to_vec();
        headers.push(("authorization", &self.authorization));
        let (status, said) = web::post_bytes(&self.url, &headers, &body);
        assert_eq!(status, 204, "{said}");
        PUSHED_SERIES as u64
    }
}

/// A running service under load whose records have been copied since its alert began.
fn loaded() -> (Host, Value) {
    let host = host(Settings::of_the_guide());
    host.lay("config/rules.yaml", &rules());
    host.up();
    let alert = host.wait_for_alert("GuideAlert");
    let copied_at = || {
        let copy = host.app().join("data/records.snapshot.db");
        fs::metadata(copy).and_then(|file| file.modified()).ok()
    };
    // A copy that ends well after the alert was seen began after it was recorded.
    let marker = host.app().join("seen");
    fs::write(&marker, "").expect("write a file");
    let seen_at = fs::metadata(&marker)
        .and_then(|file| file.modified())
        .expect("it was written");
    let has_alert = || copied_at().is_some_and(|at| at > seen_at + Duration::from_secs(1));
    assert!(is_true_within(PATIENCE, has_alert), "{}", host.log());
    (host, alert)
}

/// Fails unless the alert goes on with its story, and none was made beside it.
fn assert_goes_on(host: &Host, before: &Value) {
    host.wait_until_ready();
    assert_eq!(host.get("/health").0, 200);
    let after = host.wait_for_alert("GuideAlert");
    assert_eq!(after["id"], before["id"], "{after}");
    let events = |alert: &Value| alert["events"].as_array().cloned().unwrap_or_default();
    let kept = events(&after);
    assert!(!events(before).is_empty());
    for event in events(before) {
        assert!(kept.contains(&event), "{event} is not in {kept:?}");
    }
    let all = host.get_json("/api/v1/alerts?label=alertname:GuideAlert");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
}

fn tar(arguments: &[&str], folder: &Path) {
    let output = Command::new("tar").args(arguments).arg("-C").arg(folder).output();
    let output = output.expect("tar is there");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_the_guide_saves_under_load_is_there_again_after_its_restore() {
    let (host, alert) = loaded();
    let pusher = Pusher::of(&host);
    // What was acknowledged before tar begins must be in what tar takes, whatever is pushed meanwhile.
    let acknowledged: u64 = (0..PUSHES_BEFORE).map(|_| pusher.push()).sum();
    let is_over = AtomicBool::new(false);
    let (said, pushed_meanwhile) = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let mut pushed = 0;
            while !is_over.load(Ordering::Relaxed) {
                pushed += pusher.push();
            }
            pushed
        });
        let said = host.run(&step("备份和恢复 / 数据备份"));
        is_over.store(true, Ordering::Relaxed);
        (said, pushing.join().expect("every push is acknowledged"))
    });
    assert!(pushed_meanwhile > 0);
    // tar ends with 1 when a file has grown while it was read, which the log of a running service does.
    assert!(matches!(said.status, 0 | 1), "{said:?}");
    let is_known =
        |line: &str| line.contains("file changed as we read it") || line.contains("Removing leading `/'");
    assert!(said.complaint.lines().all(is_known), "{said:?}");
    assert!(said.status == 0 || !said.complaint.is_empty(), "{said:?}");
    let made: Vec<_> = glob::glob(host.app().join("config-backup-*.tar.gz").to_str().expect("UTF-8"))
        .expect("a good pattern")
        .map(|path| path.expect("readable folder"))
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let day = made[0]
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    let day = &day["config-backup-".len()..day.len() - ".tar.gz".len()];
    assert!(
        day.len() == 8 && day.bytes().all(|digit| digit.is_ascii_digit()),
        "{day}"
    );

    // Everything is lost; the guide's restore names a backup of its own day.
    let configuration = fs::read_to_string(host.app().join("config/config.yaml")).expect("the configuration");
    host.down();
    fs::rename(&made[0], host.app().join("config-backup-20240101.tar.gz")).expect("rename the backup");
    fs::remove_dir_all(host.app().join("config")).expect("lose the configuration");
    fs::remove_dir_all(host.app().join("data")).expect("lose the data");
    let data = host.root().join("tmp/alerts-backup.tar.gz");
    tar(&["-xzf", data.to_str().expect("UTF-8")], &host.root());
    host.run_well(&step("备份和恢复 / 恢复流程"));
    assert_eq!(
        fs::read_to_string(host.app().join("config/config.yaml")).expect("it was restored"),
        configuration
    );
    assert_goes_on(&host, &alert);
    let kept = |expr: &str| {
        let samples = host.get_json(&format!("/prometheus/api/v1/query?query={expr}"));
        let value = samples["data"]["result"][0]["value"][1]
            .as_str()
            .map(str::to_owned);
        value.and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!(kept("count_over_time(guide:load:7[1h])") >= 2.0);
    let pushed = kept("sum(count_over_time(pushed[1h]))");
    let most = (acknowledged + pushed_meanwhile) as f64;
    assert!(
        (acknowledged as f64..=most).contains(&pushed),
        "{pushed} samples are kept; {acknowledged} were acknowledged before, {pushed_meanwhile} while tar ran"
    );
}

#[test]
fn the_programs_own_backup_of_a_running_service_restores_everything() {
    let (host, alert) = loaded();
    let program = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
            .args(arguments)
            .current_dir(host.app())
            .env_clear()
            .envs(crate::settings::VARIABLES)
            .output()
            .expect("start the program");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let configuration = fs::read_to_string(host.app().join("config/config.yaml")).expect("the configuration");
    program(&[
        "backup",
        "--config",
        "config/config.yaml",
        "--data-dir",
        "data",
        "--output",
        "backup.tar.gz",
    ]);
    host.down();
    fs::remove_dir_all(host.app().join("config")).expect("lose the configuration");
    fs::remove_dir_all(host.app().join("data")).expect("lose the data");
    program(&[
        "restore",
        "backup.tar.gz",
        "--data-dir",
        "data",
        "--config-dir",
        "config",
    ]);
    assert_eq!(
        fs::read_to_string(host.app().join("config/config.yaml")).expect("it was restored"),
        configuration
    );
    host.up();
    assert_goes_on(&host, &alert);
}
