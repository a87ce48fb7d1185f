//! Remote write 1.0 and 2.0: what a Prometheus (or anyone who speaks like one) pushes.
//!
//! Pure but for the store: bytes in, an outcome or an error with its HTTP status out. The server room receives the
//! request, calls [`RemoteWriteReceiver::handle`] off the async threads, and answers with the status.
//!
//! A sender says the same series again and again, so the raw bytes of a series' labels lead to the store's name
//! without decoding them; the bytes themselves are compared, so a colliding hash cannot mislead.
//!
//! Source: "Prometheus Remote-Write Specification 1.0", and `prompb/{remote,types}.proto`.

mod decode;
mod receiver;
mod second;

pub use decode::{
    DecodeError, Limits, PushedContent, PushedHistogram, PushedMetadata, PushedSample, PushedSeries,
    WriteRequest, decode, decompress,
};
pub use receiver::{Outcome, RemoteWriteError, RemoteWriteReceiver};
pub use second::decode_second;

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    #[default]
    First,
    /// `io.prometheus.write.v2.Request`.
    Second,
}

impl Version {
    /// Reads a `Content-Type` of the type `application/x-protobuf`: its parameter `proto` names the message, the
    /// first version's when it is absent. `None` for any other message.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let parameters = content_type
            .split(';')
            .skip(1)
            .filter_map(|parameter| parameter.split_once('='));
        let mut protos = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("proto"));
        match protos.next().map(|(_, value)| value.trim().trim_matches('"')) {
            None | Some("prometheus.WriteRequest") => Some(Version::First),
            Some("io.prometheus.write.v2.Request") => Some(Version::Second),
            Some(_) => None,
        }
    }
}
