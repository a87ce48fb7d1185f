//! What was measured, held against the goals, as a Markdown table.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Several measurements of one thing.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// How many there were.
    pub count: usize,
}

impl Figure {
    /// Sums up measurements; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            odd if odd % 2 == 1 => sorted[half],
            _ => (sorted[half - 1] + sorted[half]) / 2.0,
        };
        Some(Figure {
            median,
            low: sorted[0],
            high: sorted[sorted.len() - 1],
            count: sorted.len(),
        })
    }

    fn text(&self) -> String {
        let Figure {
            median,
            low,
            high,
            count,
        } = self;
        match count {
            1 => short(*median),
            _ => format!("{} ({}–{}, n={count})", short(*median), short(*low), short(*high)),
        }
    }
}

/// What a ratio must be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    /// The peer must spend at least so many times what we spend.
    TimesLess(f64),
    /// We may spend at most this share of what the peer spends.
    AtMost(f64),
}

impl Goal {
    /// Gives the ratio as it is written for this goal, and whether the goal is hit.
    fn judge(self, ours: f64, theirs: f64) -> (String, bool) {
        match self {
            Goal::TimesLess(times) => {
                let ratio = theirs / ours;
                (
                    format!("{} × less (≥ {})", short(ratio), short(times)),
                    ratio >= times,
                )
            }
            Goal::AtMost(share) => {
                let ratio = ours / theirs;
                (format!("{} × (≤ {})", short(ratio), short(share)), ratio <= share)
            }
        }
    }
}

/// One thing that is measured; less is better for all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measure {
    /// Its line in the table.
    pub what: &'static str,
    /// The unit of its figures.
    pub unit: &'static str,
    /// What it must be against each peer.
    pub goals: &'static [(&'static str, Goal)],
}

/// All results of a run.
#[derive(Default)]
pub struct Report {
    rows: Vec<(Measure, BTreeMap<&'static str, Figure>)>,
    checks: Vec<(String, Option<String>)>,
    notes: Vec<String>,
}

impl Report {
    /// Takes measurements of one peer; none at all leaves the cell empty.
    pub fn measured(&mut self, measure: Measure, peer: &'static str, values: &[f64]) {
        let position = match self.rows.iter().position(|(known, _)| *known == measure) {
            Some(position) => position,
            None => {
                self.rows.push((measure, BTreeMap::new()));
                self.rows.len() - 1
            }
        };
        if let Some(figure) = Figure::of(values) {
            self.rows[position].1.insert(peer, figure);
        }
    }

    /// Takes the outcome of a comparison of answers: `None` is agreement.
    pub fn compared(&mut self, what: impl Into<String>, difference: Option<String>) {
        self.checks.push((what.into(), difference));
    }

    /// Takes a remark that belongs to the figures.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says whether all compared answers agreed.
    pub fn agrees(&self) -> bool {
        self.checks.iter().all(|(_, difference)| difference.is_none())
    }

