//! Changes of the configuration's files while the program runs: seen, and put in force whole or not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use marketprism_testkit::is_true_within;
use rustix::process::Signal;

use crate::program::{PATIENCE, Program};

fn rules(name: &str) -> String {
    format!("groups: [{{name: {name}, rules: [{{alert: {name}, expr: vector(0) > 1}}]}}]\n")
}

fn config(patterns: &str) -> String {
    format!(
        "config: {{watch_interval: 1}}\nhost: {{enabled: false}}\nalert_manager: {{default_rules: false}}\nrule_files: [{patterns}]\n"
    )
}

/// Names the rule groups that run.
fn groups(program: &Program) -> Vec<String> {
    let answer = program.get_json("/prometheus/api/v1/rules");
    let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    let names = groups.iter().filter_map(|group| group["name"].as_str());
    names.map(str::to_owned).collect()
}

fn metric(program: &Program, line: &str) -> Option<f64> {
    let (_, text) = program.get("/metrics");
    let found = text.lines().find_map(|written| written.strip_prefix(line));
    found.and_then(|value| value.trim().parse().ok())
}

fn readings(program: &Program, trigger: &str, outcome: &str) -> f64 {
    let line = format!("marketprism_config_reloads_total{{trigger=\"{trigger}\",outcome=\"{outcome}\"}}");
    metric(program, &line).unwrap_or_else(|| panic!("{line} is missing"))
}

#[track_caller]
fn wait_for_groups(program: &Program, expected: &[&str]) {
    let is_in_force = is_true_within(PATIENCE, || groups(program) == expected);
    assert!(
        is_in_force,
        "{:?} run, not {expected:?}; log:\n{}",
        groups(program),
        program.log()
    );
}

#[test]
fn a_changed_rule_file_is_in_force_by_itself_and_a_faulty_one_changes_nothing() {
    let mut program = Program::prepare(&config("'rules/*.yaml'"));
    let folder = program.home().join("rules");
    fs::create_dir(&folder).expect("make the folder");
    fs::write(folder.join("a.yaml"), rules("first")).expect("write");
    program.launch(&[]);
    program.wait_until_ready();
    wait_for_groups(&program, &["first"]);

    fs::write(folder.join("b.yaml"), rules("second")).expect("write");
    wait_for_groups(&program, &["first", "second"]);
    assert_eq!(readings(&program, "file", "success"), 1.0);

    fs::write(folder.join("a.yaml"), "groups: [{nmae: first}]\n").expect("write");
    fs::write(folder.join("b.yaml"), rules("third")).expect("write");
    let is_refused = is_true_within(PATIENCE, || {
        metric(&program, "marketprism_config_last_reload_successful") == Some(0.0)
    });
    assert!(is_refused, "log:\n{}", program.log());
    assert_eq!(groups(&program), ["first", "second"], "all or nothing");
    let told = program.logged("configuration not reloaded; the running one stays");
    let told = told.expect("the refusal is in the log")["error"].to_string();
    assert!(told.contains("a.yaml:1") && told.contains("nmae"), "{told}");

    // What was refused is not tried again: the next reading is that of the next content.
    fs::write(folder.join("a.yaml"), rules("fourth")).expect("write");
    wait_for_groups(&program, &["fourth", "third"]);
    assert_eq!(readings(&program, "file", "failure"), 1.0);
    assert_eq!(readings(&program, "file", "success"), 2.0);
    assert_eq!(
        metric(&program, "marketprism_config_last_reload_successful"),
        Some(1.0)
    );
}

#[test]
fn a_reading_is_counted_by_what_asked_for_it() {
    let program = Program::start(&config(""));
    program.signal(Signal::HUP);
    assert!(is_true_within(PATIENCE, || readings(
        &program, "signal", "success"
    ) == 1.0));
    let (status, body) = program.post_bytes("/-/reload", &[], b"");
    assert_eq!(status, 200, "{body}");
    assert_eq!(readings(&program, "http", "success"), 1.0);
    assert_eq!(readings(&program, "file", "success"), 0.0);
}

/// Kubernetes writes a new folder and renames a link to it over `..data`.
fn deploy(mount: &Path, version: &str, rules: &str) {
    fs::create_dir(mount.join(version)).expect("make the folder");
    fs::write(mount.join(version).join("config.yaml"), config("rules.yaml")).expect("write");
    fs::write(mount.join(version).join("rules.yaml"), rules).expect("write");
    symlink(version, mount.join("..data_tmp")).expect("link");
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swap");
}

#[test]
fn a_config_map_that_is_swapped_is_put_in_force() {
    let mut program = Program::prepare("");
    let mount = program.home().to_owned();
    fs::remove_file(mount.join("config.yaml")).expect("make room for the link");
    deploy(&mount, "..1", &rules("first"));
    for name in ["config.yaml", "rules.yaml"] {
        symlink(Path::new("..data").join(name), mount.join(name)).expect("link");
    }
    program.launch(&[]);
    program.wait_until_ready();
    wait_for_groups(&program, &["first"]);
    deploy(&mount, "..2", &rules("second"));
    wait_for_groups(&program, &["second"]);
}

#[test]
fn variables_of_dot_env_and_secrets_in_files_are_read_and_watched() {
    let mut program = Program::prepare(
        "config: {watch_interval: 1}\nhost: {enabled: false}\nalert_manager: {default_rules: '${RULES}'}\n\
         notification_manager: {channels: {webhook: {url_file: url}}}\n",
    );
    let home = program.home().to_owned();
    fs::write(home.join(".env"), "# ours\nexport RULES=false # none\n").expect("write");
    fs::write(home.join("url"), "http://127.0.0.1:9/hunter2\n").expect("write");
    program.launch(&[]);
    program.wait_until_ready();
    assert_eq!(groups(&program), [""; 0]);
    fs::write(home.join(".env"), "RULES=true\n").expect("write");
    assert!(
        is_true_within(PATIENCE, || !groups(&program).is_empty()),
        "log:\n{}",
        program.log()
    );
    fs::write(home.join("url"), "ftp://hunter2\n").expect("write");
    let is_refused = is_true_within(PATIENCE, || readings(&program, "file", "failure") == 1.0);
    assert!(is_refused, "log:\n{}", program.log());
    let log = program.log();
    assert!(
        log.contains("config.yaml:4:") && log.contains("notification_manager.channels.webhook.url"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
}
