//! What a configuration may say, and what its errors say.

use std::time::Duration;

use marketprism_model::Clock as _;
use marketprism_testkit::MachineClock;

use super::*;

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    parse(&Source {
        text,
        name: "config.yaml",
        folder: Path::new("/etc/marketprism"),
        data_dir: Path::new("data"),
        variable: &|name| (name == "PASSPHRASE").then(|| "hunter2".to_owned()),
        read_secret: &|_| Err("no such file".to_owned()),
        read_text: &|_| Err("no such file".to_owned()),
    })
}

/// What is told about a text, one fault a line.
#[track_caller]
fn told(text: &str) -> Vec<String> {
    let error = load_text(text).err().expect("a faulty text");
    error.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn an_empty_file_and_a_comment_are_the_defaults() {
    for text in ["", "# nothing\n\n"] {
        let loaded = load_text(text).expect("defaults work");
        assert_eq!(loaded.config.evaluation_interval(), Duration::from_secs(30));
        assert!(loaded.pools.is_empty() && loaded.remarks.is_empty());
    }
}

/// `--config config.yaml` was refused once, for a bare name has an empty folder.
#[test]
fn a_bare_name_stands_in_the_working_folder() {
    assert_eq!(folder_of(Path::new("config.yaml")), Path::new("."));
    assert_eq!(folder_of(Path::new("a/config.yaml")), Path::new("a"));
    assert_eq!(folder_of(Path::new("/config.yaml")), Path::new("/"));
}

#[test]
fn a_file_is_read_within_its_limit_and_a_bad_one_is_named_with_the_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.yaml");
    let check = |path: &Path, words: &str| {
        let said = read(path).expect_err(words).to_string();
        assert!(
            said.contains(words) && said.contains(&path.display().to_string()),
            "{said}"
        );
    };
    check(Path::new("/dev/zero"), "longer than the 16777216 bytes");
    check(folder.path(), "directory");
    std::fs::write(&file, b"a: 1\nb: \"\xff\"\n").expect("write the file");
    check(&file, "config.yaml:2:5: is no UTF-8");
    std::fs::write(&file, "a: 1\n").expect("write the file");
    assert_eq!(read(&file).expect("it is good"), "a: 1\n");
}

#[test]
fn a_pasted_prometheus_file_is_taken_and_names_what_has_no_effect() {
    let text = "global: {scrape_interval: 10s, evaluation_interval: 20s, query_log_file: x}\nrule_files: ['rules/*.yml']\n\
                alerting: {alertmanagers: [{static_configs: [{targets: ['a:9093']}]}]}\nremote_write: [{url: 'http://x'}]\n\
                scrape_configs: [{job_name: a, static_configs: [{targets: ['a:1']}]}]\n";
    let loaded = load_text(text).expect("a Prometheus file is taken");
    assert_eq!(loaded.config.evaluation_interval(), Duration::from_secs(20));
    assert_eq!(loaded.config.rule_files, ["rules/*.yml"]);
    for key in ["alerting", "remote_write", "global.query_log_file"] {
        assert!(
            loaded.remarks.iter().any(|remark| remark.contains(key)),
            "{:?}",
            loaded.remarks
        );
    }
}

#[test]
fn nobody_is_told_while_rules_or_notifications_are_switched_off() {
    let check = |text: &str, is_telling| {
        assert_eq!(
            load_text(text).expect(text).alerts.is_telling,
            is_telling,
            "{text}"
        );
    };
    check("", true);
    check("alert_manager: {enabled: false}\n", false);
    check("notification_manager: {enabled: false}\n", false);
}

/// The refusal of a metadata address told to allow it under a key that had no effect.
#[test]
fn metadata_addresses_pass_when_the_file_allows_them_and_only_then() {
    let address = "169.254.169.254".parse().expect("an address");
    let check = |text: &str, may_pass: bool| {
        let loaded = load_text(text).expect(text);
        assert_eq!(loaded.egress.check(address).is_ok(), may_pass, "{text}");
    };
    check("", false);
    let text = "security: {egress: {allow: [169.254.0.0/16]}}\n";
    check(text, true);
}

