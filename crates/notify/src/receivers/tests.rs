//! What receivers in Alertmanager's words become, and what is said about them.

use std::time::Duration;

use marketprism_model::Secret;

use crate::config::{ChannelConfig, Config, EmailConfig, MailSecurity, Prepared, SlackConfig, WebhookConfig};
use crate::language::Language;

fn prepare(yaml: &str) -> Result<Prepared, Vec<String>> {
    let config: Config = serde_saphyr::from_str(yaml).map_err(|error| vec![error.to_string()])?;
    // Variables are for the guide's channels; no receiver of Alertmanager's takes one by itself.
    let variable = |name: &str| name.starts_with("SMTP").then(|| "env@example.org".to_owned());
    config
        .prepare(&variable)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn good(yaml: &str) -> Prepared {
    prepare(yaml).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[track_caller]
fn refused(yaml: &str, words: &str) {
    let faults = prepare(yaml).expect_err(words);
    assert!(
        faults.len() == 1 && faults[0].contains(words),
        "{words:?} is not what {faults:?} says"
    );
}

fn webhook<'a>(prepared: &'a Prepared, name: &str) -> &'a WebhookConfig {
    match &prepared.channels[name] {
        ChannelConfig::Webhook(webhook) => webhook,
        other => panic!("{other:?}"),
    }
}

fn email<'a>(prepared: &'a Prepared, name: &str) -> &'a EmailConfig {
    match &prepared.channels[name] {
        ChannelConfig::Email(email) => email,
        other => panic!("{other:?}"),
    }
}

fn slack<'a>(prepared: &'a Prepared, name: &str) -> &'a SlackConfig {
    match &prepared.channels[name] {
        ChannelConfig::Slack(slack) => slack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_receiver_has_the_guides_channels_and_its_integrations_with_alertmanagers_defaults() {
    let prepared = good(
        "channels: {webhook: {url: 'http://guide/'}, off: {type: slack, webhook_url: ''}}
global: {smtp_smarthost: 'mail:25', smtp_from: a@example.org, slack_api_url: 'http://slack/'}
receivers:
- name: ops
  channels: [webhook, off]
  webhook_configs: [{url: 'http://one/'}, {url: 'http://two/', send_resolved: false}]
  email_configs: [{to: 'b@example.org, \"C, D\" <c@example.org>'}]
  slack_configs: [{channel: '#ops', send_resolved: true}]
- name: nobody
",
    );
    let names: Vec<_> = prepared.receivers.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["ops", "nobody"]);
    let told: Vec<_> = prepared.receivers[0].channels.iter().collect();
    assert_eq!(
        told,
        [
            &("webhook".to_owned(), true),
            &("ops/webhook[0]".to_owned(), true),
            &("ops/webhook[1]".to_owned(), false),
            &("ops/email[0]".to_owned(), false),
            &("ops/slack[0]".to_owned(), true),
        ]
    );
    assert!(prepared.receivers[1].channels.is_empty());
    let mail = email(&prepared, "ops/email[0]");
    assert_eq!(mail.to.0, ["b@example.org", "\"C, D\" <c@example.org>"]);
    assert_eq!((mail.smtp_server.as_str(), mail.smtp_port), ("mail", 25));
    // No user is named, so nobody logs in, whatever the environment has for the guide's channels.
    assert_eq!(mail.username.as_deref(), Some(""));
    assert_eq!(mail.security, Some(MailSecurity::StartTls));
    let slack = slack(&prepared, "ops/slack[0]");
    assert_eq!(slack.webhook_url.expose(), "http://slack/");
    assert_eq!(slack.channel.as_deref(), Some("#ops"));
}

