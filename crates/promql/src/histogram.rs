//! Classic histograms: quantiles and fractions of buckets labelled `le`.
//!
//! Source: Prometheus 3, `histogram_quantile` and `histogram_fraction`: linear within a bucket, the
//! second-highest bound for what lies in the highest bucket, counts made to rise where they fall.
//! Native histograms in the same vector are measured as `native` says; where both have the same labels at one
//! moment, neither is.

mod natives;

pub(crate) use natives::{both, label, measure};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use marketprism_model::labels::BUCKET_LE;
use marketprism_model::{Histogram, Labels};

use crate::answer::QueryError;
use crate::column::{ABSENT, Batch, Grid, Names, Rows, is_absent};
use crate::evaluate::{Inputs, Output, Run};
use crate::native::{self, NanRemark};
use crate::notes::{Monotonicity, Part, Remark};

use natives::Natives;

/// Counts that differ by less than this share of their sum are taken to be equal.
const SAME_COUNT: f64 = 1e-12;

/// The buckets of each histogram, made from labels alone.
pub(crate) struct Buckets {
    /// Bounds and rows of each histogram, by rising bound.
    histograms: Vec<Vec<(f64, u32)>>,
    /// Rows whose `le` is missing or no number.
    malformed: Vec<u32>,
    rows: Arc<Rows>,
    count: usize,
}

impl Buckets {
    fn build(rows: &Rows) -> Self {
        let mut known: HashMap<Labels, usize> = HashMap::new();
        let (mut histograms, mut labels, mut malformed) =
            (Vec::<Vec<(f64, u32)>>::new(), Vec::new(), Vec::new());
        for (row, row_labels) in rows.labels().iter().enumerate() {
            let Some(bound) = row_labels
                .get(BUCKET_LE)
                .and_then(|text| text.parse::<f64>().ok())
            else {
                malformed.push(row as u32);
                continue;
            };
            let next = histograms.len();
            let place = *known
                .entry(row_labels.without(BUCKET_LE))
                .or_insert_with_key(|histogram| {
                    labels.push(histogram.clone());
                    histograms.push(Vec::new());
                    next
                });
            histograms[place].push((bound, row as u32));
        }
        for buckets in &mut histograms {
            buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        }
        Buckets {
            histograms,
            malformed,
            rows: Arc::new(Rows::lasting(labels)),
            count: rows.len(),
        }
    }
}

fn buckets(run: &Run<'_>, rows: &Rows) -> Arc<Buckets> {
    let Some(id) = rows.id() else {
        return Arc::new(Buckets::build(rows));
    };
    if let Some(known) = run
        .tables
        .buckets
        .get(&id)
        .filter(|known| known.count == rows.len())
    {
        return known;
    }
    let built = Arc::new(Buckets::build(rows));
    let weight = rows.len() * 16 + built.rows.bytes();
    run.tables.buckets.put(id, Arc::clone(&built), weight);
    built
}

