//! The commands beside `serve`: backup and restore, users and tokens, the health check; all while the service runs.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use marketprism_testkit::is_true_within;
use serde_json::Value;

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(arguments)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the program");
    let mut stdin = child.stdin.take().expect("it was piped");
    // Whoever reads no input may have closed it already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// Runs a command that must succeed; gives what it printed.
fn succeed(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

/// Runs a command that must fail; gives what it complained of.
fn fail(arguments: &[&str]) -> String {
    let output = run(arguments, "");
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).expect("it prints UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

fn has_alert(program: &Program) -> bool {
    let (status, body) = program.get("/api/v1/alerts?state=firing");
    status == 200 && body.contains("\"Broken\"")
}

#[test]
fn a_backup_of_the_running_program_restores_alerts_samples_users_and_configuration() {
    let exporter = Exporter::start("broken 1\n");
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nrule_files: [rules/*.yaml]\nhost: {{enabled: false}}\n\
         alert_manager: {{default_rules: false, evaluation_interval: 0.2}}\n\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n",
        exporter.address()
    );
    let mut program = Program::prepare(&config);
    fs::create_dir(program.home().join("rules")).expect("make a folder");
    let rules = "groups:\n  - name: one\n    rules:\n      - {alert: Broken, expr: broken == 1}\n";
    fs::write(program.home().join("rules/one.yaml"), rules).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();
    assert!(
        is_true_within(PATIENCE, || has_alert(&program)),
        "{}",
        program.log()
    );
    let oldest_sample = |program: &Program| {
        let mut found = None;
        is_true_within(PATIENCE, || {
            let samples = program.query("min_over_time(timestamp(broken)[10m:1s])");
            found = samples.first().map(|sample| sample.1);
            found.is_some()
        });
        found.expect("there are samples")
    };
    let oldest = oldest_sample(&program);

    let made = br#"{"name": "made by API", "rules": [{"alert": "Made", "expr": "broken == 2"}]}"#;
    let json = [("Content-Type", "application/json")];
    let (status, words) = program.send("POST", "/api/v1/rules", &json, made);
    assert_eq!(status, 201, "{words}");
    let (data, home) = (program.home().join("data"), program.home().to_owned());
    let place = ["--data-dir", text(&data)];
    let said = succeed(
        &[&["user", "add", "alice", "--role", "operator"], &place[..]].concat(),
        "a long pass phrase\n",
    );
    assert!(said.contains("alice"), "{said}");
    let archive = home.join("saved.tar.gz");
    let file = home.join("config.yaml");
    // The folder of this configuration holds the data as well, which is no configuration.
    let configured = home.join("config");
    fs::create_dir(&configured).expect("make a folder");
    fs::copy(&file, configured.join("config.yaml")).expect("copy the configuration");
    fs::create_dir(configured.join("rules")).expect("make a folder");
    fs::copy(home.join("rules/one.yaml"), configured.join("rules/one.yaml")).expect("copy the rules");
    let file = configured.join("config.yaml");
    let backup = [
        "backup",
        "--config",
        text(&file),
        "--data-dir",
        text(&data),
        "--output",
        text(&archive),
    ];
    let said = succeed(&backup, "");
    assert!(said.contains("saved.tar.gz"), "{said}");
    assert!(fail(&backup).contains("exists"));
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(&archive)
        .output()
        .expect("tar runs");
    let listed = String::from_utf8_lossy(&listed.stdout);
    for name in [
        "data/records.db",
        "data/jwt_secret",
        "data/samples/wal/",
        "config/rules/one.yaml",
        "manifest.json",
    ] {
        assert!(listed.contains(name), "{name} is missing in\n{listed}");
    }

    let restore = ["restore", text(&archive), "--data-dir", text(&data)];
    assert!(fail(&restore).contains("another process"), "the service runs");
    program.stop();
    assert!(fail(&restore).contains("--replace"), "the folder is not empty");
    fs::remove_dir_all(&data).expect("lose the data");
    let lost = home.join("restored-config");
    let said = succeed(&[&restore[..], &["--config-dir", text(&lost)]].concat(), "");
    assert!(said.contains("restored"), "{said}");
    assert_eq!(
        fs::read_to_string(lost.join("rules/one.yaml")).expect("it is back"),
        rules
    );

    exporter.set("broken 0\n");
    program.launch(&[]);
    program.wait_until_ready();
    let kept = oldest_sample(&program);
    assert!(
        (kept - oldest).abs() < 2.0,
        "samples from {oldest} on, now from {kept}"
    );
    let users = program.get_json("/api/v1/users");
    let names: Vec<&str> = users["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|user| user["name"].as_str())
        .collect();
    assert_eq!(names, ["admin", "alice"]);
    let rules = program.get_json("/prometheus/api/v1/rules?file[]=api");
    assert_eq!(rules["data"]["groups"][0]["name"], "made by API");
    // The alert was firing when it was saved; the restored program resolves it.
    let is_resolved = is_true_within(PATIENCE, || {
        program
            .get("/api/v1/alerts?state=resolved")
            .1
            .contains("\"Broken\"")
    });
    assert!(is_resolved, "{}", program.log());
}

/// A configuration beside its data, as in the folder where somebody tries the program: the backup held the data twice, all
/// earlier backups and itself, and failed once a segment had 16 MB.
#[test]
fn a_backup_holds_nothing_twice_though_configuration_data_and_backups_share_a_folder() {
    let mut program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    program.stop();
    let (home, data) = (program.home(), program.home().join("data"));
    fs::write(
        home.join("marketprism-backup-20260101T000000Z.tar.gz"),
        "an earlier one",
    )
    .expect("write");
    fs::create_dir_all(home.join("before-restore-20260101T000000Z/rules")).expect("make a folder");
    fs::write(home.join("before-restore-20260101T000000Z/rules/old.yaml"), "old").expect("write");
    let (config, archive) = (home.join("config.yaml"), home.join("saved.tar.gz"));
    let place = ["--config", text(&config), "--data-dir", text(&data)];
    succeed(
        &[&["backup"], &place[..], &["--output", text(&archive)]].concat(),
        "",
    );
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(&archive)
        .output()
        .expect("tar runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.lines().any(|name| name == "config/config.yaml"),
        "{listed}"
    );
    for part in [
        "config/data",
        "partial",
        "config/marketprism-backup",
        "before-restore",
    ] {
        assert!(!listed.contains(part), "{part} is in\n{listed}");
    }
}

/// Ctrl-C left half an archive, and a copy of the records in the data folder.
#[test]
fn a_backup_that_is_interrupted_leaves_nothing() {
    let mut program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    program.stop();
    let (home, data) = (program.home(), program.home().join("data"));
    let config = home.join("config");
    fs::create_dir(&config).expect("make a folder");
    fs::write(config.join("config.yaml"), "{}").expect("write the configuration");
    // Empty room that takes a while to read.
    for number in 0..400 {
        let file = fs::File::create(config.join(format!("{number}.txt"))).expect("make a file");
        file.set_len(16 << 20).expect("make it long");
    }
    let archive = home.join("saved.tar.gz");
    let mut child = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(["backup", "--config", text(&config.join("config.yaml"))])
        .args(["--data-dir", text(&data), "--output", text(&archive)])
        .env_remove("DATABASE_URL")
        .stderr(Stdio::null())
        .spawn()
        .expect("run the program");
    let partial = home.join("saved.tar.partial");
    let is_under_way = || fs::metadata(&partial).is_ok_and(|meta| meta.len() > 0);
    assert!(is_true_within(PATIENCE, is_under_way));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("send a signal to the child");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(!partial.exists() && !archive.exists());
    let entries = fs::read_dir(&data)
        .expect("the data is there")
        .filter_map(Result::ok);
    let left: Vec<_> = entries
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_restore_over_data_sets_it_aside_and_one_that_was_cut_off_keeps_the_service_from_starting() {
    let mut program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    let data = program.home().join("data");
    let archive = program.home().join("saved.tar.gz");
    succeed(
        &["backup", "--data-dir", text(&data), "--output", text(&archive)],
        "",
    );
    program.stop();
    let said = succeed(
        &["restore", text(&archive), "--data-dir", text(&data), "--replace"],
        "",
    );
    assert!(said.contains("before-restore-"), "{said}");
    program.launch(&[]);
    program.wait_until_ready();
    program.stop();

    let whole = fs::read(&archive).expect("the archive is there");
    fs::write(&archive, &whole[..whole.len() / 2]).expect("cut it off");
    let before = fs::read(data.join("jwt_secret")).expect("the key is there");
    let said = fail(&["restore", text(&archive), "--data-dir", text(&data), "--replace"]);
    assert!(said.contains("cut off") || said.contains("damaged"), "{said}");
    assert_eq!(
        fs::read(data.join("jwt_secret")).expect("what was there stays"),
        before
    );
    fs::create_dir(data.join(".restoring")).expect("as a cut-off restore leaves it");
    let said = fail(&["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data)]);
    assert!(said.contains("a restore did not finish"), "{said}");
}

#[test]
fn users_and_tokens_of_the_command_line_work_at_once_and_stand_in_the_audit_log() {
    let program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    let data = program.home().join("data");
    let place = ["--data-dir", text(&data)];
    let with = |words: &[&'static str]| -> Vec<String> {
        words
            .iter()
            .chain(&place)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let call = |words: &[&'static str], input: &str| {
        let words = with(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        succeed(&words, input)
    };
    let token = call(
        &["token", "create", "grafana", "--role", "viewer", "--days", "30"],
        "",
    );
    let token = token.trim();
    assert!(token.starts_with("mp_"), "{token}");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let ask = |authorization: &str| {
        let url = program.url() + "/prometheus/api/v1/query?query=up";
        let answer = agent.get(&url).header("Authorization", authorization).call();
        answer.expect("the service answers").status().as_u16()
    };
    assert_eq!(ask(&format!("Bearer {token}")), 200);
    assert!(call(&["token", "list"], "").contains("grafana"));
    call(&["token", "revoke", "grafana"], "");
    assert!(is_true_within(PATIENCE, || ask(&format!("Bearer {token}")) == 401));

    call(&["user", "add", "bob"], "correct horse\n");
    let login = |password: &str| {
        let body = format!(r#"{{"username": "bob", "password": "{password}"}}"#);
        program.post_bytes(
            "/api/v1/auth/login",
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
    };
    assert_eq!(login("correct horse").0, 200);
    let said = call(&["user", "reset-password", "bob", "--generate"], "");
    let password = said.trim().rsplit(' ').next().expect("a password").to_owned();
    assert!(is_true_within(PATIENCE, || login(&password).0 == 200), "{said}");
    assert!(call(&["user", "list"], "").contains("bob"));

    let audit = program.get_json("/api/v1/audit?limit=100");
    let entries = audit["items"].as_array().expect("a list");
    let has = |action: &str, subject: &str| {
        let is_it = |entry: &&Value| entry["action"] == action && entry["subject"] == subject;
        entries
            .iter()
            .find(is_it)
            .map(|entry| entry["actor"].as_str().unwrap_or("").to_owned())
    };
    for (action, subject) in [
        ("token.create", "grafana"),
        ("token.delete", "grafana"),
        ("user.create", "bob"),
    ] {
        assert_eq!(
            has(action, subject).as_deref(),
            Some("command line"),
            "{action} in {audit}"
        );
    }
}

#[test]
fn the_health_check_says_whether_the_service_is_well() {
    let mut program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    let url = program.url() + "/health";
    assert!(succeed(&["healthcheck", "--url", &url], "").contains("healthy"));
    program.stop();
    assert!(fail(&["healthcheck", "--url", &url]).contains("does not answer"));
}
