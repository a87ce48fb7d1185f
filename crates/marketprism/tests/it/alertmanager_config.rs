//! An `alertmanager.yml` as it is: judged as `amtool` judges it, in force in the program, followed when it changes.

use std::fs;
use std::path::Path;
use std::process::Command;

use marketprism_testkit::{FakeWebhook, is_true_within};

use crate::program::{PATIENCE, Program};

const AMTOOL: &str = "/usr/bin/amtool";

/// Says whether a command is content.
fn is_accepted(command: &mut Command) -> (bool, String) {
    let output = command
        .output()
        .expect("install it with: apt-get install prometheus-alertmanager");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn amtool(file: &Path) -> (bool, String) {
    is_accepted(Command::new(AMTOOL).arg("check-config").arg(file))
}

/// Judges the file from a configuration beside it that names it.
fn ours(file: &Path) -> (bool, String) {
    let config = file.with_file_name("config.yaml");
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let text = format!("notification_manager: {{alertmanager_config: {name}}}\n");
    fs::write(&config, text).expect("write the configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_marketprism"));
    is_accepted(command.args(["check", "config"]).arg(&config))
}

/// Receivers' integrations, good and bad; each stands in a file of its own.
const INTEGRATIONS: [&str; 58] = [
    "webhook_configs: [{url: 'http://a.example/'}]",
    "webhook_configs: [{url: 'http://a.example/', max_alerts: 5, send_resolved: false}]",
    "webhook_configs: [{}]",
    "webhook_configs: [{url: 'ftp://a.example/'}]",
    "webhook_configs: [{url: '/relative'}]",
    "webhook_configs: [{url: 'http://a.example/', max_alerts: -1}]",
    "webhook_configs: [{url: 'http://a.example/', max_alert: 1}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {basic_auth: {username: a, password: b}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {authorization: {type: basic, credentials: b}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {authorization: {credentials: b}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {bearer_token: a, basic_auth: {username: a}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {proxy_url: 'http://p.example/'}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {tls_config: {insecure_skip_verify: true, server_name: b}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {oauth2: {client_id: a, client_secret: b, token_url: 'http://t.example/'}}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {follow_redirects: false, enable_http2: false}}]",
    "webhook_configs: [{url: 'http://a.example/', http_config: {unheard_of: 1}}]",
    "webhook_configs: {url: 'http://a.example/'}",
    "webhook_configs:",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25'}]",
    "email_configs: [{to: 'a@b.example, d@b.example', from: 'C <c@b.example>', smarthost: 'm.example:465'}]",
    "email_configs: [{from: c@b.example, smarthost: 'm.example:25'}]",
    "email_configs: [{to: a@b.example, smarthost: 'm.example:25'}]",
    "email_configs: [{to: a@b.example, from: c@b.example}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example'}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:'}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: '[::1]:25'}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25', headers: {a: b, A: c}}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25', headers: {Subject: '{{ .Status }}'}, html: x}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25', require_tls: false, hello: x}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25', auth_username: u, auth_password: p}]",
    "email_configs: [{to: a@b.example, from: c@b.example, smarthost: 'm.example:25', auth_username: u}]",
    "email_configs: [{to: '{{ .GroupLabels.owner }}', from: c@b.example, smarthost: 'm.example:25'}]",
    "slack_configs: [{api_url: 'http://s.example/', channel: '#a'}]",
    "slack_configs: [{channel: '#a'}]",
    "slack_configs: [{api_url: 'http://s.example/', title: x, text: y, fields: [{title: a, value: b}], actions: [{type: button, text: a, url: 'http://b'}]}]",
    "slack_configs: [{api_url: 's.example', channel: '#a'}]",
    "slack_configs: [{api_url: 'http://s.example/', chanel: '#a'}]",
    "pagerduty_configs: [{routing_key: k}]",
    "pagerduty_configs: [{service_key: k, details: {a: b}, links: [{href: a, text: b}]}]",
    "pagerduty_configs: [{}]",
    "pagerduty_configs: [{routing_key: k, sevrity: x}]",
    "opsgenie_configs: [{api_key: k, responders: [{name: a, type: team}]}]",
    "opsgenie_configs: [{}]",
    "pushover_configs: [{user_key: a, token: b}]",
    "pushover_configs: [{user_key: a}]",
    "pushover_configs: [{token: b}]",
    "victorops_configs: [{api_key: a, routing_key: b}]",
    "victorops_configs: [{api_key: a}]",
    "victorops_configs: [{routing_key: b}]",
    "wechat_configs: [{api_secret: a, corp_id: b}]",
    "wechat_configs: [{api_secret: a}]",
    "sns_configs: [{topic_arn: 'arn:aws:sns:us-east-2:1:My', sigv4: {region: us-east-2}}]",
    "sns_configs: [{sigv4: {region: us-east-2}}]",
    "telegram_configs: [{bot_token: a, chat_id: 1}]",
    "telegram_configs: [{bot_token: a}]",
    "webex_configs: [{room_id: a, http_config: {authorization: {credentials: b}}}]",
    "webex_configs: [{room_id: a}]",
    "telegram_configs: [{chat_id: 1}]",
];

