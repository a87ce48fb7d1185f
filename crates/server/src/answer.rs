//! How a finished body leaves: its media type, and compressed where the client can read that.
//!
//! Compression happens on the thread that made the body, which is a worker for everything big.

use std::io::Write as _;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Shorter bodies are not worth compressing.
const GZIP_BYTES_MIN: usize = 1400;

/// Whether the client can read gzip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gzip(pub bool);

impl Gzip {
    /// Reads `Accept-Encoding`; a weight of zero means no.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut is_accepted = false;
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for part in value.to_str().unwrap_or("").split(',') {
                let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
                let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
                let is_wanted = weight.parse::<f32>().is_ok_and(|weight| weight > 0.0);
                match coding.trim() {
                    "gzip" => return Gzip(is_wanted),
                    "*" => is_accepted = is_wanted,
                    _ => {}
                }
            }
        }
        Gzip(is_accepted)
    }
}

/// A body that is ready to leave, and can leave more than once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Its media type.
    pub media_type: &'static str,
    /// The body, compressed or not.
    pub bytes: Bytes,
    /// Whether it is compressed.
    pub is_gzip: bool,
}

impl Finished {
    /// Compresses a body where that is wanted and worth it.
    pub fn new(media_type: &'static str, body: Vec<u8>, gzip: Gzip) -> Self {
        let is_gzip = gzip.0 && body.len() >= GZIP_BYTES_MIN;
        Finished {
            media_type,
            bytes: if is_gzip {
                compress(&body).into()
            } else {
                body.into()
            },
            is_gzip,
        }
    }
}

impl IntoResponse for Finished {
    fn into_response(self) -> Response {
        let mut response = self.bytes.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if self.is_gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Makes the response of a finished body.
pub fn body(status: StatusCode, media_type: &'static str, body: Vec<u8>, gzip: Gzip) -> Response {
    (status, Finished::new(media_type, body, gzip)).into_response()
}

/// Makes a JSON response of a value of ours.
pub fn json<T: serde::Serialize>(value: &T, gzip: Gzip) -> Response {
    let text = serde_json::to_vec(value).expect("our documents have string keys and no failing parts");
    body(StatusCode::OK, "application/json", text, gzip)
}

fn compress(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_the_client_reads_it() {
        let check = |value: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().expect("a header value"));
            assert_eq!(Gzip::from_headers(&headers), Gzip(expected), "{value}");
        };
        check("gzip", true);
        check("deflate, gzip;q=0.5", true);
        check("gzip;q=0", false);
        check("*", true);
        check("*, gzip;q=0", false);
        check("br", false);
        assert_eq!(Gzip::from_headers(&HeaderMap::new()), Gzip(false));
    }
}
