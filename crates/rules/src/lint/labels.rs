//! Which labels an expression yields, as far as its text tells.

use std::collections::BTreeSet;

use marketprism_model::MatcherOp;
use marketprism_model::labels::METRIC_NAME;
use marketprism_promql::{AggregateOp, BinaryOp, Cardinality, Expr, ExprKind, Function, LabelChoice, SetOp};

/// What is known of the labels of a result. The metric's name does not count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Yielded {
    /// At most these.
    Only(BTreeSet<String>),
    /// Any but these.
    Except(BTreeSet<String>),
}

impl Yielded {
    fn unknown() -> Self {
        Yielded::Except(BTreeSet::new())
    }

    pub(super) fn may_have(&self, label: &str) -> bool {
        match self {
            Yielded::Only(labels) => labels.contains(label),
            Yielded::Except(labels) => !labels.contains(label),
        }
    }

    fn with(mut self, label: &str) -> Self {
        match &mut self {
            Yielded::Only(labels) => {
                labels.insert(label.to_owned());
            }
            Yielded::Except(labels) => {
                labels.remove(label);
            }
        }
        self
    }

    fn without(mut self, label: &str) -> Self {
        match &mut self {
            Yielded::Only(labels) => {
                labels.remove(label);
            }
            Yielded::Except(labels) => {
                labels.insert(label.to_owned());
            }
        }
        self
    }

    fn or(self, other: Yielded) -> Self {
        match (self, other) {
            (Yielded::Only(a), Yielded::Only(b)) => Yielded::Only(a.union(&b).cloned().collect()),
            (Yielded::Except(a), Yielded::Except(b)) => {
                Yielded::Except(a.intersection(&b).cloned().collect())
            }
            (Yielded::Except(out), Yielded::Only(only)) | (Yielded::Only(only), Yielded::Except(out)) => {
                Yielded::Except(out.difference(&only).cloned().collect())
            }
        }
    }

    fn chosen(self, choice: &LabelChoice) -> Self {
        match choice {
            LabelChoice::Only(labels) => {
                let kept = labels.iter().filter(|label| self.may_have(label));
                Yielded::Only(kept.map(|label| label.to_string()).collect())
            }
            LabelChoice::Except(labels) => labels.iter().fold(self, |sum, label| sum.without(label)),
        }
    }
}

/// Tells which labels an expression yields.
pub(super) fn yielded(expr: &Expr) -> Yielded {
    match &expr.kind {
        ExprKind::Selector(_) | ExprKind::Range(..) => Yielded::unknown(),
        ExprKind::Subquery(subquery) => yielded(&subquery.expr),
        ExprKind::Negate(inner) | ExprKind::Plus(inner) | ExprKind::Paren(inner) => yielded(inner),
        ExprKind::Aggregate(aggregate) => {
            let inner = yielded(&aggregate.expr);
            let keeps = [
                AggregateOp::Topk,
                AggregateOp::Bottomk,
                AggregateOp::Limitk,
                AggregateOp::LimitRatio,
            ];
            if keeps.contains(&aggregate.op) {
                return inner;
            }
            let grouped = match &aggregate.grouping {
                None => Yielded::Only(BTreeSet::new()),
                Some(choice) => inner.chosen(choice),
            };
            match (
                aggregate.op,
                aggregate.param.as_ref().map(|param| &param.without_parens().kind),
            ) {
                (AggregateOp::CountValues, Some(ExprKind::Text(label))) => grouped.with(label),
                _ => grouped,
            }
        }
        ExprKind::Call(function, args) => of_call(*function, args),
        ExprKind::Binary(binary) => {
            let (left, right) = (yielded(&binary.left), yielded(&binary.right));
            let Some(matching) = &binary.matching else {
                return match binary.left.value_type() {
                    marketprism_promql::ValueType::Scalar => right,
                    _ => left,
                };
            };
            match (binary.op, &matching.cardinality) {
                (BinaryOp::Set(SetOp::Or), _) => left.or(right),
                (BinaryOp::Set(_), _) => left,
                (_, Cardinality::OneToOne) => left.chosen(&matching.labels),
                (_, Cardinality::ManyToOne(taken)) => taken.iter().fold(left, |sum, label| sum.with(label)),
                (_, Cardinality::OneToMany(taken)) => taken.iter().fold(right, |sum, label| sum.with(label)),
            }
        }
        _ => Yielded::Only(BTreeSet::new()),
    }
}

fn of_call(function: Function, args: &[Expr]) -> Yielded {
    let text = |place: usize| match args.get(place).map(|arg| &arg.without_parens().kind) {
        Some(ExprKind::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    match function {
        Function::Absent | Function::AbsentOverTime => of_absence(args.first()),
        Function::LabelReplace | Function::LabelJoin => {
            let inner = args.first().map_or(Yielded::unknown(), yielded);
            text(1).map_or(Yielded::unknown(), |label| inner.with(&label))
        }
        Function::Info => Yielded::unknown(),
        Function::HistogramQuantiles => {
            let inner = args.first().map_or(Yielded::unknown(), yielded).without("le");
            text(1).map_or(Yielded::unknown(), |label| inner.with(&label))
        }
        Function::HistogramQuantile => args.last().map_or(Yielded::unknown(), yielded).without("le"),
        Function::ToVector => Yielded::Only(BTreeSet::new()),
        _ => {
            let vectors = args.iter().filter(|arg| {
                use marketprism_promql::ValueType::{Matrix, Vector};
                matches!(arg.value_type(), Vector | Matrix)
            });
            vectors
                .map(yielded)
                .next()
                .unwrap_or(Yielded::Only(BTreeSet::new()))
        }
    }
}

/// Absence has the labels that were asked for by equality.
fn of_absence(arg: Option<&Expr>) -> Yielded {
    let selector = match arg.map(|arg| &arg.without_parens().kind) {
        Some(ExprKind::Selector(selector) | ExprKind::Range(selector, _)) => selector,
        _ => return Yielded::Only(BTreeSet::new()),
    };
    let equal = selector
        .matchers
        .iter()
        .filter(|matcher| matcher.op == MatcherOp::Equal);
    let names = equal
        .map(|matcher| matcher.name.to_string())
        .filter(|name| name != METRIC_NAME);
    Yielded::Only(names.collect())
}