/// Files without integrations, good and bad.
const FILES: [&str; 16] = [
    "route: {receiver: a}\nreceivers: [{name: a}]\n",
    "receivers: [{name: a}]\n",
    "route: {receiver: a}\n",
    "route: {receiver: b}\nreceivers: [{name: a}]\n",
    "route: {}\nreceivers: [{name: a}]\n",
    "route: {receiver: a}\nreceivers: [{name: a}, {name: a}]\n",
    "route: {receiver: a}\nreceivers: [{name: a}, {}]\n",
    "route: {receiver: a, group_interval: 0s}\nreceivers: [{name: a}]\n",
    "route: {receiver: a, group_by: [b, b]}\nreceivers: [{name: a}]\n",
    "route: {receiver: a, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: a}]\n",
    "route: {receiver: a, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: a}]\nmute_time_intervals: [{name: x, time_intervals: []}]\n",
    "global: {resolve_timeout: 1m, smtp_require_tls: false}\nroute: {receiver: a}\nreceivers: [{name: a}]\n",
    "global: {resolve_timout: 1m}\nroute: {receiver: a}\nreceivers: [{name: a}]\n",
    "global: {slack_api_url: 'http://s.example/', slack_api_url_file: x}\nroute: {receiver: a}\nreceivers: [{name: a}]\n",
    "global:\nroute: {receiver: a}\nreceivers: [{name: a}]\ntemplates: []\n",
    "route: {receiver: a}\nreceivers: [{name: a}]\nchannels: {}\n",
];

#[test]
fn files_are_taken_and_refused_as_amtool_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("alertmanager.yml");
    let (mut good, mut bad) = (0, 0);
    let of_integration =
        |integration: &str| format!("route: {{receiver: a}}\nreceivers:\n- name: a\n  {integration}\n");
    let texts = INTEGRATIONS.iter().map(|text| of_integration(text));
    for text in texts.chain(FILES.iter().map(|text| (*text).to_owned())) {
        fs::write(&file, &text).expect("write the file");
        let ((theirs, they), (ours, we)) = (amtool(&file), ours(&file));
        assert_eq!(ours, theirs, "{text}\namtool: {they}\nwe: {we}");
        match theirs {
            true => good += 1,
            false => {
                bad += 1;
                assert!(we.contains("alertmanager.yml:"), "the file is not named in {we}");
            }
        }
    }
    assert!(good > 25 && bad > 25, "{good} good, {bad} bad");
}

/// What `amtool` takes of an older Alertmanager and we do not, and the other way round; each on purpose.
#[test]
fn what_is_judged_otherwise_than_by_amtool_is_so_on_purpose() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("alertmanager.yml");
    let check = |integration: &str, expected: (bool, bool)| {
        let text = format!("route: {{receiver: a}}\nreceivers:\n- name: a\n  {integration}\n");
        fs::write(&file, &text).expect("write the file");
        let ((theirs, they), (ours, we)) = (amtool(&file), ours(&file));
        assert_eq!((ours, theirs), expected, "{text}\namtool: {they}\nwe: {we}");
    };
    // An address that is none would fail at every message.
    let mail = "from: c@b.example, smarthost: 'm.example:25'";
    check(&format!("email_configs: [{{to: nobody, {mail}}}]"), (false, true));
    // A secret's file that cannot be read would, too.
    check(
        "webhook_configs: [{url: 'http://a.example/', http_config: {bearer_token_file: gone}}]",
        (false, true),
    );
    // Newer than Debian's.
    check(
        "webhook_configs: [{url: 'http://a.example/', timeout: 3s}]",
        (true, false),
    );
    check(
        "jira_configs: [{project: a, issue_type: b, api_url: 'http://j.example/'}]",
        (true, false),
    );
}

