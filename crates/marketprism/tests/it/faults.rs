//! Everything that goes wrong on a real machine: each with a clear message, while the rest keeps working.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use marketprism_testkit::{FakeWebhook, SmtpOptions, SmtpServer, free_port, is_true_within};

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};
use crate::remote_write;

fn quiet(more: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nalert_manager: {{default_rules: false, evaluation_interval: 1}}\nhost: {{enabled: false}}\n{more}"
    )
}

fn jobs(targets: &[(&str, &str)]) -> String {
    let mut text = String::from("scrape_configs:\n");
    for (job, address) in targets {
        text += &format!("  - {{job_name: {job}, static_configs: [{{targets: ['{address}']}}]}}\n");
    }
    text
}

#[test]
fn a_broken_target_is_named_and_the_others_are_scraped() {
    let long = "x".repeat(10 << 20);
    let good = Exporter::start("good 1\n");
    let broken = Exporter::start("fine 1\nbroken{a=\"b} 1\n");
    let huge = Exporter::start(&format!("huge{{label=\"{long}\"}} 1\nmodest 1\n"));
    let program = Program::start(&quiet(&jobs(&[
        ("good", good.address()),
        ("broken", broken.address()),
        ("huge", huge.address()),
        ("away", &format!("127.0.0.1:{}", free_port())),
    ])));
    let up = |job: &str| {
        program
            .query(&format!("up{{job=\"{job}\"}}"))
            .first()
            .map(|(_, value)| *value)
    };
    let is_seen = || up("good") == Some(1.0) && ["broken", "away"].iter().all(|job| up(job) == Some(0.0));
    assert!(is_true_within(PATIENCE, is_seen), "log:\n{}", program.log());
    // Of the huge one only the series that cannot be kept is refused, and the log says which and why.
    let says_so = || {
        let log = program.log();
        log.lines().any(|line| {
            line.contains("WARN") && line.contains("\"series\":\"huge\"") && line.contains("bytes")
        })
    };
    assert!(is_true_within(PATIENCE, says_so), "log:\n{}", program.log());
    assert!(
        is_true_within(PATIENCE, || program.query("modest").len() == 1),
        "log:\n{}",
        program.log()
    );
    assert!(program.query("huge").is_empty());
    assert_eq!(program.query("good")[0].1, 1.0);
    assert!(
        program.query("fine").is_empty(),
        "nothing of a broken exposition is taken"
    );
    let targets = program.get_json("/prometheus/api/v1/targets");
    let error = |job: &str| {
        let active = targets["data"]["activeTargets"].as_array().expect("a list");
        let found = active
            .iter()
            .find(|target| target["scrapePool"] == job)
            .expect("the target is listed");
        found["lastError"].as_str().expect("a text").to_owned()
    };
    assert!(error("broken").contains("line 2"), "{}", error("broken"));
    assert!(error("away").contains("refused"), "{}", error("away"));
    assert_eq!(error("good"), "");
}

#[test]
fn a_mail_server_that_is_away_delays_the_mail_and_loses_nothing() {
    let port = free_port();
    let exporter = Exporter::start("broken 1\n");
    let mut program = Program::prepare(&quiet(&format!(
        "rule_files: [rules.yaml]\n{}notification_manager:\n  route: {{group_wait: 100ms}}\n  channels:\n    \
         email: {{enabled: true, smtp_server: 127.0.0.1, smtp_port: {port}, security: none, username: \"\", from: a@example.com, to: [b@example.com]}}\n",
        jobs(&[("app", exporter.address())])
    )));
    let rules = "groups: [{name: g, interval: 500ms, rules: [{alert: Broken, expr: broken == 1}]}]\n";
    fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();
    // The attempt is on record with its reason once it has ended.
    let attempted = || program.get("/api/v1/notifications").1.contains("refused");
    assert!(is_true_within(PATIENCE, attempted), "log:\n{}", program.log());
    let smtp = SmtpServer::start(&SmtpOptions {
        port,
        ..SmtpOptions::default()
    });
    assert!(
        is_true_within(PATIENCE, || smtp.mails().len() == 1),
        "log:\n{}",
        program.log()
    );
}

