//! How far into time an expression reads: the newest moment whose samples can matter to its answer.
//!
//! Only upwards: whatever comes or goes at a later moment leaves the answer as it is. An estimate that is too late only
//! makes a kept answer end sooner.

use marketprism_promql::{At, Expr, ExprKind, Extension, Function, Length, Selector};

/// Gives the newest moment, in milliseconds, that `expr` reads when it is evaluated at moments up to `end_ms`.
pub(crate) fn newest_read(expr: &Expr, end_ms: i64) -> i64 {
    let (mut newest, mut open) = (i64::MIN, vec![(expr, end_ms)]);
    while let Some((expr, at_ms)) = open.pop() {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::Text(_) => {}
            ExprKind::Selector(selector) | ExprKind::Range(selector, _) => {
                newest = newest.max(selected_to(selector, at_ms, end_ms));
            }
            ExprKind::Subquery(subquery) => {
                let to_ms = shifted(subquery.at, &subquery.offset, at_ms, end_ms);
                open.push((&subquery.expr, to_ms));
            }
            ExprKind::Call(function, args) => {
                if *function == Function::Info {
                    // It reads series that stand in no argument.
                    newest = newest.max(at_ms);
                }
                open.extend(args.iter().map(|arg| (arg, at_ms)));
            }
            ExprKind::Aggregate(aggregate) => {
                open.push((&aggregate.expr, at_ms));
                open.extend(aggregate.param.as_ref().map(|param| (param, at_ms)));
            }
            ExprKind::Binary(binary) => open.extend([(&binary.left, at_ms), (&binary.right, at_ms)]),
            ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => {
                open.push((inner, at_ms))
            }
        }
    }
    newest
}

fn selected_to(selector: &Selector, at_ms: i64, end_ms: i64) -> i64 {
    if selector.extension == Some(Extension::Smoothed) {
        // It looks for the sample behind its end, as far as the engine looks back.
        return i64::MAX;
    }
    shifted(selector.at, &selector.offset, at_ms, end_ms)
}

/// `start()` and `end()` are those of the whole query, also inside a subquery; the later of both is safe for both.
fn shifted(at: Option<At>, offset: &Length, at_ms: i64, end_ms: i64) -> i64 {
    let from_ms = match at {
        None => at_ms,
        Some(At::Time(time_ms)) => time_ms,
        Some(At::Start | At::End) => end_ms.max(at_ms),
    };
    match offset.millis() {
        Some(offset_ms) => from_ms.saturating_sub(offset_ms),
        // Only the query can tell, and it may look ahead as far as it likes.
        None => i64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_fixed_moments_and_subqueries_are_followed() {
        let check = |text: &str, expected: i64| {
            let expr = marketprism_promql::parse(text).expect(text);
            assert_eq!(newest_read(&expr, 1_000_000), expected, "{text}");
        };
        check("1 + time()", i64::MIN);
        check("up", 1_000_000);
        check("rate(up[5m] offset 1m)", 940_000);
        check("up offset -2m", 1_120_000);
        check("up offset 1m + up offset 10s", 990_000);
        check("up @ 400", 400_000);
        check("up @ 2000 offset 1s", 1_999_000);
        check("up @ start()", 1_000_000);
        check(
            "max_over_time(rate(up[1m] offset 30s)[10m:1m] offset 5m)",
            670_000,
        );
        check("max_over_time((up offset -10m)[1h:1m])", 1_600_000);
        check("max_over_time((up @ end())[1h:1m] offset 1h)", 1_000_000);
        check("max_over_time(up[1h:1m] @ 5000 offset 1m)", 4_940_000);
        check("sum by (job) (-(up offset 1m)) > scalar(up offset 2m)", 940_000);
        check("topk(scalar(up), up offset 1h)", 1_000_000);
        check(
            "label_replace(up offset 1m, \"a\", \"$1\", \"b\", \"(.*)\")",
            940_000,
        );
        check("absent(up offset 1d)", 1_000_000 - 86_400_000);
        check("up smoothed", i64::MAX);
        check("increase(up[5m] smoothed offset 1h)", i64::MAX);
        check("increase(up[5m] anchored offset 1m)", 940_000);
        check("rate(up[step()] offset step())", i64::MAX);
        check("info(up offset 1m)", 1_000_000);
        check("info(vector(1))", 1_000_000);
    }
}
