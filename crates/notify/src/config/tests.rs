use super::*;

fn read(yaml: &str) -> Result<Config, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn prepare(yaml: &str, environment: &[(&str, &str)]) -> Result<Prepared, Vec<String>> {
    let lookup = |name: &str| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    read(yaml)
        .map_err(|error| vec![error])?
        .prepare(&lookup)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn email(prepared: &Prepared) -> &EmailConfig {
    match &prepared.channels["email"] {
        ChannelConfig::Email(email) => email,
        other => panic!("{other:?}"),
    }
}

const LOGIN: [(&str, &str); 2] = [("SMTP_USERNAME", "ops@example.org"), ("SMTP_PASSWORD", "hunter2")];

#[test]
fn the_deployment_guides_sections_are_complete_with_the_environment() {
    let prepared = prepare(
        "enabled: true\nchannels:\n  email:\n    enabled: true\n    smtp_server: smtp.gmail.com\n    smtp_port: 587\n",
        &LOGIN,
    );
    let prepared = prepared.expect("the guide's example");
    let email = email(&prepared);
    assert_eq!(email.username.as_deref(), Some("ops@example.org"));
    assert_eq!(email.password.as_ref().map(Secret::expose), Some("hunter2"));
    assert_eq!(email.from.as_deref(), Some("ops@example.org"));
    assert_eq!(email.to.0, ["ops@example.org"]);
    assert_eq!(prepared.channel_names().collect::<Vec<_>>(), [("email", true)]);
}

#[test]
fn a_missing_slack_url_turns_the_channel_off_with_one_warning() {
    let prepared = prepare(
        "channels: {slack: {enabled: true, webhook_url: \"\", channel: \"#alerts\"}}",
        &[],
    );
    let prepared = prepared.expect("optional");
    assert!(prepared.channels.is_empty());
    assert_eq!(
        prepared.warnings,
        ["notification_manager.channels.slack is off: webhook_url is empty; is SLACK_WEBHOOK_URL set?"]
    );
}

#[test]
fn missing_smtp_variables_of_an_enabled_section_are_faults() {
    let yaml = "channels: {email: {smtp_server: mail.example.org}}";
    let errors = prepare(yaml, &[]).expect_err("nobody to log in as");
    assert_eq!(
        errors,
        [
            "notification_manager.channels.email.username: is missing; set SMTP_USERNAME, or write \"\" for a server without login"
        ]
    );
    let errors = prepare(yaml, &LOGIN[..1]).expect_err("no password");
    assert_eq!(
        errors,
        ["notification_manager.channels.email.password: is missing; set SMTP_PASSWORD"]
    );
    let off = "channels: {email: {enabled: false}}";
    assert!(prepare(off, &[]).expect("off").channels.is_empty());
}

#[test]
fn several_channels_of_one_kind_have_names_of_their_own() {
    let prepared = prepare(
        "channels:
  oncall: {type: dingtalk, access_token: abc, secret: SECx, send_resolved: false}
  everyone: {type: dingtalk, webhook_url: 'https://oapi.dingtalk.com/robot/send?access_token=def'}
",
        &[],
    );
    let prepared = prepared.expect("two robots");
    assert_eq!(
        prepared.channel_names().collect::<Vec<_>>(),
        [("everyone", true), ("oncall", false)]
    );
    let ChannelConfig::DingTalk(robot) = &prepared.channels["oncall"] else {
        panic!("a robot")
    };
    assert_eq!(
        robot.webhook_url.expose(),
        "https://oapi.dingtalk.com/robot/send?access_token=abc"
    );
}

#[test]
fn unknown_keys_kinds_zones_and_addresses_are_refused_by_name() {
    let check = |yaml: &str, expected: &str| {
        let errors = prepare(yaml, &LOGIN).expect_err(yaml).join("\n");
        assert!(errors.contains(expected), "{yaml}: {errors}");
    };
    check(
        "channels: {slack: {webhook_uri: x}}",
        "unknown field `webhook_uri`",
    );
    check("chanels: {}", "unknown field `chanels`");
    check("channels: {pager: {url: x}}", "type");
    check("channels: {pager: {type: pigeon}}", "unknown variant `pigeon`");
    check(
        "channels: {mine: {type: slack, webhook_uri: x}}",
        "unknown field `webhook_uri`",
    );
    check(
        "channels: {slack: {type: webhook}}",
        "channels.slack.type: the name \"slack\" means \"slack\"",
    );
    check(
        "channels: {slack: {time_zone: Asia/Pekin}}",
        "unknown time zone \"Asia/Pekin\"",
    );
    check("channels: {slack: {language: fr}}", "unknown variant `fr`");
    check(
        "channels: {email: {smtp_server: x, to: nobody}}",
        "channels.email.to: \"nobody\" is no mail address",
    );
    check(
        "channels: {slack: {webhook_url: 'ftp://x/secret-token'}}",
        "channels.slack.webhook_url: is no http or https URL",
    );
    check(
        "channels: {webhook: {url: 'http://x', headers: {'a b': c}}}",
        "\"a b\" is no header",
    );
    check("channels: {slack: {timeout: 1h}}", "1h is not within");
    check("max_workers: 0", "max_workers: 0 is not within");
}

#[test]
fn timeouts_are_seconds_or_durations_and_recipients_a_text_or_a_list() {
    let yaml = |timeout: &str, to: &str| {
        format!("channels: {{email: {{smtp_server: x, timeout: {timeout}, to: {to}}}}}")
    };
    let check = |timeout: &str, seconds, to: &str, recipients: &[&str]| {
        let prepared = prepare(&yaml(timeout, to), &LOGIN).expect(timeout);
        assert_eq!(email(&prepared).timeout, Duration::from_secs(seconds));
        assert_eq!(email(&prepared).to.0, recipients);
    };
    check("15", 15, "\"a@x.org, b@x.org\"", &["a@x.org", "b@x.org"]);
    check("1m30s", 90, "[\"On call <a@x.org>\"]", &["On call <a@x.org>"]);
}

#[test]
fn secrets_are_never_written() {
    let config = read(
        "channels: {slack: {webhook_url: 'https://hooks.slack.com/services/T/B/XYZZY'}, webhook: {url: 'http://x/XYZZY', headers: {k: XYZZY}, secret: XYZZY}}",
    );
    let config = config.expect("well-formed");
    let written = serde_json::to_string(&config).expect("a configuration is JSON");
    assert!(!written.contains("XYZZY"), "{written}");
    assert!(!format!("{config:?}").contains("XYZZY"));
}

#[test]
fn the_default_enables_no_channel() {
    assert!(prepare("{}", &[]).expect("defaults work").channels.is_empty());
}
