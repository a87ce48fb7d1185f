//! One step of a stepped histogram: the histogram before, and the step added to it or taken from it.

use std::collections::BTreeMap;

use marketprism_model::{BucketSpan, Buckets, Histogram, ResetHint};

/// Adds `sign` times the step. The step may be finer than what it is added to, and never coarser.
pub(super) fn stepped(base: &Histogram, step: &Histogram, sign: f64) -> Result<Histogram, String> {
    if base.schema > step.schema {
        return Err(format!(
            "cannot merge from schema {} to {}",
            step.schema, base.schema
        ));
    }
    if base.has_custom_bounds() != step.has_custom_bounds() {
        return Err("custom bounds and exponential ones cannot be merged".to_owned());
    }
    if base.custom_bounds != step.custom_bounds {
        return Err("their custom bounds differ".to_owned());
    }
    if base.zero_threshold != step.zero_threshold {
        return Err("their zero buckets differ in width".to_owned());
    }
    let coarser = (step.schema - base.schema) as u32;
    Ok(Histogram {
        reset_hint: hint(base.reset_hint, step.reset_hint),
        schema: base.schema,
        zero_threshold: base.zero_threshold,
        zero_count: base.zero_count + sign * step.zero_count,
        count: base.count + sign * step.count,
        sum: base.sum + sign * step.sum,
        positive: merged(&base.positive, &step.positive, coarser, sign),
        negative: merged(&base.negative, &step.negative, coarser, sign),
        custom_bounds: base.custom_bounds.clone(),
    })
}

/// What is known of a reset after the step.
fn hint(base: ResetHint, step: ResetHint) -> ResetHint {
    match (base, step) {
        (base, step) if base == step => base,
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

fn merged(base: &Buckets, step: &Buckets, coarser: u32, sign: f64) -> Buckets {
    let mut counts: BTreeMap<i32, f64> = BTreeMap::new();
    base.each(|index, count| *counts.entry(index).or_default() += count);
    // A bucket of a coarser schema holds the finer ones up to its own upper bound.
    step.each(|index, count| {
        let index = (index.saturating_sub(1) >> coarser) + 1;
        *counts.entry(index).or_default() += sign * count;
    });
    let mut out = Buckets::default();
    let mut end = 0;
    for (index, count) in counts {
        match out.spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            _ => out.spans.push(BucketSpan {
                offset: index.saturating_sub(end),
                length: 1,
            }),
        }
        out.counts.push(count);
        end = index.saturating_add(1);
    }
    out
}
