//! What the program says on standard error: line by line as the deployment guide promises it, whatever comes in.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use marketprism_testkit::{Behaviour, FakeDingTalk, FakeWebhook, MachineClock, is_true_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::sync::Arc;

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};

const STANDING: [&str; 5] = ["timestamp", "level", "logger", "message", "trace_id"];
const SECRETS: [&str; 4] = [
    "hook-secret",
    "tok3n-of-the-hook",
    "tok3n-of-the-robot",
    "SECtest",
];

const RULES: &str = r#"
groups:
  - name: queues
    interval: 1s
    rules:
      - alert: QueueLong
        expr: queue_length > 10
        labels: {severity: high}
        annotations: {summary: 'queue of {{ $labels.queue }} holds {{ $value }}'}
"#;

fn config(target: &str, webhook: &str, more: &str) -> String {
    format!(
        r##"
global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{target}"]}}]
host: {{enabled: false}}
alert_manager: {{evaluation_interval: 1, default_rules: false}}
notification_manager:
  route: {{group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 4h}}
  channels:
    webhook: {{enabled: true, url: "{webhook}", secret: "hook-secret", bearer_token: "tok3n-of-the-hook"}}
{more}
"##
    )
}

fn started(config: &str, variables: &[(&str, &str)]) -> Program {
    let mut program = Program::prepare(config);
    fs::write(program.home().join("rules.yaml"), RULES).expect("write the rules");
    program.launch(variables);
    program.wait_until_ready();
    program
}

/// Reads a log, judging each line by itself.
fn lines(log: &str) -> Vec<Value> {
    let read = |line: &str| -> Value {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        // The order is for people, so it is looked for in the text.
        let mut rest = line;
        for (number, name) in STANDING.iter().enumerate() {
            let mark = format!("{}\"{name}\":\"", if number == 0 { "{" } else { "," });
            let at = rest
                .find(&mark)
                .unwrap_or_else(|| panic!("no {name} in its place: {line}"));
            assert!(number > 0 || at == 0, "{line}");
            rest = &rest[at + mark.len()..];
        }
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |name: &str| {
            line[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name} is no text: {line}"))
        };
        let levels = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
        assert!(levels.contains(&text("level")), "{line}");
        let time = text("timestamp");
        assert!(
            time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T",
            "{line}"
        );
        assert!(
            !text("logger").is_empty() && !text("message").is_empty(),
            "{line}"
        );
        line
    };
    log.lines().map(read).collect()
}

fn said<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

fn without_hyphens(id: &Value) -> String {
    id.as_str().unwrap_or("").replace('-', "")
}

