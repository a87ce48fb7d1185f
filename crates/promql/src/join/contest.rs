//! Signatures with more rows than the cardinality allows, or with fill values: settled step by step.
//!
//! At a step only the rows with values count, so rows that take turns are no ambiguity. Results are
//! made when they first occur: a careless `on ()` between two large sides ends at its first ambiguity,
//! before it could cost anything.

use std::collections::HashMap;

use marketprism_model::Labels;

use super::{Contest, Labelling, Operation};
use crate::aggregate::chosen_labels;
use crate::answer::QueryError;
use crate::ast::{Cardinality, Number};
use crate::column::{ABSENT, Batch, is_absent};
use crate::evaluate::Run;

/// The interrupt is asked after this many steps of contests.
const INTERRUPT_EVERY: usize = 256;

/// Rows that contests gave.
#[derive(Default)]
pub(super) struct Results {
    pub(super) labels: Vec<Labels>,
    /// A row after the other.
    pub(super) values: Vec<f64>,
    /// Whether the metric's name is dropped in the end.
    pub(super) flags: Vec<bool>,
}

/// Where contests are held.
pub(super) struct Arena<'a, 'r> {
    run: &'a Run<'r>,
    many: &'a Batch,
    one: &'a Batch,
    labelling: Labelling<'a>,
    operation: Operation,
    /// Steps at which both sides have something, so that something can be ambiguous.
    is_open: Vec<bool>,
    /// Steps of all contests so far.
    steps_held: usize,
    results: Results,
}

impl<'a, 'r> Arena<'a, 'r> {
    pub(super) fn new(
        run: &'a Run<'r>,
        many: &'a Batch,
        one: &'a Batch,
        labelling: Labelling<'a>,
        operation: Operation,
    ) -> Self {
        let matching = labelling.matching;
        let is_filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        let is_open = (0..many.steps).map(|step| is_filled || many.has_any(step) && one.has_any(step));
        let is_open = is_open.collect();
        Arena {
            run,
            many,
            one,
            labelling,
            operation,
            is_open,
            steps_held: 0,
            results: Results::default(),
        }
    }

    /// Settles one signature.
    pub(super) fn hold(&mut self, contest: &Contest) -> Result<(), QueryError> {
        let (mut by_pair, mut by_labels) = (HashMap::new(), HashMap::new());
        // The last step at which each result was given a value.
        let mut taken: HashMap<usize, usize> = HashMap::new();
        for step in 0..self.many.steps {
            if !self.is_open[step] {
                continue;
            }
            self.steps_held += 1;
            if self.steps_held.is_multiple_of(INTERRUPT_EVERY) {
                self.run.check_interrupt()?;
            }
            for (many, one) in self.meetings(contest, step)? {
                let result = *by_pair.entry((many, one)).or_insert_with(|| {
                    let labels = self.labelling.result(many, one);
                    let next = self.results.labels.len();
                    *by_labels.entry(labels).or_insert_with_key(|labels| {
                        self.results.labels.push(labels.clone());
                        self.results.flags.push(false);
                        self.results.values.resize((next + 1) * self.many.steps, ABSENT);
                        next
                    })
                });
                self.run.check_size(self.results.labels.len(), self.many.steps)?;
                if taken.insert(result, step) == Some(step) {
                    let message = "multiple matches for labels: grouping labels must ensure unique matches";
                    return Err(QueryError::Data(message.to_owned()));
                }
                let matching = self.labelling.matching;
                let value = |batch: &Batch, row: Option<u32>, fill: Option<Number>| match row {
                    Some(row) => batch.row(row as usize)[step],
                    None => fill.map_or(f64::NAN, |fill| fill.0),
                };
                // Prometheus exchanges the sides of `group_right`, but not their fill values.
                let many_value = value(self.many, many, matching.fill_left);
                let one_value = value(self.one, one, matching.fill_right);
                self.results.values[result * self.many.steps + step] =
                    self.operation.apply(many_value, one_value);
                self.results.flags[result] = many.is_some_and(|row| self.many.names.is_dropped(row as usize));
            }
        }
        Ok(())
    }

    /// Gives the pairs of rows that meet at a step; a missing row stands for a fill value.
    fn meetings(
        &self,
        contest: &Contest,
        step: usize,
    ) -> Result<Vec<(Option<u32>, Option<u32>)>, QueryError> {
        let present = |batch: &Batch, rows: &[u32]| -> Vec<u32> {
            let has_value = |row: &u32| !is_absent(batch.row(*row as usize)[step]);
            rows.iter().copied().filter(has_value).collect()
        };
        let (many, one) = (present(self.many, &contest.many), present(self.one, &contest.one));
        if let [first, second, ..] = one[..] {
            return Err(self.duplicates(first, second));
        }
        let matching = self.labelling.matching;
        let one = one.first().copied();
        if many.is_empty() {
            let fills = one.is_some() && matching.fill_left.is_some();
            return Ok(if fills { vec![(None, one)] } else { Vec::new() });
        }
        if one.is_none() && matching.fill_right.is_none() {
            return Ok(Vec::new());
        }
        if many.len() > 1 && matching.cardinality == Cardinality::OneToOne {
            let message =
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(QueryError::Data(message.to_owned()));
        }
        Ok(many.into_iter().map(|many| (Some(many), one)).collect())
    }

    /// Gives what the contests gave, nothing when that is nothing.
    pub(super) fn finish(self) -> Option<Results> {
        (!self.results.labels.is_empty()).then_some(self.results)
    }

    fn duplicates(&self, first: u32, second: u32) -> QueryError {
        let labels = self.one.rows.labels();
        let group = chosen_labels(&labels[first as usize], &self.labelling.matching.labels);
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

/// Writes labels with the name among them, as Prometheus does in this one message.
fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}
