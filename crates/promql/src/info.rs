//! `info`: labels of info series are added to the series that they describe.
//!
//! An info series describes those that agree with it in `instance` and `job`. Of several with the same name that do,
//! the newest sample counts; what the series has already is kept. All info series that could be meant are chosen
//! by what the query says of them alone, so that the choice can be kept and is known before anything is read.
//!
//! Source: Prometheus 3, `promql/info.go`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use marketprism_model::Labels;
use marketprism_model::labels::METRIC_NAME;

use crate::answer::QueryError;
use crate::assemble::same_labels;
use crate::column::{ABSENT, Batch, Grid, Names, Rows, is_absent};
use crate::evaluate::{Inputs, Output, Run};
use crate::plan::InfoChoice;
use crate::select::{self, Wanted};

/// The labels in which an info series and what it describes agree.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The interrupt is asked after this many values.
const INTERRUPT_EVERY: usize = 16_384;

/// What identifies a series; an absent label is the empty text.
type Identity<'a> = [&'a str; IDENTIFYING.len()];

fn identity(labels: &Labels) -> Identity<'_> {
    IDENTIFYING.map(|name| labels.get(name).unwrap_or(""))
}

/// For each identifying label, its values among the described; an empty set allows everything.
type Known<'a> = [HashSet<&'a str>; IDENTIFYING.len()];

/// Says whether an info series can describe something.
fn is_wanted(identity: &Identity<'_>, known: &Known<'_>) -> bool {
    let mut labels = identity.iter().zip(known);
    labels.all(|(value, known)| known.is_empty() || known.contains(value))
}

/// Info series of one metric and identity.
struct InfoGroup {
    rows: Vec<usize>,
    /// The row whose sample counts at each step.
    newest: Vec<Option<usize>>,
}

/// Adds the labels of info series to a vector (input 0).
pub(crate) fn enrich(
    run: &mut Run<'_>,
    choice: &InfoChoice,
    inputs: &mut Inputs,
    grid: Grid,
) -> Result<Output, QueryError> {
    let base = inputs.batch(0);
    let is_info: Vec<bool> = base
        .rows
        .labels()
        .iter()
        .map(|labels| choice.names.iter().all(|m| m.matches(labels.metric_name())))
        .collect();
    // A row without a value at any step is no series.
    let described = || {
        let rows = base.rows.labels().iter().enumerate();
        rows.filter(|(row, _)| !is_info[*row] && base.has_row(*row))
            .map(|(_, labels)| labels)
    };
    let known: Known<'_> = IDENTIFYING.map(|name| {
        let values = described().map(|labels| labels.get(name).unwrap_or(""));
        values.filter(|value| !value.is_empty()).collect()
    });
    let infos = if known.iter().all(HashSet::is_empty) {
        None
    } else {
        Some(read_infos(run, choice, grid, &known)?)
    };
    let mut by_identity: HashMap<Identity<'_>, Vec<InfoGroup>> = HashMap::new();
    if let Some(infos) = &infos {
        by_identity = groups(run, infos, &known)?;
    }
    let mut enriched = Enriched {
        choice,
        is_required: choice.data.iter().any(|matcher| !matcher.matches_empty()),
        base: &base,
        infos: infos.as_deref(),
        labels: Vec::new(),
        bytes: 0,
        flags: Vec::new(),
        cells: Vec::new(),
        places: HashMap::new(),
    };
    for (row, is_info) in is_info.into_iter().enumerate() {
        let groups = match is_info {
            true => None,
            false => Some(
                by_identity
                    .get(&identity(&base.rows.labels()[row]))
                    .map_or(&[][..], Vec::as_slice),
            ),
        };
        enriched.add(run, row, groups)?;
    }
    enriched.finish(run)
}

