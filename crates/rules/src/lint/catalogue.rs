//! The lints: their names, what they mean, what to do.

use crate::lint::Weight;

/// A lint.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// Its name, by which it is allowed.
    pub name: &'static str,
    /// How much its findings weigh.
    pub weight: Weight,
    /// What is likely wrong.
    pub what: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! lints {
    ($($name:literal $weight:ident $what:literal $advice:literal;)*) => {
        &[$(Lint { name: $name, weight: Weight::$weight, what: $what, advice: $advice }),*]
    };
}

/// All lints.
#[rustfmt::skip]
pub const CATALOGUE: &[Lint] = lints! {
    "absent-series" Warning "no stored series has these labels" "check the names of metric and labels; if the series only comes later, allow this lint";
    "contradiction" Warning "the matchers of a label exclude each other, so no series can be chosen" "drop one of the matchers, or join the two choices with `or`";
    "division" Warning "a divisor that can be 0 makes ±Inf or NaN, and the comparison then holds" "require the divisor to be above 0, such as `a / (b > 0)`";
    "vanishing" Warning "what is counted or added up is filtered first, and when nothing is left there is no result that could be small" "count before filtering (`sum(x == bool 1)`), or add `or vector(0)`";
    "absent-missing" Info "when the target itself is no longer known there is no `up`, and nothing fires" "add a rule with `absent(up{…})` for jobs that must exist";
    "never-holds" Warning "the comparison can never hold" "mend the comparison; for absence use `absent(…)`";
    "always-holds" Warning "the expression yields a result whatever the values, so the alert always fires" "compare without `bool`, or compare at all";
    "rate-of-gauge" Warning "a rate of a gauge takes every fall for a restart" "use `delta` or `deriv` for gauges";
    "counter-raw" Warning "a counter's value since its start is compared or derived, and falls to 0 at each restart" "use `rate` or `increase`";
    "range-short" Warning "a range shorter than two scrapes rarely holds the two samples that a rate needs" "use at least four scrape intervals";
    "increase-exact" Warning "`increase` extrapolates and seldom yields whole numbers" "compare with `>` or `<`, or use `changes` or `resets`";
    "label-lost" Warning "a text uses a label that the expression does not yield" "add the label to `by (…)`, or take it out of the text";
    "value-in-label" Warning "a label that holds the value makes a new alert each time the value changes" "put the value into an annotation";
    "join-labels" Warning "the two sides have different labels, so no pair is ever found" "name the common labels with `on (…)`";
    "quantile-le" Warning "`histogram_quantile` needs the label `le`, and the aggregation drops it" "add `le` to `by (…)`";
    "for-short" Warning "`for` is shorter than the group's interval, and so means one more evaluation" "make it a multiple of the interval, or leave it out";
    "levels-unordered" Warning "a worse level holds sooner than a milder one" "order the thresholds by level";
    "duplicate" Warning "the same rule stands in two places" "keep one of them";
    "record-name" Info "a recording rule without colons in its name looks like a scraped metric" "name it level:metric:operation";
    "empty-value" Info "a matcher with an empty value chooses series without the label" "if a value was meant, name it";
    "no-severity" Info "nothing says how bad the alert is" "add a label `severity`, or `levels`";
    "no-summary" Info "nothing says to people what is wrong" "add an annotation `summary` or `description`";
    "no-runbook" Info "nothing says what to do" "add an annotation `runbook_url` or `action`";
};

pub(super) fn of(name: &str) -> &'static Lint {
    let found = CATALOGUE.iter().find(|lint| lint.name == name);
    found.unwrap_or(&CATALOGUE[0])
}
