//! What `notification_manager` may say in Alertmanager's words, here and in a file of its own.

use std::time::Duration;

use super::*;

/// Reads a configuration beside which one other file stands.
fn load_with(text: &str, other: Option<&str>) -> Result<Loaded, ConfigError> {
    let other = other.map(str::to_owned);
    parse(&Source {
        text,
        name: "config.yaml",
        folder: Path::new("/etc/marketprism"),
        data_dir: Path::new("data"),
        variable: &|name| (name == "TEAM").then(|| "db".to_owned()),
        read_secret: &|path| match path.to_str() {
            Some("/etc/am/hook" | "/etc/marketprism/hook") => Ok("http://hook.example/hunter2".to_owned()),
            _ => Err("no such file".to_owned()),
        },
        read_text: &|path| match (path.to_str(), &other) {
            (Some("/etc/am/alertmanager.yml"), Some(text)) => Ok(text.clone()),
            _ => Err("no such file".to_owned()),
        },
    })
}

#[track_caller]
fn good(text: &str, other: Option<&str>) -> Loaded {
    load_with(text, other).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn told(text: &str, other: Option<&str>) -> Vec<String> {
    let error = load_with(text, other).err().expect("a faulty text");
    error.to_string().lines().map(str::to_owned).collect()
}

fn channels(loaded: &Loaded, receiver: &str) -> Vec<String> {
    let receivers = &loaded.alerts.receivers;
    let receiver = receivers.iter().find(|known| known.name == receiver);
    let channels = receiver.map(|receiver| receiver.channels.iter().map(|channel| channel.name.clone()));
    channels.expect("the receiver is there").collect()
}

const INCLUDING: &str = "notification_manager: {alertmanager_config: /etc/am/alertmanager.yml}\n";

const TREE: &str = "global: {resolve_timeout: 7m}
route:
  receiver: ops
  routes:
  - matchers: [severity=\"critical\"]
    receiver: pager
    continue: true
    mute_time_intervals: [nights]
  - match: {team: db}
    receiver: db
receivers:
- name: ops
  webhook_configs: [{url_file: hook}]
- name: db
  slack_configs: [{api_url: 'http://slack.example/', channel: '#db'}]
- name: pager
  pagerduty_configs: [{routing_key: k}]
inhibit_rules:
- {source_matchers: ['severity=\"critical\"'], target_matchers: ['severity=\"high\"'], equal: [alertname]}
time_intervals:
- {name: nights, time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}], location: Asia/Shanghai}]}
";

#[test]
fn without_receivers_all_channels_belong_to_one_and_groups_are_by_alertname() {
    let hook = "channels: {webhook: {url: 'http://a/'}}";
    for route in ["", "route: {group_wait: 10s},", "route: {receiver: team},"] {
        let loaded = good(&format!("notification_manager: {{{route} {hook}}}\n"), None);
        let name = if route.contains("team") { "team" } else { "default" };
        assert_eq!(channels(&loaded, name), ["webhook"], "{route}");
        assert_eq!(
            loaded.alerts.route.group_by,
            Some(vec!["alertname".to_owned()]),
            "{route}"
        );
    }
}

#[test]
fn with_receivers_what_the_root_leaves_out_is_as_alertmanager_has_it() {
    let text = "notification_manager:\n  route: {receiver: a}\n  receivers: [{name: a}]\n";
    assert_eq!(good(text, None).alerts.route.group_by, None);
}

#[test]
fn a_file_of_alertmanagers_is_the_same_as_its_sections_below_the_key() {
    let indented = TREE.replace('\n', "\n  ");
    let text = format!("notification_manager:\n  {}\n", indented.trim_end());
    let (here, there) = (good(&text, None), good(INCLUDING, Some(TREE)));
    assert_eq!(here.alerts, there.alerts);
    assert_eq!(here.channels.channels, there.channels.channels);
    assert_eq!(there.alerts.resolve_timeout, Duration::from_secs(420));
    assert_eq!(channels(&there, "ops"), ["ops/webhook[0]"]);
    assert_eq!(there.alerts.inhibit_rules.len(), 1);
    let watched: Vec<_> = there
        .watched
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    // Paths start from the folder of the file that names them.
    assert_eq!(watched, ["/etc/am/alertmanager.yml", "/etc/am/hook"]);
}

