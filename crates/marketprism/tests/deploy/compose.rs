//! The compose file, resolved by docker-compose itself, beside the guide's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::files::{document, root};
use crate::guide::{assert_contains, block};

/// The variables of the guide.
const VARIABLES: [&str; 4] = [
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "SLACK_WEBHOOK_URL",
    "JWT_SECRET",
];

/// Resolves a compose file as if it stood at the top of the tree; gives it and what was complained about.
fn resolve(file: &Path, variables: &[(&str, &str)]) -> (Value, String) {
    // Not the `.env` that happens to stand in the tree.
    let no_variables = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("docker-compose");
    command.arg("--env-file").arg(no_variables.path());
    command.arg("--project-directory").arg(root());
    command.arg("--file").arg(file).arg("config");
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").expect("a search path"));
    command.envs(variables.iter().copied());
    let output = command
        .output()
        .expect("docker-compose is there; run: apt-get install docker-compose");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {complaint}", file.display());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (document("docker-compose config", &text), complaint)
}

/// Gives our compose file, resolved without any variable set.
pub fn ours() -> Value {
    let (resolved, complaint) = resolve(&root().join("docker-compose.yml"), &[]);
    assert_eq!(complaint, "", "no variable is required");
    resolved
}

/// Gives a service's environment.
pub fn environment(service: &Value) -> Vec<(String, String)> {
    let variables = service["environment"].as_object().expect("variables");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    variables
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Gives a service's volumes: source, place inside.
pub fn volumes(service: &Value) -> Vec<(String, String)> {
    let volumes = service["volumes"].as_array().expect("volumes").iter();
    let parts = volumes.map(|volume| {
        volume
            .as_str()
            .expect("the short form")
            .split(':')
            .collect::<Vec<_>>()
    });
    parts
        .map(|parts| (parts[0].to_owned(), parts[1].to_owned()))
        .collect()
}

#[test]
fn our_compose_file_holds_everything_that_the_guides_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("docker-compose.yml");
    fs::write(&file, block("yaml", "grafana-storage:/var/lib/grafana")).expect("write the guide's file");
    let variables: Vec<(&str, &str)> = VARIABLES.iter().map(|name| (*name, "value")).collect();
    let (mut theirs, complaint) = resolve(&file, &variables);
    assert_eq!(complaint, "");
    let (ours, complaint) = resolve(&root().join("docker-compose.yml"), &variables);
    assert_eq!(complaint, "");

    // The guide leaves the writing of prometheus.yml to the reader; ours stands in deploy/ and cannot be written.
    let theirs_of_prometheus = theirs["services"]["prometheus"]
        .as_object_mut()
        .expect("the guide has it");
    theirs_of_prometheus.remove("volumes");
    let laid = volumes(&ours["services"]["prometheus"]);
    assert!(
        laid.iter()
            .any(|(_, inside)| inside == "/etc/prometheus/prometheus.yml"),
        "{laid:?}"
    );
    assert_contains(&ours, &theirs, "docker-compose.yml");
    assert_eq!(
        ours["services"]["monitoring-alerting"]["container_name"],
        "monitoring-alerting"
    );
    assert_eq!(
        ours["services"]["monitoring-alerting"]["build"]["context"],
        root().to_str().expect("UTF-8")
    );
}

#[test]
fn variables_of_the_reader_reach_the_service() {
    let values = [
        ("SMTP_USERNAME", "ops@example.com"),
        ("LOG_LEVEL", "DEBUG"),
        ("JWT_SECRET", "a b$c"),
    ];
    let (resolved, _) = resolve(&root().join("docker-compose.yml"), &values);
    let environment = environment(&resolved["services"]["monitoring-alerting"]);
    for (name, value) in values {
        // docker-compose doubles the dollar sign of what it has resolved.
        let value = value.replace('$', "$$");
        assert!(environment.contains(&(name.to_owned(), value)), "{environment:?}");
    }
}

#[test]
fn whatever_the_compose_file_mounts_stands_in_the_tree() {
    let ours = ours();
    let services = ours["services"].as_object().expect("services");
    let mut files = 0;
    for (source, inside) in services.values().flat_map(volumes) {
        if source.starts_with('/') && inside != "/app/logs" {
            assert!(PathBuf::from(&source).exists(), "{source} for {inside}");
            files += 1;
        } else if !source.starts_with('/') {
            assert!(ours["volumes"].get(&source).is_some(), "no volume {source}");
        }
    }
    assert!(files >= 4, "{files}");
}
