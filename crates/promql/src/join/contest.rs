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
use crate::column::{Batch, Canvas};
use crate::evaluate::Run;
use crate::native::Operand;
use crate::notes::{Notes, Part};

/// The interrupt is asked after this many steps of contests.
const INTERRUPT_EVERY: usize = 256;

/// Rows that contests gave.
#[derive(Default)]
pub(super) struct Results {
    pub(super) labels: Vec<Labels>,
    /// What the labels take in memory.
    bytes: u64,
    /// A row after the other.
    pub(super) canvas: Canvas,
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
    notes: Notes,
}

/// Two rows that meet; a missing one stands for a fill value.
type Meeting = (Option<u32>, Option<u32>);

/// Where the results of one signature stand.
#[derive(Default)]
struct Places {
    by_pair: HashMap<Meeting, usize>,
    by_labels: HashMap<Labels, usize>,
    /// The last step at which each result was given a value.
    taken: HashMap<usize, usize>,
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
            notes: Notes::default(),
        }
    }

    /// Settles one signature.
    pub(super) fn hold(&mut self, contest: &Contest) -> Result<(), QueryError> {
        let mut places = Places::default();
        for step in 0..self.many.steps {
            if !self.is_open[step] {
                continue;
            }
            self.steps_held += 1;
            if self.steps_held.is_multiple_of(INTERRUPT_EVERY) {
                self.run.check_interrupt()?;
            }
            let meetings = self.meetings(contest, step)?;
            let mut accepted = 0;
            for meeting in &meetings {
                accepted += usize::from(self.meet(*meeting, step, accepted, &mut places)?);
            }
            // What nothing could be made of has not been matched, so it may still be filled.
            if let (0, Some((Some(_), Some(one)))) = (accepted, meetings.first())
                && self.labelling.matching.fill_left.is_some()
            {
                self.meet((None, Some(*one)), step, 0, &mut places)?;
            }
        }
        Ok(())
    }

    /// Combines two rows at a step, and says whether anything can be made of them; a missing row stands for a fill
    /// value. `accepted`: how many of the same signature were combined before.
    fn meet(
        &mut self,
        (many, one): Meeting,
        step: usize,
        accepted: usize,
        places: &mut Places,
    ) -> Result<bool, QueryError> {
        let matching = self.labelling.matching;
        let operand = |batch: &Batch, row: Option<u32>, fill: Option<Number>| {
            let of_row = |row: u32| batch.operand(row as usize * batch.steps + step);
            row.and_then(of_row)
                .unwrap_or(Operand::Number(fill.map_or(f64::NAN, |fill| fill.0)))
        };
        // Prometheus exchanges the sides of `group_right`, but not their fill values.
        let many_operand = operand(self.many, many, matching.fill_left);
        let one_operand = operand(self.one, one, matching.fill_right);
        let made = self.operation.operate(&many_operand, &one_operand);
        let is_refused = made.is_refused();
        if let Some(remark) = made.remark {
            self.notes.add(Part::Whole, remark);
        }
        if is_refused {
            return Ok(false);
        }
        if accepted > 0 && matching.cardinality == Cardinality::OneToOne {
            let message =
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
            return Err(QueryError::Data(message.to_owned()));
        }
        let result = self.place((many, one), places)?;
        if places.taken.insert(result, step) == Some(step) {
            let message = "multiple matches for labels: grouping labels must ensure unique matches";
            return Err(QueryError::Data(message.to_owned()));
        }
        if let Some(value) = made.value {
            self.results.canvas.put(result * self.many.steps + step, value);
            self.run.check_held(self.results.canvas.held())?;
        }
        self.results.flags[result] = many.is_some_and(|row| self.many.names.is_dropped(row as usize));
        Ok(true)
    }

    /// Gives the row of a result, and makes it when it is new.
    fn place(&mut self, meeting: Meeting, places: &mut Places) -> Result<usize, QueryError> {
        if let Some(known) = places.by_pair.get(&meeting) {
            return Ok(*known);
        }
        let labels = self.labelling.result(meeting.0, meeting.1);
        let next = self.results.labels.len();
        let place = *places.by_labels.entry(labels).or_insert_with_key(|labels| {
            self.results.bytes += labels.bytes_held() as u64;
            self.results.labels.push(labels.clone());
            self.results.flags.push(false);
            self.results.canvas.grow(self.many.steps);
            next
        });
        places.by_pair.insert(meeting, place);
        self.run.check_size(self.results.labels.len(), self.many.steps)?;
        self.run.check_bytes(self.results.bytes)?;
        Ok(place)
    }

    /// Gives the pairs of rows that meet at a step; a missing row stands for a fill value.
    fn meetings(&self, contest: &Contest, step: usize) -> Result<Vec<Meeting>, QueryError> {
        let present = |batch: &Batch, rows: &[u32]| -> Vec<u32> {
            let has_value = |row: &u32| batch.is_present(*row as usize * batch.steps + step);
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
        Ok(many.into_iter().map(|many| (Some(many), one)).collect())
    }

    /// Gives what the contests gave, nothing when that is nothing, and the remarks on it.
    pub(super) fn finish(self) -> (Option<Results>, Notes) {
        let results = (!self.results.labels.is_empty()).then_some(self.results);
        (results, self.notes)
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
