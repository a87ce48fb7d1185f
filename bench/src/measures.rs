//! What is measured, in which unit, and what it must be: the goals of the project as one table.

use crate::report::Goal::{AtMost, TimesLess};
use crate::report::Measure;

const PROMETHEUS: &str = "Prometheus";
const VICTORIA: &str = "VictoriaMetrics";

/// Processor time until requests are answered.
pub const INGEST: Measure = Measure {
    what: "ingest: remote write over HTTP, durable log",
    unit: "CPU-s / M samples",
    goals: &[(PROMETHEUS, TimesLess(6.0)), (VICTORIA, TimesLess(1.5))],
};
/// Processor time until everything behind the answers is done too.
pub const INGEST_ALL: Measure = Measure {
    what: "ingest until quiet, block cuts and merges included",
    unit: "CPU-s / M samples",
    goals: &[],
};
/// Wall time of one sender that waits for each answer.
pub const INGEST_WALL: Measure = Measure {
    what: "ingest, one sender that waits for each answer",
    unit: "wall s / M samples",
    goals: &[],
};
/// Resident memory after the history was written.
pub const RESIDENT: Measure = Measure {
    what: "memory a series, resident after 4 h of history",
    unit: "KB",
    goals: &[(PROMETHEUS, AtMost(0.5)), (VICTORIA, AtMost(0.8))],
};
/// Peak memory after the history was written.
pub const PEAK: Measure = Measure {
    what: "memory a series, peak while writing 4 h of history",
    unit: "KB",
    goals: &[(PROMETHEUS, AtMost(0.5)), (VICTORIA, AtMost(0.8))],
};
/// Disk of resting samples.
pub const DISK: Measure = Measure {
    what: "disk, blocks with their index",
    unit: "B / sample",
    goals: &[(PROMETHEUS, AtMost(0.4)), (VICTORIA, AtMost(1.0))],
};
/// Disk of everything before the measurement touched it.
pub const DISK_ALL: Measure = Measure {
    what: "disk, whole data folder with its log",
    unit: "B / sample",
    goals: &[],
};
/// A warm instant query.
pub const HOT_INSTANT: Measure = Measure {
    what: "hot instant `sum by(job)(rate(cpu[5m]))`, 32 series a host",
    unit: "CPU-ms / query",
    goals: &[(PROMETHEUS, TimesLess(10.0)), (VICTORIA, TimesLess(15.0))],
};
/// A range query over everything.
pub const RANGE: Measure = Measure {
    what: "the same over 4 h at 1 m",
    unit: "CPU-ms / query",
    goals: &[(PROMETHEUS, TimesLess(6.0)), (VICTORIA, TimesLess(1.5))],
};
/// First queries on the oldest data after a restart.
pub const COLD: Measure = Measure {
    what: "cold: 12 families, each asked once on the oldest block after a restart",
    unit: "CPU-ms / query",
    goals: &[(PROMETHEUS, TimesLess(2.0)), (VICTORIA, TimesLess(1.0))],
};
/// Processor time of coming back after a kill.
pub const REOPEN_CPU: Measure = Measure {
    what: "reopen after kill -9, until a query has all series",
    unit: "CPU-s",
    goals: &[(PROMETHEUS, AtMost(0.5))],
};
/// Wall time of coming back after a kill.
pub const REOPEN_WALL: Measure = Measure {
    what: "reopen after kill -9, until a query has all series",
    unit: "wall s",
    goals: &[(PROMETHEUS, AtMost(0.5))],
};
/// One tick of the alert rules.
pub const ALERT_TICK: Measure = Measure {
    what: "tick of five alert rules a host `rate(m{instance=\"iN\"}[5m]) > 10`, 1 in 20 firing",
    unit: "CPU-ms / tick",
    goals: &[(PROMETHEUS, TimesLess(25.0)), (VICTORIA, TimesLess(100.0))],
};
/// Processor time of 15 s of rules at scale, taking samples in included.
pub const SCALE_CPU: Measure = Measure {
    what: "ten alert rules a host at scale, each every 15 s, ingest included",
    unit: "CPU-s / 15 s",
    goals: &[],
};
/// Ticks that came too late at scale.
pub const SCALE_MISSED: Measure = Measure {
    what: "the same: ticks of groups that were skipped",
    unit: "%",
    goals: &[],
};
/// Memory at scale.
pub const SCALE_MEMORY: Measure = Measure {
    what: "the same: resident memory",
    unit: "GiB",
    goals: &[],
};
/// One tick of the recording rules.
pub const AGGREGATION_TICK: Measure = Measure {
    what: "tick of 100 overlapping aggregations, recorded",
    unit: "CPU-ms / tick",
    goals: &[(PROMETHEUS, TimesLess(50.0)), (VICTORIA, TimesLess(50.0))],
};