fn files(program: &Program, alertmanager: &str) {
    fs::write(program.home().join("alertmanager.yml"), alertmanager).expect("write");
}

fn tree(ops: &FakeWebhook, pager: &FakeWebhook, critical: &str) -> String {
    format!(
        "route: {{receiver: ops, group_by: [alertname], group_wait: 100ms, group_interval: 1s,
    routes: [{{matchers: ['severity=\"critical\"'], receiver: {critical}}}]}}
receivers:
- {{name: ops, webhook_configs: [{{url: '{}'}}]}}
- {{name: pager, webhook_configs: [{{url: '{}'}}]}}
",
        ops.url(),
        pager.url()
    )
}

#[test]
fn routes_of_the_file_decide_and_a_change_of_it_is_in_force_or_refused_whole() {
    let (ops, pager) = (FakeWebhook::start(), FakeWebhook::start());
    let mut program = Program::prepare(
        "config: {watch_interval: 1}
host: {enabled: false}
alert_manager: {default_rules: false, evaluation_interval: 0.5}
rule_files: [rules.yaml]
notification_manager: {alertmanager_config: alertmanager.yml}
",
    );
    let rule = |name: &str, severity: &str| {
        format!("{{alert: {name}, expr: vector(1), labels: {{severity: {severity}}}}}")
    };
    let home = program.home().to_owned();
    let rules = |all: &[String]| {
        let rules = format!("groups: [{{name: a, rules: [{}]}}]\n", all.join(", "));
        fs::write(home.join("rules.yaml"), rules).expect("write");
    };
    let mut all = vec![rule("Down", "critical"), rule("Slow", "low")];
    rules(&all);
    files(&program, &tree(&ops, &pager, "pager"));
    program.launch(&[]);
    program.wait_until_ready();
    let told = |hook: &FakeWebhook, name: &str| {
        let all = hook.received();
        let mut payloads = all.iter().map(|request| request.json());
        payloads.find(|payload| payload["groupLabels"]["alertname"] == name)
    };
    let is_told = is_true_within(PATIENCE, || {
        told(&pager, "Down").is_some() && told(&ops, "Slow").is_some()
    });
    assert!(is_told, "log:\n{}", program.log());
    let payload = told(&pager, "Down").expect("it was told");
    assert_eq!(payload["receiver"], "pager");
    assert_eq!(
        payload["groupKey"],
        "{}/{severity=\"critical\"}:{alertname=\"Down\"}"
    );
    assert!(told(&ops, "Down").is_none() && told(&pager, "Slow").is_none());

    files(&program, &tree(&ops, &pager, "nobody"));
    let is_refused = is_true_within(PATIENCE, || {
        program
            .logged("configuration not reloaded; the running one stays")
            .is_some()
    });
    assert!(is_refused, "log:\n{}", program.log());
    let said = program
        .logged("configuration not reloaded; the running one stays")
        .expect("refused")["error"]
        .to_string();
    assert!(
        said.contains("alertmanager.yml:2:")
            && said.contains("no receiver is called")
            && said.contains("nobody"),
        "{said}"
    );

    files(&program, &tree(&ops, &pager, "ops"));
    let is_reloaded = is_true_within(PATIENCE, || program.logged("configuration reloaded").is_some());
    assert!(is_reloaded, "log:\n{}", program.log());
    all.push(rule("Late", "critical"));
    rules(&all);
    let is_told = is_true_within(PATIENCE, || told(&ops, "Late").is_some());
    assert!(is_told, "log:\n{}", program.log());
    assert!(told(&pager, "Late").is_none(), "the route leads elsewhere now");
}
