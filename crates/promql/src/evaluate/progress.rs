//! How far the evaluation of a plan has come: what is done, what is still wanted, and what is held meanwhile.
//!
//! A value is let go at its last use.

use std::sync::Arc;

use super::{Done, Inputs, Run};
use crate::answer::QueryError;
use crate::column::Grid;
use crate::notes::Notes;
use crate::plan::{Kind, Place, Plan};
use crate::session::Memo;

/// How far one place has come.
#[derive(Default)]
pub(super) struct Stage {
    /// What is calculated, or was there already, and still has uses to come.
    pub(super) done: Option<Done>,
    /// How many uses are still to come; none for what is not needed.
    uses: u32,
    /// What goes into the memo: a place that another plan has too, and all below it, so that whatever a known
    /// value read is noted.
    pub(super) is_kept: bool,
}

/// How far the evaluation of a plan has come.
pub(super) struct Progress {
    pub(super) stages: Vec<Stage>,
    grids: Vec<Option<Grid>>,
    /// Values held by what is done.
    pub(super) held: u64,
    /// Bytes held by what is done.
    pub(super) bytes: u64,
}

impl Progress {
    /// Looks from the root down for what must be calculated.
    pub(super) fn new(plan: &Plan, memo: Option<&Memo>) -> Self {
        let (count, mut held, mut bytes) = (plan.places.len(), 0, 0);
        let mut stages: Vec<Stage> = (0..count).map(|_| Stage::default()).collect();
        stages[count - 1].uses = 1;
        for place in (0..count).rev() {
            let stage = &mut stages[place];
            if stage.uses == 0 {
                continue;
            }
            let Place { node, inputs, .. } = &plan.places[place];
            stage.done = memo.and_then(|memo| memo.get(node.id));
            if let Some(known) = &stage.done {
                held += known.output.weight() as u64;
                bytes += known.output.bytes();
                continue;
            }
            // Held by this place and, unless it is the root, once for each use in this plan.
            let own_count = stage.uses as usize + usize::from(place + 1 < count);
            stage.is_kept |= memo.is_some() && Arc::strong_count(node) > own_count;
            let is_kept = stage.is_kept;
            for input in inputs {
                stages[*input].uses += 1;
                stages[*input].is_kept |= is_kept;
            }
        }
        Progress {
            stages,
            grids: vec![None; plan.moments.len()],
            held,
            bytes,
        }
    }

    pub(super) fn is_wanted(&self, place: usize) -> bool {
        self.stages[place].uses > 0 && self.stages[place].done.is_none()
    }

    pub(super) fn grid(&mut self, run: &Run<'_>, plan: &Plan, place: usize) -> Result<Grid, QueryError> {
        let moments = plan.places[place].moments;
        match self.grids[moments] {
            Some(grid) => Ok(grid),
            None => run
                .grid(&plan.moments[moments])
                .inspect(|grid| self.grids[moments] = Some(*grid)),
        }
    }

    /// Takes what a place needs, and the remarks on it: for good at its last use.
    pub(super) fn take_inputs(&mut self, place: &Place) -> (Inputs, Option<Arc<Notes>>) {
        let mut inputs = Inputs {
            slots: [None, None, None],
        };
        let mut notes: [Option<Arc<Notes>>; 3] = [None, None, None];
        for ((slot, notes), input) in inputs.slots.iter_mut().zip(&mut notes).zip(&place.inputs) {
            let stage = &mut self.stages[*input];
            stage.uses -= 1;
            let ready = if stage.uses == 0 {
                let ready = stage.done.take();
                self.held -= ready.as_ref().map_or(0, |done| done.output.weight() as u64);
                self.bytes -= ready.as_ref().map_or(0, |done| done.output.bytes());
                ready
            } else {
                stage.done.clone()
            };
            let Some(ready) = ready else {
                unreachable!("inputs come before what uses them");
            };
            *slot = Some(ready.output);
            *notes = ready.notes;
        }
        // Prometheus evaluates the parameter of an aggregation, and a scalar on the left, first.
        if matches!(
            place.node.kind,
            Kind::Aggregate { .. }
                | Kind::VectorScalar {
                    is_scalar_left: true,
                    ..
                }
        ) {
            notes.swap(0, 1);
        }
        (inputs, notes.into_iter().fold(None, merged))
    }

    pub(super) fn put(&mut self, place: usize, done: Done) {
        self.held += done.output.weight() as u64;
        self.bytes += done.output.bytes();
        self.stages[place].done = Some(done);
    }
}

/// Brings the remarks of two places together.
pub(super) fn merged(one: Option<Arc<Notes>>, other: Option<Arc<Notes>>) -> Option<Arc<Notes>> {
    match (one, other) {
        (None, only) | (only, None) => only,
        (Some(one), Some(other)) => {
            let mut all = Arc::unwrap_or_clone(one);
            all.merge(&other);
            Some(Arc::new(all))
        }
    }
}
