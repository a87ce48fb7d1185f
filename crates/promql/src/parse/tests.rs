//! What is read and how it prints, and what is refused with which words where.

use proptest::prelude::*;

use crate::{Expr, ExprKind, Length, fuzz, parse, parse_selector};

/// Reads a text, and says how it prints; what is printed must read back as the same.
fn check(text: &str, expected: &str) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let printed = expr.to_string();
    assert_eq!(printed, expected, "{text}");
    let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again, expr, "{text} prints as {printed}");
}

fn same(text: &str) {
    check(text, text);
}

/// Compares a refusal without what was expected in the place, which is told beside Prometheus' words.
fn refuse(text: &str, told: &str) {
    let error = parse(text).expect_err(text).to_string();
    let words = match error.split_once("; expected ") {
        Some((words, rest)) => match rest.find("; did you mean") {
            Some(at) => format!("{words}{}", &rest[at..]),
            None => words.to_owned(),
        },
        None => error,
    };
    assert_eq!(words, told, "{text}");
}

#[test]
fn what_was_expected_is_told() {
    let told = |text: &str, told: &str| {
        assert_eq!(parse(text).expect_err(text).to_string(), told, "{text}");
    };
    told(
        "free <",
        "1:7: parse error: unexpected end of input; expected an expression",
    );
    told(
        "a + * b",
        "1:5: parse error: unexpected <op:*>; expected an expression",
    );
    told("(a", "1:3: parse error: unclosed left parenthesis");
    told(
        "a b",
        "1:3: parse error: unexpected identifier \"b\"; expected an operator or the end of the expression",
    );
    told(
        "a ofset 5m",
        "1:3: parse error: unexpected identifier \"ofset\"; expected an operator or the end of the expression; \
         did you mean \"offset\"?",
    );
    told(
        "clamp(a b",
        "1:9: parse error: unexpected identifier \"b\"; expected an operator, \",\" or \")\"",
    );
    told(
        "sum by (x) a",
        "1:12: parse error: unexpected identifier \"a\" in aggregation; expected \"(\"",
    );
    told(
        "a + on (x) fill (b",
        "1:18: parse error: unexpected identifier \"b\"; expected a number",
    );
}

