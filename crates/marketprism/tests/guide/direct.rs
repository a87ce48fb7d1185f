//! The guide's third way: no container. Its `.env` fills the variables of mail, Slack and sessions.

use std::fs;

use marketprism_testkit::{FakeSlack, SmtpOptions, SmtpSecurity, SmtpServer, is_true_within};
use serde_json::Value;

use crate::compose::RULES;
use crate::guide::step;
use crate::host::Host;
use crate::program::PATIENCE;
use crate::settings::{JWT_SECRET, Settings};
use crate::web::figure;

/// Replaces a value of `.env` that stands there once.
fn change(host: &Host, from: &str, to: &str) {
    let text = fs::read_to_string(host.app().join(".env")).expect("the guide has made it");
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    host.lay(".env", &text.replace(from, to));
}

fn value(host: &Host, name: &str) -> String {
    let text = fs::read_to_string(host.app().join(".env")).expect("the guide has made it");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.expect("the guide sets it").to_owned()
}

#[test]
fn the_service_mails_and_tells_slack_with_the_variables_of_its_env_file() {
    let settings = Settings::of_the_guide();
    let host = Host::new(&settings);
    host.lay("config/rules.yaml", RULES);
    host.run_well(&step("方式三：直接部署 / 1. 安装依赖"));
    host.run_well(&step("方式三：直接部署 / 2. 配置环境变量"));
    let names: Vec<String> = fs::read_to_string(host.app().join(".env"))
        .expect("the guide has made it")
        .lines()
        .map(|line| line.split('=').next().unwrap_or("").to_owned())
        .collect();
    let expected = [
        "SMTP_USERNAME",
        "SMTP_PASSWORD",
        "SLACK_WEBHOOK_URL",
        "JWT_SECRET",
    ];
    assert_eq!(names, expected);
    let slack = FakeSlack::start();
    change(&host, "https://hooks.slack.com/services/...", &slack.url());
    let (user, password) = (value(&host, "SMTP_USERNAME"), value(&host, "SMTP_PASSWORD"));
    let mail = SmtpServer::start(&SmtpOptions {
        security: SmtpSecurity::StartTls,
        credentials: Some((user.clone(), password)),
        port: 0,
    });
    let authority = format!("\n      ca_file: {}", mail.ca_file().display());
    let settings = settings
        .with_rules("rules.yaml")
        .at_a_quick_pace()
        .with_mail_server(mail.port(), &authority);
    host.configure(&settings);

    // The guide's secret is in the guide: everybody has it.
    let start = step("方式三：直接部署 / 3. 启动服务");
    let said = host.run(&start);
    assert_eq!(said.status, 1, "{said:?}");
    let place = format!("config/config.yaml:{}:", settings.line_of("${JWT_SECRET}"));
    for word in [
        &*place,
        "security.api_auth.jwt_secret",
        "placeholder",
        "openssl rand",
    ] {
        assert!(said.complaint.contains(word), "no {word} in {}", said.complaint);
    }
    assert!(
        !said.complaint.contains("SMTP_"),
        "the others are given: {}",
        said.complaint
    );
    change(&host, "your_jwt_secret_key", JWT_SECRET);
    host.run_well(&start);
    host.wait_until_ready();

    let mail_of_alert = || {
        mail.mails()
            .into_iter()
            .find(|mail| mail.text().contains("GuideAlert"))
    };
    let told_slack = || {
        let bodies = slack.received().into_iter().map(|request| request.body);
        bodies
            .filter_map(|body| serde_json::from_slice::<Value>(&body).ok())
            .find(|body| body.to_string().contains("GuideAlert"))
    };
    let is_told = is_true_within(PATIENCE, || mail_of_alert().is_some() && told_slack().is_some());
    assert!(is_told, "log:\n{}", host.log());
    let mail_of_alert = mail_of_alert().expect("waited for");
    assert!(mail_of_alert.is_tls, "port 587 is for STARTTLS");
    assert_eq!(mail_of_alert.user.as_deref(), Some(&*user));
    assert_eq!((mail_of_alert.from, mail_of_alert.to), (user.clone(), vec![user]));
    assert_eq!(told_slack().expect("waited for")["channel"], "#alerts");

    let metrics = || host.get("/metrics").1;
    let sent = |channel: &str| {
        let labels = [&*format!("channel=\"{channel}\""), "outcome=\"delivered\""];
        figure(&metrics(), "marketprism_notification_sent_total", &labels).unwrap_or(0.0)
    };
    let is_counted = is_true_within(PATIENCE, || sent("email") >= 1.0 && sent("slack") >= 1.0);
    assert!(is_counted, "{}", metrics());
}
