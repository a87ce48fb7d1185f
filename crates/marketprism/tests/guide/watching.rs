//! What the guide's reader watches: health, metrics, log.

use std::fs;

use marketprism_testkit::is_true_within;
use serde_json::Value;

use crate::compose::host;
use crate::guide::{items, quoted, step};
use crate::program::PATIENCE;
use crate::settings::Settings;
use crate::web::figure;

#[test]
fn endpoints_and_metrics_of_the_guide_answer_without_a_token() {
    let host = host(Settings::of_the_guide().at_a_quick_pace());
    // What begins to fire is counted; at the beginning nothing has.
    host.lay("config/rules.yaml", "groups: []\n");
    host.up();
    for item in items("监控和健康检查 / 健康检查端点") {
        let path = quoted(&item).strip_prefix("GET ").expect("a method and a path");
        let (status, body) = host.get(path);
        assert_eq!(status, 200, "{item}: {body}");
    }
    let names: Vec<String> = items("监控和健康检查 / 监控指标")
        .iter()
        .map(|item| quoted(item).to_owned())
        .collect();
    let metrics = || host.get("/metrics").1;
    for name in &names {
        let text = metrics();
        assert!(figure(&text, name, &[]).is_some(), "no series {name} in\n{text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let [total, active, _, sent] = &names[..] else {
        panic!("four metrics: {names:?}");
    };
    let now = |name: &str, labels: &[&str]| figure(&metrics(), name, labels).unwrap_or(0.0);
    let high = ["level=\"high\""];
    let firing = ["level=\"high\"", "state=\"firing\""];
    let (alerts, active_before, attempts) = (now(total, &high), now(active, &firing), now(sent, &[]));

    host.lay("config/rules.yaml", crate::compose::RULES);
    host.wait_for_alert("GuideAlert");
    assert_eq!(now(total, &high), alerts + 1.0);
    assert_eq!(now(active, &firing), active_before + 1.0);
    let is_counted = is_true_within(PATIENCE, || now(sent, &[]) > attempts);
    assert!(is_counted, "{}", metrics());
}

#[test]
fn log_lines_hold_the_fields_of_the_guide_in_its_order() {
    let block = step("监控和健康检查 / 日志配置").text;
    let section: Value = serde_saphyr::from_str(&block).expect("YAML");
    let fields = section["logging"]["structured_fields"]
        .as_array()
        .expect("a list");
    let fields: Vec<&str> = fields.iter().map(|field| field.as_str().expect("text")).collect();
    let host = host(Settings::of_the_guide());
    host.up();
    host.wait_for_alert("GuideAlert");
    let log = host.log();
    assert!(log.lines().count() > 5, "{log}");
    for line in log.lines() {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(fields.iter().all(|field| read[field].is_string()), "{line}");
        // The order is lost once a line is read as JSON, so it is looked for in the text.
        let mut rest = line.strip_prefix('{').expect("an object");
        for field in &fields {
            let value = serde_json::to_string(&read[field]).expect("it was JSON");
            let expected = format!("\"{field}\":{value}");
            rest = rest
                .strip_prefix(&expected)
                .unwrap_or_else(|| panic!("{expected} is not in its place: {line}"));
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
}

#[test]
fn the_log_has_what_the_guide_looks_for() {
    let host = host(Settings::of_the_guide());
    host.lay("config/broken.yaml", "groups: [{");
    let text = fs::read_to_string(host.app().join("config/config.yaml")).expect("laid");
    host.configure(&Settings(text).replace("rule_files: [", "rule_files: [broken.yaml, "));
    host.up();
    let alert = host.wait_for_alert("GuideAlert");

    let said = host.run_well(&step("常见问题 / 1. 服务启动失败"));
    assert!(said.contains("\"message\":\"ready\""), "{said}");
    assert!(said.contains("marketprism/monitoring-alerting:latest"), "{said}");

    let said = host.run_well(&step("故障排除 / 日志分析"));
    let lines: Vec<&str> = said
        .lines()
        .map(|line| line.strip_prefix("monitoring-alerting  | ").unwrap_or(line))
        .collect();
    let (stats, found) = lines.split_last().expect("three commands have said something");
    let found: Vec<Value> = found
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let (errors, created): (Vec<&Value>, Vec<&Value>) =
        found.iter().partition(|line| line["level"] == "ERROR");
    assert!(
        errors.iter().any(|line| line.to_string().contains("broken.yaml")),
        "{errors:?}"
    );
    let of_ours: Vec<&&Value> = created
        .iter()
        .filter(|line| line["alert_id"] == alert["id"])
        .collect();
    assert_eq!(of_ours.len(), 1, "{created:?}");
    assert_eq!(of_ours[0]["message"], "创建告警");
    let stats: Value = serde_json::from_str(stats).expect("the figures in JSON");
    assert!(
        stats["queues"].is_object() && stats["cache"].is_object(),
        "{stats}"
    );
}
