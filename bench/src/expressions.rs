//! The expressions of the runs, over the families of [`fleet`](crate::fleet).

use crate::fleet::WATCHED;

/// The aggregation whose time is measured.
pub const HOT: &str = "sum by (job) (rate(node_cpu_seconds_total[5m]))";

/// Expressions whose answers are compared beside the measured ones.
pub const COMPARED: [&str; 18] = [
    HOT,
    r#"avg by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m]))"#,
    "topk(5, http_requests_total)",
    "histogram_quantile(0.9, sum by (le, job) (rate(http_request_duration_seconds_bucket[5m])))",
    "1 - node_filesystem_avail_bytes / node_filesystem_size_bytes > 0.5",
    r#"sum by (code) (increase(http_requests_total{method=~"get|post"}[30m]))"#,
    "max_over_time(node_load1[1h]) > 3",
    "quantile_over_time(0.9, node_load5[2h])",
    "count by (job) (up)",
    r#"predict_linear(node_filesystem_avail_bytes{mountpoint="/"}[1h], 3600)"#,
    "stddev by (job) (node_load1)",
    "resets(node_forks_total[4h]) > 0",
    "changes(node_load15[10m])",
    "avg_over_time(node_memory_MemFree_bytes[15m])",
    "absent(nothing_of_this_name)",
    "sum by (device) (rate(node_network_receive_bytes_total[5m] offset 10m))",
    "max_over_time(sum by (job) (rate(http_requests_total[5m]))[30m:1m])",
    r#"node_memory_MemFree_bytes{instance=~"i1.?"} / on (instance) group_left node_memory_MemTotal_bytes"#,
];

/// Families that are asked once each when everything is cold.
pub const COLD: [&str; 12] = [
    "node_network_transmit_bytes_total",
    "node_network_receive_packets_total",
    "node_disk_reads_completed_total",
    "node_disk_writes_completed_total",
    "node_disk_written_bytes_total",
    "node_disk_io_time_seconds_total",
    "node_filesystem_avail_bytes",
    "node_memory_Cached_bytes",
    "node_load15",
    "http_requests_total",
    "http_request_duration_seconds_bucket",
    "node_cpu_seconds_total",
];

/// A hundred aggregations over one family that share most of their work.
pub fn aggregations() -> Vec<String> {
    let mut list = Vec::new();
    for range in ["5m", "10m"] {
        for labels in [
            "job",
            "mode",
            "instance",
            "cpu",
            "cluster",
            "job, mode",
            "job, cpu",
            "instance, mode",
            "mode, cpu",
            "",
        ] {
            for operator in ["sum", "avg", "max", "min", "count"] {
                list.push(format!(
                    "{operator} by ({labels}) (rate(node_cpu_seconds_total[{range}]))"
                ));
            }
        }
    }
    list
}

/// The name under which the aggregation at `position` is recorded.
pub fn recorded_name(position: usize) -> String {
    format!("bench:aggregation_{position}:rate")
}

/// The name of the alert on the watched counter at `position` of a host.
pub fn alert_name(position: usize, host: usize) -> String {
    format!("Watched{position}Host{host}")
}

/// Five alert rules a host, in ten groups.
pub fn alert_rules(hosts: usize, interval: &str) -> String {
    let rules = (0..hosts).flat_map(|host| {
        WATCHED.iter().enumerate().map(move |(position, metric)| {
            format!(
                "  - alert: {}\n    expr: rate({metric}{{instance=\"i{host}\"}}[5m]) > 10\n    \
                 labels: {{severity: low}}\n    \
                 annotations: {{summary: \"{{{{ $labels.instance }}}} is at {{{{ $value }}}}\"}}\n",
                alert_name(position, host)
            )
        })
    });
    let rules: Vec<String> = rules.collect();
    let mut text = "groups:\n".to_owned();
    for (group, rules) in rules.chunks(rules.len().div_ceil(10).max(1)).enumerate() {
        text += &format!(
            "- name: watched-{group}\n  interval: {interval}\n  rules:\n{}",
            rules.concat()
        );
    }
    text
}

/// Ten alert rules a host, in groups of twenty hosts: the rate and the increase of each watched counter.
pub fn watching_rules(hosts: std::ops::Range<usize>, interval: &str) -> String {
    let mut text = "groups:\n".to_owned();
    let hosts: Vec<usize> = hosts.collect();
    for group in hosts.chunks(20) {
        text += &format!("- name: hosts-{}\n  interval: {interval}\n  rules:\n", group[0]);
        for host in group {
            for rule in 0..2 * WATCHED.len() {
                let metric = WATCHED[rule % WATCHED.len()];
                let series = format!("{metric}{{instance=\"i{host}\"}}");
                let expr = match rule < WATCHED.len() {
                    true => format!("rate({series}[5m]) > 10"),
                    false => format!("increase({series}[10m]) > 6000"),
                };
                text += &format!(
                    "  - alert: {}\n    expr: {expr}\n    labels: {{severity: low}}\n    \
                     annotations: {{summary: \"{{{{ $labels.instance }}}} is at {{{{ $value }}}}\"}}\n",
                    alert_name(rule, *host)
                );
            }
        }
    }
    text
}

/// The aggregations as recording rules, in one group.
pub fn recording_rules(interval: &str) -> String {
    let mut text = format!("groups:\n- name: aggregations\n  interval: {interval}\n  rules:\n");
    for (position, expr) in aggregations().iter().enumerate() {
        text += &format!("  - record: {}\n    expr: {expr}\n", recorded_name(position));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// promtool is the judge of rule files; a missing promtool fails the test.
    #[test]
    fn promtool_accepts_the_rule_files() {
        let dir = tempfile::tempdir().expect("folder");
        for (name, text, count) in [
            ("alerts", alert_rules(200, "5s"), 1_000),
            ("watching", watching_rules(0..500, "15s"), 5_000),
            ("records", recording_rules("30s"), 100),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("rule file");
            let checked = std::process::Command::new("promtool")
                .args(["check", "rules"])
                .arg(&path)
                .output()
                .expect("promtool is missing: apt-get install prometheus");
            let said = [checked.stdout, checked.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.contains(&format!("SUCCESS: {count} rules found")), "{said}");
        }
    }
}
