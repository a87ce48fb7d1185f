//! The composed services together: ours, and Debian's Prometheus with our file, in one network.

use std::path::Path;

use marketprism_testkit::is_true_within;
use serde_json::Value;

use crate::compose;
use crate::container::{Container, Plan};
use crate::files::{document, read, root};
use crate::image::image;
use crate::program::PATIENCE;
use crate::service::volume;

/// The variable by which both are given the token.
const TOKEN: &str = "MARKETPRISM_TOKEN";

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().expect("a list").iter();
    // docker-compose doubles the dollar signs of what it has resolved.
    words
        .map(|word| word.as_str().expect("a word").replace("$$", "$"))
        .collect()
}

fn has_result(container: &Container, address: &str, header: &str, query: &str) -> bool {
    let query = format!("query={query}");
    let output = container.exec(&["curl", "-fsS", "-H", header, "--data-urlencode", &query, address]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let result = answer["data"]["result"].as_array();
    result.is_some_and(|result| !result.is_empty())
}

/// Starts our service as composed, without any variable set.
fn start_ours(home: &tempfile::TempDir, service: &Value) -> Container {
    let mut plan = Plan::of(image());
    plan.environment = compose::environment(service);
    plan.names = vec!["monitoring-alerting".to_owned(), "prometheus".to_owned()];
    for (source, inside) in compose::volumes(service) {
        // Data and logs of the reader's own runs stay out of this.
        let source = if inside == "/app/config" {
            source.into()
        } else {
            volume(home, inside.trim_start_matches("/app/"))
        };
        plan.volumes.push((source, inside));
    }
    plan.start()
}

#[test]
fn the_composed_prometheus_scrapes_us_and_passes_on_what_it_scrapes() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let composed = compose::ours();
    let mut ours = start_ours(&home, &composed["services"]["monitoring-alerting"]);
    ours.wait_until_ready();

    let made = ours.exec(&["marketprism", "token", "create", "compose", "--role", "operator"]);
    let complaint = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{complaint}\n{}", ours.log());
    let token = String::from_utf8(made.stdout).expect("UTF-8");
    let token = token.split_whitespace().last().expect("the token is printed");

    let service = &composed["services"]["prometheus"];
    let mut plan = Plan::of(image()).volume(Path::new("/usr/bin/prometheus"), "/bin/prometheus");
    for (source, inside) in compose::volumes(service) {
        let source = if source.starts_with('/') {
            source.into()
        } else {
            volume(&home, &source)
        };
        plan.volumes.push((source, inside));
    }
    plan.volumes.push((volume(&home, "tmp"), "/tmp".to_owned()));
    plan.environment = compose::environment(service);
    for (name, value) in &mut plan.environment {
        if name == TOKEN {
            token.clone_into(value);
        }
    }
    plan.instead = Some([words(&service["entrypoint"]), words(&service["command"])].concat());
    plan.names = vec!["monitoring-alerting".to_owned()];
    plan.network_of = Some(&ours);
    let prometheus = plan.start();

    let theirs = "http://localhost:9090/api/v1/query";
    let about_us = "marketprism_build_info{job='marketprism'}";
    assert!(
        is_true_within(PATIENCE, || has_result(&ours, theirs, "X-None: 1", about_us)),
        "{}",
        prometheus.log()
    );
    let (source, header) = grafana_source(token);
    let about_them = "prometheus_build_info{job='prometheus'}";
    assert!(
        is_true_within(PATIENCE, || has_result(&ours, &source, &header, about_them)),
        "{}\n{}",
        prometheus.log(),
        ours.log()
    );
    // What we know of ourselves is not doubled by what Prometheus scrapes of us.
    let doubled = "marketprism_build_info{instance='monitoring-alerting:8082'}";
    assert!(!has_result(&ours, &source, &header, doubled));
}

/// Gives where the provisioned Grafana asks, by the name that the compose network gives us, and the header it sends.
fn grafana_source(token: &str) -> (String, String) {
    let file = "deploy/grafana/provisioning/datasources/marketprism.yaml";
    let sources = document(file, &read(file));
    let sources = sources["datasources"].as_array().cloned().expect("a list");
    let source = sources.iter().find(|source| source["isDefault"] == true);
    let source = source.expect("one is the default");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let name = text(&source["jsonData"]["httpHeaderName1"]);
    let value = text(&source["secureJsonData"]["httpHeaderValue1"]);
    let value = value.replace(&format!("${{{TOKEN}}}"), token);
    (
        format!("{}/api/v1/query", text(&source["url"])),
        format!("{name}: {value}"),
    )
}

#[test]
fn promtool_and_our_own_check_accept_the_file() {
    let file = root().join("deploy/prometheus/prometheus.yml");
    let promtool = std::process::Command::new("promtool")
        .args(["check", "config", "--syntax-only"])
        .arg(&file)
        .output()
        .expect("promtool is there; run: apt-get install prometheus");
    assert!(
        promtool.status.success(),
        "{}",
        String::from_utf8_lossy(&promtool.stderr)
    );
    let ours = std::process::Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(["check", "config"])
        .arg(&file)
        .output()
        .expect("our own program");
    assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
}
