//! Answers that are too long to be built at once: written piece by piece, as the client takes them.
//!
//! What is shown is gathered first, on a worker; here it is only written, a few dozen kibibytes at a time, so that
//! 100,000 alerts take no second copy in memory and no thread while a slow client reads.

use std::io::Write as _;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};

use super::answer::JSON;
use crate::answer::{self, Gzip};

/// A piece of the text has at least this many bytes, but for the last one.
const PIECE_BYTES: usize = 32 << 10;
/// Answers up to this length are sent whole, with their length.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// What is written bit by bit.
pub trait Bits: Send + 'static {
    /// Appends the next bit, small against a piece; says `false` and appends nothing when all is written.
    fn push_next(&mut self, text: &mut String) -> bool;
}

/// Makes the answer.
pub fn answer(mut bits: impl Bits, gzip: Gzip) -> Response {
    let mut text = String::new();
    while text.len() <= WHOLE_BYTES_MAX {
        if !bits.push_next(&mut text) {
            return answer::body(StatusCode::OK, JSON, text.into_bytes(), gzip);
        }
    }
    let pieces = Pieces {
        bits: Some(bits),
        text,
        encoder: gzip.0.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
    };
    let body = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.next()?;
        Some((Ok::<_, std::convert::Infallible>(piece), pieces))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if gzip.0 {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

struct Pieces<B> {
    /// `None` when all is written.
    bits: Option<B>,
    text: String,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<B: Bits> Pieces<B> {
    /// Gives the next piece, never an empty one.
    fn next(&mut self) -> Option<Bytes> {
        loop {
            let is_last = !self.fill();
            let text = std::mem::take(&mut self.text).into_bytes();
            let piece = match (&mut self.encoder, is_last) {
                (None, _) => text,
                (Some(encoder), false) => {
                    encoder.write_all(&text).expect("memory takes it");
                    std::mem::take(encoder.get_mut())
                }
                (Some(_), true) => {
                    let mut encoder = self.encoder.take().expect("it was there just now");
                    encoder.write_all(&text).expect("memory takes it");
                    encoder.finish().expect("memory takes it")
                }
            };
            if !piece.is_empty() {
                return Some(piece.into());
            }
            if is_last {
                return None;
            }
        }
    }

    /// Writes until a piece is full; says whether more may follow.
    fn fill(&mut self) -> bool {
        let Some(bits) = &mut self.bits else { return false };
        while self.text.len() < PIECE_BYTES {
            if !bits.push_next(&mut self.text) {
                self.bits = None;
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Writes the numbers below the second, beginning with the first.
    struct Numbers(usize, usize);

    impl Bits for Numbers {
        fn push_next(&mut self, text: &mut String) -> bool {
            if self.0 == self.1 {
                return false;
            }
            text.push_str(&format!("{:>7}\n", self.0));
            self.0 += 1;
            true
        }
    }

    #[tokio::test]
    async fn what_comes_in_pieces_is_what_was_written_compressed_or_not() {
        for count in [0, 1, 8192, 8193, 8194, 100_000] {
            let mut whole = String::new();
            let mut bits = Numbers(0, count);
            while bits.push_next(&mut whole) {}
            for gzip in [false, true] {
                let response = answer(Numbers(0, count), Gzip(gzip));
                let is_gzip = response.headers().contains_key(header::CONTENT_ENCODING);
                assert_eq!(is_gzip, gzip && count > 1, "{count}");
                let body = axum::body::to_bytes(response.into_body(), usize::MAX);
                let bytes = body.await.expect("it comes whole");
                let mut text = String::new();
                if is_gzip {
                    let mut decoder = flate2::read::GzDecoder::new(&*bytes);
                    decoder.read_to_string(&mut text).expect("it is gzip");
                } else {
                    text = String::from_utf8(bytes.to_vec()).expect("it is text");
                }
                assert!(text == whole, "{count} {gzip}");
            }
        }
    }
}
