//! Operators between two vectors: which rows meet, and what comes of it.
//!
//! Rows that agree in the matching labels have one signature. Where a signature has one row on the
//! "one" side, and as many on the other as the cardinality allows, columns are combined whole. The rest
//! goes step by step, for only rows with values at the same step are in each other's way.

use std::collections::HashMap;
use std::sync::Arc;

use marketprism_model::labels::METRIC_NAME;
use marketprism_model::{Labels, LabelsBuilder};

use crate::aggregate::chosen_labels;
use crate::answer::QueryError;
use crate::arithmetic;
use crate::ast::{BinaryOp, Cardinality, LabelChoice, Matching};
use crate::column::{ABSENT, Batch, Names, Rows, RowsId, is_absent, is_metadata};
use crate::evaluate::{Inputs, Output, Run};

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

/// Two rows that may meet. A missing one stands for the fill value of its side.
struct Pair {
    many: Option<u32>,
    one: Option<u32>,
    result: u32,
}

/// How two sides join, made from labels alone. "Many" is the left side but for `group_right`.
pub(crate) struct Joined {
    /// Pairs that cannot be in anyone's way.
    simple: Vec<Pair>,
    /// Signatures whose rows may: pairs, and all rows of the "one" and of the "many" side.
    contested: Vec<Contest>,
    result: Arc<Rows>,
    many_rows: usize,
    one_rows: usize,
}

struct Contest {
    pairs: Vec<Pair>,
    one: Vec<u32>,
    many: Vec<u32>,
}

struct Builder<'a> {
    many: &'a Rows,
    one: &'a Rows,
    matching: &'a Matching,
    drops_name: bool,
    labels: Vec<Labels>,
}

impl Builder<'_> {
    /// Gives the labels of a result; a missing row counts as having the matching labels alone.
    fn result_labels(&self, many: Option<u32>, one: Option<u32>) -> Labels {
        let of = |rows: &Rows, row: Option<u32>| row.map(|row| rows.labels()[row as usize].clone());
        let (many, one) = (of(self.many, many), of(self.one, one));
        let matched = |other: &Option<Labels>| match other {
            Some(labels) => chosen_labels(labels, &self.matching.labels),
            None => Labels::empty(),
        };
        let base = many.clone().unwrap_or_else(|| matched(&one));
        let other = one.clone().unwrap_or_else(|| matched(&many));
        let mut builder: LabelsBuilder = base.to_builder();
        if self.drops_name {
            builder.retain(|name, _| !is_metadata(name));
        }
        match &self.matching.cardinality {
            Cardinality::OneToOne => {
                builder.retain(|name, _| match &self.matching.labels {
                    LabelChoice::Only(names) => names.iter().any(|on| **on == *name),
                    LabelChoice::Except(names) => !names.iter().any(|ignored| **ignored == *name),
                });
            }
            Cardinality::ManyToOne(included) | Cardinality::OneToMany(included) => {
                for name in included.iter() {
                    builder.set(name, other.get(name).unwrap_or(""));
                }
            }
        }
        builder.build()
    }

    /// Adds a result row, or finds the one with the same labels among those of this signature.
    fn result_row(&mut self, of_signature: &mut Vec<u32>, labels: Labels) -> u32 {
        let same = of_signature
            .iter()
            .find(|row| self.labels[**row as usize] == labels);
        if let Some(row) = same {
            return *row;
        }
        self.labels.push(labels);
        let row = (self.labels.len() - 1) as u32;
        of_signature.push(row);
        row
    }

    fn build(mut self) -> Joined {
        let signatures = Signatures::build(self.many, self.one, &self.matching.labels);
        let (mut many_of, mut one_of) = (
            vec![Vec::new(); signatures.count],
            vec![Vec::new(); signatures.count],
        );
        for (row, signature) in signatures.left.iter().enumerate() {
            many_of[*signature as usize].push(row as u32);
        }
        for (row, signature) in signatures.right.iter().enumerate() {
            one_of[*signature as usize].push(row as u32);
        }
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let is_filled = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        let (mut simple, mut contested) = (Vec::new(), Vec::new());
        for (many, one) in many_of.into_iter().zip(one_of) {
            let mut pairs = Vec::new();
            let mut rows = Vec::new();
            for many in &many {
                for one in &one {
                    let labels = self.result_labels(Some(*many), Some(*one));
                    let result = self.result_row(&mut rows, labels);
                    pairs.push(Pair {
                        many: Some(*many),
                        one: Some(*one),
                        result,
                    });
                }
                if self.matching.fill_right.is_some() || self.matching.fill_left.is_some() {
                    let labels = self.result_labels(Some(*many), None);
                    let result = self.result_row(&mut rows, labels);
                    pairs.push(Pair {
                        many: Some(*many),
                        one: None,
                        result,
                    });
                }
            }
            if is_filled {
                for one in &one {
                    let labels = self.result_labels(None, Some(*one));
                    let result = self.result_row(&mut rows, labels);
                    pairs.push(Pair {
                        many: None,
                        one: Some(*one),
                        result,
                    });
                }
            }
            let is_simple = !is_filled
                && one.len() <= 1
                && rows.len() == pairs.len()
                && (!is_one_to_one || many.len() <= 1 || one.is_empty());
            if is_simple {
                simple.extend(pairs);
            } else {
                contested.push(Contest { pairs, one, many });
            }
        }
        Joined {
            simple,
            contested,
            result: Arc::new(Rows::lasting(self.labels)),
            many_rows: self.many.len(),
            one_rows: self.one.len(),
        }
    }
}

