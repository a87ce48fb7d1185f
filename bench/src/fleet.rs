//! The data of the runs: a fleet of hosts with 100 series each, made from a seed.
//!
//! Each host has counters with and without decimals, gauges with few decimals, a histogram, constant
//! series, and now and then a reboot that sets its counters back to zero. The same seed gives the same
//! values, so every peer is given the same bytes.

use crate::remote_write::{Label, Template};

/// Series of one host.
pub const SERIES_PER_HOST: usize = 100;
/// Milliseconds between two samples of a series.
pub const STEP_MS: i64 = 15_000;
/// Series in one request, the default of Prometheus 3's sender.
pub const BATCH: usize = 2_000;
/// Jobs that share the hosts.
pub const JOBS: usize = 10;
/// Counters with one series a host, which the alert rules watch.
pub const WATCHED: [&str; 5] = [
    "node_context_switches_total",
    "node_intr_total",
    "node_forks_total",
    "node_netstat_Tcp_RetransSegs_total",
    "node_vmstat_pgmajfault_total",
];
/// One host in so many is above the rules' threshold, a different one for each watched counter.
pub const HOT_ONE_IN: usize = 20;

/// How a series moves.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Never.
    Constant(f64),
    /// Grows by `per_s` a second on average, rounded to `decimals`.
    Counter { per_s: f64, decimals: i32 },
    /// Wanders around `level` within `swing`, rounded to `decimals`.
    Gauge { level: f64, swing: f64, decimals: i32 },
}

/// SplitMix64, for data that must be the same on every run.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 (included) to 1 (excluded).
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Series {
    shape: Shape,
    value: f64,
}

/// All hosts, standing at one step of their history.
pub struct Fleet {
    hosts: usize,
    dice: Dice,
    series: Vec<Series>,
    batches: Vec<Template>,
}

impl Fleet {
    /// Makes a fleet of `hosts`; nothing has been sampled yet.
    pub fn new(hosts: usize, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut series = Vec::with_capacity(hosts * SERIES_PER_HOST);
        let mut named = Vec::with_capacity(hosts * SERIES_PER_HOST);
        for host in 0..hosts {
            for (labels, shape) in host_series(host, &mut dice) {
                let value = match shape {
                    Shape::Constant(value) => value,
                    Shape::Counter { per_s, decimals } => round(per_s * 86_400.0 * dice.unit(), decimals),
                    Shape::Gauge { level, .. } => level,
                };
                series.push(Series { shape, value });
                named.push(labels);
            }
        }
        let mut batches = Vec::new();
        while !named.is_empty() {
            let rest = named.split_off(named.len().min(BATCH));
            batches.push(Template::new(named));
            named = rest;
        }
        Fleet {
            hosts,
            dice,
            series,
            batches,
        }
    }

    /// Counts its series.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Moves every series by one step and gives the requests that carry the samples, stamped `at_ms`.
    pub fn step(&mut self, at_ms: i64) -> impl Iterator<Item = Vec<u8>> {
        for host in 0..self.hosts {
            let is_rebooted = self.dice.unit() < 1.0 / 2_000.0;
            for series in &mut self.series[host * SERIES_PER_HOST..(host + 1) * SERIES_PER_HOST] {
                series.advance(is_rebooted, &mut self.dice);
            }
        }
        let mut values = self.series.iter().map(|series| series.value);
        self.batches.iter_mut().map(move |batch| {
            let count = batch.series_count();
            batch.to_body(at_ms, values.by_ref().take(count))
        })
    }
}

