//! The rules inside the program on a machine that is well, and on one that is not.

use std::collections::HashSet;

use marketprism_model::AlertState;
use marketprism_rules::{GroupDefaults, RuleSet, defaults, parse_file};

use crate::world::{World, minute};

/// What a machine shows each minute: a series and its value at a minute.
type Series = (&'static [(&'static str, &'static str)], fn(i64) -> f64);

macro_rules! series {
    ($name:literal $(, $label:literal = $value:literal)*) => {
        &[("__name__", $name), ("job", "host"), ("instance", "h") $(, ($label, $value))*]
    };
}

fn seconds(i: i64) -> f64 {
    i as f64 * 60.0
}

/// A machine on which nothing is wrong.
fn healthy() -> Vec<Series> {
    vec![
        (series!("up"), |_| 1.0),
        (
            series!("node_cpu_seconds_total", "cpu" = "0", "mode" = "idle"),
            |i| 0.8 * seconds(i),
        ),
        (
            series!("node_cpu_seconds_total", "cpu" = "0", "mode" = "user"),
            |i| 0.2 * seconds(i),
        ),
        (series!("node_load15"), |_| 0.5),
        (series!("node_memory_MemAvailable_bytes"), |_| 6e9),
        (series!("node_memory_MemTotal_bytes"), |_| 8e9),
        (
            series!(
                "node_filesystem_avail_bytes",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 6e10,
        ),
        (
            series!(
                "node_filesystem_size_bytes",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 1e11,
        ),
        (
            series!(
                "node_filesystem_files",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 1e6,
        ),
        (
            series!(
                "node_filesystem_files_free",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 9e5,
        ),
        (
            series!(
                "node_filesystem_readonly",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 0.0,
        ),
        (
            series!(
                "node_filesystem_device_error",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 0.0,
        ),
        (series!("node_boot_time_seconds"), |_| 1.7e9),
        (series!("node_time_seconds"), |i| minute(i).seconds_f64() + 0.1),
        (series!("node_filefd_allocated"), |_| 1e3),
        (series!("node_filefd_maximum"), |_| 1e6),
        (series!("node_vmstat_oom_kill"), |_| 3.0),
        (series!("node_pressure_cpu_waiting_seconds_total"), |i| {
            0.1 * seconds(i)
        }),
        (series!("node_pressure_io_waiting_seconds_total"), |i| {
            0.1 * seconds(i)
        }),
        (series!("node_pressure_memory_waiting_seconds_total"), |_| 0.0),
        (
            series!("node_disk_io_time_seconds_total", "device" = "sda"),
            |i| 0.3 * seconds(i),
        ),
        (
            series!("node_network_receive_errs_total", "device" = "eth0"),
            |_| 5.0,
        ),
        (
            series!("node_network_receive_packets_total", "device" = "eth0"),
            |i| 100.0 * seconds(i),
        ),
        (series!("marketprism_storage_series"), |_| 5e4),
        (series!("marketprism_storage_series_limit"), |_| 1e6),
        (series!("marketprism_storage_wal_errors_total"), |_| 0.0),
        (
            series!("marketprism_rule_evaluation_failures_total", "rule_group" = "f;g"),
            |_| 0.0,
        ),
        (series!("marketprism_notification_pending"), |_| 0.0),
        (
            series!(
                "marketprism_notification_sent_total",
                "channel" = "mail",
                "outcome" = "delivered"
            ),
            |i| i as f64,
        ),
    ]
}

/// Runs the rules over some hours and gives what fires at the end, as `name/severity`.
fn firing(changed: &[Series]) -> Vec<String> {
    let mut world = World::new("groups: []");
    let mut groups = Vec::new();
    for (name, text) in defaults() {
        groups.append(
            &mut parse_file(name, text.as_bytes(), &GroupDefaults::default())
                .unwrap()
                .groups,
        );
    }
    let set = RuleSet::new(groups, true);
    world.groups = set
        .groups()
        .iter()
        .map(|spec| marketprism_rules::Group::new(spec, &world.engine))
        .collect();
    let mut all = healthy();
    for (labels, value) in changed {
        match all.iter_mut().find(|(known, _)| known == labels) {
            Some(known) => known.1 = *value,
            None => all.push((labels, *value)),
        }
    }
    for i in 0..150 {
        world.clock.jump_to(minute(i));
        for (labels, value) in &all {
            world.push(labels, minute(i), Some(value(i)));
        }
        for tick in world.tick(minute(i)) {
            assert_eq!(tick.failures, 0);
        }
    }
    let mut told = Vec::new();
    for rule in world.groups.iter().flat_map(|group| group.snapshot().rules) {
        for alert in rule
            .alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
        {
            let severity = alert.labels.get("severity").unwrap_or("none");
            told.push(format!("{}/{severity}", rule.rule.name));
            for (name, text) in &alert.annotations {
                assert!(
                    !text.contains("<error") && !text.contains("no value"),
                    "{name}: {text}"
                );
            }
        }
    }
    told
}

fn check(changed: &[Series], expected: &[&str]) {
    let mut told = firing(changed);
    told.retain(|alert| alert != "Watchdog/none");
    assert_eq!(told, expected);
}

#[test]
fn a_healthy_machine_fires_the_watchdog_and_nothing_else() {
    assert_eq!(firing(&[]), ["Watchdog/none"]);
}

#[test]
fn each_trouble_fires_its_alert_at_its_level() {
    check(&[(series!("up"), |_| 0.0)], &["TargetDown/high"]);
    check(
        &[(
            series!("node_cpu_seconds_total", "cpu" = "0", "mode" = "idle"),
            |i| 0.05 * seconds(i),
        )],
        &["HostCpuBusy/medium"],
    );
    check(
        &[(series!("node_memory_MemAvailable_bytes"), |_| 1e8)],
        &["HostMemoryLow/critical"],
    );
    check(
        &[(
            series!(
                "node_filesystem_avail_bytes",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 6e9,
        )],
        &["HostFilesystemFull/high"],
    );
    check(
        &[(
            series!(
                "node_filesystem_files_free",
                "mountpoint" = "/",
                "device" = "d",
                "fstype" = "ext4"
            ),
            |_| 1e4,
        )],
        &["HostFilesystemInodesFull/critical"],
    );
    check(
        &[(series!("node_vmstat_oom_kill"), |i| i as f64)],
        &["HostOomKill/high"],
    );
    check(
        &[(series!("node_boot_time_seconds"), |i| {
            if i < 145 { 1.7e9 } else { 1.71e9 }
        })],
        &["HostRebooted/low"],
    );
    check(
        &[(series!("node_time_seconds"), |i| minute(i).seconds_f64() - 60.0)],
        &["HostClockSkew/medium"],
    );
    check(
        &[(
            series!("node_network_receive_errs_total", "device" = "eth0"),
            |i| 3.0 * seconds(i),
        )],
        &["HostNetworkReceiveErrors/medium"],
    );
    check(
        &[(series!("marketprism_storage_wal_errors_total"), |i| i as f64)],
        &["StoreLogFailing/critical"],
    );
    check(
        &[(series!("marketprism_storage_series"), |_| 9.5e5)],
        &["StoreNearSeriesLimit/high"],
    );
    check(
        &[(
            series!("marketprism_rule_evaluation_failures_total", "rule_group" = "f;g"),
            |i| i as f64,
        )],
        &["RuleEvaluationFailing/high"],
    );
}

#[test]
fn a_disk_that_fills_is_told_before_it_is_full() {
    // 400 MB a minute of 100 GB: 12 GB are left when the story ends, half an hour before it is full.
    let filling: Series = (
        series!(
            "node_filesystem_avail_bytes",
            "mountpoint" = "/",
            "device" = "d",
            "fstype" = "ext4"
        ),
        |i| 7.2e10 - 4e8 * i as f64,
    );
    check(
        &[filling],
        &[
            "HostFilesystemFillsIn24Hours/medium",
            "HostFilesystemFillsIn4Hours/high",
        ],
    );
}

#[test]
fn a_volume_that_turned_read_only_is_critical() {
    let turned: Series = (
        series!(
            "node_filesystem_readonly",
            "mountpoint" = "/",
            "device" = "d",
            "fstype" = "ext4"
        ),
        |i| if i < 140 { 0.0 } else { 1.0 },
    );
    check(&[turned], &["HostFilesystemBecameReadOnly/critical"]);
}

/// What only a node_exporter of its own tells, and what not every kernel has.
const ELSEWHERE: &[&str] = &[
    "node_timex_sync_status",
    "node_timex_maxerror_seconds",
    "node_pressure_cpu_waiting_seconds_total",
    "node_pressure_io_waiting_seconds_total",
    "node_pressure_memory_waiting_seconds_total",
    "node_vmstat_oom_kill",
];

#[test]
fn the_host_rules_ask_for_names_that_the_host_tells() {
    let mut told = String::new();
    marketprism_collect::HostCollector::new(Default::default()).write(minute(0).seconds_f64(), &mut told);
    let names: HashSet<&str> = told
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut asked = HashSet::new();
    for (name, text) in defaults() {
        for group in parse_file(name, text.as_bytes(), &GroupDefaults::default())
            .unwrap()
            .groups
        {
            for rule in &group.rules {
                asked.extend(rule.parsed.metric_names().into_iter().map(str::to_owned));
            }
        }
    }
    let missing: Vec<&String> = asked
        .iter()
        .filter(|name| {
            name.starts_with("node_") && !names.contains(name.as_str()) && !ELSEWHERE.contains(&name.as_str())
        })
        .collect();
    assert!(asked.len() > 30 && names.len() > 30, "{asked:?} {names:?}");
    assert!(missing.is_empty(), "{missing:?}");
}
