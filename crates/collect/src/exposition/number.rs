//! Numbers as Go reads them, fast for those that targets write.
//!
//! A decimal of up to 2⁵³ with a small power of ten is exact in two steps; the rest goes to the standard library.

/// The NaN that Prometheus stores for any NaN a target writes; never the mark of an ended series.
pub(crate) const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Parses a float as Go's `strconv.ParseFloat` does before version 1.13: no underscores, no hexadecimal.
///
/// `Inf`, `infinity` (with a sign) and `NaN` (without one) count in any case of letters. A decimal beyond the
/// range of a float is no number, as in Go. Every NaN becomes Prometheus' normal NaN.
///
/// Source: W. D. Clinger (1990), "How to Read Floating Point Numbers Accurately", for the fast path.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    match decimal(digits) {
        Some(value) => Some(if is_negative { -value } else { value }),
        None => general(text),
    }
}

/// Reads `digits[.digits][e[sign]digits]` when the result is exact; `None` leaves it to the general road.
#[inline]
fn decimal(text: &[u8]) -> Option<f64> {
    let (mut mantissa, mut at, mut digits, mut scale) = (0u64, 0usize, 0usize, 0i32);
    while let Some(digit) = digit_at(text, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    digits += at;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let start = at;
        while let Some(digit) = digit_at(text, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        digits += at - start;
        scale = -((at - start) as i32);
    }
    if digits == 0 || digits > 19 {
        return None;
    }
    if at < text.len() {
        scale += exponent(&text[at..])?;
    }
    if mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64;
    match scale {
        0 => Some(value),
        -22..0 => Some(value / POWERS[-scale as usize]),
        1..=22 => Some(value * POWERS[scale as usize]),
        _ => None,
    }
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

fn exponent(text: &[u8]) -> Option<i32> {
    let (b'e' | b'E') = text[0] else { return None };
    let (sign, digits) = match text.get(1)? {
        b'-' => (-1, &text[2..]),
        b'+' => (1, &text[2..]),
        _ => (1, &text[1..]),
    };
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        sign * digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0')),
    )
}

#[cold]
fn general(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    let has_digits = text.bytes().any(|b| b.is_ascii_digit());
    if value.is_nan() {
        // Go reads no sign before NaN.
        return text
            .eq_ignore_ascii_case("nan")
            .then_some(f64::from_bits(NORMAL_NAN_BITS));
    }
    (value.is_finite() || !has_digits).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_read_as_go_reads_them() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(
                parse_float(text.as_bytes()).map(f64::to_bits),
                expected.map(f64::to_bits),
                "{text:?}"
            );
        };
        check("0", Some(0.0));
        check("-0", Some(-0.0));
        check("+1.5", Some(1.5));
        check(".5", Some(0.5));
        check("5.", Some(5.0));
        check("1e3", Some(1000.0));
        check("1.7976931348623157e+308", Some(f64::MAX));
        check("9007199254740993", Some(9_007_199_254_740_992.0));
        check("18446744073709551616", Some(18_446_744_073_709_551_616.0));
        check("4.9e-324", Some(f64::from_bits(1)));
        check("1e-400", Some(0.0));
        check("Inf", Some(f64::INFINITY));
        check("+inf", Some(f64::INFINITY));
        check("-Infinity", Some(f64::NEG_INFINITY));
        check("nan", Some(f64::from_bits(NORMAL_NAN_BITS)));
        for text in [
            "", "-", "+", ".", "e5", "1e", "1e+", "1_0", "0x1p2", "0x10", "1e400", "-nan", "+NaN", "1 ",
            "1a", "in",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn every_float_written_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Some(bits), "{}", text);
            }
        }

        #[test]
        fn the_fast_road_agrees_with_the_standard_library(text in "[+-]?[0-9]{0,22}(\\.[0-9]{0,22})?(e[+-]?[0-9]{1,3})?") {
            let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }
    }
}
