//! Processor time and what else `/proc/stat` counts.

use std::collections::BTreeMap;

use super::text::Exposition;

/// The kernel counts processor time in hundredths of a second, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Idle time that falls by more than this means that the processor was unplugged and counts anew.
const IDLE_FALL_S: f64 = 3.0;

const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];
const IDLE: usize = 3;

/// Seconds of one processor: by mode in the order of the kernel, then as guest and as niced guest.
pub(super) type CpuSeconds = [f64; 10];

/// What `/proc/stat` says.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Stat {
    pub(super) cpus: BTreeMap<u32, CpuSeconds>,
    pub(super) boot_time_s: Option<f64>,
    pub(super) context_switches: Option<f64>,
    pub(super) forks: Option<f64>,
    pub(super) interrupts: Option<f64>,
    pub(super) running: Option<f64>,
    pub(super) blocked: Option<f64>,
}

/// Reads `/proc/stat`; lines it does not know or cannot read are left out.
pub(super) fn parse_stat(text: &str) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(key) = words.next() else { continue };
        if let Some(cpu) = key.strip_prefix("cpu").and_then(|number| number.parse().ok()) {
            let mut seconds = CpuSeconds::default();
            for (slot, word) in seconds.iter_mut().zip(words) {
                *slot = word.parse::<f64>().unwrap_or(0.0) / TICKS_PER_SECOND;
            }
            stat.cpus.insert(cpu, seconds);
            continue;
        }
        let slot = match key {
            "btime" => &mut stat.boot_time_s,
            "ctxt" => &mut stat.context_switches,
            "processes" => &mut stat.forks,
            "intr" => &mut stat.interrupts,
            "procs_running" => &mut stat.running,
            "procs_blocked" => &mut stat.blocked,
            _ => continue,
        };
        *slot = words.next().and_then(|word| word.parse().ok());
    }
    stat
}

/// Keeps processor counters from falling: the kernel lets iowait and idle slip back a little, and a rate would take
/// that for a restart.
pub(super) fn keep_rising(known: &mut BTreeMap<u32, CpuSeconds>, cpus: &BTreeMap<u32, CpuSeconds>) {
    known.retain(|cpu, _| cpus.contains_key(cpu));
    for (cpu, seconds) in cpus {
        let before = known.entry(*cpu).or_insert(*seconds);
        if before[IDLE] - seconds[IDLE] > IDLE_FALL_S {
            *before = *seconds;
        }
        for (old, new) in before.iter_mut().zip(seconds) {
            *old = old.max(*new);
        }
    }
}

pub(super) fn write_cpus(cpus: &BTreeMap<u32, CpuSeconds>, out: &mut Exposition<'_>) {
    out.family(
        "node_cpu_seconds_total",
        "counter",
        "Seconds the processors spent in each mode.",
    );
    for (cpu, seconds) in cpus {
        let cpu = cpu.to_string();
        for (mode, seconds) in MODES.iter().zip(seconds) {
            out.sample(&[("cpu", &cpu), ("mode", mode)], *seconds);
        }
    }
    out.family(
        "node_cpu_guest_seconds_total",
        "counter",
        "Seconds the processors spent in guests, for each mode.",
    );
    for (cpu, seconds) in cpus {
        let cpu = cpu.to_string();
        out.sample(&[("cpu", &cpu), ("mode", "user")], seconds[8]);
        out.sample(&[("cpu", &cpu), ("mode", "nice")], seconds[9]);
    }
}

pub(super) fn write_stat(stat: &Stat, out: &mut Exposition<'_>) {
    let families = [
        (
            "node_boot_time_seconds",
            "gauge",
            "When the system was started, Unix time.",
            stat.boot_time_s,
        ),
        (
            "node_context_switches_total",
            "counter",
            "Context switches.",
            stat.context_switches,
        ),
        (
            "node_forks_total",
            "counter",
            "Processes and threads that were started.",
            stat.forks,
        ),
        (
            "node_intr_total",
            "counter",
            "Interrupts that were served.",
            stat.interrupts,
        ),
        (
            "node_procs_running",
            "gauge",
            "Threads that run or could run.",
            stat.running,
        ),
        (
            "node_procs_blocked",
            "gauge",
            "Processes that wait for input or output.",
            stat.blocked,
        ),
    ];
    for (name, kind, help, value) in families {
        if let Some(value) = value {
            out.single(name, kind, help, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  132548 12896 22447 330846 1446 0 497 73 5 7
cpu0 65492 4922 11211 168179 302 1 116 36 2 3
cpu10 67056 7974 11235 162666 1144 0 380 37 3 4
intr 1684264 0 0 1
ctxt 2724208
btime 1795502158
processes 70449
procs_running 9
procs_blocked 2
softirq 833485 0 109041
";

    #[test]
    fn stat_is_read_by_processor_and_in_seconds() {
        let stat = parse_stat(STAT);
        assert_eq!(stat.cpus.keys().copied().collect::<Vec<_>>(), [0, 10]);
        assert_eq!(
            stat.cpus[&0],
            [654.92, 49.22, 112.11, 1681.79, 3.02, 0.01, 1.16, 0.36, 0.02, 0.03]
        );
        assert_eq!(
            (stat.boot_time_s, stat.context_switches),
            (Some(1_795_502_158.0), Some(2_724_208.0))
        );
        assert_eq!((stat.forks, stat.interrupts), (Some(70_449.0), Some(1_684_264.0)));
        assert_eq!((stat.running, stat.blocked), (Some(9.0), Some(2.0)));
    }

    #[test]
    fn a_counter_that_slips_back_stands_still_and_an_unplugged_processor_starts_anew() {
        let one =
            |idle, iowait| BTreeMap::from([(0, [1.0, 0.0, 0.0, idle, iowait, 0.0, 0.0, 0.0, 0.0, 0.0])]);
        let mut known = BTreeMap::new();
        keep_rising(&mut known, &one(100.0, 5.0));
        keep_rising(&mut known, &one(101.0, 4.8));
        assert_eq!((known[&0][3], known[&0][4]), (101.0, 5.0));
        keep_rising(&mut known, &one(2.0, 0.1));
        assert_eq!((known[&0][3], known[&0][4]), (2.0, 0.1));
        keep_rising(&mut known, &BTreeMap::new());
        assert!(known.is_empty());
    }
}
