//! Alertmanager's clients at the whole program: Debian's amtool, and a Prometheus that sends its alerts.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use marketprism_testkit::{ChildGuard, free_port, is_true_within};
use serde_json::Value;

use crate::program::{PATIENCE, Program};

/// Routes to three receivers, none of which sends anything.
const CONFIG: &str = r#"
host: {enabled: false}
alert_manager: {default_rules: false}
notification_manager:
  route:
    receiver: everybody
    group_by: [alertname]
    group_wait: 0s
    routes:
      - receiver: database
        matchers: ['team="db"']
        continue: true
      - receiver: urgent
        matchers: ['severity=~"critical|page"']
  receivers: [{name: everybody}, {name: database}, {name: urgent}]
  inhibit_rules:
    - source_matchers: ['severity="critical"']
      target_matchers: ['severity="warning"']
      equal: [instance]
  time_intervals:
    - name: nights
      time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}], location: Asia/Shanghai}]
"#;

/// Debian's amtool, pointed at the program.
struct Amtool<'a>(&'a Program);

impl Amtool<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let path = Path::new("/usr/bin/amtool");
        assert!(
            path.exists(),
            "amtool is missing; run: apt-get install prometheus-alertmanager"
        );
        let url = format!("--alertmanager.url={}/alertmanager", self.0.url_with_password());
        let mut command = Command::new(path);
        command.arg(url).arg("--no-version-check").args(arguments);
        command.env("HOME", self.0.home()).output().expect("run amtool")
    }

    /// Runs a command that must succeed; gives what it prints.
    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "amtool {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ask(&[&["-o", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("amtool {arguments:?}: {error}: {text}"))
    }
}