#[test]
fn what_cannot_be_delivered_is_named_and_goes_to_the_fallback_receiver() {
    let remarks = |loaded: &Loaded| loaded.remarks.join("\n");
    let lost = good(INCLUDING, Some(TREE));
    assert!(channels(&lost, "pager").is_empty());
    let said = remarks(&lost);
    for words in [
        "/etc/am/alertmanager.yml:16: receivers.pager LOSES WHAT IS SENT TO IT: pagerduty_configs[0]",
        "/etc/am/alertmanager.yml:17: receivers.pager.pagerduty_configs[0] cannot be delivered",
    ] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
    let text =
        "notification_manager: {alertmanager_config: /etc/am/alertmanager.yml, fallback_receiver: ops}\n";
    let caught = good(text, Some(TREE));
    assert_eq!(channels(&caught, "pager"), ["ops/webhook[0]"]);
    let stand_ins = |name: &str| -> Vec<Option<&str>> {
        let receiver = caught.alerts.receivers.iter().find(|known| known.name == name);
        let channels = &receiver.expect("it is there").channels;
        channels
            .iter()
            .map(|channel| channel.stands_in_for.as_deref())
            .collect()
    };
    assert_eq!(stand_ins("pager"), [Some("pagerduty_configs[0]")]);
    assert_eq!(stand_ins("ops"), [None]);
    assert_eq!(caught.alerts.fallback_receiver.as_deref(), Some("ops"));
    let said = remarks(&caught);
    assert!(
        said.contains("fallback_receiver \"ops\" gets its messages, too"),
        "{said}"
    );
}

#[test]
fn what_stands_in_both_files_is_a_fault_that_says_where() {
    let text = "notification_manager:
  alertmanager_config: /etc/am/alertmanager.yml
  route: {receiver: ops}
";
    assert_eq!(
        told(text, Some(TREE)),
        [
            "config.yaml:3:3: notification_manager.route: stands in the file of alertmanager_config too, at line 2; keep one of them"
        ]
    );
}

#[test]
fn faults_of_the_other_file_name_that_file_its_line_and_its_key() {
    let other = "global: {resolv_timeout: 1m}
route:
  receiver: opps
  routes:
  - {matchers: ['a=~\"(\"'], mute_time_intervals: [night]}
receivers:
- name: ops
  webhook_configs: [{url: 'http://a/', max_alert: 3}]
- name: db
  email_configs: [{to: a@b.c}]
recievers: []
time_intervals: [{name: nights, time_intervals: [{times: [{start_time: '25:00', end_time: '26:00'}]}]}]
";
    let told = told(INCLUDING, Some(other));
    let file = "/etc/am/alertmanager.yml";
    for words in [
        "1:10: global.resolv_timeout: unknown key; did you mean `resolve_timeout`?",
        "3:13: route.receiver: no receiver is called \"opps\"",
        "5:17: route.routes[0].matchers[0]: ",
        "route.routes[0].mute_time_intervals[0]: no time interval is called \"night\"",
        "8:40: receivers.ops.webhook_configs[0].max_alert: unknown key; did you mean `max_alerts`?",
        "10:19: receivers.db.email_configs[0].smarthost: is missing",
        "11:1: recievers: unknown key; did you mean `receivers`?",
    ] {
        assert!(
            told.iter()
                .any(|line| line.starts_with(file) && line.contains(words)),
            "{words:?} is missing in {told:#?}"
        );
    }
    assert!(
        told.iter()
            .any(|line| line.contains("25:00") && line.starts_with(file)),
        "{told:#?}"
    );
    assert_eq!(told.len(), 8, "{told:#?}");
}

#[test]
fn a_file_that_is_not_there_is_one_fault() {
    let text = "notification_manager: {alertmanager_config: am.yml, fallback_receiver: ops}\n";
    assert_eq!(
        told(text, None),
        ["config.yaml:1:45: notification_manager.alertmanager_config: /etc/marketprism/am.yml: no such file"]
    );
    assert_eq!(
        told(INCLUDING, Some("receivers: []\n")),
        ["/etc/am/alertmanager.yml:1:1: route: is missing"]
    );
    assert!(told(INCLUDING, Some("route: {receiver: [\n"))[0].starts_with("/etc/am/alertmanager.yml:"));
}

