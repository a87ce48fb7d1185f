//! What the kernel tells of this process, under the names that every Prometheus client uses.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::put;

/// Asks the kernel about this process at each scrape; the conventional `process_` names.
pub struct ProcessFigures {
    clock: Arc<dyn Clock>,
    started_seconds: f64,
    /// The same moment of the monotonic clock.
    started_at: Duration,
}

impl ProcessFigures {
    /// Notes when the process started.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        ProcessFigures {
            started_seconds: clock.now().seconds_f64(),
            started_at: clock.monotonic(),
            clock,
        }
    }
}

impl fmt::Debug for ProcessFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessFigures")
    }
}

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let process = read_process();
        let now = self.clock.now().seconds_f64();
        let uptime = self.clock.monotonic().saturating_sub(self.started_at);
        let gauges = [
            (
                "process_start_time_seconds",
                "When the process started",
                self.started_seconds,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory",
                process.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space, of which most is files that are mapped",
                process.virtual_bytes,
            ),
            ("process_open_fds", "Open file descriptors", process.open_files),
            (
                "process_max_fds",
                "The most file descriptors that may be open",
                process.open_files_max,
            ),
            ("process_threads", "Threads", process.threads),
            (
                "marketprism_uptime_seconds",
                "For how long the process has run, whatever happened to the wall clock",
                uptime.as_secs_f64(),
            ),
            (
                "marketprism_clock_seconds",
                "The wall clock as the program sees it",
                now,
            ),
        ];
        for (name, help, value) in gauges {
            put(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        let cpu = ConstCounter::new(process.cpu_seconds);
        put(&mut encoder, "process_cpu_seconds", "CPU time used", &cpu)
    }
}

/// Gives what the process uses, for the statistics page.
pub fn process() -> serde_json::Value {
    let process = read_process();
    serde_json::json!({
        "resident_bytes": process.resident_bytes,
        "cpu_seconds": process.cpu_seconds,
        "open_files": process.open_files,
        "open_files_max": process.open_files_max,
        "threads": process.threads,
    })
}

struct Process {
    resident_bytes: f64,
    virtual_bytes: f64,
    cpu_seconds: f64,
    threads: f64,
    open_files: f64,
    open_files_max: f64,
}

/// Reads `/proc/self`; what cannot be read is 0.
fn read_process() -> Process {
    let page = rustix::param::page_size() as f64;
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name may hold spaces; what follows its closing parenthesis begins with field 3.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let field = |index: usize| number(fields.get(index).copied());
    let mut pages = statm.split_whitespace();
    // Where there is no limit, Prometheus' own library shows the largest number of its type.
    let open_files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Process {
        virtual_bytes: number(pages.next()) * page,
        resident_bytes: number(pages.next()) * page,
        cpu_seconds: (field(11) + field(12)) / ticks,
        threads: field(17),
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64),
        open_files_max: open_files_max.unwrap_or(u64::MAX) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read_from_their_places() {
        let process = read_process();
        let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
        let named = |name: &str| -> f64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect(name);
            line.split_whitespace()
                .next()
                .and_then(|text| text.parse().ok())
                .expect(name)
        };
        // They move while they are read, but not by a half.
        let check = |found: f64, known: f64, name: &str| {
            assert!(
                found > known / 2.0 && found < known * 2.0,
                "{name}: {found}, {known}"
            );
        };
        check(process.resident_bytes, named("VmRSS:") * 1024.0, "resident");
        check(process.virtual_bytes, named("VmSize:") * 1024.0, "virtual");
        check(process.threads, named("Threads:"), "threads");
        assert!(process.open_files >= 3.0 && process.open_files_max > process.open_files);
    }
}