#[test]
fn a_receiver_says_its_language_and_zone_for_all_its_integrations() {
    let prepared = good(
        "receivers: [{name: a, language: en, time_zone: Europe/Berlin, webhook_configs: [{url: 'http://a/'}]}]",
    );
    let hook = webhook(&prepared, "a/webhook[0]");
    assert_eq!(
        (hook.language, hook.time_zone.as_str()),
        (Language::English, "Europe/Berlin")
    );
    refused(
        "receivers: [{name: a, time_zone: Mars/Base}]",
        "receivers.a.time_zone: unknown time zone",
    );
}

#[test]
fn every_way_in_becomes_a_header_and_a_policy() {
    let header = |http: &str| {
        let yaml =
            format!("receivers: [{{name: a, webhook_configs: [{{url: 'http://a/', http_config: {http}}}]}}]");
        let prepared = good(&yaml);
        let headers = &webhook(&prepared, "a/webhook[0]").headers;
        headers
            .get("Authorization")
            .map(|value| value.expose().to_owned())
    };
    // The example of RFC 7617.
    assert_eq!(
        header("{basic_auth: {username: Aladdin, password: 'open sesame'}}").as_deref(),
        Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    );
    assert_eq!(header("{bearer_token: t}").as_deref(), Some("Bearer t"));
    assert_eq!(
        header("{authorization: {credentials: t}}").as_deref(),
        Some("Bearer t")
    );
    assert_eq!(
        header("{authorization: {type: Token, credentials: t}}").as_deref(),
        Some("Token t")
    );
    assert_eq!(header("{}"), None);

    let prepared = good(
        "global: {http_config: {bearer_token: all}}
receivers:
- name: a
  webhook_configs:
  - {url: 'https://a/', timeout: 3s, max_alerts: 7}
  - url: 'https://b/'
    http_config:
      tls_config: {ca_file: /ca.pem, server_name: b.example.org, insecure_skip_verify: true}
      http_headers: {X-Tenant: {values: [one, two]}, X-Key: {secrets: [hunter2]}}
",
    );
    let (first, second) = (
        webhook(&prepared, "a/webhook[0]"),
        webhook(&prepared, "a/webhook[1]"),
    );
    assert_eq!(first.headers["Authorization"].expose(), "Bearer all");
    assert_eq!((first.timeout, first.max_alerts), (Duration::from_secs(3), 7));
    // A receiver's own http_config replaces the global one, it does not add to it.
    assert!(!second.headers.contains_key("Authorization"));
    assert_eq!(second.headers["X-Tenant"].expose(), "one, two");
    assert_eq!(second.headers["X-Key"].expose(), "hunter2");
    let tls = second.tls();
    assert_eq!(tls.server_name.as_deref(), Some("b.example.org"));
    assert!(tls.is_verification_skipped && tls.ca_file.is_some());
}

#[test]
fn mail_is_secured_as_alertmanager_would() {
    let check = |keys: &str, expected: MailSecurity| {
        let yaml = format!(
            "receivers: [{{name: a, email_configs: [{{to: b@example.org, from: a@example.org, {keys}}}]}}]"
        );
        assert_eq!(
            email(&good(&yaml), "a/email[0]").security,
            Some(expected),
            "{keys}"
        );
    };
    check("smarthost: 'm:25'", MailSecurity::StartTls);
    check("smarthost: 'm:25', require_tls: false", MailSecurity::None);
    check("smarthost: 'm:465'", MailSecurity::Implicit);
    check(
        "smarthost: 'm:465', force_implicit_tls: false",
        MailSecurity::StartTls,
    );
    check(
        "smarthost: '[::1]:26', force_implicit_tls: true",
        MailSecurity::Implicit,
    );
}

#[test]
fn headers_of_mails_that_are_plain_go_out_and_the_others_are_named() {
    let prepared = good(
        "receivers: [{name: a, email_configs: [{to: b@example.org, from: a@example.org, smarthost: 'm:25',
            headers: {Subject: '{{ .Status }}', Reply-To: ops@example.org, To: everybody}, html: '{{ x }}', text: ''}]}]",
    );
    let headers: Vec<_> = email(&prepared, "a/email[0]")
        .headers
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(headers, ["Reply-To"]);
    assert_eq!(
        prepared.remarks,
        [(
            "receivers.a.email_configs[0]".to_owned(),
            "html, headers.Subject, headers.To have no effect in this version".to_owned()
        )]
    );
}

