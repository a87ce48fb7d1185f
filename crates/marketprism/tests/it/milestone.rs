//! The first milestone: a fresh machine mails a real alert about itself, and the resolve follows.

use std::fs;
use std::sync::Arc;

use marketprism_testkit::{
    FakeDingTalk, FakeWebhook, MachineClock, ReceivedRequest, SmtpOptions, SmtpServer, is_true_within,
};

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};

const RULES: &str = r#"
groups:
  - name: machine
    interval: 1s
    rules:
      - alert: MemoryInUse
        expr: 100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes) > 0
        labels: {severity: critical}
        annotations:
          summary: '{{ $labels.instance }} 内存使用率 {{ printf "%.1f" $value }} %'
      - alert: QueueLong
        expr: queue_length{job="app"} > 10
        for: 1s
        labels: {severity: high}
        annotations: {summary: 'queue of {{ $labels.queue }} holds {{ $value }}'}
"#;

fn config(smtp: u16, webhook: &str, dingtalk: &str, target: &str) -> String {
    format!(
        r##"
global: {{scrape_interval: 1s, scrape_timeout: 900ms}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: app
    static_configs: [{{targets: ["{target}"]}}]
host: {{interval: 1s, instance: this-machine}}
alert_manager: {{evaluation_interval: 1}}
notification_manager:
  route: {{group_by: [alertname], group_wait: 1s, group_interval: 2s, repeat_interval: 4h}}
  channels:
    email:
      enabled: true
      smtp_server: 127.0.0.1
      smtp_port: {smtp}
      security: none
      username: ""
      from: marketprism@example.com
      to: [ops@example.com]
    webhook: {{enabled: true, url: "{webhook}", secret: "hook-secret"}}
    dingtalk: {{enabled: true, webhook_url: "{dingtalk}", secret: "${{DINGTALK_SECRET}}"}}
"##
    )
}

#[test]
fn a_fresh_machine_mails_an_alert_about_itself_and_the_resolve_follows() {
    let smtp = SmtpServer::start(&SmtpOptions::default());
    let webhook = FakeWebhook::start();
    let dingtalk = FakeDingTalk::start("robot-token", Some("SECtest"), Arc::new(MachineClock::default()));
    let exporter = Exporter::start("queue_length{queue=\"orders\"} 3\n");
    let text = config(smtp.port(), &webhook.url(), &dingtalk.url(), exporter.address());
    let mut program = Program::prepare(&text);
    fs::write(program.home().join("rules.yaml"), RULES).expect("write the rules");
    program.set_environment("DINGTALK_SECRET", "SECtest");
    program.launch(&[]);
    program.wait_until_ready();

    // About the machine itself.
    let mailed = |subject: &str, word: &str| {
        smtp.mails()
            .iter()
            .any(|mail| mail.subject().contains(subject) && mail.plain().contains(word))
    };
    assert!(
        is_true_within(PATIENCE, || mailed("MemoryInUse", "this-machine")),
        "no mail; log:\n{}",
        program.log()
    );
    assert!(
        program.logged("创建告警").is_some(),
        "the log says that an alert was created"
    );

    // Its link leads to the alert's own page.
    let mails = smtp.mails();
    let mail = mails
        .iter()
        .find(|mail| mail.subject().contains("MemoryInUse"))
        .expect("waited for above");
    let text = mail.plain();
    let link = text
        .split_whitespace()
        .find_map(|word| word.find("/alerts/").map(|at| word[at..].to_owned()));
    let (status, page) = program.get(&link.expect("the mail has a link"));
    assert!(status == 200 && page.contains("MemoryInUse"), "{status} {page}");

    // About a target, through every channel, and its end through every channel.
    exporter.set("queue_length{queue=\"orders\"} 25\n");
    let told = |state: &str| {
        let in_webhook = webhook
            .received()
            .iter()
            .map(ReceivedRequest::json)
            .any(|body| body["status"] == state && body["groupLabels"]["alertname"] == "QueueLong");
        let in_dingtalk = dingtalk.received().iter().any(|request| {
            let text = request.json()["markdown"]["text"].to_string();
            text.contains("QueueLong") && text.contains("orders")
        });
        in_webhook && in_dingtalk && mailed("QueueLong", "orders")
    };
    assert!(
        is_true_within(PATIENCE, || told("firing")),
        "not told; log:\n{}",
        program.log()
    );
    let before = (smtp.mails().len(), dingtalk.received().len());
    exporter.set("queue_length{queue=\"orders\"} 2\n");
    let is_over =
        || told("resolved") && smtp.mails().len() > before.0 && dingtalk.received().len() > before.1;
    assert!(
        is_true_within(PATIENCE, is_over),
        "end not told; log:\n{}",
        program.log()
    );

    let alerts = program.get_json("/api/v1/alerts?label=alertname:QueueLong");
    assert_eq!(alerts["items"][0]["state"], "resolved", "{alerts}");
    assert!(program.stop().success());
}