    /// Writes everything; `ours` is the side that is held against the others.
    pub fn markdown(&self, ours: &str, peers: &[&'static str]) -> String {
        let mut out = String::from("### Answers\n\n");
        let agreed = self
            .checks
            .iter()
            .filter(|(_, difference)| difference.is_none())
            .count();
        let _ = writeln!(out, "{agreed} of {} comparisons agree.\n", self.checks.len());
        for (what, difference) in &self.checks {
            if let Some(difference) = difference {
                let _ = writeln!(out, "- **differs**: {what}: {difference}");
            }
        }
        out += "\n### Figures\n\n| | unit |";
        for peer in peers {
            let _ = write!(out, " {peer} |");
        }
        for peer in peers.iter().filter(|peer| **peer != ours) {
            let _ = write!(out, " against {peer} (goal) |");
        }
        out += "\n|---|---|";
        out += &"---|".repeat(peers.len() * 2 - usize::from(peers.contains(&ours)));
        out.push('\n');
        for (measure, figures) in &self.rows {
            out += &row(measure, figures, ours, peers);
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }
}

fn row(
    measure: &Measure,
    figures: &BTreeMap<&'static str, Figure>,
    ours: &str,
    peers: &[&'static str],
) -> String {
    let mut line = format!("| {} | {} |", measure.what, measure.unit);
    for peer in peers {
        let text = figures.get(peer).map_or("–".to_owned(), Figure::text);
        let _ = write!(line, " {text} |");
    }
    for peer in peers.iter().filter(|peer| **peer != ours) {
        let goal = measure.goals.iter().find(|(name, _)| name == peer);
        let text = match (figures.get(ours), figures.get(peer), goal) {
            (Some(a), Some(b), Some((_, goal))) => {
                let (ratio, is_hit) = goal.judge(a.median, b.median);
                format!("{ratio} {}", if is_hit { "hit" } else { "**miss**" })
            }
            (Some(a), Some(b), None) if a.median > b.median => {
                format!("{} × more", short(a.median / b.median))
            }
            (Some(a), Some(b), None) => format!("{} × less", short(b.median / a.median)),
            _ => "–".to_owned(),
        };
        let _ = write!(line, " {text} |");
    }
    line.push('\n');
    line
}

/// Writes a number with three significant digits.
fn short(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 100.0 || size == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 2 + (-size.log10()).ceil() as usize,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_its_spread() {
        let figure = Figure::of(&[3.0, 1.0, 2.0, 10.0]).expect("four values");
        assert_eq!(
            (figure.median, figure.low, figure.high, figure.count),
            (2.5, 1.0, 10.0, 4)
        );
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn a_goal_is_hit_at_its_border_and_missed_beyond() {
        assert!(Goal::TimesLess(25.0).judge(1.0, 25.0).1);
        assert!(!Goal::TimesLess(25.0).judge(1.0, 24.9).1);
        assert!(Goal::AtMost(0.5).judge(1.0, 2.0).1);
        assert!(!Goal::AtMost(0.5).judge(1.01, 2.0).1);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let written = [0.0, 0.000123, 0.0456, 0.5, 1.0, 7.91, 44.25, 1234.0].map(short);
        assert_eq!(
            written,
            ["0", "0.000123", "0.0456", "0.5", "1", "7.91", "44.2", "1234"]
        );
    }

    #[test]
    fn the_table_tells_a_hit_a_miss_and_what_is_missing() {
        let measure = |what, goal| Measure {
            what,
            unit: "s",
            goals: goal,
        };
        let mut report = Report::default();
        report.measured(measure("a", &[("P", Goal::TimesLess(2.0))]), "O", &[1.0]);
        report.measured(measure("a", &[("P", Goal::TimesLess(2.0))]), "P", &[3.0]);
        report.measured(measure("b", &[("P", Goal::AtMost(0.5))]), "O", &[1.0]);
        report.measured(measure("b", &[("P", Goal::AtMost(0.5))]), "P", &[1.0]);
        report.measured(measure("c", &[]), "P", &[1.0]);
        report.measured(measure("d", &[]), "O", &[4.0]);
        report.measured(measure("d", &[]), "P", &[2.0]);
        report.compared("x", Some("1 is not 2".to_owned()));
        let text = report.markdown("O", &["O", "P"]);
        assert!(text.contains("| a | s | 1 | 3 | 3 × less (≥ 2) hit |"), "{text}");
        assert!(
            text.contains("| b | s | 1 | 1 | 1 × (≤ 0.5) **miss** |"),
            "{text}"
        );
        assert!(text.contains("| c | s | – | 1 | – |"), "{text}");
        assert!(text.contains("| d | s | 4 | 2 | 2 × more |"), "{text}");
        assert!(
            text.contains("0 of 1 comparisons agree") && text.contains("x: 1 is not 2"),
            "{text}"
        );
        assert!(!report.agrees());
    }
}