/// Notifications were switched off for maintenance, and on again: the end of what was told before came never, and
/// what still fired was told a second time.
#[test]
fn after_a_pause_of_notifications_ends_are_told_and_nothing_is_told_twice() {
    let hook = FakeWebhook::start();
    let exporter = Exporter::start("broken{i=\"ends\"} 1\nbroken{i=\"stays\"} 1\n");
    let config = |is_enabled| {
        quiet(&format!(
            "rule_files: [rules.yaml]\n{}notification_manager:\n  enabled: {is_enabled}\n  \
             route: {{group_wait: 1s, group_interval: 1s}}\n  channels:\n    webhook: {{url: '{}'}}\n",
            jobs(&[("app", exporter.address())]),
            hook.url()
        ))
    };
    let mut program = Program::prepare(&config(true));
    let rules = "groups: [{name: g, interval: 500ms, rules: [{alert: Broken, expr: broken == 1}]}]\n";
    fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();
    let switch = |program: &Program, is_enabled| {
        fs::write(program.home().join("config.yaml"), config(is_enabled)).expect("write the configuration");
        let (status, body) = program.post_bytes("/-/reload", &[], b"");
        assert_eq!(status, 200, "{body}");
    };
    let told = || -> Vec<String> {
        let mut told = Vec::new();
        for request in hook.received() {
            let payload: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
            let alerts = payload["alerts"].as_array().expect("a list");
            let mut alerts: Vec<String> = alerts
                .iter()
                .map(|alert| format!("{} {}", alert["labels"]["i"], alert["status"]).replace('"', ""))
                .collect();
            alerts.sort();
            told.push(alerts.join(", "));
        }
        told
    };
    let both = "ends firing, stays firing";
    assert!(
        is_true_within(PATIENCE, || told() == [both]),
        "{:?}\n{}",
        told(),
        program.log()
    );
    switch(&program, false);
    exporter.set("broken{i=\"ends\"} 0\nbroken{i=\"stays\"} 1\n");
    let firing = || program.query("ALERTS{alertname=\"Broken\"}").len();
    assert!(
        is_true_within(PATIENCE, || firing() == 1),
        "log:\n{}",
        program.log()
    );
    assert_eq!(told(), [both]);
    switch(&program, true);
    let after = [both, "ends resolved, stays firing"];
    assert!(
        is_true_within(PATIENCE, || told() == after),
        "{:?}\n{}",
        told(),
        program.log()
    );
    // The message of the newcomer shows that nothing came in between.
    exporter.set("broken{i=\"comes\"} 1\nbroken{i=\"stays\"} 1\n");
    let last = [both, after[1], "comes firing, stays firing"];
    assert!(
        is_true_within(PATIENCE, || told() == last),
        "{:?}\n{}",
        told(),
        program.log()
    );
}

#[test]
fn a_port_in_use_ends_the_start_with_a_clear_message() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken
        .local_addr()
        .expect("a bound socket has an address")
        .to_string();
    let home = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(["serve", "--listen", &address, "--data-dir"])
        .arg(home.path())
        .output()
        .expect("run the program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains(&address) && text.contains("in use"),
        "{text}"
    );
}

/// Makes a file whose reading waits until somebody writes it, as one on a share that is away.
fn slow_file(program: &Program, name: &str) -> std::path::PathBuf {
    let path = program.home().join(name);
    let made = Command::new("mkfifo").arg(&path).status().expect("run mkfifo");
    assert!(made.success());
    path
}

/// A reload that waited for a file kept the program from hearing SIGTERM.
#[test]
fn the_program_stops_while_a_reload_waits_for_a_file() {
    let mut program = Program::start(&quiet(""));
    slow_file(&program, "slow.yml");
    fs::write(
        program.home().join("config.yaml"),
        quiet("rule_files: [slow.yml]\n"),
    )
    .expect("write the configuration");
    program.signal(rustix::process::Signal::HUP);
    // The second asks for a turn behind the first: now the first has begun.
    assert!(
        is_waiting(&program),
        "a reload was answered though its file has no end"
    );
    assert!(program.stop().success());
}

