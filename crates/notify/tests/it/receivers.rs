//! Receivers in Alertmanager's words, delivered to real servers and fakes.

use marketprism_model::{AlertState, Level, NotificationStatus, Purpose};
use marketprism_testkit::{FakeSlack, FakeWebhook, SmtpOptions, SmtpServer};

use crate::fixture::{Desk, alert, firing, notification};

#[tokio::test]
async fn a_webhook_tells_at_most_as_many_alerts_as_it_is_asked_to_and_gets_in_by_its_password() {
    let hook = FakeWebhook::start();
    let desk = Desk::new(&format!(
        "receivers: [{{name: ops, webhook_configs: [{{url: '{}', max_alerts: 2,
            http_config: {{basic_auth: {{username: Aladdin, password: 'open sesame'}}}}}}]}}]",
        hook.url()
    ));
    let _running = desk.run();
    let mut alerts = ["a", "b", "c"].map(|instance| {
        let mut alert = alert("HostDown", AlertState::Firing, Level::High);
        alert.labels = alert.labels.with("instance", instance).with("rack", "7");
        alert
    });
    alerts[2].labels = alerts[2].labels.with("rack", "8");
    alerts[0].generator_url = Some("http://prometheus.example/graph?g0.expr=up".to_owned());
    let mut told = notification(1, "ops/webhook[0]", alerts.to_vec());
    told.receiver = "ops".to_owned();
    told.group_key = "{}/{team=\"db\"}:{alertname=\"HostDown\"}".to_owned();
    told.content.truncated_alerts = 5;
    let id = desk.put(told);
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let request = &hook.received()[0];
    assert_eq!(
        request.header("authorization"),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    let payload = request.json();
    assert_eq!(payload["alerts"].as_array().map(Vec::len), Some(2));
    assert_eq!(payload["truncatedAlerts"], 6);
    assert_eq!(payload["receiver"], "ops");
    assert_eq!(payload["groupKey"], "{}/{team=\"db\"}:{alertname=\"HostDown\"}");
    // What the two have in common; the third, which is not told, stands in another rack.
    assert_eq!(payload["commonLabels"]["rack"], "7");
    assert!(payload["commonLabels"].get("instance").is_none());
    let generators = [0, 1].map(|at| {
        payload["alerts"][at]["generatorURL"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    assert_eq!(generators[0], "http://prometheus.example/graph?g0.expr=up");
    assert!(generators[1].starts_with("https://monitor.example.com/prometheus/graph?"));
    // Neither a link nor an expression: there is nothing to lead to.
    let mut bare = notification(2, "ops/webhook[0]", alerts[1..2].to_vec());
    bare.content.alerts[0].expr.clear();
    let id = desk.put(bare);
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(hook.received()[1].json()["alerts"][0]["generatorURL"], "");
}

#[tokio::test]
async fn a_bots_token_goes_along_and_is_never_recorded() {
    let slack = FakeSlack::start();
    let desk = Desk::new(&format!(
        "receivers: [{{name: ops, slack_configs: [{{channel: '#a', app_token: xoxb-hunter2, app_url: '{}'}}]}}]",
        slack.url()
    ));
    let _running = desk.run();
    let id = desk.put(firing(1, "ops/slack[0]"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let request = &slack.received()[0];
    assert_eq!(request.header("authorization"), "Bearer xoxb-hunter2");
    assert_eq!(request.json()["channel"], "#a");
    assert!(
        desk.attempts(id)
            .iter()
            .all(|attempt| !attempt.contains("hunter2"))
    );
}

#[tokio::test]
async fn mail_of_a_receiver_has_its_headers_and_all_its_recipients() {
    let server = SmtpServer::start(&SmtpOptions::default());
    let desk = Desk::new(&format!(
        "global: {{smtp_smarthost: '127.0.0.1:{}', smtp_from: 'Alerts <alerts@example.org>', smtp_require_tls: false}}
receivers: [{{name: ops, language: en, email_configs: [{{to: 'a@example.org, b@example.org',
    headers: {{Subject: 'On call', Reply-To: team@example.org}}}}]}}]",
        server.port()
    ));
    let _running = desk.run();
    let id = desk.put(firing(1, "ops/email[0]"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let mails = server.mails();
    let text = mails[0].text();
    for line in [
        "Subject: On call",
        "Reply-To: team@example.org",
        "To: a@example.org, b@example.org",
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line:?} is missing in {text}"
        );
    }
    assert!(
        mails[0].plain().contains("What to do"),
        "it is written in English"
    );
}

#[tokio::test]
async fn a_webhook_learns_why_a_message_comes_by_a_header() {
    let hook = FakeWebhook::start();
    let desk = Desk::new(&format!(
        "receivers: [{{name: ops, webhook_configs: [{{url: '{}'}}]}}]",
        hook.url()
    ));
    let _running = desk.run();
    let escalation = Purpose::Escalation {
        policy: "p".to_owned(),
        step: 1,
    };
    let fallback = Purpose::Fallback {
        receiver: "a".to_owned(),
        channel: "b".to_owned(),
    };
    let purposes = [
        (Purpose::Group, ""),
        (Purpose::Storm, "storm"),
        (escalation, "escalation"),
        (fallback, "fallback"),
    ];
    for (number, (purpose, expected)) in (1..).zip(purposes) {
        let mut told = firing(number, "ops/webhook[0]");
        told.content.purpose = purpose;
        let id = desk.put(told);
        desk.wait_for_status(id, NotificationStatus::Delivered).await;
        let received = hook.received();
        let request = received.last().expect("it has arrived");
        assert_eq!(request.header("x-marketprism-purpose"), expected);
    }
}
