//! Buckets as a list of indices and counts, and back to spans.
//!
//! Arithmetic wants an index beside each count; spans are how histograms are kept. Cells lie with rising indices and gaps
//! between them, so a layout costs no more than what it holds.
//! Deliberately absent: bounds.

use marketprism_model::{BucketSpan, Buckets};

use crate::sum;

/// A bucket's count in the making, and what its additions have lost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Cell {
    pub(crate) index: i32,
    pub(crate) count: f64,
    pub(crate) lost: f64,
}

impl Cell {
    pub(crate) fn new(index: i32, count: f64) -> Self {
        Cell {
            index,
            count,
            lost: 0.0,
        }
    }

    pub(crate) fn add(&mut self, value: f64) {
        (self.count, self.lost) = sum::add(value, self.count, self.lost);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0.0 && self.lost == 0.0
    }
}

pub(crate) fn cells(buckets: &Buckets) -> Vec<Cell> {
    let mut all = Vec::with_capacity(buckets.counts.len());
    buckets.each(|index, count| all.push(Cell::new(index, count)));
    all
}

/// Makes buckets of pairs with rising indices: one span for each run without a gap.
pub(crate) fn buckets(pairs: impl Iterator<Item = (i32, f64)>) -> Buckets {
    let mut made = Buckets::default();
    // One past the last index.
    let mut end = 0i32;
    for (index, count) in pairs {
        match made.spans.last_mut() {
            Some(span) if index == end => span.length += 1,
            _ => made.spans.push(BucketSpan {
                offset: index.saturating_sub(end),
                length: 1,
            }),
        }
        end = index.saturating_add(1);
        made.counts.push(count);
    }
    made
}

/// Gives the bucket of a coarser schema that holds a bucket of a finer one.
pub(crate) fn coarser(index: i32, from: i32, to: i32) -> i32 {
    (((i64::from(index) - 1) >> (from - to).clamp(0, 62)) + 1) as i32
}

/// Merges cells into those of a coarser schema.
pub(crate) fn reduce(cells: &mut Vec<Cell>, from: i32, to: i32) {
    if from <= to {
        return;
    }
    let mut kept = 0usize;
    for place in 0..cells.len() {
        let Cell { index, count, lost } = cells[place];
        let index = coarser(index, from, to);
        if kept > 0 && cells[kept - 1].index == index {
            cells[kept - 1].add(count);
            cells[kept - 1].add(lost);
        } else {
            cells[kept] = Cell { index, count, lost };
            kept += 1;
        }
    }
    cells.truncate(kept);
}

/// Adds cells with rising indices to others.
pub(crate) fn merge(into: &mut Vec<Cell>, added: &[Cell], sign: f64) {
    let (mut at, known) = (0, into.len());
    for cell in added {
        while at < known && into[at].index < cell.index {
            at += 1;
        }
        if at < known && into[at].index == cell.index {
            into[at].add(sign * cell.count);
            if cell.lost != 0.0 {
                into[at].add(sign * cell.lost);
            }
        } else {
            into.push(Cell {
                index: cell.index,
                count: sign * cell.count,
                lost: sign * cell.lost,
            });
        }
    }
    if into.len() > known {
        // Two rising runs: sorting merges them.
        into.sort_by_key(|cell| cell.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_runs_and_lead_back_to_the_same_pairs() {
        let pairs = [(-3, 1.0), (-2, 2.0), (0, 3.0), (7, 4.0), (8, 5.0)];
        let made = buckets(pairs.into_iter());
        let spans: Vec<(i32, u32)> = made.spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!(spans, [(-3, 2), (1, 1), (6, 2)]);
        let back: Vec<(i32, f64)> = cells(&made).iter().map(|c| (c.index, c.count)).collect();
        assert_eq!(back, pairs);
    }

    #[test]
    fn a_coarser_bucket_holds_the_finer_ones_below_its_bound() {
        // Schema 1 has √2 and 2 as the bounds of 1 and 2; both lie in (1, 2], bucket 1 of schema 0.
        let found: Vec<i32> = [-1, 0, 1, 2, 3].map(|index| coarser(index, 1, 0)).to_vec();
        assert_eq!(found, [0, 0, 1, 1, 2]);
        let mut all = vec![Cell::new(1, 2.0), Cell::new(2, 3.0), Cell::new(5, 1.0)];
        reduce(&mut all, 1, 0);
        assert_eq!(all, [Cell::new(1, 5.0), Cell::new(3, 1.0)]);
    }
}