/// A reload whose client left in the middle was dropped in the middle.
#[test]
fn a_reload_goes_to_its_end_though_its_client_has_left() {
    let program = Program::start(&quiet(""));
    let slow = slow_file(&program, "slow.yml");
    let config = quiet("rule_files: [slow.yml]\n# the new one\n");
    fs::write(program.home().join("config.yaml"), config).expect("write the configuration");
    assert!(
        is_waiting(&program),
        "a reload was answered though its file has no end"
    );
    let rules = "groups: [{name: new, rules: [{record: a, expr: vector(1)}]}]\n";
    fs::write(slow, rules).expect("write the rules");
    let is_in_force = is_true_within(PATIENCE, || {
        program.get("/api/v1/rules").1.contains("\"new\"")
            && program
                .get("/prometheus/api/v1/status/config")
                .1
                .contains("the new one")
    });
    assert!(is_in_force, "log:\n{}", program.log());
}

/// A changed `server` or `storage` section was taken without a word, and nothing changed.
#[test]
fn a_reload_names_what_needs_a_restart() {
    let program = Program::start(&quiet("storage: {series_limit: 5000}\n"));
    let changed = quiet("storage: {series_limit: 6000}\n");
    fs::write(program.home().join("config.yaml"), changed).expect("write the configuration");
    assert_eq!(program.post_bytes("/-/reload", &[], b"").0, 200);
    let remark = program.logged("configuration").expect("a remark").to_string();
    assert!(
        remark.contains("storage differs") && remark.contains("restart"),
        "{remark}"
    );
}

/// Asks for a reload and leaves without an answer; false when one came.
fn is_waiting(program: &Program) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(std::time::Duration::from_secs(2)))
        .build()
        .into();
    let answer = agent
        .post(format!("{}/-/reload", program.url()))
        .header(
            "Authorization",
            program.authorization().expect("an administrator"),
        )
        .send_empty();
    matches!(answer, Err(ureq::Error::Timeout(_)))
}

#[test]
fn a_second_program_on_the_same_data_is_refused() {
    let program = Program::start(&quiet(""));
    let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(program.home().join("data"))
        .output()
        .expect("run the program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("another process"),
        "{text}"
    );
}

#[test]
fn a_rule_with_a_syntax_error_is_named_with_file_and_line_and_the_others_run() {
    let exporter = Exporter::start("broken 1\n");
    let program = {
        let mut program = Program::prepare(&quiet(&format!(
            "rule_files: ['*.rules']\n{}",
            jobs(&[("app", exporter.address())])
        )));
        let good = "groups: [{name: good, interval: 500ms, rules: [{record: twice, expr: broken * 2}]}]\n";
        let bad = "groups:\n  - name: bad\n    rules:\n      - alert: Bad\n        expr: sum(broken\n";
        fs::write(program.home().join("a.rules"), good).expect("write a rule file");
        fs::write(program.home().join("b.rules"), bad).expect("write a rule file");
        program.launch(&[]);
        program.wait_until_ready();
        program
    };
    assert!(is_true_within(PATIENCE, || program
        .query("twice")
        .first()
        .is_some_and(|(_, value)| *value == 2.0)));
    let log = program.log();
    assert!(
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("b.rules:5")),
        "{log}"
    );
    // A reload is all or nothing: the file that was good stays in force as it was.
    fs::write(
        program.home().join("a.rules"),
        "groups: [{name: good, interval: 500ms, rules: [{record: thrice, expr: broken * 3}]}]\n",
    )
    .expect("write a rule file");
    let (status, body) = program.post_bytes("/-/reload", &[], b"");
    assert!(status >= 400 && body.contains("b.rules"), "{status} {body}");
    fs::remove_file(program.home().join("b.rules")).expect("remove the bad file");
    let (status, body) = program.post_bytes("/-/reload", &[], b"");
    assert_eq!(status, 200, "{body}");
    assert!(is_true_within(PATIENCE, || program
        .query("thrice")
        .first()
        .is_some_and(|(_, value)| *value == 3.0)));
    assert!(
        is_true_within(PATIENCE, || program.query("twice").is_empty()),
        "a removed rule's series ends"
    );
}

