//! Numbers in messages, as Go's `%g` writes them: users search for these messages.
//!
//! Deliberately absent: numbers in labels, which never have an exponent (`number`), and texts in quotes (`quote`).

use crate::number;

/// From this exponent on, the shortest form has one.
const SHORTEST_LIMIT: i32 = 6;

/// Writes a number as `%g` does; with `digits`, as `%.{digits}g`.
///
/// Source: Go's `strconv.FormatFloat`: the shortest digits that read back the same, or so many digits; an
/// exponent of at least two figures below 1e-4 and from 1e6 on, or from the count of digits on.
pub(crate) fn general(value: f64, digits: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = match digits {
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
        None => number::scientific(value),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = match mantissa.split_once('.') {
        Some(_) => mantissa.trim_end_matches('0').trim_end_matches('.'),
        None => mantissa,
    };
    let limit = digits.map_or(SHORTEST_LIMIT, |digits| digits.max(1) as i32);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{trimmed}e{sign}{:02}", exponent.abs());
    }
    match digits {
        Some(_) => {
            let decimals = usize::try_from(trimmed_decimals(trimmed) - exponent).unwrap_or(0);
            format!("{value:.decimals$}")
        }
        None => number::plain(value),
    }
}

fn trimmed_decimals(mantissa: &str) -> i32 {
    mantissa
        .split_once('.')
        .map_or(0, |(_, decimals)| decimals.len() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        let check = |value: f64, digits: Option<usize>, expected: &str| {
            assert_eq!(general(value, digits), expected);
        };
        check(1.1, None, "1.1");
        check(-1.1, None, "-1.1");
        check(0.0001, None, "0.0001");
        check(0.00001, None, "1e-05");
        check(f64::NEG_INFINITY, None, "-Inf");
        check(f64::NAN, None, "NaN");
        check(0.0, None, "0");
        check(123_456.0, None, "123456");
        check(1_234_567.0, None, "1.234567e+06");
        check(100.0, Some(2), "1e+02");
        check(99.0, Some(2), "99");
        check(1.25, Some(2), "1.2");
        check(0.0123, Some(2), "0.012");
        check(2.0, Some(2), "2");
    }
}
