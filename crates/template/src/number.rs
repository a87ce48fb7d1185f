//! Numbers as Go writes and reads them.
//!
//! Source: the documentation of Go's `strconv`, FormatFloat and ParseFloat.

/// Writes a float with a verb of `e E f F g G` and a precision; `None` takes as many digits as make the
/// number unique. Infinities and NaN are `+Inf`, `-Inf`, `NaN`.
pub(crate) fn format_float(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = match verb.to_ascii_lowercase() {
        'f' => match precision {
            Some(precision) => format!("{value:.precision$}"),
            None => format!("{value}"),
        },
        'e' => {
            let text = match precision {
                Some(precision) => format!("{value:.precision$e}"),
                None => format!("{value:e}"),
            };
            with_go_exponent(&text)
        }
        _ => general(value, precision),
    };
    if verb.is_ascii_uppercase() {
        text.to_ascii_uppercase()
    } else {
        text
    }
}

/// `%g`: `%e` for exponents below -4 or from the precision on (6 for the shortest form), `%f` otherwise,
/// without trailing zeros.
fn general(value: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        Some(precision) => format!("{value:.*e}", precision.max(1) - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the scientific form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let mantissa = if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    let threshold = match precision {
        Some(precision) => i32::try_from(precision.max(1)).unwrap_or(i32::MAX),
        None => SHORTEST_THRESHOLD,
    };
    if exponent < -4 || exponent >= threshold {
        return with_go_exponent(&format!("{mantissa}e{exponent}"));
    }
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    let decimals = (digits - 1 - exponent).max(0) as usize;
    let rounded: f64 = format!("{mantissa}e{exponent}")
        .parse()
        .expect("a mantissa and an exponent make a number");
    format!("{rounded:.decimals$}")
}

/// The exponent from which the shortest form of `%g` turns scientific.
const SHORTEST_THRESHOLD: i32 = 6;

/// Turns Rust's `1e6`, `1e-7` into Go's `1e+06`, `1e-07`.
fn with_go_exponent(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Reads a number as Go's literals and `strconv.ParseInt(text, 0, 64)` write them: signs, `0x`, `0o`, `0b`,
/// a leading zero for octal, underscores between digits.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(&digits, radix).ok()?;
    i64::try_from(if is_negative { -magnitude } else { magnitude }).ok()
}

/// Reads a float as Go's `strconv.ParseFloat` does, hexadecimal ones included.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = magnitude.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hexadecimal) = lower.strip_prefix("0x") {
        return parse_hexadecimal(hexadecimal).map(|value| sign * value);
    }
    let is_number = lower
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_digit() || b == b'.')
        && lower
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    if !is_number {
        return None;
    }
    let value: f64 = lower.parse().ok()?;
    value.is_finite().then_some(sign * value)
}

/// Reads `1.8p-3` after its `0x`; the exponent is required.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() + fraction.len() > 256 {
        return None;
    }
    let mut value = 0.0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let scale = exponent.saturating_sub(4 * i32::try_from(fraction.len()).ok()?);
    let value = value * 2.0f64.powi(scale);
    value.is_finite().then_some(value)
}

/// Removes underscores, which must stand between digits.
pub(crate) fn without_underscores(digits: &str) -> Option<String> {
    if digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    Some(digits.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        // Expected texts as accepted by promtool 2.42, see tests/it/promtool.rs for the running comparison.
        let check = |value, verb, precision, text: &str| {
            assert_eq!(
                format_float(value, verb, precision),
                text,
                "{value} %{precision:?}{verb}"
            );
        };
        check(1e6, 'g', None, "1e+06");
        check(123_456_789.0, 'g', None, "1.23456789e+08");
        check(100_000.0, 'g', None, "100000");
        check(0.0001, 'g', None, "0.0001");
        check(0.00001, 'g', None, "1e-05");
        check(1_234_567.0, 'g', Some(3), "1.23e+06");
        check(1_234_567.0, 'g', Some(10), "1234567");
        check(9999.6, 'g', Some(4), "1e+04");
        check(1e-7, 'G', None, "1E-07");
        check(1234.5, 'e', Some(6), "1.234500e+03");
        check(0.0, 'g', Some(4), "0");
        check(-0.0, 'g', None, "-0");
        check(f64::NEG_INFINITY, 'g', None, "-Inf");
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_int("0x1F"), Some(31));
        assert_eq!(parse_int("017"), Some(15));
        assert_eq!(parse_int("1_000"), Some(1000));
        assert_eq!(parse_int("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), None);
        assert_eq!(
            (parse_int("1_"), parse_int(""), parse_int("0x")),
            (None, None, None)
        );
        assert_eq!(parse_float("0x1.8p1"), Some(3.0));
        assert_eq!(parse_float("-Inf"), Some(f64::NEG_INFINITY));
        assert_eq!(
            (parse_float("1e999"), parse_float("x"), parse_float("")),
            (None, None, None)
        );
    }
}
