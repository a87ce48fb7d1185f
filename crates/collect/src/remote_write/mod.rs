//! Remote write 1.0: what a Prometheus (or anyone who speaks like one) pushes.
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

pub use decode::{
    DecodeError, Limits, PushedContent, PushedHistogram, PushedMetadata, PushedSample, PushedSeries,
    WriteRequest, decode, decompress,
};
pub use receiver::{Outcome, RemoteWriteError, RemoteWriteReceiver};
