//! Operators between two vectors: which rows meet, and what comes of it.
//!
//! Rows that agree in the matching labels have one signature. Where a signature has one row on the
//! "one" side, and as many on the other as the cardinality allows, columns are combined whole. The rest
//! is [`contest`]ed step by step, for only rows with values at the same step are in each other's way.

mod contest;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use marketprism_model::Labels;
use marketprism_model::labels::METRIC_NAME;

use crate::aggregate::chosen_labels;
use crate::answer::QueryError;
use crate::arithmetic;
use crate::ast::{BinaryOp, Cardinality, LabelChoice, Matching};
use crate::column::{ABSENT, Batch, Canvas, Names, Rows, RowsId, is_absent, is_metadata};
use crate::evaluate::{Inputs, Output, Run};
use crate::native::{self, Made, Operand};
use crate::notes::Part;
use contest::Arena;

/// The interrupt is asked after so many results.
const INTERRUPT_EVERY: usize = 4096;

/// The signatures of two sides, numbered together.
pub(crate) struct Signatures {
    pub(crate) left: Vec<u32>,
    pub(crate) right: Vec<u32>,
    pub(crate) count: usize,
}

impl Signatures {
    pub(crate) fn build(left: &Rows, right: &Rows, choice: &LabelChoice) -> Self {
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut bytes = Vec::new();
        let mut number = |labels: &Labels| {
            write_signature(labels, choice, &mut bytes);
            match known.get(&bytes) {
                Some(number) => *number,
                None => {
                    let next = known.len() as u32;
                    known.insert(bytes.clone(), next);
                    next
                }
            }
        };
        let left = left.labels().iter().map(&mut number).collect();
        let right = right.labels().iter().map(&mut number).collect();
        Signatures {
            left,
            right,
            count: known.len(),
        }
    }
}

/// Writes the matching labels; 0xff stands in no UTF-8 text, so it parts them without doubt.
fn write_signature(labels: &Labels, choice: &LabelChoice, bytes: &mut Vec<u8>) {
    bytes.clear();
    match choice {
        LabelChoice::Only(names) => {
            for name in names.iter() {
                bytes.extend_from_slice(labels.get(name).unwrap_or("").as_bytes());
                bytes.push(0xff);
            }
        }
        LabelChoice::Except(names) => {
            for (name, value) in labels {
                if name != METRIC_NAME && !names.iter().any(|ignored| **ignored == *name) {
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.push(0xff);
                    bytes.extend_from_slice(value.as_bytes());
                    bytes.push(0xff);
                }
            }
        }
    }
}

pub(crate) type JoinKey = (RowsId, RowsId, Matching, bool);

/// Two rows that meet, and the row of their result.
struct Pair {
    many: u32,
    one: u32,
    result: u32,
}

impl Pair {
    /// Combines two rows of numbers.
    #[inline]
    fn calculate(&self, operation: Operation, (many, one): (&Batch, &Batch), cells: &mut [f64]) {
        let (many, one) = (many.row(self.many as usize), one.row(self.one as usize));
        for ((cell, many), one) in cells.iter_mut().zip(many).zip(one) {
            if !is_absent(*many) && !is_absent(*one) {
                *cell = operation.apply(*many, *one);
            }
        }
    }

    /// Combines two rows, at least one of which has histograms or the operator is made for them.
    fn meet(
        &self,
        run: &mut Run<'_>,
        operation: Operation,
        (many, one): (&Batch, &Batch),
        canvas: &mut Canvas,
    ) -> Result<(), QueryError> {
        for step in 0..many.steps {
            let many_operand = many.operand(self.many as usize * many.steps + step);
            let one_operand = one.operand(self.one as usize * many.steps + step);
            let (Some(many_operand), Some(one_operand)) = (many_operand, one_operand) else {
                continue;
            };
            let made = operation.operate(&many_operand, &one_operand);
            if let Some(remark) = made.remark {
                run.notes.add(Part::Whole, remark);
            }
            if let Some(value) = made.value {
                canvas.put(self.result as usize * many.steps + step, value);
            }
        }
        run.check_held(canvas.held())
    }
}

