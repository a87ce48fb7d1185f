//! Native histograms: what it means to add, compare, trim and measure them.
//!
//! Source: `model/histogram` and the histogram functions of github.com/prometheus/prometheus, version 3.
//! Two histograms meet in the coarser schema, with the larger zero bucket, or in the bounds that both have;
//! buckets are merged by their indices, so layouts with gaps cost no more than what they hold.
//! Deliberately absent: where the histograms stand. Columns, windows and groups are those of the evaluator.

mod bounds;
mod cells;
mod compare;
mod measure;
mod operate;
mod text;
mod total;
mod trim;

pub(crate) use compare::{is_equal, is_reset};
pub(crate) use measure::{NanRemark, average, fraction, quantile, variance};
pub(crate) use operate::{Made, Operand, compact, divided, operate, scaled};
pub use text::{HistogramBucket, histogram_buckets, histogram_text};
pub(crate) use total::{Added, Incompatible, Total};

#[cfg(test)]
mod properties;