#[test]
fn a_faulty_configuration_names_file_line_and_the_nearest_key() {
    let check = |text: &str, words: &[&str]| {
        let home = tempfile::tempdir().expect("a temporary folder");
        let path = home.path().join("config.yaml");
        fs::write(&path, text).expect("write the configuration");
        let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
            .args(["check", "config"])
            .arg(&path)
            .output()
            .expect("run the program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{text:?} was accepted");
        for word in words {
            assert!(said.contains(word), "{word:?} is missing in: {said}");
        }
    };
    check(
        "alert_manager:\n  enabeld: true\n",
        &["config.yaml:2", "enabeld", "enabled"],
    );
    check(
        "alert_manager:\n  evaluation_interval: soon\n",
        &["config.yaml:2", "evaluation_interval"],
    );
    check(
        "logging:\n  level: \"${UNSET_VARIABLE}\"\n",
        &[
            "config.yaml",
            "config.yaml:2:10: logging.level:",
            "UNSET_VARIABLE",
        ],
    );
    check("rule_files: {\n", &["config.yaml"]);
}

#[test]
fn a_full_disk_refuses_senders_keeps_alerting_and_recovers() {
    let disk = tempfile::tempdir().expect("a temporary folder");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(disk.path())
        .output()
        .expect("run mount");
    assert!(
        mounted.status.success(),
        "this test mounts a small tmpfs and needs the right to: {mounted:?}"
    );
    let _unmount = Unmount(disk.path().to_owned());

    let webhook = FakeWebhook::start();
    let exporter = Exporter::start("broken 0\n");
    let mut program = Program::prepare(&quiet(&format!(
        "rule_files: [rules.yaml]\n{}notification_manager:\n  route: {{group_wait: 100ms}}\n  channels:\n    \
         webhook: {{enabled: true, url: '{}'}}\n",
        jobs(&[("app", exporter.address())]),
        webhook.url()
    )));
    std::os::unix::fs::symlink(disk.path(), program.home().join("data")).expect("link the data folder");
    let rules = "groups: [{name: g, interval: 500ms, rules: [{alert: Broken, expr: broken == 1}]}]\n";
    fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
    program.launch(&[]);
    program.wait_until_ready();

    fs::write(disk.path().join("ballast"), vec![1u8; 23 << 20]).ok();
    let filler = vec![1u8; 4096];
    let mut file = fs::File::create(disk.path().join("rest")).expect("create a file");
    while std::io::Write::write_all(&mut file, &filler).is_ok() {}
    drop(file);

    // A sender is told to come again, and nothing is acknowledged that could be lost.
    let mut statuses = Vec::new();
    for number in 0..40 {
        let text = number.to_string();
        let name = "n".repeat(4096);
        let labels = [
            ("__name__", "pushed"),
            ("name", name.as_str()),
            ("number", text.as_str()),
        ];
        let body = remote_write::encode(vec![remote_write::series(&labels, &[(now_millis(), 1.0)])]);
        statuses.push(
            program
                .post_bytes("/api/v1/write", &remote_write::HEADERS, &body)
                .0,
        );
    }
    assert!(
        statuses.iter().any(|status| *status >= 500),
        "{statuses:?}\n{}",
        program.log()
    );
    assert_eq!(program.get("/health").0, 200, "it lives");
    let says_so = || {
        program
            .log()
            .lines()
            .any(|line| line.contains("ERROR") && line.contains("No space left"))
    };
    assert!(is_true_within(PATIENCE, says_so), "{}", program.log());

    // The condition is seen from memory, and the room that is reserved for records lets it be told.
    exporter.set("broken 1\n");
    assert!(
        is_true_within(PATIENCE, || webhook.received().len() == 1),
        "log:\n{}",
        program.log()
    );
    fs::remove_file(disk.path().join("ballast")).expect("remove the ballast");
    fs::remove_file(disk.path().join("rest")).expect("remove the rest");
    let accepted = is_true_within(PATIENCE, || {
        let body = remote_write::encode(vec![remote_write::series(
            &[("__name__", "pushed")],
            &[(now_millis(), 1.0)],
        )]);
        program
            .post_bytes("/api/v1/write", &remote_write::HEADERS, &body)
            .0
            == 204
    });
    assert!(accepted, "log:\n{}", program.log());
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[allow(clippy::disallowed_methods)] // A sender stamps its samples with the machine's time.
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}