#[test]
fn an_alert_is_followed_from_its_line_through_its_message_to_its_delivery() {
    let webhook = FakeWebhook::start();
    let robot = FakeDingTalk::start(
        "tok3n-of-the-robot",
        Some("SECtest"),
        Arc::new(MachineClock::default()),
    );
    let exporter = Exporter::start("queue_length{queue=\"orders\"} 25\n");
    let more = format!(
        "    dingtalk: {{enabled: true, webhook_url: \"{}\", secret: SECtest}}\n",
        robot.url()
    );
    let mut program = started(&config(exporter.address(), &webhook.url(), &more), &[]);
    let is_told = || !webhook.received().is_empty() && !robot.received().is_empty();
    assert!(is_true_within(PATIENCE, is_told), "log:\n{}", program.log());
    let is_recorded = || said(&lines(&program.log()), "notification delivered").len() == 2;
    assert!(is_true_within(PATIENCE, is_recorded), "log:\n{}", program.log());

    // Nothing is said for each scrape, let alone each sample: a slow machine may give a warning now and then.
    let scrapes = || -> f64 {
        let (_, text) = program.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("marketprism_scrapes_total "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    };
    let (before, from) = (program.log().lines().count(), scrapes());
    assert!(is_true_within(PATIENCE, || scrapes() >= from + 8.0));
    let more = program.log().lines().count() - before;
    assert!(more < 8, "{more} lines more\n{}", program.log());
    assert!(program.stop().success());

    let log = program.log();
    let lines = lines(&log);
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    let created = said(&lines, "创建告警");
    assert_eq!(created.len(), 1, "{log}");
    let created = created[0];
    assert_eq!(
        (&created["level"], &created["rule"], &created["alert_level"]),
        (&"INFO".into(), &"QueueLong".into(), &"high".into())
    );
    assert!(
        created["labels"]
            .as_str()
            .is_some_and(|labels| labels.contains("queue=\"orders\"")),
        "{created}"
    );
    assert_eq!(created["trace_id"], without_hyphens(&created["alert_id"]));

    let traces: HashSet<&str> = said(&lines, "创建通知")
        .into_iter()
        .filter(|line| line["alert_ids"] == created["alert_id"])
        .filter_map(|line| line["trace_id"].as_str())
        .collect();
    let sent: Vec<_> = webhook.received().into_iter().chain(robot.received()).collect();
    let sent: HashSet<&str> = sent
        .iter()
        .map(|request| {
            let header = request.header("traceparent");
            assert_eq!(
                (header.len(), &header[..3], &header[52..]),
                (55, "00-", "-01"),
                "{header}"
            );
            let trace = &header[3..35];
            // Names live as long as the log.
            let at = log
                .find(trace)
                .unwrap_or_else(|| panic!("{trace} is in no line of\n{log}"));
            &log[at..at + 32]
        })
        .collect();
    assert_eq!((sent.len(), &sent), (2, &traces), "{log}");
    let delivered: HashSet<&str> = said(&lines, "notification delivered")
        .iter()
        .filter_map(|line| line["trace_id"].as_str())
        .collect();
    assert_eq!(delivered, traces, "{log}");
}

#[test]
fn a_failure_carries_its_trace_though_only_errors_are_said() {
    let webhook = FakeWebhook::start();
    webhook.order(Behaviour::status(400));
    let exporter = Exporter::start("queue_length{queue=\"orders\"} 25\n");
    let log = log_of(
        &config(exporter.address(), &webhook.url(), ""),
        &[("LOG_LEVEL", "error")],
        "refused",
    );
    let lines = lines(&log);
    assert!(lines.iter().all(|line| line["level"] == "ERROR"), "{log}");
    let refused = said(&lines, "notification refused; it is not sent again");
    let header = webhook.received()[0].header("traceparent").to_owned();
    assert_eq!(refused[0]["trace_id"], header[3..35], "{log}");
    assert!(
        log.lines().any(|line| line.contains("ERROR")),
        "as the guide greps for it"
    );
}

#[test]
fn what_comes_from_outside_ends_no_line_and_steers_no_terminal() {
    let hostile = "a\\n{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"forged\\\"}\x1b[31m\u{9b}2J\u{202e}";
    let exporter = Exporter::start(&format!("queue_length{{queue=\"{hostile}\"}} 25\n"));
    let webhook = FakeWebhook::start();
    for format in ["json", "text"] {
        let more = format!("logging: {{format: {format}}}\n");
        let log = log_of(
            &config(exporter.address(), &webhook.url(), &more),
            &[],
            "创建告警",
        );
        let created = log
            .lines()
            .find(|line| line.contains("创建告警"))
            .expect("waited for");
        let is_unsafe = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!log.lines().any(|line| line.contains(is_unsafe)), "{log:?}");
        // Labels are quoted as Go quotes, which leaves what turns the direction of a text.
        let has_all = ["forged", "x1b[31m", "\\u202e"]
            .iter()
            .all(|part| created.contains(part));
        assert!(has_all, "{created}");
        assert!(!log.lines().any(|line| line.starts_with("{\"level\"")), "{log}");
        match format {
            "json" => drop(lines(&log)),
            _ => assert!(created.contains(" INFO marketprism_alerts"), "{created}"),
        }
    }
}

/// A configuration that gives one line at INFO ("listening", "ready", …) and one at ERROR (a faulty rule file).
fn faulty(logging: &str) -> String {
    format!("rule_files: [missing-brace.yaml]\nhost: {{enabled: false}}\nlogging: {logging}\n")
}

