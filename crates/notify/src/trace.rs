//! The trace of a delivery, in the form that W3C made common.
//!
//! A notification is a trace, an attempt to deliver it a span: the trace id is the notification's id (a UUID, so 32
//! hexadecimal digits), the same on every attempt; the span id follows from it and the attempt's number, so that the
//! log, the provider's log and the recorded attempt can be laid side by side without another record. Every channel
//! that speaks HTTP passes them on by [`Trace::mark`]; mail has its Message-ID, which holds the same id.
//!
//! An alert has a trace of its own, its id, from the line that tells of its beginning on: alerts reach people in
//! groups, and one message may speak of a thousand. Where alerts become messages, `alerts` writes one line in the
//! notification's trace that names the alerts, and by it the one leads to the other.
//! Deliberately absent: sampling (a delivery is rare and always worth it), `tracestate`, and sending spans anywhere.
//!
//! Source: W3C Trace Context, section 3.2.

use http::{HeaderMap, HeaderName, HeaderValue};
use marketprism_model::Id;

/// The header that carries the trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The place of one attempt in its trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    trace: u128,
    span: u64,
}

impl Trace {
    /// Gives the trace of attempt `number` (from 1) at a notification.
    pub fn of(notification: Id, number: u32) -> Self {
        let trace = notification.as_u128();
        // SplitMix64 (Steele, Lea, Flood 2014): every bit of the id's random half and of the number tells.
        let mut bits = (trace as u64).wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // An id of zeros is invalid.
        Trace {
            trace: trace.max(1),
            span: bits.max(1),
        }
    }

    /// Gives the trace id, as log lines have it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Writes the header into a request; what a configuration says of it makes room.
    pub fn mark(&self, headers: &mut HeaderMap) {
        let text = format!("00-{:032x}-{:016x}-01", self.trace, self.span);
        let value = HeaderValue::from_str(&text).expect("hexadecimal is ASCII");
        headers.insert(TRACEPARENT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: u128, number: u32) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("forged"));
        Trace::of(Id::from_u128(id), number).mark(&mut headers);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        headers[TRACEPARENT].to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn attempts_at_one_notification_share_the_trace_and_no_span() {
        let id = 0x0193_5b3e_4b1a_7c2d_9e8f_0011_2233_4455;
        let (first, second) = (header(id, 1), header(id, 2));
        for header in [&first, &second] {
            assert_eq!(header.len(), 55, "{header}");
            assert!(
                header.starts_with("00-01935b3e4b1a7c2d9e8f001122334455-"),
                "{header}"
            );
            assert!(header.ends_with("-01"), "{header}");
        }
        assert_ne!(first, second);
        assert_eq!(first, header(id, 1));
    }

    #[test]
    fn no_id_is_ever_all_zeros() {
        // The step is a bijection with 0 → 0: this number is chosen so that the sum is 0.
        let id = u128::from(0u64.wrapping_sub(0x9e37_79b9_7f4a_7c15));
        let text = header(id, 1);
        assert_eq!(&text[36..52], "0000000000000001");
        assert_eq!(&header(0, 1)[3..35], "00000000000000000000000000000001");
    }
}
