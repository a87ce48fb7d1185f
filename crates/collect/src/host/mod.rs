//! The host itself, under node_exporter's names, so that its dashboards and rules work unchanged.
//!
//! Each part reads one file of `/proc` or `/sys` with a pure parser and writes exposition text, which then goes the
//! road of any other target: one road, one set of limits, one kind of staleness. A part that fails says so in
//! `node_scrape_collector_success` and leaves the others alone.
//!
//! Deliberately absent: everything that needs privileges, netlink or udev (`node_disk_info`, hardware sensors), and
//! time zones.
//!
//! Source: proc(5), and the metric names of `github.com/prometheus/node_exporter`.

mod cpu;
mod disk;
mod filesystem;
mod kernel;
mod memory;
mod network;
mod text;
mod timex;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Clock, duration};
use parking_lot::Mutex;
use serde::Deserialize;
use thiserror::Error;

use crate::exposition::Format;
use crate::scrape::LocalSource;
use cpu::CpuSeconds;
use filesystem::UsageProbe;
use text::Exposition;

/// A longer file is no file of `/proc` that this room knows.
const FILE_BYTES_MAX: usize = 8 << 20;

/// What of the host is read, and how it is called.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// Whether the host is watched.
    pub enabled: bool,
    /// The label `instance`; the host's name by default.
    pub instance: Option<String>,
    /// How often; 15 seconds.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Where the host's `/proc` is; `/host/proc` in a container that mounts it there.
    pub proc_path: PathBuf,
    /// Where the host's `/sys` is.
    pub sys_path: PathBuf,
    /// Where the host's `/` is; it is cut off from mount points.
    pub root_path: PathBuf,
}

impl Default for HostConfig {
    fn default() -> Self {
        HostConfig {
            enabled: true,
            instance: None,
            interval: Duration::from_secs(15),
            proc_path: PathBuf::from("/proc"),
            sys_path: PathBuf::from("/sys"),
            root_path: PathBuf::from("/"),
        }
    }
}

/// Why a part of the host cannot be read.
#[derive(Debug, Error)]
enum PartError {
    #[error("cannot read {path}: {reason}")]
    Read { path: String, reason: String },
    #[error("{path} has an unknown form")]
    Form { path: String },
}

/// Reads the host. Keeps what must not fall between two readings.
pub struct HostCollector {
    config: HostConfig,
    cpus: Mutex<BTreeMap<u32, CpuSeconds>>,
    usage: UsageProbe,
}