fn names(alerts: &Value) -> Vec<&str> {
    let alerts = alerts.as_array().map_or(&[][..], Vec::as_slice);
    let mut names: Vec<&str> = alerts
        .iter()
        .filter_map(|alert| alert["labels"]["alertname"].as_str())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn amtool_adds_and_queries_alerts() {
    let program = Program::start(CONFIG);
    let amtool = Amtool(&program);
    assert_eq!(names(&amtool.json(&["alert", "query"])), [""; 0]);
    amtool.ask(&[
        "alert",
        "add",
        "Down",
        "team=db",
        "severity=critical",
        "instance=a",
        "--annotation=summary=\"it is down\"",
        "--generator-url=http://prometheus/graph",
    ]);
    amtool.ask(&["alert", "add", "Slow", "severity=warning", "instance=a"]);
    amtool.ask(&[
        "alert",
        "add",
        "Over",
        "--start=2026-01-01T00:00:00Z",
        "--end=2026-01-02T00:00:00Z",
    ]);
    assert_eq!(names(&amtool.json(&["alert", "query"])), ["Down"]);
    assert_eq!(names(&amtool.json(&["alert", "query", "--inhibited"])), ["Slow"]);
    assert_eq!(
        names(&amtool.json(&["alert", "query", "severity=~\"crit.*\""])),
        ["Down"]
    );
    assert_eq!(
        names(&amtool.json(&["alert", "query", "--receiver=urgent"])),
        ["Down"]
    );
    let down = &amtool.json(&["alert", "query", "Down"])[0];
    assert_eq!(down["annotations"]["summary"], "it is down");
    assert_eq!(down["generatorURL"], "http://prometheus/graph");
    let receivers = serde_json::json!([{ "name": "database" }, { "name": "urgent" }]);
    assert_eq!(down["receivers"], receivers);
    // The same stands in our own API, and Prometheus' clients see it.
    let own = program.get_json("/api/v1/alerts?state=firing&label=alertname:Slow");
    let suppressed = &own["items"][0]["suppressed_by"][0];
    assert_eq!(suppressed["reason"], "inhibition", "{own}");
    // What is wrong is said in words.
    let refused = amtool.run(&["alert", "add"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("at least one label"),
        "{words}"
    );
}

#[test]
fn amtool_makes_changes_and_ends_silences() {
    let program = Program::start(CONFIG);
    let amtool = Amtool(&program);
    amtool.ask(&["alert", "add", "Down", "team=db", "instance=a"]);
    amtool.ask(&["alert", "add", "Full", "team=web", "instance=b"]);
    let id = amtool.ask(&[
        "silence",
        "add",
        "team=db",
        "instance=~\"a|c\"",
        "-c",
        "work",
        "-a",
        "admin",
        "-d",
        "1h",
    ]);
    let id = id.trim();
    assert_eq!(amtool.ask(&["silence", "query", "-q"]).trim(), id);
    assert_eq!(names(&amtool.json(&["alert", "query"])), ["Full"]);
    assert_eq!(names(&amtool.json(&["alert", "query", "--silenced"])), ["Down"]);
    let shown = &amtool.json(&["silence", "query", "--created-by=admin", "team=db"])[0];
    assert_eq!(
        (shown["id"].as_str(), &shown["comment"]),
        (Some(id), &"work".into()),
        "{shown}"
    );
    assert_eq!(shown["matchers"].as_array().map(Vec::len), Some(2), "{shown}");
    // A longer one with other words is the same silence.
    let changed = amtool.json(&["silence", "update", "-d", "3h", "-c", "more work", id]);
    assert_eq!(changed[0]["id"].as_str(), Some(id), "{changed}");
    let own = program.get_json(&format!("/api/v1/silences/{id}"));
    assert_eq!(own["comment"], "more work", "{own}");
    // Exported, ended, and imported: another silence, for what has ended stays so.
    let exported = amtool.ask(&["-o", "json", "silence", "query"]);
    let file = program.home().join("silences.json");
    fs::write(&file, &exported).expect("write the export");
    amtool.ask(&["silence", "expire", id]);
    assert_eq!(amtool.ask(&["silence", "query", "-q"]).trim(), "");
    assert_eq!(amtool.ask(&["silence", "query", "-q", "--expired"]).trim(), id);
    assert_eq!(names(&amtool.json(&["alert", "query"])), ["Down", "Full"]);
    let imported = amtool.ask(&["silence", "import", &file.display().to_string()]);
    assert_ne!(imported.trim(), id);
    assert_eq!(amtool.ask(&["silence", "query", "-q"]).trim(), imported.trim());
    let forced = amtool.ask(&["silence", "import", "--force", &file.display().to_string()]);
    assert_ne!(forced.trim(), imported.trim());
    // What is imported under an id that nobody knows becomes a new silence.
    let foreign = exported.replace(id, "8d66cd17-8e5d-4ee5-b1c5-7d1b9e5e5a10");
    fs::write(&file, foreign).expect("write the export");
    amtool.ask(&["silence", "import", &file.display().to_string()]);
    // Silencing everything is no accident that may happen.
    let refused = amtool.run(&["silence", "add", "alertname=~\".+\"", "-c", "oops", "-a", "admin"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("confirm"), "{words}");
    let silences = amtool.json(&["silence", "query"]);
    assert_eq!(silences.as_array().map(Vec::len), Some(3), "{silences}");
}

#[test]
fn amtool_shows_and_tests_the_routes() {
    let program = Program::start(CONFIG);
    let amtool = Amtool(&program);
    let shown = amtool.ask(&["config", "show"]);
    assert!(shown.contains("receiver: "), "{shown}");
    let tree = amtool.ask(&["config", "routes", "show"]);
    for word in [
        "receiver: everybody",
        "receiver: database",
        "receiver: urgent",
        "team=\"db\"",
        "continue: true",
    ] {
        assert!(tree.contains(word), "{tree}");
    }
    let test = |labels: &[&str]| amtool.ask(&[&["config", "routes", "test"], labels].concat());
    assert_eq!(test(&["team=db", "severity=page"]).trim(), "database,urgent");
    assert_eq!(test(&["team=db"]).trim(), "database");
    assert_eq!(test(&["team=web"]).trim(), "everybody");
    let verified = amtool.run(&["config", "routes", "test", "--verify.receivers=urgent", "team=db"]);
    assert!(!verified.status.success(), "{verified:?}");
    // What amtool is shown is a configuration that it finds right.
    let original = program.get_json("/alertmanager/api/v2/status")["config"]["original"].take();
    let file = program.home().join("shown.yml");
    fs::write(&file, original.as_str().expect("a text")).expect("write it");
    let checked = Command::new("/usr/bin/amtool")
        .arg("check-config")
        .arg(&file)
        .output();
    let checked = checked.expect("run amtool");
    assert!(checked.status.success(), "{checked:?}");
    let cluster = amtool.ask(&["cluster", "show"]);
    assert!(cluster.contains("disabled"), "{cluster}");
}

#[test]
fn a_prometheus_sends_its_alerts_here_as_to_an_alertmanager() {
    let program = Program::start(CONFIG);
    let home = tempfile::tempdir().expect("a temporary folder");
    let (user, address) = program.url_with_password().split_once('@').map_or_else(
        || panic!("no password"),
        |(user, address)| (user.to_owned(), address.to_owned()),
    );
    let password = user.rsplit(':').next().unwrap_or_default().to_owned();
    let config = format!(
        "global: {{evaluation_interval: 1s, external_labels: {{site: here}}}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n    \
         - api_version: v2\n      path_prefix: /alertmanager\n      basic_auth: {{username: admin, password: '{password}'}}\n      \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    let rules = |is_on: u8| {
        format!(
            "groups: [{{name: g, rules: [{{alert: FromPrometheus, expr: 'vector(1) == {is_on}', labels: {{team: db}}, annotations: {{summary: it is one}}}}]}}]\n"
        )
    };
    fs::write(home.path().join("prometheus.yml"), config).expect("write Prometheus' configuration");
    fs::write(home.path().join("rules.yml"), rules(1)).expect("write Prometheus' rules");
    let port = free_port();
    let path = Path::new("/usr/bin/prometheus");
    assert!(
        path.exists(),
        "prometheus is missing; run: apt-get install prometheus"
    );
    let prometheus = ChildGuard::spawn(
        Command::new(path)
            .arg(format!(
                "--config.file={}",
                home.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                home.path().join("data").display()
            ))
            .arg("--web.enable-lifecycle")
            // What is sent before the target is discovered comes again soon.
            .arg("--rules.alert.resend-delay=1s")
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    )
    .expect("start prometheus");
    let find = || {
        let list = program.get_json("/api/v1/alerts?label=alertname:FromPrometheus");
        list["items"][0].clone()
    };
    let has_come = is_true_within(PATIENCE, || find()["state"] == "firing");
    assert!(has_come, "{}\n{}", prometheus.output(), program.log());
    let alert = find();
    assert_eq!(alert["labels"]["site"], "here", "{alert}");
    assert_eq!(alert["annotations"]["summary"], "it is one", "{alert}");
    let link = alert["external"]["generator_url"].as_str().unwrap_or("");
    assert!(link.contains("/graph?g0.expr="), "{alert}");
    let groups = program.get_json("/alertmanager/api/v2/alerts/groups");
    assert_eq!(groups[0]["receiver"]["name"], "database", "{groups}");
    // When the rule no longer sees anything, Prometheus says that it is over.
    fs::write(home.path().join("rules.yml"), rules(0)).expect("write Prometheus' rules");
    let reload = ureq::post(format!("http://127.0.0.1:{port}/-/reload")).send_empty();
    assert!(reload.is_ok(), "{reload:?}");
    let is_over = is_true_within(PATIENCE, || find()["state"] == "resolved");
    assert!(is_over, "{}\n{}", find(), prometheus.output());
}
