//! Stops a silence that would hit (almost) everything, unless its author says that this is meant.
//!
//! Two looks: whether the matchers keep whatever there may be, like `alertname=~".+"`, and how many of the alerts
//! that fire now they hit.

use std::fmt;

use marketprism_model::Matcher;

use super::Silences;

/// Values so unlike each other that an expression which keeps them all hardly leaves anything out.
const PROBES: [&str; 6] = [
    "a",
    "Q7",
    "zz-19.example_x:9100",
    "数据库",
    " ~",
    "/api/v2/~9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
];

/// How wide a silence is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// It matches whatever has the labels that it names.
    Everything,
    /// It hits so many of the alerts that fire.
    Share {
        /// Alerts that fire and that it hits.
        hits: usize,
        /// Alerts that fire.
        firing: usize,
        /// The share that needs no confirmation, in per cent.
        percent: u8,
    },
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Everything => f.write_str("its matchers match (almost) every alert"),
            Width::Share {
                hits,
                firing,
                percent,
            } => write!(
                f,
                "it silences {hits} of {firing} firing alerts, more than {percent} %"
            ),
        }
    }
}

impl Silences {
    /// Says how wide a silence is, when that is wider than is taken without a confirmation.
    pub(super) fn guard(&self, matchers: &[Matcher]) -> Result<(), Width> {
        let guard = &self.config.guard;
        if !guard.is_on {
            return Ok(());
        }
        if matchers.iter().all(keeps_everything) {
            return Err(Width::Everything);
        }
        let hits = self.hits(matchers).count();
        let firing = self.firing.len();
        if hits >= guard.least && hits * 100 > firing * usize::from(guard.percent) {
            let percent = guard.percent;
            return Err(Width::Share {
                hits,
                firing,
                percent,
            });
        }
        Ok(())
    }
}

fn keeps_everything(matcher: &Matcher) -> bool {
    PROBES.iter().all(|probe| matcher.matches(probe))
}