fn joined(run: &Run<'_>, many: &Rows, one: &Rows, matching: &Matching, drops_name: bool) -> Arc<Joined> {
    let build = || {
        Arc::new(
            Builder {
                many,
                one,
                matching,
                drops_name,
                labels: Vec::new(),
            }
            .build(),
        )
    };
    let (Some(many_id), Some(one_id)) = (many.id(), one.id()) else {
        return build();
    };
    let key = (many_id, one_id, matching.clone(), drops_name);
    let fits = |known: &Arc<Joined>| known.many_rows == many.len() && known.one_rows == one.len();
    if let Some(known) = run.tables.joins.get(&key).filter(fits) {
        return known;
    }
    let built = build();
    let weight = built.result.len() * 10 + many.len() + one.len();
    run.tables.joins.put(key, Arc::clone(&built), weight);
    built
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
    let drops_name = is_bool || matches!(op, BinaryOp::Arithmetic(_));
    let table = joined(run, &many.rows, &one.rows, matching, drops_name);
    let steps = many.steps;
    run.check_size(table.result.len(), steps)?;
    let mut values = vec![ABSENT; table.result.len() * steps];
    let mut flags = vec![false; table.result.len()];
    for pair in &table.simple {
        let (Some(many_row), Some(one_row)) = (pair.many, pair.one) else {
            continue;
        };
        let cells = &mut values[pair.result as usize * steps..][..steps];
        let (many_values, one_values) = (many.row(many_row as usize), one.row(one_row as usize));
        for ((cell, many), one) in cells.iter_mut().zip(many_values).zip(one_values) {
            if !is_absent(*many) && !is_absent(*one) {
                *cell = operation.apply(*many, *one);
            }
        }
        flags[pair.result as usize] = many.names.is_dropped(many_row as usize);
    }
    if !table.contested.is_empty() {
        let sides = Sides {
            many: &many,
            one: &one,
            matching,
            operation,
        };
        sides.contest(&table, &mut values, &mut flags)?;
    }
    let names = if drops_name {
        Names::Kept
    } else {
        Names::from_flags(flags)
    };
    Ok(Output::vector(Batch {
        rows: Arc::clone(&table.result),
        names,
        steps,
        values,
    }))
}

/// Writes labels with the name among them, as Prometheus does in this one message.
fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

struct Sides<'a> {
    many: &'a Batch,
    one: &'a Batch,
    matching: &'a Matching,
    operation: Operation,
}

impl Sides<'_> {
    /// Goes through contested signatures step by step.
    fn contest(&self, table: &Joined, values: &mut [f64], flags: &mut [bool]) -> Result<(), QueryError> {
        let steps = self.many.steps;
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let has_fill = self.matching.fill_left.is_some() || self.matching.fill_right.is_some();
        // Prometheus exchanges the sides of `group_right`, but not their fill values.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let mut taken = vec![usize::MAX; table.result.len()];
        for step in 0..steps {
            // With nothing on one side nothing matches, so nothing is ambiguous either.
            let may_match = self.many.has_any(step) && self.one.has_any(step);
            if !(has_fill || may_match) {
                continue;
            }
            for contest in &table.contested {
                let present = |batch: &Batch, row: u32| !is_absent(batch.row(row as usize)[step]);
                let mut ones = contest.one.iter().filter(|row| present(self.one, **row));
                let the_one = ones.next().copied();
                if let (Some(first), Some(second)) = (the_one, ones.next().copied()) {
                    return Err(self.duplicates(first, second));
                }
                let has_many = contest.many.iter().any(|row| present(self.many, *row));
                let mut matches = 0;
                for pair in &contest.pairs {
                    let many = match pair.many {
                        Some(row) if present(self.many, row) => self.many.row(row as usize)[step],
                        Some(_) => continue,
                        None if has_many => continue,
                        None => match fill_many {
                            Some(fill) => fill.0,
                            None => continue,
                        },
                    };
                    let one = match pair.one {
                        Some(row) if Some(row) == the_one => self.one.row(row as usize)[step],
                        Some(_) => continue,
                        None if the_one.is_some() => continue,
                        None => match fill_one {
                            Some(fill) => fill.0,
                            None => continue,
                        },
                    };
                    matches += 1;
                    if is_one_to_one && matches > 1 {
                        let message = "multiple matches for labels: many-to-one matching must be explicit \
                                       (group_left/group_right)";
                        return Err(QueryError::Data(message.to_owned()));
                    }
                    let result = pair.result as usize;
                    if std::mem::replace(&mut taken[result], step) == step {
                        let message =
                            "multiple matches for labels: grouping labels must ensure unique matches";
                        return Err(QueryError::Data(message.to_owned()));
                    }
                    values[result * steps + step] = self.operation.apply(many, one);
                    flags[result] = pair
                        .many
                        .is_some_and(|row| self.many.names.is_dropped(row as usize));
                }
            }
        }
        Ok(())
    }

    fn duplicates(&self, first: u32, second: u32) -> QueryError {
        let labels = self.one.rows.labels();
        let group = chosen_labels(&labels[first as usize], &self.matching.labels);
        let mut both = [braced(&labels[first as usize]), braced(&labels[second as usize])];
        both.sort_unstable();
        let [one, other] = both;
        let side = if self.operation.is_many_right {
            "left"
        } else {
            "right"
        };
        QueryError::Data(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
             [{one}, {other}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}
