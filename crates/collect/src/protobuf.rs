//! Reading protobuf, field by field, without making anything of it.
//!
//! Of our own, because the few messages that are read here need a page, and because raw parts of a message must
//! stay where they lie. Unknown fields are left to the caller to pass over, as protobuf asks.
//!
//! Source: Protocol Buffers, "Encoding".

use thiserror::Error;

/// A message that breaks off or contradicts the encoding.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{reason} at byte {at}")]
pub struct Broken {
    /// What is wrong.
    pub reason: &'static str,
    /// Where, in the whole message.
    pub at: usize,
}

/// A cursor over one message. It keeps the whole buffer, so that positions in errors are those of the request.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub end: usize,
}

/// What a field holds.
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Reader<'a>),
    Other,
}

impl<'a> Reader<'a> {
    /// Starts at the front of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes,
            at: 0,
            end: bytes.len(),
        }
    }

    pub fn fault(&self, reason: &'static str) -> Broken {
        Broken { reason, at: self.at }
    }

    /// Says whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// Gives number and value of the next field.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Value<'a>)>, Broken> {
        if self.at >= self.end {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| self.fault("field number out of range"))?;
        if number == 0 {
            return Err(self.fault("field number 0"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => Value::Bytes(self.prefixed()?),
            5 => {
                self.fixed::<4>()?;
                Value::Other
            }
            _ => return Err(self.fault("unknown wire type")),
        };
        Ok(Some((number, value)))
    }

    /// Gives the part of the message whose length comes first.
    #[inline]
    pub fn prefixed(&mut self) -> Result<Reader<'a>, Broken> {
        let length = self.varint()?;
        let rest = (self.end - self.at) as u64;
        if length > rest {
            return Err(self.fault("length beyond the end"));
        }
        let inner = Reader {
            bytes: self.bytes,
            at: self.at,
            end: self.at + length as usize,
        };
        self.at = inner.end;
        Ok(inner)
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= self.end {
                return Err(self.fault("breaks off within a number"));
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault("number longer than ten bytes"))
    }

    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Broken> {
        Ok(u64::from_le_bytes(self.fixed()?))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        if self.end - self.at < N {
            return Err(self.fault("breaks off within a number"));
        }
        let mut bytes = [0u8; N];
        bytes.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        Ok(bytes)
    }

    pub fn text(self) -> Result<&'a str, Broken> {
        std::str::from_utf8(&self.bytes[self.at..self.end]).map_err(|_| self.fault("text is not UTF-8"))
    }
}

/// Unfolds a signed number (`sint32`, `sint64`).
pub(crate) fn unfold(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

impl Value<'_> {
    /// Gives each of a repeated field's varints: one, or packed ones.
    pub fn each_varint(self, mut visit: impl FnMut(u64)) -> Result<(), Broken> {
        match self {
            Value::Varint(value) => visit(value),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    visit(packed.varint()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives each of a repeated field's doubles: one, or packed ones.
    pub fn each_double(self, mut visit: impl FnMut(f64)) -> Result<(), Broken> {
        match self {
            Value::Fixed64(bits) => visit(f64::from_bits(bits)),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    visit(f64::from_bits(packed.fixed64()?));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
