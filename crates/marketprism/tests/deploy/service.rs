//! The image as a service: its user, its health check, its memory, the guide's backup line.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use marketprism_testkit::is_true_within;
use tempfile::TempDir;

use crate::container::{Container, Plan};
use crate::image::{image, lay};
use crate::program::PATIENCE;

/// The user of the image.
pub const USER: u32 = 10001;

const CONFIG: &str = "
global: {scrape_interval: 1s, scrape_timeout: 900ms}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: itself
    static_configs: [{targets: ['localhost:8082']}]
host: {interval: 1s}
alert_manager: {evaluation_interval: 1, cleanup_interval: 1}
";

const RULES: &str = "
groups:
  - name: container
    rules:
      - alert: ScrapedOverHttp
        expr: up{job='itself'} == 1
        labels: {severity: high}
";

/// Makes a folder that belongs to the image's user, as a volume does.
pub fn volume(home: &TempDir, name: &str) -> PathBuf {
    let folder = home.path().join(name);
    fs::create_dir(&folder).expect("make the folder");
    chown(&folder, Some(USER), Some(USER)).expect("give it away");
    folder
}

fn configured(home: &TempDir) -> PathBuf {
    let folder = home.path().join("config");
    lay(&folder.join("config.yaml"), CONFIG);
    lay(&folder.join("rules.yaml"), RULES);
    folder
}

fn has_alert(container: &Container) -> bool {
    let alerts = container.get_json("/api/v1/alerts?label=alertname:ScrapedOverHttp");
    alerts["items"][0]["state"] == "firing"
}

fn is_healthy(container: &Container) -> bool {
    let command: Vec<&str> = image().health.iter().map(String::as_str).collect();
    container.exec(&command).status.success()
}

#[test]
fn the_image_scrapes_and_alerts_as_its_user_within_512_mib_and_its_health_check_passes() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let (config, data) = (configured(&home), volume(&home, "data"));
    // As the engine makes a folder that is to be mounted and is not there: root's.
    let logs = home.path().join("logs");
    fs::create_dir(&logs).expect("make the folder");
    let plan = Plan::of(image())
        .volume(&config, "/app/config")
        .volume(&data, "/app/data");
    let mut container = plan.volume(&logs, "/app/logs").start();
    container.wait_until_ready();

    assert!(
        is_true_within(PATIENCE, || is_healthy(&container)),
        "{}",
        container.log()
    );
    assert!(
        is_true_within(PATIENCE, || has_alert(&container)),
        "{}",
        container.log()
    );
    assert!(container.log().contains("创建告警"));
    let samples = container.get("/metrics");
    let scrapes = samples
        .lines()
        .find_map(|line| line.strip_prefix("marketprism_scrapes_total "));
    let scrapes: f64 = scrapes.expect("told in /metrics").parse().expect("a number");
    assert!(scrapes > 0.0, "{scrapes}");

    assert!(
        container
            .status("Uid")
            .split_whitespace()
            .all(|id| id == USER.to_string())
    );
    assert_eq!(container.status("CapBnd"), "0000000000000000");
    assert_eq!(
        container.status("NSpid").split_whitespace().last(),
        Some("1"),
        "first of its process numbers"
    );
    assert!(
        fs::read_dir(&data).expect("readable").count() > 0,
        "the data stand in the volume"
    );
    println!("memory: {}", container.memory());
    // Ten seconds are what `docker stop` gives.
    assert!(
        container.stop(Duration::from_secs(10)).success(),
        "{}",
        container.log()
    );
}

#[test]
fn a_config_folder_mounted_over_by_an_empty_one_starts() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let empty = home.path().join("config");
    fs::create_dir(&empty).expect("make the folder");
    let data = volume(&home, "data");
    let plan = Plan::of(image())
        .volume(&empty, "/app/config")
        .volume(&data, "/app/data");
    let mut container = plan.start();
    container.wait_until_ready();
    assert!(
        is_true_within(PATIENCE, || is_healthy(&container)),
        "{}",
        container.log()
    );
}

#[test]
fn the_configuration_of_the_image_starts() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut container = Plan::of(image())
        .volume(&volume(&home, "data"), "/app/data")
        .start();
    container.wait_until_ready();
    assert!(container.get("/ready").contains("ready"), "{}", container.log());
}

#[test]
fn the_guides_backup_of_a_running_service_can_be_restored() {
    let line = crate::guide::block("bash", "docker exec monitoring-alerting tar");
    let line = line
        .lines()
        .find_map(|line| line.strip_prefix("docker exec monitoring-alerting "));
    let line: Vec<&str> = line.expect("the guide's line").split_whitespace().collect();
    let archive = Path::new(
        line.iter()
            .find(|word| word.ends_with(".tar.gz"))
            .expect("it names a file"),
    );
    let home = tempfile::tempdir().expect("a temporary folder");
    let (config, data, tmp) = (configured(&home), volume(&home, "data"), volume(&home, "tmp"));
    let plan = Plan::of(image())
        .volume(&config, "/app/config")
        .volume(&data, "/app/data");
    let mut container = plan.volume(&tmp, "/tmp").start();
    container.wait_until_ready();
    assert!(
        is_true_within(PATIENCE, || has_alert(&container)),
        "{}",
        container.log()
    );
    let first =
        container.get_json("/api/v1/alerts?label=alertname:ScrapedOverHttp")["items"][0]["id"].clone();

    // What is saved of the records is their newest snapshot: here they are taken once a second. One may have been begun
    // before the alert was stored, the one after it not.
    let taken_at = || {
        fs::metadata(data.join("records.snapshot.db"))
            .and_then(|file| file.modified())
            .ok()
    };
    for _ in 0..2 {
        let before = taken_at();
        assert!(
            is_true_within(PATIENCE, || taken_at() > before),
            "no snapshot; {}",
            container.log()
        );
    }
    // tar ends with 1 when a file grew while it was read, which a running service's log does.
    let output = container.exec(&line);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{complaint}");
    drop(container);

    let restored = home.path().join("restored");
    fs::create_dir(&restored).expect("make the folder");
    let archive = tmp.join(archive.file_name().expect("a file has a name"));
    let tar = std::process::Command::new("tar")
        .arg("-xzpf")
        .arg(&archive)
        .arg("-C")
        .arg(&restored)
        .status();
    assert!(tar.expect("tar is there").success());
    let restored = restored.join("app/data");
    assert_eq!(
        fs::metadata(&restored).expect("it was in the archive").uid(),
        USER
    );
    // Without rules nothing new can begin to fire: what stands there was restored.
    lay(&config.join("rules.yaml"), "groups: []\n");
    lay(
        &config.join("config.yaml"),
        &CONFIG.replace("alert_manager: {", "alert_manager: {enabled: false, "),
    );
    let plan = Plan::of(image())
        .volume(&config, "/app/config")
        .volume(&restored, "/app/data");
    let mut container = plan.start();
    container.wait_until_ready();
    let alerts = container.get_json("/api/v1/alerts?label=alertname:ScrapedOverHttp");
    assert_eq!(alerts["items"][0]["id"], first, "{alerts}\n{}", container.log());
}
