//! A session: the many rules of one tick, evaluated at one moment, equal parts once.
//!
//! What was calculated stays for the session's later queries, until something that it may have read is
//! written. So a rule sees what the rules before it wrote, and a thousand rules read a counter once.
//! What only one live plan calculates is not kept, for nobody would ask for it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use marketprism_model::Labels;

use crate::answer::{Answer, QueryError};
use crate::assemble;
use crate::evaluate::{Done, Run};
use crate::plan::{AT_AN_INSTANT, Choice, Interner, Kind, Node, Prepared};

/// Node numbers are given one after another: a multiplication spreads them well enough.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

struct Known {
    done: Done,
    /// Keeps the node's number from being forgotten, and says what was read.
    node: Arc<Node>,
}

/// Results by node, within a bound of bytes held.
pub(crate) struct Memo {
    known: HashMap<u64, Known, BuildHasherDefault<NumberHasher>>,
    bytes: u64,
    bytes_max: u64,
    /// The metric names that are read by equality, so that a write of another name costs a look-up.
    names: HashMap<Arc<str>, ()>,
    /// Choices that do not name their metric by equality.
    nameless: Vec<Choice>,
}

impl Memo {
    fn new(bytes_max: u64) -> Self {
        Memo {
            known: HashMap::default(),
            bytes: 0,
            bytes_max,
            names: HashMap::new(),
            nameless: Vec::new(),
        }
    }

    pub(crate) fn get(&self, node: u64) -> Option<Done> {
        self.known.get(&node).map(|known| known.done.clone())
    }

    pub(crate) fn put(&mut self, node: &Arc<Node>, done: &Done) {
        if matches!(node.kind, Kind::Number(_) | Kind::Text(_)) {
            return;
        }
        // What is too large to stay is noted as well, for what is calculated from it may stay.
        if node.is_reader() {
            for choice in node.reads.iter() {
                self.note_reading(choice);
            }
        }
        let bytes = done.output.bytes();
        if self.bytes + bytes > self.bytes_max {
            self.forget_values();
            if bytes > self.bytes_max {
                return;
            }
        }
        self.bytes += bytes;
        self.known.insert(
            node.id,
            Known {
                done: done.clone(),
                node: Arc::clone(node),
            },
        );
    }

    fn note_reading(&mut self, choice: &Choice) {
        match crate::plan::metric_name(choice) {
            Some(name) => {
                if !self.names.contains_key(name) {
                    self.names.insert(Arc::clone(name), ());
                }
            }
            None => self.nameless.push(choice.clone()),
        }
    }

    /// Makes room. What was read stays noted, for what is calculated from it may still come to be known.
    fn forget_values(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }

    fn written(&mut self, labels: &Labels) {
        let is_chosen = |choice: &Choice| choice.iter().all(|matcher| matcher.matches_labels(labels));
        if !self.names.contains_key(labels.metric_name()) && !self.nameless.iter().any(is_chosen) {
            return;
        }
        let bytes = &mut self.bytes;
        self.known.retain(|_, known| {
            let stays = !known.node.reads.iter().any(is_chosen);
            if !stays {
                *bytes -= known.done.output.bytes();
            }
            stays
        });
    }
}

/// Many instant evaluations at one moment, which share equal parts.
pub struct Session<'a> {
    interner: &'a Interner,
    run: Run<'a>,
    memo: Memo,
}

impl<'a> Session<'a> {
    pub(crate) fn new(interner: &'a Interner, run: Run<'a>) -> Self {
        let values_bytes = run.config.samples_max.saturating_mul(size_of::<f64>() as u64);
        let bytes_max = run.config.bytes_max.min(values_bytes);
        Session {
            interner,
            run,
            memo: Memo::new(bytes_max),
        }
    }

    /// Evaluates a query at the session's moment. The same as [`crate::Engine::instant`] would answer,
    /// as long as whatever is written to the source meanwhile is told to [`Session::written`].
    pub fn evaluate(&mut self, query: &Prepared) -> Result<Arc<Answer>, QueryError> {
        self.run.reset_samples();
        let query = self.interner.resolved(query, AT_AN_INSTANT)?;
        let done = self.run.evaluate(&query, Some(&mut self.memo))?;
        assemble::answer(done, &query, self.run.query, true).map(Arc::new)
    }

    /// Forgets what may have read the series of these labels, for it has been written.
    pub fn written(&mut self, labels: &Labels) {
        self.memo.written(labels);
    }
}