impl Series {
    fn advance(&mut self, is_rebooted: bool, dice: &mut Dice) {
        match self.shape {
            Shape::Constant(_) => {}
            Shape::Counter { per_s, decimals } => {
                let grown = per_s * (STEP_MS as f64 / 1_000.0) * (0.5 + dice.unit());
                let base = if is_rebooted { 0.0 } else { self.value };
                self.value = round(base + grown, decimals);
            }
            Shape::Gauge {
                level,
                swing,
                decimals,
            } => {
                let pull = 0.1 * (level - self.value);
                self.value = round(self.value + pull + swing * 0.2 * (dice.unit() - 0.5), decimals);
            }
        }
    }
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Collects the series of one host under the labels that all of them share.
struct HostSeries {
    instance: String,
    job: String,
    list: Vec<(Vec<Label>, Shape)>,
}

impl HostSeries {
    fn add(&mut self, name: &str, own: &[(&str, &str)], shape: Shape) {
        let shared = [
            ("instance", self.instance.as_str()),
            ("job", self.job.as_str()),
            ("cluster", "eu-1"),
        ];
        let mut labels: Vec<Label> = [("__name__", name)]
            .iter()
            .chain(&shared)
            .chain(own)
            .map(|(name, value)| Label {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        self.list.push((labels, shape));
    }
}

fn host_series(host: usize, dice: &mut Dice) -> Vec<(Vec<Label>, Shape)> {
    let mut out = HostSeries {
        instance: format!("i{host}"),
        job: format!("job-{}", host % JOBS),
        list: Vec::with_capacity(SERIES_PER_HOST),
    };
    add_processors(&mut out, dice); // 32
    add_devices(&mut out, dice); // 12 + 8 + 8
    add_memory_and_load(&mut out, dice); // 8 + 3 + 3
    add_requests(&mut out, dice); // 7 + 12
    for (position, name) in WATCHED.iter().enumerate() {
        let is_hot = host % HOT_ONE_IN == position;
        let per_s = if is_hot { 40.0 } else { 2.0 };
        out.add(name, &[], Shape::Counter { per_s, decimals: 0 });
    }
    out.add("up", &[], Shape::Constant(1.0));
    out.add(
        "node_boot_time_seconds",
        &[],
        Shape::Constant(1.7e9 + host as f64),
    );
    assert_eq!(
        out.list.len(),
        SERIES_PER_HOST,
        "the families add up to the series of a host"
    );
    out.list
}

fn add_processors(out: &mut HostSeries, dice: &mut Dice) {
    for cpu in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        for (mode, share) in [("user", 0.25), ("system", 0.08), ("iowait", 0.01), ("idle", 0.66)] {
            let per_s = share * (0.7 + 0.6 * dice.unit());
            let labels = [("cpu", cpu), ("mode", mode)];
            out.add(
                "node_cpu_seconds_total",
                &labels,
                Shape::Counter { per_s, decimals: 2 },
            );
        }
    }
}

fn add_devices(out: &mut HostSeries, dice: &mut Dice) {
    for device in ["eth0", "eth1", "lo"] {
        for (name, per_s) in [
            ("node_network_receive_bytes_total", 250_000.0),
            ("node_network_transmit_bytes_total", 180_000.0),
            ("node_network_receive_packets_total", 400.0),
            ("node_network_receive_errs_total", 0.0),
        ] {
            let per_s = per_s * dice.unit();
            out.add(name, &[("device", device)], Shape::Counter { per_s, decimals: 0 });
        }
    }
    for device in ["sda", "sdb"] {
        for (name, per_s, decimals) in [
            ("node_disk_reads_completed_total", 20.0, 0),
            ("node_disk_writes_completed_total", 60.0, 0),
            ("node_disk_written_bytes_total", 900_000.0, 0),
            ("node_disk_io_time_seconds_total", 0.1, 3),
        ] {
            let per_s = per_s * dice.unit();
            out.add(name, &[("device", device)], Shape::Counter { per_s, decimals });
        }
    }
    for (mountpoint, size) in [("/", 53e9_f64), ("/var", 107e9), ("/home", 215e9), ("/boot", 1e9)] {
        let labels = [("fstype", "ext4"), ("mountpoint", mountpoint)];
        let size = (size / 4096.0).round() * 4096.0;
        let level = size * (0.2 + 0.6 * dice.unit());
        out.add("node_filesystem_size_bytes", &labels, Shape::Constant(size));
        let shape = Shape::Gauge {
            level,
            swing: size * 1e-4,
            decimals: -3,
        };
        out.add("node_filesystem_avail_bytes", &labels, shape);
    }
}

fn add_memory_and_load(out: &mut HostSeries, dice: &mut Dice) {
    let total = 64.0 * 1024.0 * 1024.0 * 1024.0;
    out.add("node_memory_MemTotal_bytes", &[], Shape::Constant(total));
    out.add("node_memory_SwapTotal_bytes", &[], Shape::Constant(0.0));
    for (name, share) in [
        ("node_memory_MemFree_bytes", 0.1),
        ("node_memory_MemAvailable_bytes", 0.5),
        ("node_memory_Buffers_bytes", 0.02),
        ("node_memory_Cached_bytes", 0.35),
        ("node_memory_Dirty_bytes", 0.001),
        ("node_memory_Slab_bytes", 0.03),
    ] {
        let level = total * share * (0.5 + dice.unit());
        out.add(
            name,
            &[],
            Shape::Gauge {
                level,
                swing: level * 0.02,
                decimals: -3,
            },
        );
    }
    for name in ["node_load1", "node_load5", "node_load15"] {
        out.add(
            name,
            &[],
            Shape::Gauge {
                level: 4.0 * dice.unit(),
                swing: 1.0,
                decimals: 2,
            },
        );
    }
    for kind in ["cpu", "io", "memory"] {
        let name = format!("node_pressure_{kind}_waiting_seconds_total");
        let per_s = 0.05 * dice.unit();
        out.add(&name, &[], Shape::Counter { per_s, decimals: 6 });
    }
}

fn add_requests(out: &mut HostSeries, dice: &mut Dice) {
    for (method, code, per_s) in [
        ("get", "200", 120.0),
        ("get", "404", 1.0),
        ("get", "500", 0.05),
        ("post", "200", 30.0),
        ("post", "400", 0.5),
        ("post", "500", 0.02),
        ("put", "200", 2.0),
    ] {
        let per_s = per_s * (0.5 + dice.unit());
        let labels = [("code", code), ("method", method)];
        out.add(
            "http_requests_total",
            &labels,
            Shape::Counter { per_s, decimals: 0 },
        );
    }
    let mut per_s = 5.0;
    for le in [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf",
    ] {
        // Twice the spread of one step, so that the buckets stay cumulative.
        per_s *= 3.1;
        let shape = Shape::Counter { per_s, decimals: 0 };
        out.add("http_request_duration_seconds_bucket", &[("le", le)], shape);
    }
    out.add(
        "http_request_duration_seconds_sum",
        &[],
        Shape::Counter {
            per_s: per_s * 0.2,
            decimals: 4,
        },
    );
    out.add(
        "http_request_duration_seconds_count",
        &[],
        Shape::Counter { per_s, decimals: 0 },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let bodies = |seed| {
            let mut fleet = Fleet::new(3, seed);
            fleet.step(1_700_000_000_000).for_each(drop);
            fleet.step(1_700_000_015_000).collect::<Vec<_>>()
        };
        assert_eq!(bodies(7), bodies(7));
        assert_ne!(bodies(7), bodies(8));
    }

    #[test]
    fn no_two_series_have_the_same_labels_and_batches_keep_the_limit() {
        let mut dice = Dice(1);
        let mut seen = std::collections::HashSet::new();
        for (labels, _) in (0..41).flat_map(|host| host_series(host, &mut dice)) {
            assert!(labels.is_sorted_by(|a, b| a.name < b.name), "{labels:?}");
            assert!(seen.insert(format!("{labels:?}")), "{labels:?}");
        }
        assert_eq!(seen.len(), 41 * SERIES_PER_HOST);
        let sizes: Vec<usize> = Fleet::new(41, 1)
            .batches
            .iter()
            .map(Template::series_count)
            .collect();
        assert_eq!(sizes, [2_000, 2_000, 100]);
    }
}
