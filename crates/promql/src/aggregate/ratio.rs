//! `limit_ratio`: a share of the series, the same ones each time.
//!
//! A series is kept when the hash of its labels, as a share of the largest hash, lies below the ratio; a negative
//! ratio keeps the others, from one plus the ratio on. So `limit_ratio(r, v)` and `limit_ratio(-(1 - r), v)` are
//! complements, and which series are kept is the same here as in Prometheus.
//!
//! Source: Prometheus 3, `promql/engine.go`, `HashRatioSampler`; `model/labels/labels_stringlabels.go` for what is
//! hashed; github.com/Cyan4973/xxHash, `doc/xxhash_spec.md`, for XXH64.

use std::sync::Arc;

use marketprism_model::Labels;

use crate::answer::QueryError;
use crate::arithmetic::{go_max, go_min};
use crate::column::{ABSENT, Batch, Grid, ScalarColumn};
use crate::evaluate::{Output, Run};
use crate::notes::{Part, Remark};

/// Keeps a share of the rows, step by step.
pub(super) fn limit_ratio(
    run: &mut Run<'_>,
    batch: &Batch,
    ratio: &ScalarColumn,
    grid: Grid,
) -> Result<Output, QueryError> {
    let ratios = || (0..grid.count).map(|step| ratio.at(step));
    if ratios().any(f64::is_nan) {
        return Err(QueryError::Data("Ratio value is NaN".to_owned()));
    }
    let limits = [
        (ratios().reduce(go_max).filter(|most| *most > 1.0), 1.0),
        (ratios().reduce(go_min).filter(|least| *least < -1.0), -1.0),
    ];
    for (found, capped_to) in limits {
        if let Some(ratio) = found {
            run.notes
                .add(Part::Argument(1), Remark::InvalidRatio { ratio, capped_to });
        }
    }
    let ratios: Vec<f64> = ratios().map(|ratio| ratio.clamp(-1.0, 1.0)).collect();
    let mut values = batch.values.clone();
    let mut histograms = batch.histograms.clone();
    for row in 0..batch.rows.len() {
        let share = share_of(&batch.answer_labels(row));
        for (step, ratio) in ratios.iter().enumerate() {
            if !is_kept(*ratio, share) {
                let cell = row * batch.steps + step;
                values[cell] = ABSENT;
                if let Some(histograms) = &mut histograms {
                    histograms[cell] = None;
                }
            }
        }
    }
    Ok(Output::vector(Batch {
        rows: Arc::clone(&batch.rows),
        names: batch.names.clone(),
        steps: batch.steps,
        values,
        histograms,
    }))
}

fn is_kept(ratio: f64, share: f64) -> bool {
    if ratio >= 0.0 {
        share < ratio
    } else {
        share >= 1.0 + ratio
    }
}

/// Gives the hash of labels as a share of the largest hash.
fn share_of(labels: &Labels) -> f64 {
    let mut bytes = Vec::new();
    for (name, value) in labels {
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(length) if length < 255 => bytes.push(length),
                _ => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    xxh64(&bytes) as f64 / u64::MAX as f64
}

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// XXH64 with the seed 0.
fn xxh64(bytes: &[u8]) -> u64 {
    let round = |lane: u64, input: u64| {
        lane.wrapping_add(input.wrapping_mul(PRIMES[1]))
            .rotate_left(31)
            .wrapping_mul(PRIMES[0])
    };
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = PRIMES[4];
    if !stripes.is_empty() {
        let mut lanes = [
            PRIMES[0].wrapping_add(PRIMES[1]),
            PRIMES[1],
            0,
            0u64.wrapping_sub(PRIMES[0]),
        ];
        for stripe in stripes {
            for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*input));
            }
        }
        let turns = [1, 7, 12, 18];
        hash = lanes
            .iter()
            .zip(turns)
            .fold(0u64, |sum, (lane, turn)| sum.wrapping_add(lane.rotate_left(turn)));
        for lane in lanes {
            hash = (hash ^ round(0, lane))
                .wrapping_mul(PRIMES[0])
                .wrapping_add(PRIMES[3]);
        }
    }
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ round(0, u64::from_le_bytes(*eight)))
            .rotate_left(27)
            .wrapping_mul(PRIMES[0])
            .wrapping_add(PRIMES[3]);
        rest = after;
    }
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        hash = (hash ^ u64::from(u32::from_le_bytes(*four)).wrapping_mul(PRIMES[0]))
            .rotate_left(23)
            .wrapping_mul(PRIMES[1])
            .wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIMES[4]))
            .rotate_left(11)
            .wrapping_mul(PRIMES[0]);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(PRIMES[1]);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `xxhsum -H1` (xxHash 0.8), and of the specification for the empty text.
    #[test]
    fn hashes_are_those_of_xxhash() {
        let check = |text: &str, expected: u64| assert_eq!(xxh64(text.as_bytes()), expected, "{text}");
        check("", 0xef46_db37_51d8_e999);
        check("a", 0xd24e_c4f1_a98c_6e5b);
        check("abc", 0x44bc_2cf5_ad77_0999);
        check("abcdefghijkl", 0x4b09_b7d3_a233_d4b3);
        check(
            "The quick brown fox jumps over the lazy dog",
            0x0b24_2d36_1fda_71bc,
        );
    }

    #[test]
    fn a_ratio_and_its_complement_share_the_series() {
        for share in [0.0, 0.2, 0.5, 0.999] {
            for ratio in [0.1, 0.2, 0.5, 0.9] {
                assert_ne!(
                    is_kept(ratio, share),
                    is_kept(ratio - 1.0, share),
                    "{ratio} {share}"
                );
            }
            assert!(is_kept(1.0, share) && is_kept(-1.0, share));
            assert!(!is_kept(0.0, share));
        }
    }
}
