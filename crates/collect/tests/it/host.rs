//! The host next to node_exporter: the same names and labels, and the same values where they stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use marketprism_collect::exposition::{Entry, Format, Parser, decode_series};
use marketprism_collect::{HostCollector, HostConfig};
use marketprism_model::{Clock, Timestamp};
use marketprism_testkit::ManualClock;

use crate::peers::{NodeExporter, get};

type Series = BTreeMap<String, f64>;

fn read(text: &str) -> (Series, BTreeMap<String, String>) {
    let (mut series, mut kinds) = (Series::new(), BTreeMap::new());
    let mut parser = Parser::new(text.as_bytes(), Format::Prometheus);
    while let Some(entry) = parser.next_entry().expect("both write valid text") {
        match entry {
            Entry::Sample(sample) => {
                let labels = decode_series(sample.series, parser.kind())
                    .expect("valid")
                    .build();
                assert!(
                    series.insert(labels.to_string(), sample.value).is_none(),
                    "{labels} stands there twice"
                );
            }
            Entry::Type(family, kind) => {
                kinds.insert(
                    String::from_utf8_lossy(family).into_owned(),
                    kind.as_str().to_owned(),
                );
            }
            _ => {}
        }
    }
    (series, kinds)
}

const COLLECTORS: [&str; 14] = [
    "cpu",
    "meminfo",
    "filesystem",
    "diskstats",
    "netdev",
    "loadavg",
    "pressure",
    "time",
    "timex",
    "uname",
    "stat",
    "filefd",
    "vmstat",
    "entropy",
];

/// What node_exporter writes and we do not, and why.
const ABSENT_HERE: [(&str, &str); 5] = [
    ("node_disk_info", "needs udev's database"),
    (
        "node_time_zone_offset_seconds",
        "zones belong to whoever shows a time",
    ),
    (
        "node_scrape_collector_",
        "about the exporter itself; ours follow below",
    ),
    ("node_exporter_build_info", "about the exporter itself"),
    ("promhttp_", "about the exporter itself"),
];

/// What we write and node_exporter 1.5 does not.
const ABSENT_THERE: [(&str, &str); 2] = [
    (
        "node_scrape_collector_success",
        "our parts are cut a little differently",
    ),
    (
        "node_pressure_irq_stalled_seconds_total",
        "came with node_exporter 1.8",
    ),
];

/// What stands still while both are asked.
const STILL: [&str; 15] = [
    "node_boot_time_seconds",
    "node_memory_MemTotal_bytes",
    "node_memory_SwapTotal_bytes",
    "node_memory_Hugepagesize_bytes",
    "node_memory_VmallocTotal_bytes",
    "node_memory_HugePages_Total",
    "node_filesystem_size_bytes",
    "node_filesystem_files{",
    "node_filesystem_readonly",
    "node_filesystem_device_error",
    "node_timex_sync_status",
    "node_timex_tick_seconds",
    "node_uname_info",
    "node_filefd_maximum",
    "node_entropy_pool_size_bits",
];

fn peer_arguments() -> Vec<String> {
    let mut arguments: Vec<String> = COLLECTORS
        .iter()
        .map(|name| format!("--collector.{name}"))
        .collect();
    arguments.push("--collector.disable-defaults".to_owned());
    arguments.push("--web.disable-exporter-metrics".to_owned());
    // Debian changed these defaults; ours are those of the project itself.
    arguments.push("--collector.netdev.device-exclude=^$".to_owned());
    arguments.push(
        "--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$"
            .to_owned(),
    );
    arguments.push(
        "--collector.filesystem.mount-points-exclude=\
         ^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
            .to_owned(),
    );
    arguments
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_told_as_node_exporter_tells_it() {
    let arguments = peer_arguments();
    let peer = NodeExporter::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (theirs, their_kinds) = read(&get(&peer.url).await);
    let mut text = String::new();
    HostCollector::new(HostConfig::default()).write(1_700_000_000.5, &mut text);
    let (ours, our_kinds) = read(&text);

    let expected = |series: &Series, absent: &[(&str, &str)]| -> BTreeSet<String> {
        series
            .keys()
            .filter(|name| !absent.iter().any(|(prefix, _)| name.starts_with(prefix)))
            .cloned()
            .collect()
    };
    let (their_names, our_names) = (expected(&theirs, &ABSENT_HERE), expected(&ours, &ABSENT_THERE));
    let missing: Vec<_> = their_names.difference(&our_names).collect();
    let surplus: Vec<_> = our_names.difference(&their_names).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}, surplus {surplus:#?}"
    );
    assert!(
        our_names.len() > 150,
        "only {} series were compared",
        our_names.len()
    );

    for (family, kind) in &our_kinds {
        if let Some(theirs) = their_kinds.get(family) {
            assert_eq!(kind, theirs, "type of {family}");
        }
    }
    for prefix in STILL {
        let still: Vec<_> = ours.iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        assert!(!still.is_empty(), "{prefix} is not there");
        for (name, value) in still {
            assert_eq!(Some(value), theirs.get(name), "{name}");
        }
    }
    for (name, value) in ours
        .iter()
        .filter(|(name, _)| name.starts_with("node_scrape_collector_success"))
    {
        assert_eq!(*value, 1.0, "{name}");
    }
}

/// What moves may not have moved far: a wrong unit would show as a factor of a hundred or more.
#[tokio::test(flavor = "multi_thread")]
async fn counters_of_the_host_have_node_exporters_units() {
    let arguments = peer_arguments();
    let peer = NodeExporter::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let (theirs, _) = read(&get(&peer.url).await);
    let mut text = String::new();
    HostCollector::new(HostConfig::default()).write(1_700_000_000.5, &mut text);
    let (ours, _) = read(&text);
    let mut compared = 0;
    for (name, value) in &ours {
        let Some(other) = theirs
            .get(name)
            .filter(|other| **other > 1000.0 && *value > 1000.0)
        else {
            continue;
        };
        // Free and dirty memory may move much in a moment, and so may the test's own clock.
        if ["Dirty", "Writeback", "node_time_seconds"]
            .iter()
            .any(|word| name.contains(word))
        {
            continue;
        }
        assert!(
            (0.3..3.0).contains(&(value / other)),
            "{name}: {value} here, {other} there"
        );
        compared += 1;
    }
    assert!(compared > 30, "only {compared} values were compared");
}

#[test]
fn a_host_whose_files_are_missing_says_so_part_by_part() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("loadavg"), "1 2 3 4/5 6\n").expect("written");
    let config = HostConfig {
        instance: Some("here".to_owned()),
        proc_path: folder.path().to_owned(),
        sys_path: folder.path().join("none"),
        ..HostConfig::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1_500)));
    let source = HostCollector::source(&config, clock);
    assert_eq!((source.job.as_str(), source.instance.as_str()), ("host", "here"));
    let mut bytes = Vec::new();
    assert_eq!((source.write)(&mut bytes), Ok(Format::Prometheus));
    let (series, _) = read(std::str::from_utf8(&bytes).expect("text"));
    assert_eq!(series["node_load15"], 3.0);
    assert_eq!(series["node_time_seconds"], 1.5);
    assert_eq!(
        series[r#"node_scrape_collector_success{collector="loadavg"}"#],
        1.0
    );
    for part in ["cpu", "meminfo", "filesystem", "pressure", "time"] {
        assert_eq!(
            series[&format!("node_scrape_collector_success{{collector=\"{part}\"}}")],
            0.0,
            "{part}"
        );
    }
}