type Part = fn(&HostCollector, &mut Exposition<'_>) -> Result<(), PartError>;

const PARTS: [(&str, Part); 12] = [
    ("cpu", HostCollector::cpu),
    ("diskstats", HostCollector::diskstats),
    ("entropy", HostCollector::entropy),
    ("filefd", HostCollector::filefd),
    ("filesystem", HostCollector::filesystem),
    ("loadavg", HostCollector::loadavg),
    ("meminfo", HostCollector::meminfo),
    ("netdev", HostCollector::netdev),
    ("pressure", HostCollector::pressure),
    ("timex", HostCollector::timex),
    ("uname", HostCollector::uname),
    ("vmstat", HostCollector::vmstat),
];

impl HostCollector {
    /// Makes a collector; nothing is read yet.
    pub fn new(config: HostConfig) -> Self {
        HostCollector {
            config,
            cpus: Mutex::default(),
            usage: UsageProbe::default(),
        }
    }

    /// Makes the target `job="host"` of this machine.
    pub fn source(config: &HostConfig, clock: Arc<dyn Clock>) -> LocalSource {
        let collector = HostCollector::new(config.clone());
        let instance = config
            .instance
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        LocalSource {
            job: "host".to_owned(),
            instance,
            interval: config.interval,
            write: Arc::new(move |bytes| {
                let mut text = String::with_capacity(32 << 10);
                collector.write(clock.now().seconds_f64(), &mut text);
                bytes.extend_from_slice(text.as_bytes());
                Ok(Format::Prometheus)
            }),
        }
    }

    /// Writes everything that can be read; `now_s` is the wall clock in Unix seconds. Blocks for as long as a few
    /// files take, and up to two seconds for a file system that newly hangs.
    pub fn write(&self, now_s: f64, text: &mut String) {
        let mut success = Vec::with_capacity(PARTS.len() + 1);
        let mut out = Exposition::new(text);
        for (name, part) in PARTS {
            let result = part(self, &mut out);
            if let Err(error) = &result {
                tracing::debug!(logger = "host", collector = name, %error, "part of the host not read");
            }
            success.push((name, result.is_ok()));
        }
        out.single(
            "node_time_seconds",
            "gauge",
            "The system's time, Unix time.",
            now_s,
        );
        success.push(("time", self.clock_sources(&mut out).is_ok()));
        out.family(
            "node_scrape_collector_success",
            "gauge",
            "Whether a part of the host could be read.",
        );
        for (name, is_success) in success {
            out.sample(&[("collector", name)], f64::from(u8::from(is_success)));
        }
    }

    fn proc(&self, path: &str) -> Result<String, PartError> {
        read(&self.config.proc_path.join(path))
    }

    fn sys(&self, path: &str) -> Result<String, PartError> {
        read(&self.config.sys_path.join(path))
    }

    /// Reads a file of the first process, whose namespaces are the host's, or else our own.
    fn proc_of_init(&self, path: &str) -> Result<String, PartError> {
        self.proc(&format!("1/{path}"))
            .or_else(|_| self.proc(&format!("self/{path}")))
    }

    fn cpu(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let stat = cpu::parse_stat(&self.proc("stat")?);
        let mut known = self.cpus.lock();
        cpu::keep_rising(&mut known, &stat.cpus);
        cpu::write_cpus(&known, out);
        cpu::write_stat(&stat, out);
        Ok(())
    }

    fn diskstats(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        disk::write_disks(&disk::parse_diskstats(&self.proc("diskstats")?), out);
        Ok(())
    }

    fn entropy(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let number = |path: &str| {
            let text = self.proc(path)?;
            text.trim().parse::<f64>().map_err(|_| PartError::Form {
                path: path.to_owned(),
            })
        };
        let available = number("sys/kernel/random/entropy_avail")?;
        kernel::write_entropy(available, number("sys/kernel/random/poolsize").ok(), out);
        Ok(())
    }

    fn filefd(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let path = "sys/fs/file-nr";
        let counts = kernel::parse_file_nr(&self.proc(path)?).ok_or(PartError::Form {
            path: path.to_owned(),
        })?;
        kernel::write_filefd(counts, out);
        Ok(())
    }

    fn filesystem(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let root = &self.config.root_path;
        let mounts = filesystem::parse_mountinfo(&self.proc_of_init("mountinfo")?, &root.to_string_lossy());
        let usages = self.usage.ask(&mounts, root);
        filesystem::write_filesystems(&mounts, &usages, out);
        Ok(())
    }

    fn loadavg(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let load = kernel::parse_loadavg(&self.proc("loadavg")?);
        kernel::write_load(
            load.ok_or(PartError::Form {
                path: "loadavg".to_owned(),
            })?,
            out,
        );
        Ok(())
    }

    fn meminfo(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        memory::write_memory(&memory::parse_meminfo(&self.proc("meminfo")?), out);
        Ok(())
    }

    fn netdev(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let mut devices = network::parse_net_dev(&self.proc_of_init("net/dev")?);
        for device in &mut devices {
            let path = format!("class/net/{}/statistics/rx_nohandler", device.device);
            device.nohandler = self.sys(&path).ok().and_then(|text| text.trim().parse().ok());
        }
        network::write_network(&devices, out);
        Ok(())
    }

    fn pressure(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        for resource in ["cpu", "io", "memory"] {
            let text = self.proc(&format!("pressure/{resource}"))?;
            kernel::write_pressure(resource, kernel::parse_pressure(&text), out);
        }
        // Only kernels that account for interrupts have this one.
        if let Ok(text) = self.proc("pressure/irq") {
            kernel::write_pressure("irq", kernel::parse_pressure(&text), out);
        }
        Ok(())
    }

    fn uname(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        kernel::write_uname(out);
        Ok(())
    }

    fn vmstat(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        kernel::write_vmstat(&kernel::parse_vmstat(&self.proc("vmstat")?), out);
        Ok(())
    }

    fn clock_sources(&self, out: &mut Exposition<'_>) -> Result<(), PartError> {
        let folder = "devices/system/clocksource/clocksource0";
        let available = self.sys(&format!("{folder}/available_clocksource"))?;
        let current = self.sys(&format!("{folder}/current_clocksource"))?;
        kernel::write_clock_sources(&available, &current, out);
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, PartError> {
    use std::io::Read as _;
    let failed = |reason: String| PartError::Read {
        path: path.display().to_string(),
        reason,
    };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(failed(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Feeds a text to every parser of host files; for fuzzing.
pub(crate) fn parse_everything(text: &str) {
    let mut written = String::new();
    let mut out = Exposition::new(&mut written);
    let stat = cpu::parse_stat(text);
    let mut known = BTreeMap::new();
    cpu::keep_rising(&mut known, &stat.cpus);
    cpu::write_cpus(&known, &mut out);
    cpu::write_stat(&stat, &mut out);
    disk::write_disks(&disk::parse_diskstats(text), &mut out);
    memory::write_memory(&memory::parse_meminfo(text), &mut out);
    network::write_network(&network::parse_net_dev(text), &mut out);
    kernel::write_vmstat(&kernel::parse_vmstat(text), &mut out);
    kernel::write_pressure("io", kernel::parse_pressure(text), &mut out);
    kernel::write_clock_sources(text, text, &mut out);
    if let Some(load) = kernel::parse_loadavg(text) {
        kernel::write_load(load, &mut out);
    }
    if let Some(counts) = kernel::parse_file_nr(text) {
        kernel::write_filefd(counts, &mut out);
    }
    let mounts = filesystem::parse_mountinfo(text, "/host");
    filesystem::write_filesystems(&mounts, &vec![None; mounts.len()], &mut out);
    // Whatever the kernel says, what is written must be readable.
    let mut parser = crate::exposition::Parser::new(written.as_bytes(), Format::Prometheus);
    while let Some(entry) = parser
        .next_entry()
        .expect("the writer escapes what the parser needs escaped")
    {
        if let crate::exposition::Entry::Sample(sample) = entry {
            crate::exposition::decode_series(sample.series, parser.kind())
                .expect("labels are distinct and named");
        }
    }
}
