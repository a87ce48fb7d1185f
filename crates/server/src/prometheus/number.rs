//! Numbers as Go writes them, for clients compare texts.
//!
//! The shortest digits that read back as the same number are the same everywhere; only the choice between plain
//! and exponent differs. Millions of points make an answer, so the usual ones take a fast road.

use std::fmt::Write as _;

/// Whole numbers below this are written as integers, which is faster and gives the same digits.
const WHOLE_MAX: f64 = 9.0e15;

/// Appends a sample's value as Prometheus' API writes it: plain between 1e-6 and 1e21, with an exponent of
/// at least two digits beyond.
///
/// Source: `github.com/prometheus/prometheus/util/jsonutil`, MarshalFloat; Go's strconv.AppendFloat.
pub fn push_value(text: &mut String, value: f64) {
    let size = value.abs();
    if !value.is_finite() {
        push_special(text, value);
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        push_exponent(text, value);
    } else if size != 0.0 && size < WHOLE_MAX && value.trunc() == value {
        text.push_str(itoa::Buffer::new().format(value as i64));
    } else {
        push_plain(text, value);
    }
}

/// Appends a scalar's value, which Prometheus writes without an exponent however big it is.
pub fn push_plain(text: &mut String, value: f64) {
    if !value.is_finite() {
        return push_special(text, value);
    }
    // Of two equally short texts that are equally near, this one takes the even digit as Go does; Rust does not.
    let mut buffer = zmij::Buffer::new();
    let written = buffer.format_finite(value);
    if written.contains('e') {
        let _ = write!(text, "{value}");
    } else {
        text.push_str(written.strip_suffix(".0").unwrap_or(written));
    }
}

/// Appends a value with an exponent always, as the `value` of an alert is written: `1e+00`.
pub fn push_alert_value(text: &mut String, value: f64) {
    if value.is_finite() {
        push_exponent(text, value);
    } else {
        push_special(text, value);
    }
}

/// Appends milliseconds as seconds, with three digits behind the point or none.
///
/// Source: the same, MarshalTimestamp.
pub fn push_timestamp(text: &mut String, millis: i64) {
    if millis < 0 {
        text.push('-');
    }
    let millis = millis.unsigned_abs();
    text.push_str(itoa::Buffer::new().format(millis / 1000));
    let rest = (millis % 1000) as u32;
    if rest != 0 {
        text.push('.');
        for digit in [rest / 100, rest / 10 % 10, rest % 10] {
            text.push(char::from_digit(digit, 10).expect("a remainder of ten is a digit"));
        }
    }
}

fn push_special(text: &mut String, value: f64) {
    text.push_str(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    });
}

fn push_exponent(text: &mut String, value: f64) {
    let written = format!("{value:e}");
    let (digits, exponent) = written.split_once('e').expect("the format has an exponent");
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    let _ = write!(text, "{digits}e{sign}{exponent:0>2}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_written_as_go_writes_them() {
        // Answers of Prometheus 2.42 to `query=vector(<value>)`.
        let check = |value: f64, expected: &str| {
            let mut text = String::new();
            push_value(&mut text, value);
            assert_eq!(text, expected);
        };
        check(0.0, "0");
        check(-0.0, "-0");
        check(791_504_821_745_147.0 + 0.25, "791504821745147.2");
        check(791_504_821_745_147.0 + 0.75, "791504821745147.8");
        check(1.0, "1");
        check(1.1, "1.1");
        check(-42.0, "-42");
        check(8_999_999_999_999_999.0, "8999999999999999");
        check(9_007_199_254_740_994.0, "9007199254740994");
        check(-12345.678, "-12345.678");
        check(123_456_789_012_345_680_000.0, "123456789012345680000");
        check(1e21, "1e+21");
        check(-2.5e300, "-2.5e+300");
        check(0.000001, "0.000001");
        check(9.99e-7, "9.99e-07");
        check(1e-7, "1e-07");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    proptest! {
        #[test]
        fn values_read_back_and_are_as_short_as_can_be(bits: u64, small in -1e7f64..1e7) {
            for value in [f64::from_bits(bits), small, small.trunc(), small * 1e-5, small * 1e12] {
                let is_plain = value == 0.0 || (1e-6..1e21).contains(&value.abs());
                if is_plain {
                    let mut text = String::new();
                    push_value(&mut text, value);
                    prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{}", text);
                    prop_assert_eq!(text.len(), value.to_string().len(), "{}", text);
                }
            }
        }
    }

    #[test]
    fn scalars_have_no_exponent() {
        // Answers of Prometheus 2.42 to `query=2^100`, `query=1e-7`, `query=-1/0`.
        let check = |value: f64, expected: &str| {
            let mut text = String::new();
            push_plain(&mut text, value);
            assert_eq!(text, expected);
        };
        check(2f64.powi(100), "1267650600228229400000000000000");
        check(791_504_821_745_147.0 + 0.25, "791504821745147.2");
        check(1e-7, "0.0000001");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn alert_values_always_have_an_exponent() {
        let check = |value: f64, expected: &str| {
            let mut text = String::new();
            push_alert_value(&mut text, value);
            assert_eq!(text, expected);
        };
        check(1.0, "1e+00");
        check(0.0, "0e+00");
        check(97.25, "9.725e+01");
        check(f64::INFINITY, "+Inf");
    }

    #[test]
    fn times_are_seconds_with_three_digits_or_none() {
        let check = |millis: i64, expected: &str| {
            let mut text = String::new();
            push_timestamp(&mut text, millis);
            assert_eq!(text, expected);
        };
        check(0, "0");
        check(1_795_503_305_350, "1795503305.350");
        check(1_795_503_305_000, "1795503305");
        check(1_005, "1.005");
        check(-1, "-0.001");
        check(-61_000, "-61");
    }
}