#[test]
fn all_faults_are_told_at_once_by_line_with_key_and_the_nearest_known_word() {
    let text = "alert_manager:
  evaluation_intervall: 30
  cleanup_interval: soon
  max_active_alerts: [1]
  max_active_alerts: 7
notification_manager:
  channels:
    email: {smtp_server: m, smtp_port: 70000, username: u@x, password: \"${NOT_SET}\", to: nobody}
    mine: {type: slack, webhook_uri: x}
    robot: {type: pigeon}
    slack: {webhook_url: 'ftp://x/hunter2', time_zone: Asia/Pekin}
storage: {retention: 1h, sync: never}
server:
  query_workers: 0
  listn: x
logging: {level: '${PASSPHRASE}'}
performance:
  concurrency: {max_workers: 5000}
anomaly_detection: {ml: {contamination: 0.9}}
scrape_configs:
  - job_name: a
    scheme: ftp
    static_configs: {targets: [b]}
  - job_name: a
  - metrics_path: /m
    scrape_intervall: 3s
alertmanager: {}
";
    let expected = [
        "2:3: alert_manager.evaluation_intervall: unknown key; did you mean `evaluation_interval`?",
        "3:21: alert_manager.cleanup_interval: not a duration: \"soon\"; expected numbers with units y, w, d, h, m, s, ms from large to small, such as \"1h30m\"",
        "4:3: alert_manager.max_active_alerts: expected a whole number, found a list",
        "5:3: \"max_active_alerts\" stands there already, at line 4",
        "8:40: notification_manager.channels.email.smtp_port: 70000 is out of range; expected a whole number from 0 to 65535",
        "8:72: notification_manager.channels.email.password: environment variable NOT_SET is not set; set it, or write ${NOT_SET:-default}",
        "8:90: notification_manager.channels.email.to: \"nobody\" is no mail address; expected name@host or \"Name <name@host>\"",
        "9:25: notification_manager.channels.mine.webhook_uri: unknown key; did you mean `webhook_url`?",
        "10:19: notification_manager.channels.robot.type: unknown value \"pigeon\"; known are email, slack, dingtalk, webhook",
        "11:26: notification_manager.channels.slack.webhook_url: is no http or https URL (it is secret and not shown)",
        "11:56: notification_manager.channels.slack.time_zone: unknown time zone \"Asia/Pekin\"; expected a name such as \"Asia/Shanghai\"",
        "12:22: storage.retention: is 1h; it must be from 3h to 100y",
        "12:32: storage.sync: is \"never\"; it must be batch, durable, os, interval or interval=100ms",
        "14:18: server.query_workers: is 0; it must be 1 to 1024",
        "15:3: server.listn: unknown key; did you mean `listen`?",
        "16:18: logging.level: unknown log level \"***\"; known are ERROR, WARN, INFO, DEBUG, TRACE",
        "18:30: performance.concurrency.max_workers: is 5000; it must be from 1 to 256",
        "19:41: anomaly_detection.ml.contamination: is 0.9; it must be above 0 and at most 0.5",
        "22:13: scrape_configs.a.scheme: \"ftp\" is neither http nor https",
        "23:5: scrape_configs.a.static_configs: expected a list, found keys and values",
        "24:15: scrape_configs[1].job_name: job_name \"a\" stands there twice",
        "25:5: scrape_configs[2].job_name: is missing",
        "26:5: scrape_configs[2].scrape_intervall: unknown key; did you mean `scrape_interval`?",
        "27:1: alertmanager: unknown key; did you mean `alert_manager`?",
    ];
    let told = told(text);
    for (index, line) in told.iter().enumerate() {
        let expected = expected.get(index).map(|line| format!("config.yaml:{line}"));
        assert_eq!(Some(line), expected.as_ref(), "all:\n{}", told.join("\n"));
    }
    assert_eq!(told.len(), expected.len());
    assert!(!told.join(" ").contains("hunter2"));
}

#[test]
fn a_fault_that_follows_from_another_is_not_told() {
    let text = "server: {query_timeout: 10x, request_timeout: 60s}\n";
    assert_eq!(told(text).len(), 1, "{:?}", told(text));
    let text = "notification_manager: {channels: {email: {smtp_server: [], username: a@b, password: c}}}\n";
    assert_eq!(told(text).len(), 1, "{:?}", told(text));
}

#[test]
fn a_broken_section_does_not_hide_the_faults_of_the_others() {
    let text = "alert_manager:\n  enabled: [\nstorage:\n  retention: 1h\nserver: {a: }}\nlogging: {levle: INFO}\nhost: 'x\n";
    let told = told(text);
    let lines: Vec<&str> = told.iter().filter_map(|line| line.split(':').nth(1)).collect();
    assert!(
        lines.contains(&"4") && lines.contains(&"5") && lines.contains(&"6"),
        "{told:?}"
    );
    assert!(
        told.iter().filter(|line| line.contains("is no YAML")).count() >= 3,
        "{told:?}"
    );
}

#[test]
fn spans_that_broke_the_clocks_arithmetic_are_refused_under_their_own_key() {
    let check = |text: &str, expected: &str| assert_eq!(told(text), [format!("config.yaml:{expected}")]);
    check(
        "alert_manager: {cleanup_interval: 18446744073709551615}\n",
        "1:35: alert_manager.cleanup_interval: longer than a thousand years",
    );
    check(
        "alert_manager: {evaluation_interval: 100000}\n",
        "1:38: alert_manager.evaluation_interval: is 1d3h46m40s; it must be from 100ms to 1d",
    );
    check(
        "global: {evaluation_interval: 2d}\n",
        "1:31: global.evaluation_interval: is 2d; it must be from 100ms to 1d",
    );
}

#[test]
fn traps_of_yaml_end_in_a_fault_with_a_line_and_soon() {
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        text
    };
    let merged = format!("a: &a {{b: 1}}\nc:\n{}", "  <<: *a\n".repeat(3));
    let clock = MachineClock::default();
    let check = |text: &str, words: &str| {
        let started = clock.monotonic();
        let told = told(text);
        assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:?}");
        assert!(told.iter().all(|line| {
            line.split(':')
                .nth(1)
                .is_some_and(|line| line.parse::<u32>().is_ok())
        }));
        let elapsed = clock.monotonic() - started;
        assert!(elapsed < Duration::from_secs(10), "{words}: {elapsed:?}");
    };
    check(&bomb, "more than 1000000 values");
    check(&merged, "a: unknown key");
    check(&"[".repeat(100_000), "is no YAML");
    check(&format!("a: {}", "[".repeat(100_000)), "is no YAML");
    check(
        &format!("a: {}{}", "[".repeat(63), "]".repeat(63)),
        "a: unknown key",
    );
    check("alert_manager:\n\tenabled: true\n", "config.yaml:2:");
    check(
        "a: 1\n---\nb: 2\n",
        "config.yaml:2:1: a second document begins here",
    );
    check(
        "a: &x [*x]\n",
        "config.yaml:1:8: an alias stands inside of its own anchor",
    );
    check(&format!("a: {}{}", "[".repeat(64), "]".repeat(64)), "");
    check("- a\n", "config.yaml:1:1: a list stands where keys are expected");
    check(
        "hello\n",
        "config.yaml:1:1: a single value stands where keys are expected",
    );
    check("[a]: 1\nb: 1\n", "1:1: ");
    check("? {a: b}\n: 1\n", "a list or a map cannot be a key");
    check("<<: 1\n", "only maps can be merged");
    check("a\0: 1\n", "config.yaml:1:");
}

