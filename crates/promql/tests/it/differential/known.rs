//! In what 2.42 differs from 3, and how the generated queries keep away from it.
//!
//! Each row has a query that shows the difference: should it ever be answered alike, the row is stale.

use super::data::START_S;
use super::peer::Prometheus;
use super::{Question, data, difference, ours, theirs};

/// Functions that 2.42 does not know, or that need histograms; the scripts have them.
pub const NEW_FUNCTIONS: &[&str] = &[
    "end",
    "first_over_time",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "info",
    "limit_ratio",
    "limitk",
    "mad_over_time",
    "max_of",
    "min_of",
    "range",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// A difference.
struct Known {
    what: &'static str,
    /// How generated queries avoid it.
    avoided_by: &'static str,
    /// A query that shows it, and the second behind the first full hour at which it does.
    query: &'static str,
    second: i64,
    /// How many further minutes it takes to show.
    steps: i64,
}

const PLAIN: Known = Known {
    what: "",
    avoided_by: "",
    query: "",
    second: 15,
    steps: 0,
};

const KNOWN: &[Known] = &[
    Known {
        what: "ranges are open on the left since 3.0",
        avoided_by: "samples lie 7 s behind every multiple of 15 s, queries are asked at such multiples",
        query: "count_over_time(up{instance=\"api-0:9100\"}[1m])",
        second: 7,
        ..PLAIN
    },
    Known {
        what: "subqueries are open on the left since 3.0",
        avoided_by: "queries with subqueries are asked at 15 s past full minutes, inner ones moved by 15 s",
        query: "count_over_time(vector(1)[5m:1m])",
        second: 0,
        ..PLAIN
    },
    Known {
        what: "the zero point of a counter is weighed after the rule for distant edges since 3.0",
        avoided_by: "counters begin at zero or far above it, and those near zero are never interrupted",
        query: "increase((vector(time() - 1700010240) >= 30)[30m:1m])",
        second: 1815,
        ..PLAIN
    },
    Known {
        what: "names are dropped at the end of a query since 3.0, where that is asked for, as here",
        avoided_by: "no selector chooses two metrics, no grouping and no label function reads the name",
        query: "label_replace(rate(requests_total[5m]), \"name\", \"$1\", \"__name__\", \"(.*)\")",
        ..PLAIN
    },
    Known {
        what: "durations are numbers since 3.0",
        avoided_by: "not asked",
        query: "vector(5m)",
        ..PLAIN
    },
    Known {
        what: "lengths of time may be numbers since 3.0",
        avoided_by: "not asked",
        query: "count_over_time(up[300])",
        ..PLAIN
    },
    Known {
        what: "numbers may have underscores since 3.0",
        avoided_by: "not asked",
        query: "vector(1_000)",
        ..PLAIN
    },
    Known {
        what: "names may be any UTF-8 since 3.0",
        avoided_by: "not asked",
        query: "{\"up\"}",
        ..PLAIN
    },
    Known {
        what: "label functions take any UTF-8 name since 3.0",
        avoided_by: "destinations are valid in both",
        query: "label_replace(up, \"1 a\", \"x\", \"job\", \".*\")",
        ..PLAIN
    },
    Known {
        what: "count_values takes any UTF-8 name since 3.0",
        avoided_by: "the label is valid in both",
        query: "count_values(\"1 a\", up)",
        ..PLAIN
    },
    Known {
        what: "a dot in a regular expression takes a line end since 3.0",
        avoided_by: "no label of the data has one",
        query: "label_replace(label_replace(up, \"a\", \"x\\ny\", \"\", \"\"), \"b\", \"z\", \"a\", \"x.y\")",
        ..PLAIN
    },
    Known {
        what: "holt_winters is double_exponential_smoothing since 3.0",
        avoided_by: "asked there under its old name, here under its new one",
        query: "double_exponential_smoothing(temperature[5m], 0.5, 0.5)",
        ..PLAIN
    },
    Known {
        what: "2.42 gives the deviation of a single NaN or infinity as 0",
        avoided_by: "only finite values are asked for it",
        query: "stddev(vector(NaN))",
        ..PLAIN
    },
    Known {
        what: "2.42 keeps the sign of a sum that is -0, 3 adds its compensation of 0",
        avoided_by: "no sample and no scalar is -0",
        query: "count_values(\"value\", sum(vector(-0)))",
        ..PLAIN
    },
    Known {
        what: "2.42 loses an offset beside `@` under timestamp",
        avoided_by: "not asked together",
        query: "timestamp(up @ 1700009000 offset 5m)",
        ..PLAIN
    },
    Known {
        what: "2.42 loses what `@` pins under predict_linear",
        avoided_by: "not asked",
        query: "predict_linear(temperature[5m] @ 1700009000, 60)",
        steps: 2,
        ..PLAIN
    },
    Known {
        what: "2.42 forgets to drop the name after atan2",
        avoided_by: "it is asked where there is no name",
        query: "temperature atan2 2",
        ..PLAIN
    },
    Known {
        what: "2.42 does not count matches that a comparison filters out, 3 does",
        avoided_by: "where many may match one, comparisons are of bool",
        query: "requests_total == on (instance) (up * 1e300)",
        ..PLAIN
    },
    Known {
        what: "2.42 gives series without points where a pinned part stands under a subquery without a step",
        avoided_by: "ranges are at least as long as their steps",
        query: "(rate(requests_total[2m] @ 1700009000))[2m:5m]",
        second: 15 + 150,
        ..PLAIN
    },
    Known {
        what: "2.42 cannot evaluate a text in parentheses",
        avoided_by: "not asked",
        query: "(\"x\")",
        ..PLAIN
    },
    Known {
        what: "histogram_fraction reads classic buckets since 3.0",
        avoided_by: "not asked",
        query: "histogram_fraction(0, 1, latency_bucket)",
        ..PLAIN
    },
];

#[test]
fn each_known_difference_is_one() {
    let memory = data::generate();
    let mut prometheus = Prometheus::start();
    prometheus.fill(&memory);
    let mut wrong = Vec::new();
    for known in KNOWN {
        let at = (START_S + 3600 + known.second) * 1000;
        let question = Question {
            query: known.query.to_owned(),
            start_ms: at,
            end_ms: at + known.steps * 60_000,
            step_ms: 60_000,
        };
        let (ours, theirs) = (ours(&memory, &question), theirs(&mut prometheus, &question));
        let differs = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => difference(ours, theirs).is_some(),
            (ours, theirs) => ours.is_ok() != theirs.is_ok(),
        };
        if !differs {
            let Known {
                what,
                avoided_by,
                query,
                ..
            } = known;
            wrong.push(format!(
                "{what} ({avoided_by})\n    {query}\n    {ours:?}\n    {theirs:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "answered alike:\n{}", wrong.join("\n"));
}