/// Reads when the samples of the info series were taken. None that can describe something may be a histogram.
fn read_infos(
    run: &mut Run<'_>,
    choice: &InfoChoice,
    grid: Grid,
    known: &Known<'_>,
) -> Result<Arc<Batch>, QueryError> {
    let values = select::instant(run, &choice.choice, choice.shift, grid, Wanted::Samples)?;
    if let Output::Vector(batch) = &values
        && batch.histograms.is_some()
    {
        let mut rows = batch.rows.labels().iter().enumerate();
        if rows.any(|(row, labels)| batch.has_histogram_row(row) && is_wanted(&identity(labels), known)) {
            return Err(QueryError::Data("info sample should be float".to_owned()));
        }
    }
    match select::instant(run, &choice.choice, choice.shift, grid, Wanted::Times)? {
        Output::Vector(batch) => Ok(batch),
        _ => unreachable!("an instant selector yields a vector"),
    }
}

/// Puts info series together that can describe the same: those whose identifying labels occur among the described.
fn groups<'a>(
    run: &Run<'_>,
    infos: &'a Batch,
    known: &Known<'_>,
) -> Result<HashMap<Identity<'a>, Vec<InfoGroup>>, QueryError> {
    let mut by_metric: HashMap<(Identity<'a>, &str), Vec<usize>> = HashMap::new();
    for (row, labels) in infos.rows.labels().iter().enumerate() {
        let identity = identity(labels);
        if is_wanted(&identity, known) {
            by_metric
                .entry((identity, labels.metric_name()))
                .or_default()
                .push(row);
        }
    }
    let mut all: HashMap<Identity<'a>, Vec<InfoGroup>> = HashMap::new();
    for ((identity, _), rows) in by_metric {
        run.check_interrupt()?;
        let mut newest = Vec::with_capacity(infos.steps);
        for step in 0..infos.steps {
            newest.push(newest_of(infos, &rows, step)?);
        }
        all.entry(identity).or_default().push(InfoGroup { rows, newest });
    }
    // The same query always adds labels in the same order.
    all.values_mut()
        .for_each(|groups| groups.sort_by_key(|group| group.rows[0]));
    Ok(all)
}

fn newest_of(infos: &Batch, rows: &[usize], step: usize) -> Result<Option<usize>, QueryError> {
    let taken = |row: usize| infos.row(row)[step];
    let mut newest: Option<usize> = None;
    for row in rows.iter().copied().filter(|row| !is_absent(taken(*row))) {
        match newest {
            Some(known) if taken(known) > taken(row) => {}
            Some(known) if taken(known) == taken(row) => {
                let labels = infos.rows.labels();
                let at = (taken(row) * 1000.0).round();
                return Err(QueryError::Data(format!(
                    "found duplicate series for info metric: existing {} @ {at}, new {} @ {at}",
                    labels[known], labels[row]
                )));
            }
            _ => newest = Some(row),
        }
    }
    Ok(newest)
}

/// The vector with its new labels, as far as it has come.
struct Enriched<'a> {
    choice: &'a InfoChoice,
    /// Whether series that no info series describes are left out.
    is_required: bool,
    base: &'a Batch,
    infos: Option<&'a Batch>,
    labels: Vec<Labels>,
    /// What the labels take in memory.
    bytes: u64,
    flags: Vec<bool>,
    /// For each result and step, the row of the vector that stands there; [`NOWHERE`] for none.
    cells: Vec<u32>,
    places: HashMap<Labels, usize>,
}

const NOWHERE: u32 = u32::MAX;

