//! Writes expressions over lines, as Prometheus does: a part that is too long for a line is taken apart.
//!
//! Deliberately absent: how a part is written on one line (`print`).

use crate::ast::{Expr, ExprKind};
use crate::print::{AggregateHead, Operator, SubqueryTail, is_power_of_infinity};

/// A part of more bytes is split.
const LINE_BYTES_MAX: usize = 100;

impl Expr {
    /// Writes the expression over as many lines as it needs to be read well; short ones on one line.
    pub fn pretty(&self) -> String {
        self.pretty_within(LINE_BYTES_MAX)
    }

    /// The same with lines of another length.
    pub(crate) fn pretty_within(&self, line_bytes: usize) -> String {
        let mut page = Page {
            out: String::new(),
            line_bytes,
        };
        page.write(self, 0);
        page.out
    }
}

struct Page {
    out: String,
    line_bytes: usize,
}

impl Page {
    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n("  ", level));
    }

    fn write(&mut self, expr: &Expr, level: usize) {
        let whole = expr.to_string();
        let is_long = whole.len() > self.line_bytes;
        match &expr.kind {
            // A sign is not split from what it stands before, nor a subquery's range from what it is over.
            ExprKind::Negate(inner) => self.write_signed('-', inner, level),
            ExprKind::Plus(inner) => self.write_signed('+', inner, level),
            ExprKind::Subquery(subquery) if is_long => {
                self.write(&subquery.expr, level);
                self.out.push_str(&SubqueryTail(subquery).to_string());
            }
            ExprKind::Subquery(_) => self.out.push_str(&whole),
            ExprKind::Call(function, args) if is_long && !args.is_empty() => {
                let parts: Vec<&Expr> = args.iter().collect();
                self.write_enclosed(function.signature().name, &parts, level);
            }
            ExprKind::Aggregate(aggregate) if is_long => {
                let parts: Vec<&Expr> = aggregate.param.iter().chain([&aggregate.expr]).collect();
                self.write_enclosed(&AggregateHead(aggregate).to_string(), &parts, level);
            }
            ExprKind::Paren(inner) if is_long => self.write_enclosed("", &[inner], level),
            ExprKind::Binary(binary) if is_long => {
                if is_power_of_infinity(binary) {
                    self.indent(level + 1);
                    self.out.push_str("Inf");
                } else {
                    self.write(&binary.left, level + 1);
                }
                self.out.push('\n');
                self.indent(level);
                self.out.push_str(&Operator(binary).to_string());
                self.out.push('\n');
                self.write(&binary.right, level + 1);
            }
            _ => {
                self.indent(level);
                self.out.push_str(&whole);
            }
        }
    }

    fn write_signed(&mut self, sign: char, inner: &Expr, level: usize) {
        self.indent(level);
        self.out.push(sign);
        let mut page = Page {
            out: String::new(),
            line_bytes: self.line_bytes,
        };
        page.write(inner, level);
        self.out.push_str(page.out.trim());
    }

    /// Writes parts between parentheses, each on lines of its own.
    fn write_enclosed(&mut self, head: &str, parts: &[&Expr], level: usize) {
        self.indent(level);
        self.out.push_str(head);
        self.out.push_str("(\n");
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                self.out.push_str(",\n");
            }
            self.write(part, level + 1);
        }
        self.out.push('\n');
        self.indent(level);
        self.out.push(')');
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    fn check(text: &str, line_bytes: usize, expected: &str) {
        let expr = parse(text).expect(text);
        let pretty = expr.pretty_within(line_bytes);
        assert_eq!(pretty, expected);
        assert_eq!(parse(&pretty).expect("what is printed is valid"), expr);
    }

    #[test]
    fn what_fits_on_a_line_stays_on_it() {
        check("sum  by(a)( rate(b[5m]) )", 100, "sum by (a) (rate(b[5m]))");
    }

    #[test]
    fn what_is_too_long_is_taken_apart() {
        let text =
            "sum by (job) (rate(requests_total{code=~\"5..\"}[5m])) / on (job) topk(3, -(up == bool 1))";
        let expected = "  sum by (job) (
    rate(
      requests_total{code=~\"5..\"}[5m]
    )
  )
/ on (job)
  topk(
    3,
    -(
        up
      == bool
        1
    )
  )";
        check(text, 9, expected);
        let long = "a".repeat(90);
        let text = format!("max_over_time(({long} > 1)[1h:1m] offset 5m)");
        let expected = format!("max_over_time(\n  (\n    {long} > 1\n  )[1h:1m] offset 5m\n)");
        check(&text, 95, &expected);
    }
}