#[derive(Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// Calls `value` with the present buckets of each histogram at each step; `part` is the argument they came by.
fn each_histogram(
    run: &mut Run<'_>,
    batch: &Batch,
    part: Part,
    mut value: impl FnMut(&mut Run<'_>, &Labels, usize, &mut Vec<Bucket>) -> f64,
    mut native_value: impl FnMut(&mut Run<'_>, &Labels, usize, &Histogram) -> f64,
) -> Result<Output, QueryError> {
    let table = buckets(run, &batch.rows);
    let natives = Natives::of(batch, &table);
    let steps = batch.steps;
    run.check_size(table.histograms.len() + natives.count(), steps)?;
    for row in &table.malformed {
        if batch.row(*row as usize).iter().any(|value| !is_absent(*value)) {
            let labels = &batch.rows.labels()[*row as usize];
            let (metric, le) = (labels.metric_name(), labels.get(BUCKET_LE).unwrap_or(""));
            run.notes.add(part, Remark::BadBucketLabel { metric, le });
        }
    }
    let mut values = vec![ABSENT; (table.histograms.len() + natives.count()) * steps];
    // At these cells there are both, and nothing is made of either.
    let mut conflicts: HashSet<usize> = HashSet::new();
    let mut present: Vec<Bucket> = Vec::new();
    for (place, buckets) in table.histograms.iter().enumerate() {
        let labels = &table.rows.labels()[place];
        for step in 0..steps {
            present.clear();
            for (bound, row) in buckets {
                let count = batch.row(*row as usize)[step];
                match present.last_mut() {
                    _ if is_absent(count) => {}
                    // Spelled differently ("1" and "1.0"), a bound may come twice.
                    Some(last) if last.bound == *bound => last.count += count,
                    _ => present.push(Bucket { bound: *bound, count }),
                }
            }
            if present.is_empty() {
                continue;
            }
            if natives.beside(batch, place, step).is_some() {
                run.notes
                    .add(part, Remark::MixedClassicNative(labels.metric_name()));
                conflicts.insert(place * steps + step);
                continue;
            }
            values[place * steps + step] = value(run, labels, step, &mut present);
        }
    }
    for (row, result) in &natives.rows {
        let labels = &batch.rows.labels()[*row];
        for step in 0..steps {
            let cell = result * steps + step;
            if let Some(histogram) = batch.histogram(row * steps + step)
                && !conflicts.contains(&cell)
            {
                values[cell] = native_value(run, labels, step, histogram);
            }
        }
    }
    let rows = natives.rows_with(&table.rows);
    Ok(Output::vector(Batch::numbers(
        rows,
        Names::Dropped,
        steps,
        values,
    )))
}

fn remark_nan(run: &mut Run<'_>, part: Part, labels: &Labels, remark: Option<NanRemark>) {
    let metric = labels.metric_name();
    let remark = match remark {
        None => return,
        Some(NanRemark::Result) => Remark::QuantileNanResult(metric),
        Some(NanRemark::Skew) => Remark::QuantileNanSkew(metric),
        Some(NanRemark::Excluded) => Remark::FractionNans(metric),
    };
    run.notes.add(part, remark);
}

/// `histogram_quantile`: φ (input 0) of buckets (input 1).
pub(crate) fn quantile(run: &mut Run<'_>, inputs: &mut Inputs, grid: Grid) -> Result<Output, QueryError> {
    let (phi, batch) = (inputs.scalar(0), inputs.batch(1));
    for step in 0..grid.count {
        let phi = phi.at(step);
        if !(0.0..=1.0).contains(&phi) {
            run.notes.add(Part::Argument(0), Remark::InvalidQuantile(phi));
        }
    }
    let part = Part::Argument(1);
    let classic = |run: &mut Run<'_>, labels: &Labels, step: usize, buckets: &mut Vec<Bucket>| {
        let (value, forced) = bucket_quantile(phi.at(step), buckets);
        if let Some(forced) = forced {
            let (metric, at) = (labels.metric_name(), grid.moment(step));
            let counted = Monotonicity {
                first: at,
                last: at,
                ..forced
            };
            run.notes
                .add(part, Remark::ForcedMonotonicity { metric, counted });
        }
        value
    };
    each_histogram(run, &batch, part, classic, |run, labels, step, histogram| {
        let (value, remark) = native::quantile(phi.at(step), histogram);
        remark_nan(run, part, labels, remark);
        value
    })
}

/// Gives the quantile, and how counts had to be made to rise; the moments of that are the caller's.
fn bucket_quantile(phi: f64, buckets: &mut [Bucket]) -> (f64, Option<Monotonicity>) {
    if phi.is_nan() {
        return (f64::NAN, None);
    }
    if phi < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if phi > 1.0 {
        return (f64::INFINITY, None);
    }
    let [.., highest] = buckets else {
        return (f64::NAN, None);
    };
    if highest.bound != f64::INFINITY {
        return (f64::NAN, None);
    }
    let forced = make_rise(buckets);
    let last = buckets.len() - 1;
    let total = buckets[last].count;
    if last == 0 || total == 0.0 {
        return (f64::NAN, forced);
    }
    let rank = phi * total;
    let place = buckets[..last].partition_point(|bucket| {
        // A NaN count is never reached, as in a search for the first that is.
        !matches!(
            bucket.count.partial_cmp(&rank),
            Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)
        )
    });
    let value = if place == last {
        buckets[last - 1].bound
    } else if place == 0 && buckets[0].bound <= 0.0 {
        buckets[0].bound
    } else {
        let (start, below) = match place {
            0 => (0.0, 0.0),
            _ => (buckets[place - 1].bound, buckets[place - 1].count),
        };
        let share = if place == 0 {
            rank / buckets[0].count
        } else {
            (rank - below) / (buckets[place].count - below)
        };
        start + (buckets[place].bound - start) * share
    };
    (value, forced)
}

/// Makes counts rise with their bounds; small differences are noise and not worth a remark.
fn make_rise(buckets: &mut [Bucket]) -> Option<Monotonicity> {
    let (mut forced, mut highest) = (None, buckets[0].count);
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == highest {
            continue;
        }
        if is_same_count(highest, count) {
            bucket.count = highest;
        } else if count < highest {
            bucket.count = highest;
            let known = forced.get_or_insert(Monotonicity {
                first: 0,
                last: 0,
                lowest: bucket.bound,
                highest: bucket.bound,
                difference: 0.0,
                count: 1,
            });
            known.lowest = known.lowest.min(bucket.bound);
            known.highest = known.highest.max(bucket.bound);
            known.difference = known.difference.max(highest - count);
        } else {
            highest = count;
        }
    }
    forced
}

fn is_same_count(a: f64, b: f64) -> bool {
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SAME_COUNT * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SAME_COUNT
}

/// `histogram_fraction`: the share between two bounds (inputs 0 and 1) of buckets (input 2).
pub(crate) fn fraction(run: &mut Run<'_>, inputs: &mut Inputs) -> Result<Output, QueryError> {
    let (lower, upper, batch) = (inputs.scalar(0), inputs.scalar(1), inputs.batch(2));
    let part = Part::Argument(2);
    let classic = |_: &mut Run<'_>, _: &Labels, step: usize, buckets: &mut Vec<Bucket>| {
        bucket_fraction(lower.at(step), upper.at(step), buckets)
    };
    each_histogram(run, &batch, part, classic, |run, labels, step, histogram| {
        let (value, remark) = native::fraction(lower.at(step), upper.at(step), histogram);
        remark_nan(run, part, labels, remark);
        value
    })
}

fn bucket_fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let total = match buckets.last() {
        Some(highest) if highest.bound == f64::INFINITY => highest.count,
        _ => return f64::NAN,
    };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets).min(total) - rank_of(lower, buckets).min(total)) / total
}

/// The count of observations below `value`, linear within a bucket.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let mut below = 0.0;
    let mut start = if buckets[0].bound <= 0.0 {
        f64::NEG_INFINITY
    } else {
        0.0
    };
    for bucket in buckets {
        if start >= value {
            return below;
        }
        if bucket.bound > value {
            if start == f64::NEG_INFINITY {
                return bucket.count;
            }
            return below + (bucket.count - below) * (value - start) / (bucket.bound - start);
        }
        (below, start) = (bucket.count, bucket.bound);
    }
    f64::INFINITY
}
