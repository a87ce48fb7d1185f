//! Which figures the page shows, what they are called, and how they are written.
//!
//! The documents of `/api/v1/stats/…` hold more than an operator wants to see every day; here is the choice.
//! A figure that a document lacks is left out.

use std::time::Duration;

use marketprism_model::Timestamp;
use serde_json::Value;

use super::frame::View;
use super::language::Language;
use super::wording;

/// How a figure is written.
#[derive(Clone, Copy)]
enum Kind {
    Count,
    Bytes,
    Seconds,
    Moment,
    Fault,
}

/// One figure.
pub struct Figure {
    /// The section it is in.
    pub section: &'static str,
    /// Its key there.
    pub key: &'static str,
    chinese: &'static str,
    english: &'static str,
    kind: Kind,
}

const fn figure(
    section: &'static str,
    key: &'static str,
    chinese: &'static str,
    english: &'static str,
    kind: Kind,
) -> Figure {
    Figure {
        section,
        key,
        chinese,
        english,
        kind,
    }
}

/// All figures of the page, in order.
#[rustfmt::skip]
pub const FIGURES: [Figure; 20] = [
    figure("performance", "uptime_seconds", "运行时间", "running for", Kind::Seconds),
    figure("performance", "cpu_seconds_total", "已用 CPU 时间", "processor time", Kind::Seconds),
    figure("performance", "resident_memory_bytes", "常驻内存", "resident memory", Kind::Bytes),
    figure("performance", "open_files", "打开的文件", "open files", Kind::Count),
    figure("performance", "threads", "线程", "threads", Kind::Count),
    figure("storage", "series", "内存中的序列", "series in memory", Kind::Count),
    figure("storage", "series_limit", "序列上限", "series limit", Kind::Count),
    figure("storage", "head_samples", "内存中的样本", "samples in memory", Kind::Count),
    figure("storage", "appended", "启动后写入的样本", "samples taken since start", Kind::Count),
    figure("storage", "refused_too_old", "因过旧拒绝的样本", "samples refused as too old", Kind::Count),
    figure("storage", "refused_conflicting", "因冲突拒绝的样本", "samples refused as conflicting", Kind::Count),
    figure("storage", "refused_series", "因上限拒绝的序列", "series refused by the limit", Kind::Count),
    figure("storage", "wal_bytes", "预写日志", "write-ahead log", Kind::Bytes),
    figure("storage", "blocks", "数据块", "blocks", Kind::Count),
    figure("storage", "block_bytes", "数据块占用", "bytes in blocks", Kind::Bytes),
    figure("storage", "block_samples", "数据块中的样本", "samples in blocks", Kind::Count),
    figure("storage", "oldest", "最早的样本", "oldest sample", Kind::Moment),
    figure("storage", "newest", "最新的样本", "newest sample", Kind::Moment),
    figure("storage", "wal_last_error", "日志写入错误", "last fault of the log", Kind::Fault),
    figure("storage", "maintenance_last_error", "维护错误", "last fault of the maintenance", Kind::Fault),
];

impl Figure {
    /// Gives its name.
    pub const fn name(&self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.chinese,
            Language::English => self.english,
        }
    }

    /// Writes its value; `None` when there is nothing to show.
    pub fn written(&self, view: &View, value: &Value) -> Option<String> {
        let number = value.as_f64();
        match self.kind {
            Kind::Count => number.map(wording::figure),
            Kind::Bytes => number.map(wording::bytes),
            Kind::Seconds => {
                let span = Duration::try_from_secs_f64(number?).ok()?;
                Some(match span.as_secs() {
                    0..60 => wording::elapsed(span),
                    _ => wording::span(view.language.texts(), span),
                })
            }
            Kind::Moment => {
                let at = match value {
                    Value::String(text) => crate::prometheus::params::parse_time(text).ok()?,
                    _ => Timestamp::from_millis(value.as_i64()?),
                };
                Some(wording::moment(&view.zone, at))
            }
            Kind::Fault => value.as_str().filter(|text| !text.is_empty()).map(str::to_owned),
        }
    }
}
