//! What is wrong with a configuration: every fault with its place, all of them at once.

use std::fmt;

use marketprism_model::nearest;
use thiserror::Error;

/// So many faults are spelt out; the rest is counted.
pub const FAULTS_SHOWN_MAX: usize = 50;

/// One fault: where, what was given, what is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The path of the field, such as `route.routes[1].receiver`.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// A configuration that cannot be used, with all that is wrong with it; one fault a line.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct RoutingError {
    /// The faults in the order of the configuration, at least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for RoutingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().take(FAULTS_SHOWN_MAX).enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        match self.faults.len().saturating_sub(FAULTS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more faults"),
        }
    }
}

/// Collects faults while a configuration is read.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault {
            place: place.into(),
            problem: problem.into(),
        });
    }

    /// Notes that nothing has the name, what has, and which was likely meant.
    pub(crate) fn add_unknown(&mut self, place: String, kind: &str, name: &str, known: &[&str]) {
        const NAMES_SHOWN_MAX: usize = 20;
        let meant = nearest(name, known.iter().copied())
            .map(|near| format!("; did you mean {near:?}?"))
            .unwrap_or_default();
        let names = match known {
            [] => "none is configured".to_owned(),
            known if known.len() <= NAMES_SHOWN_MAX => format!("known are {}", known.join(", ")),
            known => format!(
                "known are {} and {} more",
                known[..NAMES_SHOWN_MAX].join(", "),
                known.len() - NAMES_SHOWN_MAX
            ),
        };
        self.add(place, format!("no {kind} is called {name:?}; {names}{meant}"));
    }

    /// Gives the value when nothing was wrong.
    pub(crate) fn or<T>(self, value: T) -> Result<T, RoutingError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(RoutingError { faults: self.0 })
        }
    }
}
