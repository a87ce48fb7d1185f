//! `load`: series at even intervals from the moment 0 on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::histogram::CUSTOM_BOUNDS_SCHEMA;
use marketprism_model::{BucketSpan, Buckets, Histogram, Labels, Timestamp};
use marketprism_promql::memory::Memory;
use marketprism_promql::notation::{NotedSeries, NotedValue};

use super::command::{millis, series};

/// Series to be loaded.
pub struct Load {
    interval_ms: i64,
    series: Vec<NotedSeries>,
    /// Series that have start timestamps.
    pub timed: Vec<Labels>,
    /// Whether classic histograms become native ones with custom bounds as well.
    is_converted: bool,
}

impl Load {
    pub fn read(is_converted: bool, interval: &str, block: &[&str]) -> Result<Self, String> {
        let mut load = Load {
            interval_ms: millis(interval)?,
            series: Vec::new(),
            timed: Vec::new(),
            is_converted,
        };
        for line in block {
            let metric_end = line.find(char::is_whitespace).unwrap_or(line.len());
            match line[..metric_end].strip_suffix("@st") {
                Some(metric) => load.timed.push(series(metric)?.labels),
                None => load.series.push(series(line)?),
            }
        }
        Ok(load)
    }

    pub fn fill(&self, memory: &Memory) -> Result<(), String> {
        let interval = Duration::from_millis(self.interval_ms as u64);
        for series in &self.series {
            for value in series.values.iter().flatten() {
                if let NotedValue::Histogram { histogram, .. } = value {
                    let checked = histogram.check();
                    checked.map_err(|error| format!("{}: {error}", series.labels))?;
                }
            }
            memory.load(series, Timestamp::from_millis(0), interval);
        }
        if self.is_converted {
            self.fill_converted(memory)?;
        }
        Ok(())
    }

    /// Puts the series of classic histograms together, moment by moment.
    fn fill_converted(&self, memory: &Memory) -> Result<(), String> {
        let mut found: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
        for series in &self.series {
            let name = series.labels.metric_name();
            let parts = ["_bucket", "_count", "_sum"];
            let Some(part) = parts.iter().find(|part| name.ends_with(**part)) else {
                continue;
            };
            let bound = match (*part, series.labels.get("le")) {
                ("_bucket", Some(bound)) => match bound.parse::<f64>() {
                    Ok(bound) if !bound.is_nan() => bound,
                    _ => continue,
                },
                ("_bucket", None) => return Err(format!("{} has no le", series.labels)),
                _ => 0.0,
            };
            let base = name[..name.len() - part.len()].to_owned();
            let labels = series.labels.without("le").with("__name__", &base);
            let moments = found.entry(labels).or_default();
            for (place, value) in series.values.iter().enumerate() {
                let Some(NotedValue::Number(value)) = value else {
                    continue;
                };
                let classic = moments.entry(place).or_default();
                match *part {
                    "_bucket" => classic.buckets.push((bound, *value)),
                    "_count" => classic.count = Some(*value),
                    _ => classic.sum = *value,
                }
            }
        }
        for (labels, moments) in found {
            for (place, classic) in moments {
                let at = Timestamp::from_millis(place as i64 * self.interval_ms);
                let histogram = classic.native().map_err(|why| format!("{labels}: {why}"))?;
                memory.append_histogram(&labels, at, &Arc::new(histogram));
            }
        }
        Ok(())
    }
}

/// A classic histogram at one moment.
#[derive(Default)]
struct Classic {
    /// Upper bounds and counts of all up to them.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    fn native(mut self) -> Result<Histogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|a, b| a.0 == b.0);
        let highest = self.buckets.last().copied();
        let count = self.count.or(highest.map(|(_, count)| count)).unwrap_or(0.0);
        if highest.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let (mut counts, mut before) = (Vec::new(), 0.0);
        for (_, up_to) in &self.buckets {
            if *up_to < before {
                return Err(format!("{:?} do not rise", self.buckets));
            }
            counts.push(up_to - before);
            before = *up_to;
        }
        if before != count {
            return Err(format!("a count of {count} over {:?}", self.buckets));
        }
        let bounds = self.buckets.iter().map(|(bound, _)| *bound);
        Ok(Histogram {
            schema: CUSTOM_BOUNDS_SCHEMA,
            count,
            sum: self.sum,
            positive: Buckets {
                spans: vec![BucketSpan {
                    offset: 0,
                    length: counts.len() as u32,
                }],
                counts,
            },
            custom_bounds: bounds.filter(|bound| *bound != f64::INFINITY).collect(),
            ..Histogram::default()
        })
    }
}