#[test]
fn other_systems_line_ends_marks_and_aliases_are_taken() {
    let loaded = load_text("\u{feff}alert_manager:\r\n  evaluation_interval: 7\r\n");
    assert_eq!(
        loaded.expect("taken").config.evaluation_interval(),
        Duration::from_secs(7)
    );
    let text =
        "---\nscrape_configs:\n- &a\n  job_name: a\n  scrape_interval: 7s\n- <<: *a\n  job_name: b\n...\n";
    let loaded = load_text(text).expect("taken");
    let intervals = loaded
        .pools
        .iter()
        .map(|pool| (pool.job_name.as_str(), pool.interval.as_secs()));
    assert_eq!(intervals.collect::<Vec<_>>(), [("a", 7), ("b", 7)]);
}

/// Reading again after every fault must not become a matter of minutes.
#[test]
fn a_large_file_with_many_faults_is_judged_in_bounded_time() {
    let job = |n: usize| {
        format!("  - job_name: j{n}\n    static_configs: [{{targets: ['h{n}:1']}}]\n    faulty: 1\n")
    };
    let text = format!("scrape_configs:\n{}", (0..60_000).map(job).collect::<String>());
    assert!(text.len() > 4 << 20);
    let clock = MachineClock::default();
    let started = clock.monotonic();
    let told = told(&text);
    let elapsed = clock.monotonic() - started;
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
    assert!(
        told.last()
            .is_some_and(|line| line.contains("further faults may follow")),
        "{:?}",
        told.last()
    );
}

#[test]
fn keys_without_effect_are_named_with_their_line() {
    let loaded = load_text(
        "alerting: {}\nglobal:\n  query_log_file: x\nstorage:\n\n  tsdb: {}\nanomaly_detection: {enabled: true}\n",
    );
    assert_eq!(
        loaded.expect("taken").remarks,
        [
            "config.yaml:7: anomaly_detection has no effect in this version",
            "config.yaml:1: alerting has no effect in this version",
            "config.yaml:6: storage.tsdb has no effect in this version",
            "config.yaml:3: global.query_log_file has no effect in this version",
        ]
    );
}

#[test]
fn older_forms_are_taken_with_a_remark_and_newer_ones_are_refused() {
    let loaded = load_text("version: 1\nnotification_manager: {max_workers: 3}\nserver: {port: 9000}\n")
        .expect("taken");
    assert_eq!(loaded.channels.max_workers, 3);
    assert_eq!(loaded.config.performance.concurrency.max_workers, Some(3));
    assert_eq!(loaded.config.server.listen, "0.0.0.0:9000");
    assert_eq!(
        loaded.remarks[0],
        "config.yaml:2: notification_manager.max_workers is performance.concurrency.max_workers now; \
         `marketprism config migrate config.yaml` rewrites the file"
    );
    assert_eq!(
        told("version: 3\n"),
        ["config.yaml:1:10: version: is newer than 2, the newest form that this program knows"]
    );
    let both = "notification_manager: {max_workers: 3}\nperformance: {concurrency: {max_workers: 4}}\n";
    assert!(told(both)[0].starts_with("config.yaml:1:24: notification_manager.max_workers: is performance."));
}