#[test]
fn the_environment_says_the_level_louder_than_the_file() {
    let levels = |logging: &str, variable: Option<&str>| -> HashSet<String> {
        let variables: Vec<_> = variable.map(|level| ("LOG_LEVEL", level)).into_iter().collect();
        let log = log_of(&faulty(logging), &variables, "rule file left out");
        lines(&log)
            .iter()
            .map(|line| line["level"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    let check = |logging: &str, variable: Option<&str>, has_info: bool, has_debug: bool| {
        let found = levels(logging, variable);
        let is_as_expected = found.contains("ERROR")
            && found.contains("INFO") == has_info
            && found.contains("DEBUG") == has_debug;
        assert!(is_as_expected, "{logging}, {variable:?}: {found:?}");
    };
    check("{}", None, true, false);
    check("{level: error}", None, false, false);
    check("{level: DEBUG}", Some("WARNING"), false, false);
    check("{level: INFO}", Some("warn"), false, false);
    check("{level: ERROR}", Some("info"), true, false);
    check("{level: ERROR}", Some("Info"), true, false);
    check("{level: ERROR}", Some(""), false, false);
}

#[test]
fn an_unknown_level_is_refused_with_the_known_ones() {
    let home = home(&faulty("{}"));
    let mut command = serve(home.path());
    let output = command
        .env("LOG_LEVEL", "LOUD")
        .output()
        .expect("start the program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for word in ["LOG_LEVEL", "LOUD", "ERROR, WARN, INFO, DEBUG, TRACE"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_terminal_shows_text_unless_the_file_says_json() {
    let is_json = |line: &str| serde_json::from_str::<Value>(line.trim()).is_ok();
    let first_line = |logging: &str| {
        let home = home(&faulty(logging));
        let shown = on_terminal(home.path(), "listening");
        let line = shown
            .lines()
            .find(|line| line.contains("listening"))
            .expect("waited for");
        line.to_owned()
    };
    let text = first_line("{}");
    assert!(
        text.contains("\x1b[32m INFO\x1b[0m marketprism::app: listening address=127.0.0.1:"),
        "{text:?}"
    );
    assert!(is_json(&first_line("{format: json}")));
    let log = log_of(&faulty("{format: text}"), &[], "rule file left out");
    assert!(
        log.contains(" INFO marketprism::app: listening address="),
        "{log}"
    );
    assert!(!log.contains('\x1b') && !log.lines().any(is_json), "{log}");
}

#[test]
fn fields_are_chosen_and_ordered_by_the_file() {
    let logging = "{structured_fields: [level, message]}";
    let log = log_of(&faulty(logging), &[], "rule file left out");
    for line in log.lines() {
        assert!(
            line.starts_with("{\"level\":\"") && line.contains(",\"message\":\""),
            "{line}"
        );
        assert!(
            !line.contains("\"timestamp\"") && !line.contains("\"trace_id\""),
            "{line}"
        );
    }
}

#[test]
fn a_log_file_holds_the_same_lines_and_a_second_start_writes_behind_them() {
    let home = home(&faulty(
        "{file: {path: logs/marketprism.log, max_bytes: 65536, keep: 2}}",
    ));
    let kept = home.path().join("logs/marketprism.log");
    let mut all = String::new();
    for _ in 0..2 {
        all += &run_until(&mut serve(home.path()), home.path(), "rule file left out");
        assert_eq!(fs::read_to_string(&kept).expect("the log file"), all);
    }
    lines(&all);
}

fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join("config.yaml"), config).expect("write the configuration");
    fs::write(home.path().join("rules.yaml"), RULES).expect("write the rules");
    fs::write(home.path().join("missing-brace.yaml"), "groups: [{").expect("write the faulty rules");
    home
}

/// The program in its folder, so that relative paths lead there.
fn serve(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marketprism"));
    command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--config",
            "config.yaml",
            "--data-dir",
            "data",
        ])
        .current_dir(home)
        .env_remove("LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs the program on a configuration until its log has `text`; gives the log.
fn log_of(config: &str, variables: &[(&str, &str)], text: &str) -> String {
    let home = home(config);
    let mut command = serve(home.path());
    command.envs(variables.iter().copied());
    run_until(&mut command, home.path(), text)
}

fn run_until(command: &mut Command, home: &Path, text: &str) -> String {
    let path = home.join("stderr");
    let child = command
        .stderr(File::create(&path).expect("create the log"))
        .spawn();
    let mut child = Ended(child.expect("start the program"));
    let read = || fs::read_to_string(&path).expect("the log is text");
    let is_there = is_true_within(PATIENCE, || read().contains(text));
    assert!(is_there, "no {text:?} in\n{}", read());
    kill_process(Pid::from_child(&child.0), Signal::TERM).expect("end the program");
    child.0.wait().expect("the program ends");
    read()
}

/// Runs the program with a terminal as its standard error; gives what the terminal got until it shows `text`.
fn on_terminal(home: &Path, text: &str) -> String {
    let script = Path::new("/usr/bin/script");
    assert!(
        script.exists(),
        "script is missing; run: apt-get install bsdutils"
    );
    let inner = format!(
        "echo $$ > pid; exec {} serve --listen 127.0.0.1:0 --config config.yaml --data-dir data",
        env!("CARGO_BIN_EXE_marketprism")
    );
    let shown = home.join("shown");
    let child = Command::new(script)
        .args(["-qfc", &inner])
        .arg(&shown)
        .current_dir(home)
        .env_remove("LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let mut child = Ended(child.expect("start script"));
    let read = || String::from_utf8_lossy(&fs::read(&shown).unwrap_or_default()).into_owned();
    let is_there = is_true_within(PATIENCE, || read().contains(text));
    // The shell has become the program, so this ends it, and then script has nothing more to record.
    let pid = fs::read_to_string(home.join("pid")).expect("the shell wrote its id");
    let pid = pid
        .trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::TERM).expect("end the program");
    child.0.wait().expect("script ends");
    assert!(is_there, "{}", read());
    read()
}

/// A child that does not outlive a failed test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
