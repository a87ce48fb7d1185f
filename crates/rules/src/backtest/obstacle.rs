//! Where columns do not come to the same as ticks, and why.
//!
//! Deliberately absent: what follows from it (`run`).

use marketprism_promql::{Expr, ExprKind, Length, Selector};

use crate::rule::{GroupSpec, Rule};
use crate::set::RuleSet;

/// Gives the first rule for which columns do not come to the same as ticks, and why; for all others no rule reads what a
/// later one writes, or what alerts write, or the future, and none needs more than its expression.
pub(crate) fn obstacle(rules: &RuleSet) -> Option<(&Rule, &'static str)> {
    let groups = rules.groups().iter();
    let all: Vec<(&GroupSpec, &Rule)> = groups
        .flat_map(|group| group.rules.iter().map(move |rule| (&**group, &**rule)))
        .collect();
    let has_alerts = all.iter().any(|(_, rule)| rule.alerting().is_some());
    all.iter().enumerate().find_map(|(place, (group, rule))| {
        let selectors = rule.parsed.selectors();
        let reads = |name: &str| selectors.iter().any(|selector| selector.may_read(name));
        let mut later = all[place..].iter().filter(|(_, rule)| rule.alerting().is_none());
        let why = if let Some(why) = needs_more(group, rule) {
            why
        } else if has_alerts && (reads("ALERTS") || reads("ALERTS_FOR_STATE")) {
            "it may read what alerts write"
        } else if later.any(|(_, rule)| reads(&rule.name)) {
            "it may read what it records itself, or what a later rule records"
        } else {
            return None;
        };
        Some((*rule, why))
    })
}

fn needs_more(group: &GroupSpec, rule: &Rule) -> Option<&'static str> {
    let alerting = rule.alerting();
    let labels = alerting.into_iter().flat_map(|alerting| &alerting.label_texts);
    let asks = labels
        .into_iter()
        .any(|(_, text)| text.source().contains("query"));
    if group.limit != 0 {
        Some("its group has a limit")
    } else if alerting.is_some_and(|alerting| alerting.recovery.is_some()) {
        Some("it has a condition of recovery")
    } else if alerting.is_some_and(|alerting| alerting.missing_data.is_some()) {
        Some("it says what missing data mean")
    } else if asks {
        Some("its labels are made by queries")
    } else if rule.interval.is_some() {
        Some("it has an interval of its own")
    } else if !is_of_the_moment(&rule.parsed) {
        Some("its expression depends on the range or on what comes later")
    } else {
        None
    }
}

/// Says whether an expression reads nothing but its own moment and what lies before it, whatever the range that it is
/// asked for.
fn is_of_the_moment(expr: &Expr) -> bool {
    const OF_THE_RANGE: [&str; 5] = ["start()", "end()", "step()", "range()", "info("];
    let text = expr.to_string();
    if OF_THE_RANGE.iter().any(|word| text.contains(word)) {
        return false;
    }
    let looks_back = |offset: &Length| offset.millis().is_some_and(|ms| ms >= 0);
    let is_plain = |selector: &&Selector| looks_back(&selector.offset) && selector.extension.is_none();
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match &expr.kind {
            ExprKind::Subquery(subquery) if !looks_back(&subquery.offset) => return false,
            ExprKind::Subquery(subquery) => open.push(&subquery.expr),
            ExprKind::Call(_, args) => open.extend(args),
            ExprKind::Aggregate(aggregate) => {
                open.push(&aggregate.expr);
                open.extend(aggregate.param.as_ref());
            }
            ExprKind::Binary(binary) => open.extend([&binary.left, &binary.right]),
            ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => open.push(inner),
            _ => {}
        }
    }
    expr.selectors().iter().all(is_plain)
}
