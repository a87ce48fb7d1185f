//! Integers in as few bytes as they need (LEB128), signed ones folded (zigzag), and a bounds-checked reader.

use super::Damaged;

/// Appends 7 bits a byte, the lowest first; the high bit says that more follow.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number, folded so that small magnitudes stay short.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes, preceded by their number.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads front to back and never past the end.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Counts the bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Says whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads `count` bytes.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Damaged("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads one byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.rest.split_first().ok_or(Damaged("ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, Damaged> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes(
            bytes.try_into().expect("four bytes were read"),
        ))
    }

    /// Reads eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, Damaged> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes were read"),
        ))
    }

    /// Reads the `count` low bytes of a number, 1 to 8 of them, little-endian.
    #[inline]
    pub fn low_bytes(&mut self, count: usize) -> Result<u64, Damaged> {
        debug_assert!((1..=8).contains(&count));
        // Eight bytes at once where they are there: a copy of a length known only now would be a call.
        let Some(eight) = self.rest.first_chunk::<8>() else {
            let mut low = [0u8; 8];
            low[..count].copy_from_slice(self.bytes(count)?);
            return Ok(u64::from_le_bytes(low));
        };
        self.rest = &self.rest[count..];
        Ok(u64::from_le_bytes(*eight) & (u64::MAX >> (64 - 8 * count)))
    }

    /// Reads what [`put_u64`] wrote.
    #[inline]
    pub fn var_u64(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged("number out of range"))
    }

    /// Reads what [`put_i64`] wrote.
    #[inline]
    pub fn var_i64(&mut self) -> Result<i64, Damaged> {
        let folded = self.var_u64()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// Reads a count of things of which each takes at least `bytes_each` of the bytes left.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, Damaged> {
        let count = self.var_u64()?;
        if count > (self.rest.len() / bytes_each.max(1)) as u64 {
            return Err(Damaged("count larger than what is there"));
        }
        Ok(count as usize)
    }

    /// Reads what [`put_bytes`] wrote.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Damaged> {
        let count = self.count(1)?;
        self.bytes(count)
    }

    /// Reads what [`put_bytes`] wrote, as text.
    pub fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Damaged("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn low_bytes_are_the_number_without_its_high_ones(number: u64, count in 1usize..=8, behind in 0usize..9) {
            let mut bytes = number.to_le_bytes()[..count].to_vec();
            bytes.extend(std::iter::repeat_n(0xff, behind));
            let mut reader = Reader::new(&bytes);
            let expected = if count == 8 { number } else { number % (1 << (8 * count)) };
            prop_assert_eq!((reader.low_bytes(count), reader.remaining()), (Ok(expected), behind));
            prop_assert!(Reader::new(&bytes[..count - 1]).low_bytes(count).is_err());
        }

        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_u64(&mut bytes, unsigned);
            put_i64(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!((reader.var_u64(), reader.var_i64()), (Ok(unsigned), Ok(signed)));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn overlong_numbers_and_lying_counts_are_damage() {
        assert!(Reader::new(&[0xff; 11]).var_u64().is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02])
                .var_u64()
                .is_err()
        );
        assert!(Reader::new(&[200, 1, 0]).count(1).is_err());
        assert!(Reader::new(&[5, b'a']).text().is_err());
        assert!(Reader::new(&[1, 0xff]).text().is_err());
    }
}
