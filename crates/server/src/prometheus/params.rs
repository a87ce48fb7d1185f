//! Parameters as Prometheus reads them: from the query and from a form, repeated, lenient about time.
//!
//! A parameter in the form comes before the same one in the query, as Go's `Request.FormValue` has it.
//! Everything here is a parser of outside input: it never panics, and its errors name the parameter.

use std::time::Duration;

use marketprism_model::{TimeRange, Timestamp, duration};

use super::answer::Failure;

/// A request may carry this many parameters; more are refused.
const PARAMETERS_MAX: usize = 10_000;

/// The parameters of one request.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the form, then the query string.
    pub fn parse(query: &str, form: &[u8]) -> Result<Self, Failure> {
        let pairs = form_urlencoded::parse(form).chain(form_urlencoded::parse(query.as_bytes()));
        let mut params = Vec::new();
        for (name, value) in pairs {
            if params.len() == PARAMETERS_MAX {
                return Err(Failure::bad_data(format!(
                    "more than {PARAMETERS_MAX} parameters"
                )));
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Params(params))
    }

    /// Gives the first value, empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        let first = self.0.iter().find(|(param, _)| param == name);
        first.map_or("", |(_, value)| value.as_str())
    }

    /// Walks all values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let wanted = move |(param, _): &&(String, String)| param == name;
        self.0.iter().filter(wanted).map(|(_, value)| value.as_str())
    }

    /// Walks the names, as often as they stand there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Gives a moment; `None` when the parameter is absent.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            text => parse_time(text).map(Some).map_err(|reason| {
                Failure::parameter(name, format_args!("invalid time value for '{name}': {reason}"))
            }),
        }
    }

    /// Gives a moment that must be there.
    pub fn required_time(&self, name: &str) -> Result<Timestamp, Failure> {
        parse_time(self.get(name)).map_err(|reason| Failure::parameter(name, reason))
    }

    /// Gives `start` and `end`, all of time where they are absent.
    pub fn range(&self) -> Result<TimeRange, Failure> {
        let start = self.time("start")?.unwrap_or(Timestamp::MIN);
        let end = self.time("end")?.unwrap_or(Timestamp::MAX);
        Ok(TimeRange::new(start, end))
    }

    /// Gives a span in milliseconds, possibly negative; `None` when the parameter is absent.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.get(name) {
            "" => Ok(None),
            _ => self.required_duration_ms(name).map(Some),
        }
    }

    /// Gives a span that must be there.
    pub fn required_duration_ms(&self, name: &str) -> Result<i64, Failure> {
        parse_duration_ms(self.get(name)).map_err(|reason| Failure::parameter(name, reason))
    }

    /// Gives how many results are wanted; `None` when all are.
    pub fn limit(&self) -> Result<Option<usize>, Failure> {
        match self.get("limit") {
            "" => Ok(None),
            text => match parse_whole(text) {
                Ok(0) => Ok(None),
                Ok(limit) if limit > 0 => Ok(Some(usize::try_from(limit).unwrap_or(usize::MAX))),
                Ok(_) => Err(Failure::parameter("limit", "limit must be non-negative")),
                Err(reason) => Err(Failure::parameter("limit", reason)),
            },
        }
    }
}

/// Reads seconds since the epoch, or RFC 3339.
///
/// Fractions are rounded to milliseconds, the store's grain.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let refuse = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = parse_float(text) {
        let has_place = seconds.is_finite() && seconds.abs() < i64::MAX as f64 / 1000.0;
        return has_place
            .then(|| Timestamp::from_seconds_f64(seconds))
            .ok_or_else(refuse);
    }
    // The moments that Prometheus' own clients send for "the very beginning" and "the very end" lie outside
    // the years that RFC 3339 can write.
    match text {
        "-292273086-05-16T16:47:06Z" => return Ok(Timestamp::MIN),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(Timestamp::MAX),
        _ => {}
    }
    let has_shape = text.len() >= 20 && text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'));
    if !has_shape {
        return Err(refuse());
    }
    let moment: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
    Ok(Timestamp::from_millis(moment.as_millisecond()))
}

/// Reads a whole number with Go's words for what is none.
pub fn parse_whole(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let reason = if is_number {
        "value out of range"
    } else {
        "invalid syntax"
    };
    text.parse()
        .ok()
        .filter(|_| is_number)
        .ok_or_else(|| format!("strconv.Atoi: parsing {text:?}: {reason}"))
}

/// Reads seconds, or a duration such as `5m`; the result in milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        // Prometheus counts nanoseconds in 64 bits.
        if seconds.is_nan() || (seconds * 1e9).abs() > i64::MAX as f64 {
            return Err(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ));
        }
        return Ok((seconds * 1000.0).round() as i64);
    }
    let span: Duration =
        duration::parse(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))?;
    i64::try_from(span.as_millis()).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// Reads a float as Go does, which knows fewer words for the special values than Rust.
fn parse_float(text: &str) -> Option<f64> {
    let is_number = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let check = |text: &str, millis: i64| {
            assert_eq!(parse_time(text), Ok(Timestamp::from_millis(millis)), "{text}");
        };
        check("0", 0);
        check("1795503305.359", 1_795_503_305_359);
        check("1.5e3", 1_500_000);
        check("-1", -1000);
        check("2015-06-03T13:21:58.555Z", 1_433_337_718_555);
        check("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555);
        check("-292273086-05-16T16:47:06Z", i64::MIN);
        check("292277025-08-18T07:12:54.999999999Z", i64::MAX);
        for text in [
            "",
            "abc",
            "30s",
            "NaN",
            "inf",
            "1e300",
            "2015-06-03",
            "2015-06-03T13:21:58",
            "now",
        ] {
            assert_eq!(
                parse_time(text),
                Err(format!("cannot parse {text:?} to a valid timestamp")),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        let check = |text: &str, millis: i64| assert_eq!(parse_duration_ms(text), Ok(millis), "{text}");
        check("1", 1000);
        check("0.5", 500);
        check("-3", -3000);
        check("5m", 300_000);
        check("1h30m", 5_400_000);
        for text in ["", "1e30", "x", "5 m", "9999999999y", "inf"] {
            assert!(parse_duration_ms(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_form_comes_before_the_query() {
        let params =
            Params::parse("query=a&match[]=x&match%5B%5D=y", b"query=b+c%2B1").expect("few parameters");
        assert_eq!(params.get("query"), "b c+1");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(params.get("absent"), "");
    }

    #[test]
    fn a_limit_of_zero_means_all() {
        let check = |query: &str, expected: Result<Option<usize>, &str>| {
            let limit = Params::parse(query, b"").expect("few parameters").limit();
            let limit = limit.map_err(|failure| failure.message.into_owned());
            assert_eq!(
                limit.as_ref().map_err(String::as_str).copied(),
                expected,
                "{query}"
            );
        };
        check("", Ok(None));
        check("limit=0", Ok(None));
        check("limit=7", Ok(Some(7)));
        check(
            "limit=-1",
            Err("invalid parameter \"limit\": limit must be non-negative"),
        );
        check(
            "limit=x",
            Err("invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
        );
        check(
            "limit=99999999999999999999",
            Err(
                "invalid parameter \"limit\": strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        );
    }

    proptest! {
        #[test]
        fn no_input_makes_a_parser_panic(text in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_time(&text);
            let _ = parse_duration_ms(&text);
            let _ = Params::parse(&text, &bytes);
        }
    }
}
