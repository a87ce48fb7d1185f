//! The name by which one request is found in all logs.
//!
//! A caller that traces gives it in W3C's `traceparent`; one that numbers its requests in `X-Request-Id`;
//! otherwise we draw one. Anything malformed is ignored, for it ends up in log lines.

use http::HeaderMap;
use marketprism_model::Chance;

/// The header in which the id goes back.
pub const REQUEST_ID: &str = "x-request-id";

/// Gives the request's trace id.
pub fn trace_id(headers: &HeaderMap, chance: &dyn Chance) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(id) = header("traceparent").and_then(from_traceparent) {
        return id.to_owned();
    }
    if let Some(id) = header(REQUEST_ID).filter(|id| is_plain(id)) {
        return id.to_owned();
    }
    format!("{:016x}{:016x}", chance.next_u64(), chance.next_u64())
}

/// Takes the trace id out of a `traceparent` header; `None` when the header breaks the format.
///
/// Source: W3C Trace Context, section 3.2.2: `version "-" trace-id "-" parent-id "-" flags`, lower-case
/// hexadecimal, all-zero ids and version `ff` invalid, later versions may append fields.
pub fn from_traceparent(text: &str) -> Option<&str> {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let has_shape = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let has_end = version != "ff" && (version != "00" || parts.next().is_none());
    let has_ids = [trace, parent].iter().all(|id| id.bytes().any(|b| b != b'0'));
    (has_shape && has_end && has_ids).then_some(trace)
}

fn is_plain(id: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=64).contains(&id.len()) && id.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seven;
    impl Chance for Seven {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    #[test]
    fn a_callers_trace_is_taken_over_and_a_malformed_one_is_not() {
        let drawn = "00000000000000070000000000000007";
        let check = |name: &'static str, value: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a header value"));
            assert_eq!(trace_id(&headers, &Seven), expected, "{name}: {value}");
        };
        // The example of the recommendation.
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        check("traceparent", &parent, trace);
        check("traceparent", &format!("{parent}-more"), drawn);
        check("traceparent", &format!("cc{}-more", &parent[2..]), trace);
        check("traceparent", &format!("ff{}", &parent[2..]), drawn);
        check("traceparent", &parent.to_uppercase(), drawn);
        check("traceparent", &parent.replace(trace, &"0".repeat(32)), drawn);
        check("x-request-id", "abc-1.2_3:4", "abc-1.2_3:4");
        check("x-request-id", "forged level=error", drawn);
        check("x-request-id", &"a".repeat(65), drawn);
    }
}
