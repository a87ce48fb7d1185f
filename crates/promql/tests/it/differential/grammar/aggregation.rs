//! Aggregations.

use super::{Generator, Made, Place, Precision};

impl Generator {
    /// A grouping, and which labels then tell the groups apart.
    fn grouping(&mut self, inner: &Made) -> (String, Option<Vec<&'static str>>) {
        const LABELS: [&[&str]; 6] = [
            &["job"],
            &["instance"],
            &["job", "instance"],
            &["missing"],
            &["job", "code"],
            &["le", "mode"],
        ];
        if self.one_in(5) {
            return (String::new(), Some(Vec::new()));
        }
        let chosen = self.pick(&LABELS);
        let list = chosen.join(", ");
        let comma = if self.one_in(12) { "," } else { "" };
        if self.one_in(2) {
            let kept = |identity: &Vec<&'static str>| {
                identity
                    .iter()
                    .copied()
                    .filter(|label| chosen.contains(label))
                    .collect()
            };
            // What was told apart by other labels may still differ in these.
            let identity = inner.identity.as_ref().map(kept);
            return (format!(" by ({list}{comma}) "), identity);
        }
        let kept = |identity: &Vec<&'static str>| {
            identity
                .iter()
                .copied()
                .filter(|label| !chosen.contains(label))
                .collect()
        };
        let identity = inner.identity.as_ref().map(kept);
        // Labels that do not tell series apart may stay, and then the groups are finer.
        (format!(" without ({list}{comma}) "), identity)
    }

    /// The operator, the grouping before or behind what is aggregated.
    fn written(&mut self, op: &str, grouping: &str, arguments: &str) -> String {
        if !grouping.is_empty() && self.one_in(4) {
            format!("{op}({arguments}){}", grouping.trim_end())
        } else {
            format!("{op}{grouping}({arguments})")
        }
    }

    pub(super) fn aggregation(&mut self, place: Place) -> Made {
        match self.below(12) {
            0 | 1 => {
                let (op, count) = (
                    self.pick(&["topk", "bottomk"]),
                    self.pick(&["1", "2", "3", "5", "0", "-1", "2.9", "100"]),
                );
                let inner = self.vector_that(place, |made| made.is_distinct && !made.is_odd);
                let inner = if inner.is_distinct {
                    inner
                } else {
                    self.distinct(place)
                };
                let (grouping, _) = self.grouping(&inner);
                let text = self.written(op, &grouping, &format!("{count}, {}", inner.text));
                Made { text, ..inner }
            }
            2 => {
                let phi = self.pick(&["0", "0.5", "0.95", "1", "-0.5", "2", "NaN"]);
                let inner = self.vector(place);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written("quantile", &grouping, &format!("{phi}, {}", inner.text));
                Made {
                    identity,
                    is_odd: true,
                    ..inner.becomes(text, Precision::Rounded)
                }
            }
            3 => {
                let inner = self.exact(place);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written("count_values", &grouping, &format!("\"value\", {}", inner.text));
                let identity = identity.map(|mut labels| {
                    labels.push("value");
                    labels
                });
                Made {
                    identity,
                    precision: Precision::Summable,
                    is_named: false,
                    is_distinct: false,
                    is_odd: false,
                    text,
                }
            }
            4 => {
                let op = self.pick(&["stddev", "stdvar"]);
                let inner = self.distinct(place);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written(op, &grouping, &inner.text);
                Made {
                    identity,
                    ..inner.becomes(text, Precision::Rounded)
                }
            }
            5 | 6 => {
                let op = self.pick(&["count", "group"]);
                let inner = self.vector(place);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written(op, &grouping, &inner.text);
                Made {
                    identity,
                    precision: Precision::Summable,
                    is_named: false,
                    is_distinct: false,
                    is_odd: false,
                    text,
                }
            }
            7 | 8 => {
                let op = self.pick(&["min", "max"]);
                let inner = self.vector(place);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written(op, &grouping, &inner.text);
                let precision = inner.precision;
                Made {
                    identity,
                    ..inner.becomes(text, precision)
                }
            }
            _ => {
                let op = self.pick(&["sum", "avg", "sum"]);
                // The largest numbers overflow or not by the order in which they are added.
                let inner = self.vector_that(place, |made| !made.is_odd);
                let (grouping, identity) = self.grouping(&inner);
                let text = self.written(op, &grouping, &inner.text);
                let is_exact = op == "sum" && inner.precision == Precision::Summable;
                let precision = if is_exact {
                    Precision::Summable
                } else {
                    Precision::Rounded
                };
                Made {
                    identity,
                    ..inner.becomes(text, precision)
                }
            }
        }
    }

    /// A vector without equal values, each row with job and instance; no odd ones.
    pub(super) fn distinct(&mut self, place: Place) -> Made {
        for _ in 0..20 {
            let made = if self.one_in(2) {
                self.leaf(place)
            } else {
                self.rollup(place)
            };
            if made.is_distinct && !made.is_odd {
                return made;
            }
        }
        let family = self.family(|family| family.is_distinct && family.extra.is_none() && family.is_gauge);
        let text = self.selector(family);
        Made {
            text,
            identity: Some(vec!["job", "instance"]),
            precision: Precision::Summable,
            is_named: true,
            is_distinct: true,
            is_odd: false,
        }
    }
}
