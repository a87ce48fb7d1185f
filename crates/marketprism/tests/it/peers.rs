//! The real peers at the whole program: Prometheus sends, node_exporter is scraped, promtool asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use marketprism_testkit::{ChildGuard, free_port, is_true_within};

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program};

fn peer(name: &str, package: &str) -> Command {
    let path = Path::new("/usr/bin").join(name);
    assert!(path.exists(), "{name} is missing; run: apt-get install {package}");
    Command::new(path)
}

#[test]
fn prometheus_sends_by_remote_write_and_the_samples_are_equal() {
    let program = Program::start("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    let exporter = Exporter::start("orders_total{side=\"buy\"} 41\nqueue_length 7\n");
    let home = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n\
         remote_write: [{{url: '{}/api/v1/write'}}]\n",
        exporter.address(),
        program.url_with_password()
    );
    fs::write(home.path().join("prometheus.yml"), config).expect("write Prometheus' configuration");
    let port = free_port();
    let _prometheus = ChildGuard::spawn(
        peer("prometheus", "prometheus")
            .arg(format!(
                "--config.file={}",
                home.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                home.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    )
    .expect("start prometheus");
    let has_come = is_true_within(PATIENCE, || {
        !program.query("orders_total{side=\"buy\"}").is_empty()
    });
    assert!(has_come, "nothing came; log:\n{}", program.log());
    let orders = program.query("orders_total");
    assert_eq!(
        (orders[0].0["job"].as_str(), orders[0].1),
        (Some("app"), 41.0),
        "{orders:?}"
    );
    assert_eq!(program.query("queue_length + 1")[0].1, 8.0);
    assert_eq!(program.query("up{job=\"app\"}")[0].1, 1.0);
}

#[test]
fn node_exporter_is_scraped_and_promtool_is_answered() {
    let port = free_port();
    let _exporter = ChildGuard::spawn(
        peer("prometheus-node-exporter", "prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    )
    .expect("start node_exporter");
    let program = Program::start(&format!(
        "global: {{scrape_interval: 1s}}\nalert_manager: {{default_rules: false}}\nhost: {{interval: 1s, instance: here}}\n\
         scrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    ));
    let is_up = is_true_within(PATIENCE, || {
        program
            .query("up{job=\"node\"}")
            .first()
            .is_some_and(|(_, value)| *value == 1.0)
    });
    assert!(is_up, "node_exporter is not up; log:\n{}", program.log());
    assert!(is_true_within(PATIENCE, || !program
        .query("node_memory_MemTotal_bytes{job=\"host\"}")
        .is_empty()));
    // The host collector and node_exporter speak of the same machine.
    for expr in [
        "node_memory_MemTotal_bytes",
        "node_boot_time_seconds",
        "count(node_cpu_seconds_total)",
    ] {
        let by_job = |job: &str| {
            let expr = match expr.strip_suffix(')') {
                Some(head) => format!("{head}{{job=\"{job}\"}})"),
                None => format!("{expr}{{job=\"{job}\"}}"),
            };
            program.query(&expr).first().map(|(_, value)| *value)
        };
        assert_eq!(by_job("host"), by_job("node"), "{expr}");
    }
    let answer = peer("promtool", "prometheus")
        .args([
            "query",
            "instant",
            &format!("{}/prometheus", program.url_with_password()),
            "up{job=\"node\"} == 1",
        ])
        .output()
        .expect("run promtool");
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(
        answer.status.success() && text.contains("up{") && text.contains("=> 1 @"),
        "{answer:?}"
    );
    let series = peer("promtool", "prometheus")
        .args([
            "query",
            "series",
            "--match=node_uname_info",
            &format!("{}/prometheus", program.url_with_password()),
        ])
        .output()
        .expect("run promtool");
    assert!(
        series.status.success() && String::from_utf8_lossy(&series.stdout).contains("node_uname_info"),
        "{series:?}"
    );
}

/// Public rules as they are published: Ceph's, which Debian packages, and whatever more a folder named by
/// `MARKETPRISM_RULE_CORPORA` holds (`crates/rules/tests/data/README.md` says how to fill one).
#[test]
fn every_public_rule_loads_and_evaluates_in_the_program() {
    let ceph = Path::new("/etc/prometheus/ceph/ceph_default_alerts.yml");
    assert!(
        ceph.exists(),
        "Ceph's rules are missing; run: apt-get install ceph-prometheus-alerts"
    );
    let mut files = vec![(ceph.display().to_string(), 50)];
    if let Some(folder) = std::env::var_os("MARKETPRISM_RULE_CORPORA").map(PathBuf::from) {
        files.push((format!("{}/kube-prometheus/**/*.yml", folder.display()), 200));
        files.push((
            format!("{}/awesome-prometheus-alerts/**/*.yml", folder.display()),
            900,
        ));
    }
    for (pattern, least) in files {
        evaluate_all(&pattern, least);
    }
}

/// Loads the files of a pattern, each group evaluated within a minute of its own interval.
fn evaluate_all(pattern: &str, least: usize) {
    let program = Program::start(&format!(
        "host: {{interval: 1s}}\nalert_manager: {{evaluation_interval: 1, default_rules: false}}\nrule_files: ['{pattern}']\n"
    ));
    let rules = || {
        let answer = program.get_json("/prometheus/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert!(
        rules().len() >= least,
        "{pattern}: {} rules loaded; log:\n{}",
        rules().len(),
        program.log()
    );
    let is_evaluated = is_true_within(4 * PATIENCE, || {
        rules().iter().all(|rule| rule["health"] != "unknown")
    });
    let failing: Vec<_> = rules()
        .into_iter()
        .filter(|rule| rule["health"] == "err")
        .collect();
    assert!(
        failing.is_empty(),
        "{pattern}: {} rules fail, first {:#}",
        failing.len(),
        failing[0]
    );
    let waiting = rules().iter().filter(|rule| rule["health"] == "unknown").count();
    assert!(is_evaluated, "{pattern}: {waiting} rules were not evaluated");
}
