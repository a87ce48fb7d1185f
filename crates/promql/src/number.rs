//! Numbers as Go writes them, and so Prometheus: in labels, and in the texts of histograms.
//!
//! Rust and Go both write the fewest digits that read back as the number, the nearest of those. Where two are equally
//! near, Rust takes the larger and Go the one whose last digit is even; in a label, that is another series.
//!
//! Source: `strconv.FormatFloat` with precision −1.

/// Writes plain digits, never an exponent: Go's `f`.
pub(crate) fn plain(value: f64) -> String {
    if !value.is_finite() {
        return words(value).to_owned();
    }
    let (sign, digits, exponent) = shortest(value);
    let point = exponent + 1;
    let length = i32::try_from(digits.len()).expect("at most 17 digits");
    let text = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= length {
        format!("{digits}{}", "0".repeat((point - length) as usize))
    } else {
        let (whole, fraction) = digits.split_at(point as usize);
        format!("{whole}.{fraction}")
    };
    let text = if digits == "0" { "0".to_owned() } else { text };
    format!("{sign}{text}")
}

/// Writes one digit, the others behind a point, and an exponent: `1.25e-7`. For finite numbers.
pub(crate) fn scientific(value: f64) -> String {
    let (sign, digits, exponent) = shortest(value);
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}e{exponent}")
}

fn words(value: f64) -> &'static str {
    match value {
        v if v.is_nan() => "NaN",
        v if v > 0.0 => "+Inf",
        _ => "-Inf",
    }
}

/// The sign, the fewest digits, and the exponent of the first of them.
fn shortest(value: f64) -> (&'static str, String, i32) {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let value = value.abs();
    let (digits, exponent) = parts(&format!("{value:e}"));
    if !digits.ends_with(['1', '3', '5', '7', '9']) {
        return (sign, digits, exponent);
    }
    // Rounded up from the middle: all that is behind is a 5, and then nothing.
    let (all, exact_exponent) = parts(&format!("{value:.*e}", digits.len() + 30));
    let (kept, cut) = all.split_at(digits.len());
    let is_middle =
        exact_exponent == exponent && cut.starts_with('5') && cut[1..].bytes().all(|digit| digit == b'0');
    if is_middle && kept.ends_with(['0', '2', '4', '6', '8']) {
        let (first, rest) = kept.split_at(1);
        let lower: Result<f64, _> = format!("{first}.{rest}e{exponent}").parse();
        if lower == Ok(value) {
            return (sign, kept.to_owned(), exponent);
        }
    }
    (sign, digits, exponent)
}

/// The digits and the exponent of a number in scientific notation.
fn parts(scientific: &str) -> (String, i32) {
    let (digits, exponent) = scientific.split_once('e').expect("it has an exponent");
    let exponent = exponent.parse().expect("it is a whole number");
    (digits.replace('.', ""), exponent)
}

#[cfg(test)]
mod tests {
    use super::{plain, scientific};

    /// The first two come from Prometheus, which put them into labels.
    #[test]
    fn of_two_nearest_texts_the_even_one_is_written() {
        for (value, expected) in [
            (520_874.0 / f64::from(1 << 18), "1.9869766235351562"),
            (-554_582.0 / f64::from(1 << 18), "-2.1155624389648438"),
            (462.037_109_375, "462.037109375"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (0.0, "0"),
            (1e21, "1000000000000000000000"),
            (1.5e-7, "0.00000015"),
            (123_456.0, "123456"),
            (5e-324, &format!("0.{}5", "0".repeat(323))),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(plain(value), expected);
        }
    }

    #[test]
    fn scientific_numbers_have_the_same_digits() {
        for (value, expected) in [
            (0.0, "0e0"),
            (1e6, "1e6"),
            (-520_874.0 / f64::from(1 << 18), "-1.9869766235351562e0"),
            (1.25e-5, "1.25e-5"),
        ] {
            assert_eq!(scientific(value), expected);
        }
    }
}
