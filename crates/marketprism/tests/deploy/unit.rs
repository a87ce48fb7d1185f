//! The systemd unit: judged by systemd itself, and its commands run with what it leaves open.

use std::fs;
use std::process::Command;

use marketprism_testkit::is_true_within;
use rustix::process::Signal;

use crate::container::Plan;
use crate::files::{read, root};
use crate::image::{image, lay};
use crate::program::PATIENCE;
use crate::service::volume;

const UNIT: &str = "deploy/systemd/marketprism.service";

/// How exposed the service may be, in tenths, by systemd's own measure from 0 to 100.
const EXPOSURE_MAX: &str = "20";

/// Gives a setting of the unit.
fn setting(name: &str) -> String {
    let text = read(UNIT);
    let start = format!("{name}=");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("{UNIT} has no {name}")).to_owned()
}

fn systemd_analyze(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("systemd-analyze");
    command
        .args(arguments)
        .output()
        .expect("systemd-analyze is there; run: apt-get install systemd")
}

#[test]
fn systemd_finds_nothing_to_say_about_the_unit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("marketprism.service");
    let verify = |text: &str| {
        // The program must stand where the unit says; here it stands where it was built.
        let here = text.replace("/usr/local/bin/marketprism", env!("CARGO_BIN_EXE_marketprism"));
        fs::write(&copy, here).expect("write the unit");
        let output = systemd_analyze(&["verify", &copy.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr);
        let about_us: Vec<String> = said
            .lines()
            .filter(|line| line.contains("marketprism"))
            .map(str::to_owned)
            .collect();
        (output.status.success(), about_us)
    };
    let text = read(UNIT);
    assert_eq!(verify(&text), (true, Vec::new()));
    let (_, complaints) = verify(&text.replace("ProtectHome=", "ProtectHom="));
    assert_eq!(complaints.len(), 1, "a wrong key is noticed: {complaints:?}");
}

#[test]
fn the_unit_leaves_little_open() {
    let unit = root().join(UNIT).display().to_string();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let output = systemd_analyze(&["security", "--offline=true", &threshold, &unit]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Overall exposure level"), "{said}");
    assert!(
        output.status.success(),
        "{}",
        said.lines().last().unwrap_or_default()
    );
}

#[test]
fn the_units_commands_start_and_reload_the_program_on_a_read_only_system() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let state = format!("/var/lib/{}", setting("StateDirectory"));
    assert_eq!(setting("WorkingDirectory"), state);
    assert_eq!(setting("EnvironmentFile"), "-/etc/marketprism/marketprism.env");
    let config = home.path().join("etc");
    let file = config.join("config.yaml");
    lay(&file, "host: {interval: 1s}\n");
    let plan = Plan::of(image())
        .volume(&volume(&home, "state"), &state)
        .volume(&config, "/etc/marketprism");
    let mut container = Plan {
        is_root_read_only: true,
        instead: Some(
            setting("ExecStart")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        ),
        ..plan
    }
    .start();
    container.wait_until_ready();

    assert_eq!(setting("ExecReload"), "/bin/kill -HUP $MAINPID");
    let is_good = || {
        let samples = container.get("/metrics");
        let line = samples
            .lines()
            .find(|line| line.starts_with("marketprism_config_last_reload_successful "));
        line.expect("told in /metrics").ends_with(" 1")
    };
    assert!(is_good());
    lay(&file, "host: {intervall: 1s}\n");
    container.signal(Signal::HUP);
    assert!(is_true_within(PATIENCE, || !is_good()), "{}", container.log());
    lay(
        &file,
        "host: {interval: 1s}\nalert_manager: {evaluation_interval: 5}\n",
    );
    container.signal(Signal::HUP);
    assert!(is_true_within(PATIENCE, is_good), "{}", container.log());
}