#[test]
fn literals_in_every_form_are_read() {
    check("1.50", "1.5");
    check(".25e2", "25");
    check("0x1F + 017 + 1_000", "31 + 15 + 1000");
    check("-inf + +NAN", "-Inf + NaN");
    check("1e3", "1000");
    same("1000000000000000000000000");
    check("--7", "7");
    check("90m", "1h30m");
    check("-5m", "-5m");
    check(r#"'a\'b"' "#, r#""a'b\"""#);
    check(r"`c:\dir`", r#""c:\\dir""#);
    check("\"\\x41\\u00e9\\t\\xff\"", "\"Aé\\t\\xff\"");
    check("# nothing\n1 # but one\r+ # and\n 2", "1 + 2");
}

#[test]
fn operators_bind_as_in_mathematics() {
    let grouped = |text: &str, expected: &str| {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(shape(&expr), expected, "{text}");
    };
    grouped("a + b * c ^ d", "(a + (b * (c ^ d)))");
    grouped("a ^ b ^ c", "(a ^ (b ^ c))");
    grouped("a - b - c", "((a - b) - c)");
    grouped("-a ^ b * c", "((-(a ^ b)) * c)");
    grouped("a ^ -b * c", "((a ^ (-b)) * c)");
    grouped("a or b and c unless d or e", "((a or ((b and c) unless d)) or e)");
    grouped("a < b + c == d", "((a < (b + c)) == d)");
    grouped("a </ b >/ c", "((a </ b) >/ c)");
    grouped("a atan2 b % c", "((a atan2 b) % c)");
    grouped("-1 ^ 2", "(-(1 ^ 2))");
    grouped("-a offset 5m + b", "((-a offset 5m) + b)");
    grouped("a offset 5m + b", "(a offset 5m + b)");
}

/// Writes each operation in parentheses.
fn shape(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Binary(binary) => {
            let op = binary.op.as_str();
            format!("({} {op} {})", shape(&binary.left), shape(&binary.right))
        }
        ExprKind::Negate(inner) => format!("(-{})", shape(inner)),
        _ => expr.to_string(),
    }
}

#[test]
fn selectors_print_with_sorted_matchers() {
    same("up");
    check("up{}", "up");
    check("up{ b = 'x' , a !~ \"y.*\", }", "up{a!~\"y.*\",b=\"x\"}");
    check(
        "{\"http.requests\", \"k.x\"=\"v\"}",
        "{\"k.x\"=\"v\",__name__=\"http.requests\"}",
    );
    same("{__name__=~\"a|b\"}");
    same("job:rate:5m{le=\"+Inf\"}");
    // Words of the language are names where nothing else can stand.
    check("sum + by{on=\"x\",and=\"y\"}", "sum + by{and=\"y\",on=\"x\"}");
    same("offset offset 5m");
    same("start * end - step / range");
    check("fill + fill_left", "fill + fill_left");
    same("AND and anchored");
}

#[test]
fn modifiers_come_in_any_order_and_print_in_one() {
    same("a[5m]");
    check("a[300]", "a[5m]");
    check("a[ 1h30m ] OFFSET -5m @ 1.5", "a[1h30m] @ 1.500 offset -5m");
    check("a offset 5m @ -3", "a @ -3.000 offset 5m");
    check("a @ start() offset 1w", "a @ start() offset 1w");
    check("a[5m] smoothed offset 1m", "a[5m] smoothed offset 1m");
    check("a anchored[5m]", "a[5m] anchored");
    check("a offset 1m smoothed", "a smoothed offset 1m");
    check(
        "max_over_time(rate(a[1m])[1h:] @ end())",
        "max_over_time(rate(a[1m])[1h:] @ end())",
    );
    same("a[1h:30s] offset -1m");
    check("a offset 0s offset 1m", "a offset 1m");
}

#[test]
fn lengths_are_calculated_or_wait_for_the_query() {
    let range = |text: &str, expected: Option<i64>| match parse(text).expect(text).kind {
        ExprKind::Range(_, range) => assert_eq!(range.millis(), expected, "{text}"),
        other => panic!("{other:?}"),
    };
    same("a[5m + 30s * 2]");
    range("a[5m + 30s * 2]", Some(360_000));
    range("a[(1h - 30m) / 2]", Some(900_000));
    range("a[2 ^ 3]", Some(8_000));
    range("a[min_of(5m, 90)]", Some(90_000));
    range("a[step() + 1m]", None);
    // What comes to nothing fails where it is asked for.
    range("a[1m - 1h]", None);
    same("a[max_of(step(), 5m)] offset -range()");
    check("a[((5m))]", "a[(5m)]");
    same("a[1h:step() * 2] offset (1m + 5)");
    let offset = |text: &str, expected: &str, ms: i64| {
        let ExprKind::Binary(sum) = parse(text).expect(text).kind else {
            panic!("{text} is no sum");
        };
        let ExprKind::Selector(selector) = sum.left.kind else {
            panic!("{text} does not begin with a selector");
        };
        assert_eq!(
            (selector.offset.millis(), sum.right.to_string().as_str()),
            (Some(ms), expected)
        );
    };
    // Only what stands in parentheses goes on.
    offset("a offset 5m + 1", "1", 300_000);
    offset("a offset -(5m) + 1", "1", -300_000);
    same("a offset (5m) + 1m");
    assert_eq!(
        parse("a").map(|expr| expr.selectors()[0].offset.clone()),
        Ok(Length::ZERO)
    );
}

#[test]
fn aggregations_and_matchings_print_as_prometheus_prints_them() {
    check("sum(a) by (x,  y,)", "sum by (x, y) (a)");
    check("sum by () (a)", "sum(a)");
    check("SUM without() (a)", "sum without () (a)");
    check(
        "topk by (\"x.y\", by, on) (3, a)",
        "topk by (\"x.y\", by, on) (3, a)",
    );
    check("sum by (\"without\") (a)", "sum by (\"without\") (a)");
    same("limit_ratio(-0.5, a)");
    same("count_values(\"v\", a)");
    check("a + on(x) group_left b", "a + on (x) group_left () b");
    check(
        "a > bool ignoring(x) group_right(y) b",
        "a > bool ignoring (x) group_right (y) b",
    );
    check("a + ignoring() b", "a + b");
    check("a * on () fill(0) b", "a * on () fill (0) b");
    check(
        "a * fill_right(-1e30) fill_left(5m) b",
        "a * fill_left (300) fill_right (-1e+30) b",
    );
    check("a + on() 1", "a + 1");
    check("1 + group_left_total", "1 + group_left_total");
    same("info(a, {data=~\".*\"})");
    same("+a");
    same("Inf ^ 2");
}

#[test]
fn faults_of_the_grammar_are_told_as_prometheus_tells_them() {
    refuse("", "unknown position: parse error: no expression found in input");
    refuse(" # nothing", "1:1: parse error: no expression found in input");
    refuse("sum(a", "1:6: parse error: unclosed left parenthesis");
    refuse("a))", "1:3: parse error: unexpected right parenthesis ')'");
    refuse("a +\n+ * b", "2:3: parse error: unexpected <op:*>");
    refuse(
        "sum(a b)",
        "1:7: parse error: unexpected identifier \"b\" in aggregation",
    );
    refuse(
        "sum by (a) b",
        "1:12: parse error: unexpected identifier \"b\" in aggregation",
    );
    refuse(
        "sum by a (b)",
        "1:8: parse error: unexpected identifier \"a\" in grouping opts, expected \"(\"",
    );
    refuse(
        "sum by (1) (b)",
        "1:9: parse error: unexpected number \"1\" in grouping opts, expected label",
    );
    refuse(
        "a + on (x y) b",
        "1:11: parse error: unexpected identifier \"y\" in grouping opts, expected \",\" or \")\"",
    );
    refuse(
        "a + on (x) group_left",
        "1:22: parse error: unexpected end of input in grouping opts, expected \"(\"",
    );
    refuse("a{", "1:3: parse error: unexpected end of input inside braces");
    refuse(
        "a{b}",
        "1:4: parse error: unexpected \"}\" in label matching, expected label matching operator",
    );
    refuse(
        "a{b=c}",
        "1:5: parse error: unexpected identifier \"c\" in label matching, expected string",
    );
    refuse(
        "a{,}",
        "1:3: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
    );
    refuse(
        "a{b=\"c\" d=\"e\"}",
        "1:9: parse error: unexpected identifier \"d\" in label matching, expected \",\" or \"}\"",
    );
    refuse("a{b=\"c}", "1:5: parse error: unterminated quoted string");
    refuse("a[5m", "1:5: parse error: unclosed left bracket");
    refuse(
        "a[]",
        "1:3: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    );
    refuse("a[5m)]", "1:6: parse error: unexpected right parenthesis ')'");
    refuse("a[0]", "1:3: parse error: duration must be greater than 0");
    refuse("a[5m:-1s]", "1:6: parse error: duration must be greater than 0");
    refuse(
        "a[5m5m]",
        "1:3: parse error: not a valid duration string: \"5m5m\"",
    );
    refuse("a[1000y]", "1:3: parse error: duration out of range");
    refuse(
        "a[five]",
        "1:3: parse error: unexpected character in duration expression: 'f'",
    );
    refuse("a[1m / 0]", "1:6: parse error: division by zero");
    refuse(
        "a offset b",
        "1:10: parse error: unexpected identifier \"b\" in offset, expected number, duration, step(), or range()",
    );
    refuse(
        "a @ b",
        "1:5: parse error: unexpected identifier \"b\" in @, expected timestamp",
    );
    refuse(
        "a @ Inf",
        "1:1: parse error: timestamp out of bounds for @ modifier: +Inf",
    );
    refuse(
        "a @ 1 @ 2",
        "1:1: parse error: @ <timestamp> may not be set multiple times",
    );
    refuse(
        "a offset 1m offset 2m",
        "1:1: parse error: offset may not be set multiple times",
    );
    refuse(
        "a offset 1m[5m]",
        "1:12: parse error: no offset modifiers allowed before range",
    );
    refuse(
        "rate(a)[5m]",
        "1:8: parse error: ranges only allowed for vector selectors",
    );
    refuse(
        "abs(a,)",
        "1:6: parse error: trailing commas not allowed in function call args",
    );
    refuse("5 $ 3", "1:3: parse error: unexpected character: '$'");
    refuse("1y2", "1:1: parse error: bad number or duration syntax: \"1y2\"");
    refuse(
        "a anchored smoothed",
        "1:1: parse error: anchored and smoothed modifiers cannot be used together",
    );
    refuse("\"a\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'");
    refuse(
        "sum()",
        "1:1: parse error: no arguments for aggregate expression provided",
    );
    refuse(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
}

#[test]
fn a_misspelt_word_is_told_with_what_was_meant() {
    refuse(
        "raet(a[5m])",
        "1:1: parse error: unknown function with name \"raet\"; did you mean \"rate\"?",
    );
    refuse(
        "Sun(a)",
        "1:1: parse error: unknown function with name \"Sun\"; did you mean \"sum\"?",
    );
    refuse(
        "frobnicate(a)",
        "1:1: parse error: unknown function with name \"frobnicate\"",
    );
    refuse(
        "a ofset 5m",
        "1:3: parse error: unexpected identifier \"ofset\"; did you mean \"offset\"?",
    );
    refuse(
        "sum(a) withuot (b)",
        "1:8: parse error: unexpected identifier \"withuot\"; did you mean \"without\"?",
    );
}

#[test]
fn faults_of_meaning_are_told_as_prometheus_tells_them() {
    refuse(
        "rate(a)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    );
    refuse(
        "abs(a, b)",
        "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 2",
    );
    refuse(
        "round()",
        "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0",
    );
    refuse(
        "hour(a, b)",
        "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2",
    );
    refuse(
        "sum(1)",
        "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
    );
    refuse(
        "topk(\"a\", b)",
        "1:6: parse error: expected type scalar in aggregation parameter, got string",
    );
    refuse(
        "1 == 1",
        "1:3: parse error: comparisons between scalars must use BOOL modifier",
    );
    refuse(
        "a + bool b",
        "1:3: parse error: bool modifier can only be used on comparison operators",
    );
    refuse(
        "1 and a",
        "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
    );
    refuse(
        "a[5m] + 1",
        "1:1: parse error: binary expression must contain only scalar and instant vector types",
    );
    refuse(
        "a + on (x) 1",
        "1:1: parse error: vector matching only allowed between instant vectors",
    );
    refuse(
        "a and on (x) group_left b",
        "1:1: parse error: no grouping allowed for \"and\" operation",
    );
    refuse(
        "a + on (x) group_left (x) b",
        "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
    );
    refuse(
        "a or fill (1) b",
        "1:1: parse error: filling in missing series not allowed for set operators",
    );
    refuse(
        "-\"a\"",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
    refuse(
        "1[5m:1m]",
        "1:1: parse error: subquery is only allowed on instant vector, got scalar instead",
    );
    refuse(
        "{}",
        "1:1: parse error: vector selector must contain at least one non-empty matcher",
    );
    refuse(
        "a + {b=~\".*\"}",
        "1:5: parse error: vector selector must contain at least one non-empty matcher",
    );
    refuse(
        "a{__name__=\"b\"}",
        "1:1: parse error: metric name must not be set twice: \"a\" or \"b\"",
    );
    refuse(
        "info(a, b)",
        "1:9: parse error: expected label selectors only, got vector selector instead",
    );
    refuse(
        "a{b!~\"\\xff\"}",
        "1:3: parse error: error parsing regexp: invalid UTF-8",
    );
    let error = parse("a{b=~\"(\"}")
        .expect_err("no regular expression")
        .to_string();
    assert!(
        error.starts_with("1:3: parse error: ") && error.contains('('),
        "{error}"
    );
}

#[test]
fn spans_cover_what_they_stand_for() {
    let text = "sum by (x) (rate(a{b=\"c\"}[5m] offset 1m)) /\n  on () (b)";
    let expr = parse(text).expect("valid");
    let of = |expr: &Expr| &text[expr.span.start as usize..expr.span.end as usize];
    assert_eq!(of(&expr), text);
    let ExprKind::Binary(binary) = &expr.kind else {
        panic!("a division");
    };
    assert_eq!(of(&binary.left), "sum by (x) (rate(a{b=\"c\"}[5m] offset 1m))");
    assert_eq!(of(&binary.right), "(b)");
    let ExprKind::Aggregate(aggregate) = &binary.left.kind else {
        panic!("an aggregation");
    };
    assert_eq!(of(&aggregate.expr), "rate(a{b=\"c\"}[5m] offset 1m)");
    let ExprKind::Call(_, args) = &aggregate.expr.kind else {
        panic!("a call");
    };
    assert_eq!(of(&args[0]), "a{b=\"c\"}[5m] offset 1m");
}

#[test]
fn a_selector_alone_has_no_modifiers() {
    assert_eq!(
        parse_selector("up{job=\"a\"}").map(|s| s.to_string()),
        Ok("up{job=\"a\"}".to_owned())
    );
    for text in ["up offset 5m", "up[5m]", "up + 1", "sum(up)", "1", "", "{}", "on"] {
        assert!(parse_selector(text).is_err(), "{text:?}");
    }
}

#[test]
fn regular_expressions_are_bounded_together() {
    let selector = |more: &mut dyn Iterator<Item = String>| {
        let matchers: Vec<String> = more.map(|pattern| format!("a=~\"{pattern}\"")).collect();
        format!("m{{{}}}", matchers.join(","))
    };
    let heavy = |n: usize| format!("[α-ω]{{900}}{n}");
    assert!(parse(&selector(&mut (0..3).map(heavy))).is_ok());
    let error = parse(&selector(&mut (0..400).map(heavy))).expect_err("too much");
    assert!(
        error
            .to_string()
            .contains("regular expressions take more than 32 MiB of memory together"),
        "{error}"
    );
    // What is written again is held once, whatever the label and the operator.
    let text = selector(&mut (0..400).map(|_| heavy(0)));
    let again = text.replacen("a=~", "b!~", 1);
    let expr = parse(&again).expect("one expression");
    assert_eq!(
        expr.to_string(),
        parse(&expr.to_string()).expect("again").to_string()
    );
    assert!(expr.to_string().contains("b!~"), "{expr}");
    // Equality with the same text is no expression.
    let both = parse("m{a=~\".+\",b=\".+\",c=~\".+\"}").expect("matchers");
    let ExprKind::Selector(selector) = &both.kind else {
        panic!("{both:?}");
    };
    let kept: Vec<bool> = selector.matchers[1..].iter().map(|m| m.matches("x")).collect();
    assert_eq!(kept, [true, false, true]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_sentence_of_the_language_is_read_and_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..250)) {
        fuzz::sentence(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n\té中]{0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.span.start as usize <= text.len(), "{error}");
        }
    }

    /// A sentence with one piece lost, doubled or put elsewhere is read or refused, but never a panic.
    #[test]
    fn no_broken_sentence_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        cut in any::<prop::sample::Index>(),
        paste in any::<prop::sample::Index>(),
    ) {
        let text = fuzz::text_of(&bytes);
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let (cut, paste) = (*cut.get(&cuts), *paste.get(&cuts));
        let (first, last) = (cut.min(paste), cut.max(paste));
        for broken in [
            text[..cut].to_owned(),
            [&text[..first], &text[last..]].concat(),
            [&text[..last], &text[first..]].concat(),
        ] {
            let _ = parse(&broken);
        }
    }
}
