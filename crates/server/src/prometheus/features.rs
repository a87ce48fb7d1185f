//! `features`: what this server can do, in the words that Prometheus 3 has for it.
//!
//! Nothing is claimed: the language is asked for every word of it, by a short expression that needs it; so the list
//! follows the language and cannot lie. What an API or a store of Prometheus has and ours lacks stands there as `false`.

use std::collections::BTreeMap;

use axum::response::Response;
use marketprism_promql::Function;

use super::answer::success;
use crate::request::Form;

type Features = BTreeMap<&'static str, BTreeMap<&'static str, bool>>;

/// `GET features`
pub async fn features(form: Form) -> Response {
    success(&known(), &[], form.gzip)
}

fn known() -> Features {
    let mut features = Features::new();
    for (category, names) in FIXED {
        let of_category = features.entry(category).or_default();
        of_category.extend(names.iter().copied());
    }
    for (category, probes) in [("promql", WORDS), ("promql_operators", OPERATORS)] {
        let of_category = features.entry(category).or_default();
        of_category.extend(probes.iter().map(|(name, probe)| (*name, is_spoken(probe))));
    }
    let functions = features.entry("promql_functions").or_default();
    functions.extend(
        FUNCTIONS
            .iter()
            .map(|name| (*name, Function::named(name).is_some())),
    );
    functions.extend(
        Function::ALL
            .iter()
            .map(|function| (function.signature().name, true)),
    );
    features
}

fn is_spoken(probe: &str) -> bool {
    marketprism_promql::parse(probe).is_ok()
}

/// What does not depend on the language.
const FIXED: [(&str, &[(&str, bool)]); 7] = [
    (
        "api",
        &[
            ("admin", false),
            ("exclude_alerts", true),
            ("label_values_match", true),
            ("lifecycle", true),
            ("otlp_write_receiver", false),
            ("query_stats", true),
            ("query_warnings", true),
            ("remote_write_receiver", true),
            ("search", false),
            ("time_range_labels", true),
            ("time_range_series", true),
        ],
    ),
    (
        "prometheus",
        &[
            ("agent_mode", false),
            ("auto_reload_config", true),
            ("server_mode", true),
        ],
    ),
    (
        "promql",
        &[
            ("delayed_name_removal", true),
            ("per_query_lookback_delta", true),
            ("per_step_stats", false),
        ],
    ),
    (
        "rules",
        &[
            ("concurrent_rule_eval", true),
            ("keep_firing_for", true),
            ("query_offset", true),
        ],
    ),
    (
        "scrape",
        &[
            ("extra_scrape_metrics", false),
            ("start_timestamp_zero_ingestion", false),
        ],
    ),
    ("service_discovery_providers", &[("file", true), ("static", true)]),
    (
        "tsdb",
        &[("exemplar_storage", false), ("native_histograms", true)],
    ),
];

/// Words of the language, each with an expression that only who knows it can read.
const WORDS: &[(&str, &str)] = &[
    ("anchored", "rate(a_total[5m] anchored)"),
    ("at_modifier", "a @ 1"),
    ("bool", "a > bool 1"),
    ("by", "sum by (b) (a)"),
    ("duration_expr", "a[5m + 1m]"),
    ("fill", "a + fill(0) b"),
    ("fill_left", "a + fill_left(0) b"),
    ("fill_right", "a + fill_right(0) b"),
    ("group_left", "a * on (b) group_left c"),
    ("group_right", "a * on (b) group_right c"),
    ("ignoring", "a * ignoring (b) c"),
    ("negative_offset", "a offset -1m"),
    ("offset", "a offset 1m"),
    ("on", "a * on (b) c"),
    ("smoothed", "rate(a_total[5m] smoothed)"),
    ("subqueries", "max_over_time(a[5m:1m])"),
    ("without", "sum without (b) (a)"),
];

const OPERATORS: &[(&str, &str)] = &[
    ("!=", "a != 1"),
    ("!~", "a{b!~\"c\"}"),
    ("%", "a % 1"),
    ("*", "a * 1"),
    ("+", "a + 1"),
    ("-", "a - 1"),
    ("/", "a / 1"),
    ("<", "a < 1"),
    ("</", "a </ 1"),
    ("<=", "a <= 1"),
    ("==", "a == 1"),
    ("=~", "a{b=~\"c\"}"),
    (">", "a > 1"),
    (">/", "a >/ 1"),
    (">=", "a >= 1"),
    ("@", "a @ 1"),
    ("^", "a ^ 1"),
    ("and", "a and b"),
    ("atan2", "a atan2 b"),
    ("avg", "avg(a)"),
    ("bottomk", "bottomk(1, a)"),
    ("count", "count(a)"),
    ("count_values", "count_values(\"b\", a)"),
    ("group", "group(a)"),
    ("limit_ratio", "limit_ratio(0.5, a)"),
    ("limitk", "limitk(1, a)"),
    ("max", "max(a)"),
    ("min", "min(a)"),
    ("or", "a or b"),
    ("quantile", "quantile(0.5, a)"),
    ("stddev", "stddev(a)"),
    ("stdvar", "stdvar(a)"),
    ("sum", "sum(a)"),
    ("topk", "topk(1, a)"),
    ("unless", "a unless b"),
];

/// The functions that Prometheus calls experimental; a client may ask for one that is not there.
const FUNCTIONS: &[&str] = &[
    "double_exponential_smoothing",
    "end",
    "first_over_time",
    "histogram_quantiles",
    "info",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_is_true_and_what_cannot_is_false() {
        let features = known();
        for (category, name) in [
            ("promql_functions", "rate"),
            ("promql_operators", "topk"),
            ("promql_operators", "atan2"),
            ("promql", "subqueries"),
            ("api", "exclude_alerts"),
        ] {
            assert_eq!(features[category].get(name), Some(&true), "{category} {name}");
        }
        assert!(!features["api"]["search"]);
        // The stable language has no word that is not spoken here.
        for (name, _) in OPERATORS
            .iter()
            .filter(|(name, _)| !["</", ">/", "limit_ratio"].contains(name))
        {
            assert!(features["promql_operators"][name], "{name}");
        }
    }
}
