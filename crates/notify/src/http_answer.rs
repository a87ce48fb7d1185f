//! What an HTTP exchange means for a message, as far as it is the same for every provider.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use marketprism_model::Timestamp;
use marketprism_net::{NetError, Response};

use crate::channel::Delivery;

/// A provider that asks for more patience than this is asked again anyway.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How much of an answer's body is looked at.
const BODY_CHARS_MAX: usize = 512;

/// Judges an answer by its status alone.
pub(crate) fn by_status(response: &Response, now: Timestamp) -> Delivery {
    let code = i32::from(response.status);
    let detail = said(response);
    match response.status {
        200..=299 => Delivery::Delivered { code, detail },
        408 | 425 | 429 | 500..=599 => Delivery::Retry {
            after: retry_after(&response.headers, now),
            code,
            detail,
        },
        _ => Delivery::Refused { code, detail },
    }
}

/// Judges an exchange that gave no answer.
pub(crate) fn without_answer(error: &NetError) -> Delivery {
    match error {
        // The address is the channel's secret, and so only the reason is told.
        NetError::Address { reason, .. } => Delivery::Refused {
            code: 0,
            detail: format!("the configured URL cannot be used: {reason}"),
        },
        NetError::Forbidden { .. } => Delivery::Refused {
            code: 0,
            detail: error.to_string(),
        },
        // It answered, so it has very likely taken the message; sending it again would double it.
        NetError::TooLong { .. } => Delivery::Refused {
            code: 0,
            detail: format!("{error}; whether it took the message is not known"),
        },
        _ => Delivery::Retry {
            after: None,
            code: 0,
            detail: error.to_string(),
        },
    }
}

/// Gives the status and the beginning of the body, on one line.
pub(crate) fn said(response: &Response) -> String {
    let body = String::from_utf8_lossy(&response.body);
    let words: Vec<&str> = body.split_whitespace().collect();
    let body: String = words.join(" ").chars().take(BODY_CHARS_MAX).collect();
    format!("HTTP {} {body}", response.status).trim_end().to_owned()
}

/// Reads the `Retry-After` header.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Reads a `Retry-After` value, seconds or a date; at most an hour is granted.
///
/// Source: RFC 9110, section 10.2.3.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let span = match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
        false => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new()
                .parse_timestamp(value)
                .ok()?;
            Timestamp::from_millis(at.as_millisecond()).since(now)
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: HeaderMap, body: &'static str) -> Response {
        Response {
            status,
            headers,
            body: body.into(),
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        // `date -u -d 'Wed, 21 Oct 2015 07:28:00 GMT' +%s` is 1445412480.
        let now = Timestamp::from_millis(1_445_412_470_000);
        let check = |value, seconds: Option<u64>| {
            assert_eq!(
                parse_retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        };
        check("30", Some(30));
        check(" 0 ", Some(0));
        check("99999999999999999999999", Some(3600));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(10));
        check("Wed, 21 Oct 2015 07:27:00 GMT", Some(0));
        check("soon", None);
        check("", None);
        check("-5", None);
        check("1.5", None);
    }

    #[test]
    fn statuses_are_told_apart_by_whether_waiting_helps() {
        let now = Timestamp::from_millis(0);
        for status in [200, 201, 204] {
            let delivery = by_status(&answer(status, HeaderMap::new(), ""), now);
            assert!(matches!(delivery, Delivery::Delivered { .. }), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let delivery = by_status(&answer(status, HeaderMap::new(), ""), now);
            assert!(matches!(delivery, Delivery::Retry { .. }), "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 413, 422] {
            let delivery = by_status(&answer(status, HeaderMap::new(), ""), now);
            assert!(matches!(delivery, Delivery::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn the_answer_is_told_on_one_line() {
        let answer = answer(503, HeaderMap::new(), "<h1>\n  Down\n</h1>");
        assert_eq!(said(&answer), "HTTP 503 <h1> Down </h1>");
    }
}
