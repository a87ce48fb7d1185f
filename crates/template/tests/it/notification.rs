//! Templates as Alertmanager users write them.

use marketprism_model::{Labels, Timestamp};
use marketprism_template::{Dialect, Environment, Limits, Template, Value};

fn alert(status: &str, name: &str, instance: &str) -> Value {
    Value::record(
        "template.Alert",
        [
            ("Status", status.into()),
            (
                "Labels",
                Value::Pairs(Labels::from_pairs([
                    ("alertname", name),
                    ("instance", instance),
                    ("a", "0"),
                ])),
            ),
            (
                "Annotations",
                Value::Pairs(Labels::from_pairs([("summary", "<b>")])),
            ),
            ("StartsAt", Value::time(Timestamp::from_millis(1_704_164_645_500))),
        ],
    )
}

fn expand(text: &str) -> String {
    let (firing, resolved) = (alert("firing", "Down", "h1"), alert("resolved", "Down", "h2"));
    let alerts = Value::list_with(
        "template.Alerts",
        [firing.clone(), resolved.clone()],
        [
            ("Firing", Value::list_with("[]template.Alert", [firing], [])),
            ("Resolved", Value::list_with("[]template.Alert", [resolved], [])),
        ],
    );
    let data = Value::record(
        "*template.Data",
        [
            ("Receiver", "team".into()),
            ("Status", "firing".into()),
            ("Alerts", alerts),
            (
                "GroupLabels",
                Value::Pairs(Labels::from_pairs([("alertname", "Down")])),
            ),
            (
                "CommonLabels",
                Value::Pairs(Labels::from_pairs([("alertname", "Down"), ("a", "0")])),
            ),
            ("ExternalURL", "http://localhost:8082".into()),
        ],
    );
    let environment = Environment {
        now: Timestamp::from_millis(1_704_164_705_500),
        external_url: "http://localhost:8082",
        queries: None,
    };
    let definitions = [
        (
            "default.tmpl",
            "{{ define \"subject\" }}[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .Alerts.Firing | len }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join \" \" }}{{ end }}",
        ),
        (
            "own.tmpl",
            "{{ define \"rest\" }}{{ if gt (len .CommonLabels) (len .GroupLabels) }}({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}){{ end }}{{ end }}",
        ),
    ];
    Template::parse(Dialect::Alertmanager, "test", text, &definitions)
        .and_then(|template| template.execute(&data, &environment, &Limits::default()))
        .unwrap_or_else(|error| format!("error: {error}"))
}

// Expected texts calculated by hand from the documentation of Alertmanager's templates.
#[test]
fn notification_templates_expand_as_documented() {
    let check = |text: &str, expanded: &str| assert_eq!(expand(text), expanded, "{text}");
    check(
        "{{ template \"subject\" . }} {{ template \"rest\" . }}",
        "[FIRING:1] Down (0)",
    );
    check(
        "{{ range .Alerts }}{{ .Status }} {{ .Labels.instance }}[{{ .Labels.nope }}] {{ end }}",
        "firing h1[] resolved h2[] ",
    );
    check(
        "{{ range .Alerts.Firing }}{{ range .Labels.SortedPairs }}{{ .Name }}={{ .Value }} {{ end }}{{ end }}",
        "alertname=Down a=0 instance=h1 ",
    );
    check(
        "{{ (index .Alerts 0).StartsAt.Format \"2006-01-02 15:04:05\" }} {{ (index .Alerts 0).StartsAt | tz \"Asia/Shanghai\" | date \"15:04:05 MST\" }}",
        "2024-01-02 03:04:05 11:04:05 CST",
    );
    check(
        "{{ (index .Alerts 0).StartsAt | since }} {{ since (index .Alerts 0).StartsAt | humanizeDuration }}",
        "1m0s 1m 0s",
    );
    check(
        "{{ title \"hELLO wORLD\" }} {{ trimSpace \" a \" }} {{ stringSlice \"a\" \"b\" | join \"-\" }}",
        "Hello World a a-b",
    );
    check(
        "{{ .CommonLabels | toJson }} {{ toJson (index .Alerts 0).Annotations }}",
        "{\"a\":\"0\",\"alertname\":\"Down\"} {\"summary\":\"\\u003cb\\u003e\"}",
    );
    check(
        "{{ (.CommonLabels.Remove (stringSlice \"a\")).Names }}",
        "[alertname]",
    );
    check(
        "{{ .Alerts.Nope }}",
        "error: template: test:1:10: executing \"test\" at <.Alerts.Nope>: can't evaluate field Nope in type template.Alerts",
    );
    check(
        "{{ query \"up\" }}",
        "error: template: test:1: function \"query\" not defined",
    );
    check(
        "{{ tz \"Nowhere/Land\" (index .Alerts 0).StartsAt }}",
        "error: template: test:1:3: executing \"test\" at <tz \"Nowhere/Land\" (index .Alerts 0).StartsAt>: error calling tz: unknown time zone Nowhere/Land",
    );
}

#[test]
fn an_empty_definition_does_not_replace_a_full_one() {
    let definitions = [
        ("a", "{{ define \"x\" }}first{{ end }}"),
        ("b", "{{ define \"x\" }}second{{ end }}"),
        ("c", "{{ define \"x\" }} \n {{ end }}"),
    ];
    let template = Template::parse(Dialect::Alertmanager, "t", "{{ template \"x\" }}", &definitions).unwrap();
    let environment = Environment {
        now: Timestamp::from_millis(0),
        external_url: "",
        queries: None,
    };
    assert_eq!(
        template
            .execute(&Value::Nil, &environment, &Limits::default())
            .unwrap(),
        "second"
    );
}
