//! The life of one alert: inactive, pending, firing, resolved.
//!
//! An alert belongs to a label set, and every rule with that label set holds it by its conditions. It begins
//! to fire when a condition fires; from then on it stands as long as any condition runs, and only its level
//! moves: to that of the worst firing condition, or, when none fires any more while a lower one still holds,
//! to that one's. So 96 % that falls to 92 % is one alert that got better, not an end and a new beginning.
//! Pure by design, as in `condition`.
//! Invariant: nothing here reads a clock, a file or a socket.

use marketprism_model::{AlertState, Level};

/// What one running condition says of the alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Whether it fires; it pends otherwise.
    pub is_firing: bool,
    /// The level it raises.
    pub level: Level,
}

/// What becomes of the alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing; there is none.
    Inactive,
    /// It begins to pend.
    Pend(Level),
    /// It begins to fire, from nothing or from pending.
    Fire(Level),
    /// It stays in its state, at this level.
    Stay(Level),
    /// It was pending and vanished: it is forgotten, for nobody was told.
    Drop,
    /// It was firing and is over.
    Resolve,
}

/// Decides what becomes of an alert that stood at `old` and is held by these conditions now.
///
/// `old` is `None` when there is no active alert; it is never resolved.
pub fn decide(old: Option<AlertState>, holds: &[Hold]) -> Next {
    let worst_firing = holds
        .iter()
        .filter(|hold| hold.is_firing)
        .map(|hold| hold.level)
        .max();
    let worst = holds.iter().map(|hold| hold.level).max();
    match (old, worst_firing, worst) {
        (Some(AlertState::Firing), Some(level), _) => Next::Stay(level),
        (Some(AlertState::Firing), None, Some(level)) => Next::Stay(level),
        (Some(AlertState::Firing), None, None) => Next::Resolve,
        (_, Some(level), _) => Next::Fire(level),
        (Some(AlertState::Pending), None, Some(level)) => Next::Stay(level),
        (Some(AlertState::Pending), None, None) => Next::Drop,
        (_, None, Some(level)) => Next::Pend(level),
        (_, None, None) => Next::Inactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word a minute for what the conditions say: `cF` the critical one fires, `hp` the high one pends.
    fn check(minutes: &str, expected: &str) {
        let mut state = None;
        let mut told = Vec::new();
        for minute in minutes.split_whitespace() {
            let holds: Vec<Hold> = minute
                .split('+')
                .filter(|word| *word != ".")
                .map(|word| Hold {
                    level: if word.starts_with('c') {
                        Level::Critical
                    } else {
                        Level::High
                    },
                    is_firing: word.ends_with('F'),
                })
                .collect();
            let next = decide(state, &holds);
            state = match next {
                Next::Inactive | Next::Drop | Next::Resolve => None,
                Next::Pend(_) => Some(AlertState::Pending),
                Next::Fire(_) => Some(AlertState::Firing),
                Next::Stay(_) => state,
            };
            told.push(match next {
                Next::Inactive => "-".to_owned(),
                Next::Pend(level) => format!("pend:{level}"),
                Next::Fire(level) => format!("FIRE:{level}"),
                Next::Stay(level) => format!("stay:{level}"),
                Next::Drop => "drop".to_owned(),
                Next::Resolve => "RESOLVE".to_owned(),
            });
        }
        assert_eq!(told.join(" "), expected, "{minutes}");
    }

    #[test]
    fn a_pending_alert_that_vanishes_is_dropped_and_one_that_fired_resolves() {
        check("hp . hp hF .", "pend:high drop pend:high FIRE:high RESOLVE");
    }

    #[test]
    fn levels_move_inside_one_alert() {
        check(
            "hF hF+cp hF+cF hF .",
            "FIRE:high stay:high stay:critical stay:high RESOLVE",
        );
    }

    #[test]
    fn an_alert_stands_while_a_lower_condition_still_holds_though_that_one_is_only_pending() {
        check("cF+hp hp hF .", "FIRE:critical stay:high stay:high RESOLVE");
    }

    #[test]
    fn a_pending_condition_does_not_raise_a_firing_alert() {
        check("hF+cp hF+cp", "FIRE:high stay:high");
    }
}
