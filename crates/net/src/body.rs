//! Reads answers within a limit, counted after decompression, so that a few kilobytes from outside cannot
//! become gigabytes inside.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyFault {
    /// Longer than the limit.
    TooLong,
    /// Broken off or malformed.
    Broken(String),
}

/// Reads a body whole. `is_gzip` says whether it is to be decompressed.
pub(crate) async fn read(mut body: Incoming, is_gzip: bool, limit: usize) -> Result<Bytes, BodyFault> {
    let mut reader = BodyReader::new(is_gzip, limit);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyFault::Broken(broken_words(&error)))?;
        if let Ok(data) = frame.into_data() {
            reader.push(data)?;
        }
    }
    reader.finish()
}

/// Says what broke without hyper's own frame around it.
pub(crate) fn broken_words(error: &hyper::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<io::Error>() {
        Some(error) => crate::dial::words(error),
        None if error.is_incomplete_message() => "connection closed before the answer was whole".to_owned(),
        None => inner.to_string(),
    }
}

enum BodyReader {
    Plain(Limited),
    Gzip {
        decoder: MultiGzDecoder<Limited>,
        is_empty: bool,
    },
}

impl BodyReader {
    fn new(is_gzip: bool, limit: usize) -> Self {
        let target = Limited {
            bytes: BytesMut::new(),
            limit,
            is_over: false,
        };
        if is_gzip {
            BodyReader::Gzip {
                decoder: MultiGzDecoder::new(target),
                is_empty: true,
            }
        } else {
            BodyReader::Plain(target)
        }
    }

    fn push(&mut self, data: Bytes) -> Result<(), BodyFault> {
        match self {
            BodyReader::Plain(target) => target.write_all(&data).map_err(|_| BodyFault::TooLong),
            BodyReader::Gzip { decoder, is_empty } => {
                *is_empty &= data.is_empty();
                let outcome = decoder.write_all(&data);
                outcome.map_err(|error| gzip_fault(decoder.get_ref(), &error))
            }
        }
    }

    fn finish(self) -> Result<Bytes, BodyFault> {
        match self {
            BodyReader::Plain(target) => Ok(target.bytes.freeze()),
            BodyReader::Gzip { is_empty: true, .. } => Ok(Bytes::new()),
            BodyReader::Gzip { mut decoder, .. } => {
                let outcome = decoder.try_finish();
                outcome.map_err(|error| gzip_fault(decoder.get_ref(), &error))?;
                Ok(std::mem::take(&mut decoder.get_mut().bytes).freeze())
            }
        }
    }
}

fn gzip_fault(target: &Limited, error: &io::Error) -> BodyFault {
    if target.is_over {
        BodyFault::TooLong
    } else {
        BodyFault::Broken(format!("bad gzip: {error}"))
    }
}

/// Takes bytes up to a limit.
struct Limited {
    bytes: BytesMut,
    limit: usize,
    is_over: bool,
}

impl Write for Limited {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.limit - self.bytes.len() {
            self.is_over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses a gzip body within a limit, `None` when it is malformed or too long; for fuzzing.
pub fn gunzip(compressed: &[u8], limit: usize) -> Option<Bytes> {
    let mut reader = BodyReader::new(true, limit);
    reader.push(Bytes::copy_from_slice(compressed)).ok()?;
    reader.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000, "it is small outside");
        let mut reader = BodyReader::new(true, 1 << 20);
        assert!(matches!(reader.push(bomb.into()), Err(BodyFault::TooLong)));
        let BodyReader::Gzip { decoder, .. } = &reader else {
            unreachable!("made above")
        };
        assert!(decoder.get_ref().bytes.len() <= 1 << 20);
    }

    #[test]
    fn gzip_is_read_whole_in_several_members_and_within_an_exact_limit() {
        let mut two = gzip(b"hello ");
        two.extend(gzip(b"world"));
        assert_eq!(gunzip(&two, 11).as_deref(), Some(&b"hello world"[..]));
        assert_eq!(gunzip(&two, 10), None);
        assert_eq!(gunzip(b"", 10).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn truncated_and_corrupt_gzip_is_refused() {
        let whole = gzip(b"the quick brown fox jumps over the lazy dog");
        for end in 1..whole.len() {
            assert_eq!(gunzip(&whole[..end], 1000), None, "cut at {end}");
        }
        let mut corrupt = whole.clone();
        let middle = corrupt.len() - 6;
        corrupt[middle] ^= 1;
        assert_eq!(gunzip(&corrupt, 1000), None);
        assert_eq!(gunzip(b"not gzip", 1000), None);
    }
}