/// The rows of a signature that may be in each other's way.
struct Contest {
    many: Vec<u32>,
    one: Vec<u32>,
}

/// How two sides join, made from labels alone. "Many" is the left side but for `group_right`.
///
/// Its size is bounded by that of the sides: only a contest could make more pairs than there are rows,
/// and its results are made step by step, as far as no ambiguity ends them.
pub(crate) struct Joined {
    pairs: Vec<Pair>,
    contests: Vec<Contest>,
    /// The labels of the pairs' results.
    result: Arc<Rows>,
    many_rows: usize,
    one_rows: usize,
}

/// What makes the labels of a result.
#[derive(Clone, Copy)]
struct Labelling<'a> {
    many: &'a Rows,
    one: &'a Rows,
    matching: &'a Matching,
    drops_name: bool,
}

impl Labelling<'_> {
    /// Gives the labels of a result; a missing row counts as having the matching labels alone.
    fn result(&self, many: Option<u32>, one: Option<u32>) -> Labels {
        let of = |rows: &Rows, row: Option<u32>| row.map(|row| rows.labels()[row as usize].clone());
        let matching_labels = |labels: &Labels| chosen_labels(labels, &self.matching.labels);
        let (many, one) = match (of(self.many, many), of(self.one, one)) {
            (Some(many), Some(one)) => (many, one),
            (Some(many), None) => {
                let one = matching_labels(&many);
                (many, one)
            }
            (None, Some(one)) => (matching_labels(&one), one),
            (None, None) => (Labels::empty(), Labels::empty()),
        };
        let is_kept = |name: &str| !(self.drops_name && is_metadata(name));
        let included = match &self.matching.cardinality {
            Cardinality::OneToOne => {
                return many.filtered(|name| {
                    let is_named = |names: &[Arc<str>]| names.iter().any(|other| **other == *name);
                    is_kept(name)
                        && match &self.matching.labels {
                            LabelChoice::Only(on) => is_named(on),
                            LabelChoice::Except(ignored) => !is_named(ignored),
                        }
                });
            }
            Cardinality::ManyToOne(included) | Cardinality::OneToMany(included) => included,
        };
        if included.is_empty() {
            return many.filtered(is_kept);
        }
        let mut builder = many.to_builder();
        builder.retain(|name, _| is_kept(name));
        for name in included.iter() {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        builder.build()
    }

    fn build(self, run: &Run<'_>) -> Result<Joined, QueryError> {
        let signatures = Signatures::build(self.many, self.one, &self.matching.labels);
        let rows_of = |side: &[u32]| {
            let mut rows = vec![Vec::new(); signatures.count];
            for (row, signature) in side.iter().enumerate() {
                rows[*signature as usize].push(row as u32);
            }
            rows
        };
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let is_filled = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let (mut pairs, mut contests, mut labels, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (many, one) in rows_of(&signatures.left)
            .into_iter()
            .zip(rows_of(&signatures.right))
        {
            if one.is_empty() && !is_filled {
                continue;
            }
            let is_clear = !is_filled && one.len() == 1 && (many.len() <= 1 || !is_one_to_one);
            if !is_clear {
                contests.push(Contest { many, one });
                continue;
            }
            let before = labels.len();
            for many in &many {
                let result = self.result(Some(*many), Some(one[0]));
                bytes += result.bytes_held() as u64;
                labels.push(result);
                run.check_bytes(bytes)?;
                if labels.len().is_multiple_of(INTERRUPT_EVERY) {
                    run.check_interrupt()?;
                }
            }
            let distinct = labels[before..].iter().collect::<HashSet<&Labels>>().len();
            if distinct < many.len() {
                labels.truncate(before);
                contests.push(Contest { many, one });
                continue;
            }
            let pair = |(place, many): (usize, &u32)| Pair {
                many: *many,
                one: one[0],
                result: (before + place) as u32,
            };
            pairs.extend(many.iter().enumerate().map(pair));
        }
        Ok(Joined {
            pairs,
            contests,
            result: Arc::new(Rows::lasting(labels)),
            many_rows: self.many.len(),
            one_rows: self.one.len(),
        })
    }
}

fn joined(run: &Run<'_>, labelling: Labelling<'_>) -> Result<Arc<Joined>, QueryError> {
    let Labelling {
        many,
        one,
        matching,
        drops_name,
    } = labelling;
    let (Some(many_id), Some(one_id)) = (many.id(), one.id()) else {
        return Ok(Arc::new(labelling.build(run)?));
    };
    let key = (many_id, one_id, matching.clone(), drops_name);
    let fits = |known: &Arc<Joined>| known.many_rows == many.len() && known.one_rows == one.len();
    if let Some(known) = run.tables.joins.get(&key).filter(fits) {
        return Ok(known);
    }
    let built = Arc::new(labelling.build(run)?);
    let weight = built.result.bytes() + built.pairs.len() * size_of::<Pair>() + (many.len() + one.len()) * 8;
    run.tables.joins.put(key, Arc::clone(&built), weight);
    Ok(built)
}

/// The operator, with the sides as they were written.
#[derive(Clone, Copy)]
struct Operation {
    op: BinaryOp,
    is_bool: bool,
    is_many_right: bool,
}

impl Operation {
    #[inline(always)]
    fn apply(self, many: f64, one: f64) -> f64 {
        let (left, right) = if self.is_many_right {
            (one, many)
        } else {
            (many, one)
        };
        arithmetic::pair(self.op, self.is_bool, left, right)
    }

    fn operate(self, many: &Operand, one: &Operand) -> Made {
        let (left, right) = if self.is_many_right {
            (one, many)
        } else {
            (many, one)
        };
        native::operate(self.op, self.is_bool, left, right)
    }
}

/// Calculates or compares two vectors.
pub(crate) fn join(
    run: &mut Run<'_>,
    op: BinaryOp,
    is_bool: bool,
    matching: &Matching,
    inputs: &mut Inputs,
) -> Result<Output, QueryError> {
    let (left, right) = (inputs.batch(0), inputs.batch(1));
    let is_many_right = matches!(matching.cardinality, Cardinality::OneToMany(_));
    let (many, one) = if is_many_right {
        (right, left)
    } else {
        (left, right)
    };
    let operation = Operation {
        op,
        is_bool,
        is_many_right,
    };
    let drops_name = is_bool || op.drops_name();
    let labelling = Labelling {
        many: &many.rows,
        one: &one.rows,
        matching,
        drops_name,
    };
    let table = joined(run, labelling)?;
    let steps = many.steps;
    run.check_size(table.result.len(), steps)?;
    let mut canvas = Canvas::over(vec![ABSENT; table.result.len() * steps]);
    let mut flags = vec![false; table.result.len()];
    let is_native = many.histograms.is_some() || one.histograms.is_some() || op.is_trim();
    for pair in &table.pairs {
        if is_native {
            pair.meet(run, operation, (&many, &one), &mut canvas)?;
            flags[pair.result as usize] = many.names.is_dropped(pair.many as usize);
            continue;
        }
        pair.calculate(operation, (&many, &one), canvas.row(pair.result as usize, steps));
        flags[pair.result as usize] = many.names.is_dropped(pair.many as usize);
    }
    let mut rows = Arc::clone(&table.result);
    if !table.contests.is_empty() {
        let mut arena = Arena::new(run, &many, &one, labelling, operation);
        for contest in &table.contests {
            arena.hold(contest)?;
        }
        let (more, notes) = arena.finish();
        run.notes.merge(&notes);
        if let Some(more) = more {
            rows = Arc::new(Rows::made(
                rows.labels().iter().chain(&more.labels).cloned().collect(),
            ));
            canvas.extend(more.canvas);
            flags.extend(more.flags);
        }
    }
    let names = if drops_name {
        Names::Kept
    } else {
        Names::from_flags(flags)
    };
    Ok(Output::vector(Batch::of_cells(
        rows,
        names,
        steps,
        canvas.finish(),
    )))
}