#[test]
fn variables_fill_the_other_file_too_and_a_missing_one_is_told_there() {
    let other = "route: {receiver: '${TEAM}'}\nreceivers: [{name: db}]\n";
    assert_eq!(
        good(INCLUDING, Some(other)).alerts.route.receiver.as_deref(),
        Some("db")
    );
    let other = "route: {receiver: db}\nreceivers: [{name: db, webhook_configs: [{url: '${NONE}'}]}]\n";
    let said = told(INCLUDING, Some(other));
    assert!(
        said[0].contains(
            "alertmanager.yml:2:48: receivers.db.webhook_configs[0].url: environment variable NONE"
        ),
        "{said:?}"
    );
}

#[test]
fn older_intervals_are_judged_at_their_own_key() {
    let text = "notification_manager:
  route: {receiver: a, routes: [{mute_time_intervals: [x, y]}]}
  receivers: [{name: a}]
  time_intervals: [{name: x}]
  mute_time_intervals:
  - name: y
    time_intervals: [{weekdays: ['someday']}]
";
    let said = told(text, None);
    assert!(
        said.len() == 1 && said[0].starts_with("config.yaml:7:") && said[0].contains("mute_time_intervals"),
        "{said:?}"
    );
}

#[test]
fn storms_and_flapping_are_on_unless_they_are_switched_off_and_limits_are_named() {
    let alerts = good("", None).alerts;
    assert_eq!((alerts.storm.threshold, alerts.flapping.threshold), (50, 5));
    let alerts = good(
        "notification_manager: {storm: {window: 2m}, flapping: {threshold: 0}}\n",
        None,
    )
    .alerts;
    assert_eq!(
        (alerts.storm.threshold, alerts.storm.window),
        (50, Duration::from_secs(120))
    );
    assert_eq!(alerts.flapping.threshold, 0);
    assert_eq!(
        told("notification_manager: {storm: {window: 2d}}\n", None),
        ["config.yaml:1:40: notification_manager.storm.window: 2d is out of range; use 1s to 1h"]
    );
    let said = told("notification_manager: {fallback_receiver: ops}\n", None);
    assert!(
        said[0].contains("notification_manager.fallback_receiver: no receiver is called \"ops\""),
        "{said:?}"
    );
}

#[test]
fn a_file_of_alertmanagers_in_our_place_is_told_as_one() {
    let text = format!("{TREE}templates: []\nlogging: {{levle: info}}\n");
    let said = told(&text, None);
    let reason = "config.yaml:2:1: route: looks like an alertmanager.yml; name that file in \
                  notification_manager.alertmanager_config";
    assert!(said.len() == 2 && said[0].starts_with(reason), "{said:#?}");
    // What is our own stays judged.
    assert!(said[1].contains("logging.levle: unknown key"), "{said:#?}");
    let said = told("receivers: []\n", None);
    assert!(said[0].contains("receivers: unknown key"), "{said:?}");
}

#[test]
fn who_is_counted_on_and_reached_by_nothing_is_named() {
    let text = "notification_manager:
  route: {receiver: ops, escalation: e}
  receivers:
  - {name: ops, webhook_configs: [{url: 'http://a/'}]}
  - {name: nobody}
  escalation_policies:
  - name: e
    steps:
    - {after: 5m, notify: [ops, nobody]}
  schedules:
  - name: s
    time_zone: UTC
    layers:
    - {participants: [ops, [nobody, ops]], rotation: daily, starts: 2026-01-01}
";
    let said = good(text, None).remarks;
    let words = "is \"nobody\", a receiver without a channel in use: nobody is reached";
    assert_eq!(
        said,
        [
            format!("config.yaml:9: notification_manager.escalation_policies.e.steps[0].notify[1] {words}"),
            format!("config.yaml:14: notification_manager.schedules.s.layers[0].participants[1] {words}"),
        ]
    );
}