impl Enriched<'_> {
    /// Adds a row of the vector; `None` for one that is an info series itself and stays as it is.
    fn add(&mut self, run: &Run<'_>, row: usize, groups: Option<&[InfoGroup]>) -> Result<(), QueryError> {
        let steps = self.base.steps;
        if (row * steps) % INTERRUPT_EVERY < steps {
            run.check_interrupt()?;
        }
        // From step to step the same info series describe a row, nearly always.
        let mut last: Option<(Vec<Option<usize>>, Option<usize>)> = None;
        for step in 0..steps {
            if !self.is_present(row, step) {
                continue;
            }
            let described_by: Vec<Option<usize>> = groups
                .unwrap_or_default()
                .iter()
                .map(|group| group.newest[step])
                .collect();
            let place = match &last {
                Some((known, place)) if *known == described_by => *place,
                _ => self.place(run, row, groups.is_some(), &described_by)?,
            };
            last = Some((described_by, place));
            if let Some(place) = place {
                let cell = &mut self.cells[place * steps + step];
                if *cell != NOWHERE {
                    return Err(same_labels());
                }
                *cell = row as u32;
            }
        }
        Ok(())
    }

    fn is_present(&self, row: usize, step: usize) -> bool {
        let cell = row * self.base.steps + step;
        let histograms = self.base.histograms.as_ref();
        !is_absent(self.base.values[cell]) || histograms.is_some_and(|all| all[cell].is_some())
    }

    /// Finds the result in which a row stands, `None` when it is left out.
    fn place(
        &mut self,
        run: &Run<'_>,
        row: usize,
        is_described: bool,
        by: &[Option<usize>],
    ) -> Result<Option<usize>, QueryError> {
        let base = &self.base.rows.labels()[row];
        if is_described && self.is_required && by.iter().all(Option::is_none) {
            return Ok(None);
        }
        let labels = self.labels_of(base, by)?;
        if let Some(place) = self.places.get(&labels) {
            return Ok(Some(*place));
        }
        let place = self.labels.len();
        run.check_size(place + 1, self.base.steps)?;
        self.bytes += labels.bytes_held() as u64;
        run.check_bytes(self.bytes)?;
        self.labels.push(labels.clone());
        self.flags.push(self.base.names.is_dropped(row));
        self.cells.resize((place + 1) * self.base.steps, NOWHERE);
        self.places.insert(labels, place);
        Ok(Some(place))
    }

    fn labels_of(&self, base: &Labels, by: &[Option<usize>]) -> Result<Labels, QueryError> {
        let Some(infos) = self.infos else {
            return Ok(base.clone());
        };
        let data = &self.choice.data;
        let is_taken = |name: &str| data.is_empty() || data.iter().any(|matcher| *matcher.name == *name);
        let mut added: Vec<(&str, &str)> = Vec::new();
        for row in by.iter().flatten() {
            for (name, value) in &infos.rows.labels()[*row] {
                if name == METRIC_NAME || !is_taken(name) || base.get(name).is_some() {
                    continue;
                }
                match added.iter().find(|(known, _)| *known == name) {
                    Some((_, known)) if *known != value => {
                        return Err(QueryError::Data(format!("conflicting label: {name}")));
                    }
                    Some(_) => {}
                    None => added.push((name, value)),
                }
            }
        }
        if added.is_empty() {
            return Ok(base.clone());
        }
        let mut builder = base.to_builder();
        added.iter().for_each(|(name, value)| {
            builder.set(name, value);
        });
        Ok(builder.build())
    }

    fn finish(self, run: &Run<'_>) -> Result<Output, QueryError> {
        run.check_interrupt()?;
        let steps = self.base.steps;
        let cell = |(place, row): (usize, &u32)| match *row {
            NOWHERE => None,
            row => Some(row as usize * steps + place % steps.max(1)),
        };
        let values = self.cells.iter().enumerate().map(cell);
        let values = values.map(|cell| cell.map_or(ABSENT, |cell| self.base.values[cell]));
        let values = values.collect();
        let histograms = self.base.histograms.as_ref().map(|all| {
            let cells = self.cells.iter().enumerate().map(cell);
            cells
                .map(|cell| cell.and_then(|cell| all[cell].clone()))
                .collect()
        });
        Ok(Output::vector(Batch {
            rows: Arc::new(Rows::made(self.labels)),
            names: Names::from_flags(self.flags),
            steps,
            values,
            histograms,
        }))
    }
}