#[test]
fn a_bot_of_slack_posts_by_the_api_with_its_token() {
    let prepared = good(
        "global: {slack_app_token: xoxb-global, slack_api_url: 'https://slack.com/api/chat.postMessage'}
receivers:
- name: a
  slack_configs:
  - {channel: '#1'}
  - {channel: '#2', app_token: xoxb-own}
  - {channel: '#3', app_url: 'http://api.example/'}
  - {channel: '#4', http_config: {authorization: {credentials: xoxb-http}}}
  - {api_url: 'https://hooks.example/T/B/X'}
",
    );
    let seen: Vec<_> = (0..5)
        .map(|index| {
            let slack = slack(&prepared, &format!("a/slack[{index}]"));
            let token = slack.headers.get("Authorization").map_or("", Secret::expose);
            (slack.webhook_url.expose(), token)
        })
        .collect();
    let api = "https://slack.com/api/chat.postMessage";
    assert_eq!(
        seen,
        [
            (api, "Bearer xoxb-global"),
            (api, "Bearer xoxb-own"),
            ("http://api.example/", "Bearer xoxb-global"),
            (api, "Bearer xoxb-http"),
            ("https://hooks.example/T/B/X", ""),
        ]
    );
}

#[test]
fn what_no_channel_delivers_is_judged_named_and_left_out() {
    let prepared = good(
        "global: {opsgenie_api_key: k}
receivers:
- name: pager
  pagerduty_configs: [{routing_key: k, details: {a: b}}]
  opsgenie_configs: [{}]
  webhook_configs:
  - {url: 'http://a/{{ .CommonLabels.team }}'}
  - {url: 'http://a/', http_config: {oauth2: {client_id: a, client_secret: b, token_url: 'http://c/'}}}
  - {url: 'http://b/', http_config: {proxy_url: 'http://p/'}}
  email_configs: [{to: '{{ .x }}', from: a@example.org, smarthost: 'm:25'}]
",
    );
    let undelivered: Vec<_> = prepared.receivers[0]
        .undelivered
        .iter()
        .map(|(entry, _)| entry.as_str())
        .collect();
    assert_eq!(
        undelivered,
        [
            "webhook_configs[0]",
            "webhook_configs[1]",
            "email_configs[0]",
            "opsgenie_configs[0]",
            "pagerduty_configs[0]"
        ]
    );
    assert_eq!(
        prepared.receivers[0].channels,
        [("pager/webhook[2]".to_owned(), true)]
    );
    let said = |field: &str| {
        let found = prepared.remarks.iter().find(|(known, _)| known == field);
        found.map(|(_, remark)| remark.as_str()).unwrap_or_default()
    };
    assert_eq!(
        said("receivers.pager.pagerduty_configs[0]"),
        "cannot be delivered: this version has no channel for pagerduty"
    );
    assert!(said("receivers.pager.webhook_configs[0]").contains("url is a template"));
    assert!(said("receivers.pager.webhook_configs[1]").contains("http_config.oauth2"));
    assert_eq!(
        said("receivers.pager.webhook_configs[2]"),
        "http_config.proxy_url has no effect in this version"
    );
}

