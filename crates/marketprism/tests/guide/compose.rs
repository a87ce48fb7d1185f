//! The guide's first way: Docker. And its upgrade.

use std::fs;

use serde_json::Value;

use crate::guide::{read, step};
use crate::host::Host;
use crate::settings::{Settings, VARIABLES};

/// A rule that fires at once, and no noise beside it.
pub const RULES: &str = "
groups:
  - name: guide
    interval: 1s
    rules:
      - alert: GuideAlert
        expr: vector(95) > 90
        labels: {severity: high}
        annotations: {summary: a queue is long}
";

/// A machine with the guide's configuration, its compose file, its variables and one alert.
pub fn host(settings: Settings) -> Host {
    let mut host = Host::new(&settings.with_rules("rules.yaml"));
    host.lay("config/rules.yaml", RULES);
    host.lay(
        "docker-compose.yml",
        &step("方式一：Docker部署（推荐） / 2. 创建配置文件").text,
    );
    host.set(&VARIABLES);
    host.set(&[("SLACK_WEBHOOK_URL", "")]);
    host
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

#[test]
fn the_service_is_built_started_and_shown() {
    let host = host(Settings::of_the_guide());
    let build = step("方式一：Docker部署（推荐） / 1. 构建Docker镜像");
    host.run_well(&build);

    // The reader's file says what the functions of the test do in its place.
    let theirs = yaml(&step("方式一：Docker部署（推荐） / 2. 创建配置文件").text);
    let service = &theirs["services"]["monitoring-alerting"];
    let image = service["image"].as_str().expect("the service has an image");
    assert!(
        build.text.contains(&format!("docker build -t {image} .")),
        "{image}"
    );
    let variables: Vec<String> = host
        .handed_on
        .iter()
        .map(|name| format!("{name}=${{{name}}}"))
        .collect();
    let mut given: Vec<&str> = service["environment"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| variable.as_str().expect("text"))
        .collect();
    given.sort_unstable();
    let mut expected: Vec<&str> = variables.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(given, expected);
    let volumes = serde_json::json!(["./config:/app/config", "./logs:/app/logs"]);
    assert_eq!(service["volumes"], volumes);
    assert_eq!(service["ports"], serde_json::json!(["8082:8082"]));
    let dockerfile = read("Dockerfile");
    let words = service["healthcheck"]["test"].as_array().expect("words").iter();
    let words: Vec<String> = words.skip(1).map(Value::to_string).collect();
    let test = format!("CMD [{}]", words.join(", "));
    assert!(
        dockerfile.contains(&test),
        "the image has the health check {test}"
    );

    let said = host.run_well(&step("方式一：Docker部署（推荐） / 3. 启动服务"));
    assert!(said.contains("monitoring-alerting   Up"), "{said}");
    assert!(said.contains("\"message\":\"listening\""), "{said}");
    host.wait_until_ready();
    assert_eq!(host.get("/health").0, 200, "what the health check asks");
}

#[test]
fn without_any_variable_the_compose_file_starts_the_shipped_configuration() {
    let mut host = Host::new(&Settings(read("config/config.yaml")));
    // docker-compose hands on a variable that is not set as an empty one.
    let names = [
        "SMTP_USERNAME",
        "SMTP_PASSWORD",
        "SLACK_WEBHOOK_URL",
        "JWT_SECRET",
    ];
    host.set(&names.map(|name| (name, "")));
    host.run_well(&step("方式一：Docker部署（推荐） / 3. 启动服务"));
    host.wait_until_ready();
    let secret = fs::read_to_string(host.app().join("data/jwt_secret"));
    assert!(secret.is_ok_and(|secret| secret.len() > 32), "a secret was made");
}

#[test]
fn an_upgrade_keeps_the_alerts() {
    let host = host(Settings::of_the_guide());
    host.up();
    let before = host.wait_for_alert("GuideAlert");
    let starts = || host.log().matches("\"message\":\"listening\"").count();
    assert_eq!(starts(), 1);

    let said = host.run_well(&step("升级指南 / 版本升级"));
    assert_eq!(starts(), 2, "the service was started anew");
    let health: Value = serde_json::from_str(&said).expect("the health in JSON alone");
    assert_eq!(health["status"], "healthy", "{said}");
    let text = |path: &str| fs::read_to_string(host.app().join(path)).expect("a file");
    assert_eq!(text("config-backup/config.yaml"), text("config/config.yaml"));
    host.wait_until_ready();
    let after = host.wait_for_alert("GuideAlert");
    assert!(
        before["id"].is_string() && before["fired_at"].is_string(),
        "{before}"
    );
    assert_eq!(
        (&before["id"], &before["fired_at"]),
        (&after["id"], &after["fired_at"]),
        "{after}"
    );
}