#[test]
fn what_alertmanager_refuses_is_refused_with_its_key() {
    let receiver = |integration: &str| format!("receivers: [{{name: a, {integration}}}]");
    let check = |integration: &str, words: &str| refused(&receiver(integration), words);
    check(
        "webhook_configs: [{}]",
        "receivers.a.webhook_configs[0].url: is missing",
    );
    check(
        "webhook_configs: [{url: 'ftp://x/'}]",
        "webhook_configs[0].url: is no http",
    );
    check(
        "webhook_configs: [{url: 'http://x/', http_config: {bearer_token: a, basic_auth: {username: u}}}]",
        "http_config.bearer_token: give one of basic_auth and bearer_token",
    );
    check(
        "email_configs: [{smarthost: 'm:25', from: a@b.c}]",
        "email_configs[0].to: is missing",
    );
    check(
        "email_configs: [{to: a@b.c, from: a@b.c}]",
        "smarthost: is missing",
    );
    check(
        "email_configs: [{to: a@b.c, smarthost: 'm', from: a@b.c}]",
        "is no host:port",
    );
    check(
        "email_configs: [{to: a@b.c, smarthost: 'm:25'}]",
        "from: is missing",
    );
    check(
        "email_configs: [{to: a@b.c, smarthost: 'm:25', from: a@b.c, headers: {a: b, A: c}}]",
        "stands there twice",
    );
    check(
        "slack_configs: [{channel: '#a'}]",
        "slack_configs[0].api_url: is missing",
    );
    check(
        "slack_configs: [{api_url: 'http://x/', app_token: t}]",
        "not both",
    );
    check(
        "slack_configs: [{api_url: 'http://x/', update_message: true}]",
        "update_message: needs a bot",
    );
    check(
        "pagerduty_configs: [{}]",
        "pagerduty_configs[0].routing_key: is missing",
    );
    check("opsgenie_configs: [{}]", "global.opsgenie_api_key");
    check(
        "sns_configs: [{topic_arn: a, phone_number: b}]",
        "phone_number: give either",
    );
    check(
        "webex_configs: [{room_id: a}]",
        "webex_configs[0].http_config: authorization is missing",
    );
    check("telegram_configs: [{bot_token: t}]", "chat_id: is missing");
    check(
        "channels: [mail]",
        "receivers.a.channels: no channel is called \"mail\"",
    );
    refused(
        "receivers: [{name: a}, {name: a}]",
        "receivers[1].name: another receiver is called",
    );
    refused(
        "receivers: [{webhook_configs: []}]",
        "receivers[0].name: is missing",
    );
    refused(
        "global: {slack_api_url: 'http://x/', slack_app_token: t}",
        "global.slack_app_token: give either",
    );
    refused(
        "receivers: [{name: a, pagerduty_configs: [{routing_kye: k}]}]",
        "routing_kye",
    );
}

#[test]
fn a_channel_of_the_guide_that_no_receiver_names_is_remarked() {
    let prepared = good(
        "channels: {webhook: {url: 'http://a/'}, robot: {type: dingtalk, access_token: t}}
receivers: [{name: a, channels: [robot]}]",
    );
    assert_eq!(
        prepared.remarks,
        [(
            "channels.webhook".to_owned(),
            "is named by no receiver, so nothing is sent through it".to_owned()
        )]
    );
    // Without receivers all channels belong to one, as ever.
    assert!(
        good("channels: {webhook: {url: 'http://a/'}}")
            .receivers
            .is_empty()
    );
}

#[test]
fn no_integration_takes_a_name_that_the_guide_has_given() {
    refused(
        "channels: {'a/webhook[0]': {type: webhook, url: 'http://a/'}}
receivers: [{name: a, channels: ['a/webhook[0]'], webhook_configs: [{url: 'http://b/'}]}]",
        "channels.a/webhook[0]: a receiver's integration is called",
    );
}

#[test]
fn while_nothing_is_sent_receivers_have_no_channels_but_are_judged() {
    let yaml = "enabled: false\nreceivers: [{name: a, webhook_configs: [{url: 'http://a/'}]}]";
    let prepared = good(yaml);
    assert!(prepared.channels.is_empty() && prepared.receivers[0].channels.is_empty());
    refused(
        "enabled: false\nreceivers: [{name: a, webhook_configs: [{}]}]",
        "is missing",
    );
}
