//! Single bits, the highest of each byte first.

use super::Damaged;

/// Collects bits. The last bits wait in a word until it is full, so a finished copy costs eight bytes more.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    word: u64,
    used: u32,
}

impl BitWriter {
    /// Appends the `count` lowest bits of `value`; at most 64.
    #[inline]
    pub fn put(&mut self, value: u64, count: u32) {
        if count == 0 {
            return;
        }
        let value = value & (u64::MAX >> (64 - count));
        let free = 64 - self.used;
        if count < free {
            self.word |= value << (free - count);
            self.used += count;
            return;
        }
        let over = count - free;
        self.word |= value >> over;
        if self.bytes.capacity() - self.bytes.len() < 8 {
            // A head holds one open chunk a series: growing by doubling would waste a third of it.
            self.bytes.reserve_exact(64);
        }
        self.bytes.extend_from_slice(&self.word.to_be_bytes());
        self.word = if over == 0 { 0 } else { value << (64 - over) };
        self.used = over;
    }

    /// Counts the whole bytes.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `bytes` in all.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes.saturating_sub(self.bytes.len()));
    }

    /// Gives the bytes, the last one filled with zeros, in the memory in which they were collected.
    pub fn into_bytes(mut self) -> Box<[u8]> {
        let used = self.used.div_ceil(8) as usize;
        self.bytes.reserve_exact(used);
        self.bytes.extend_from_slice(&self.word.to_be_bytes()[..used]);
        self.bytes.into_boxed_slice()
    }

    /// Appends all bits to `out`, the last byte filled with zeros.
    pub fn finish_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        let tail = self.word.to_be_bytes();
        out.extend_from_slice(&tail[..self.used.div_ceil(8) as usize]);
    }
}

/// Reads bits and never past the end.
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, at: 0 }
    }

    /// Reads one bit.
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Damaged> {
        let byte = *self
            .bytes
            .get(self.at / 8)
            .ok_or(Damaged("chunk ends too early"))?;
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Ok(bit)
    }

    /// Reads numbers of `width` bits each, as many as `out` holds; the bounds are looked at once.
    #[inline]
    pub fn get_run(&mut self, width: u32, out: &mut [u64]) -> Result<(), Damaged> {
        let end = self.at + width as usize * out.len();
        // The widest number that a word loaded at any bit of a byte holds whole.
        if !(1..=57).contains(&width) || end / 8 + 8 > self.bytes.len() {
            for number in out {
                *number = self.get(width)?;
            }
            return Ok(());
        }
        let mut at = self.at;
        for number in out {
            let eight = &self.bytes[at / 8..at / 8 + 8];
            let word = u64::from_be_bytes(eight.try_into().expect("eight bytes were taken"));
            *number = word << (at % 8) >> (64 - width);
            at += width as usize;
        }
        self.at = end;
        Ok(())
    }

    /// Reads `count` bits into the lowest bits of a number; at most 64.
    #[inline]
    pub fn get(&mut self, count: u32) -> Result<u64, Damaged> {
        if count == 0 {
            return Ok(0);
        }
        let (first, offset) = (self.at / 8, (self.at % 8) as u32);
        if self.at + count as usize > self.bytes.len() * 8 {
            return Err(Damaged("chunk ends too early"));
        }
        self.at += count as usize;
        let word = match self.bytes.get(first..first + 8) {
            Some(eight) => u64::from_be_bytes(eight.try_into().expect("eight bytes were taken")),
            None => {
                let mut eight = [0u8; 8];
                let rest = &self.bytes[first..];
                eight[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(eight)
            }
        };
        let mut value = word << offset;
        if offset + count > 64 {
            value |= u64::from(self.bytes[first + 8]) >> (8 - offset);
        }
        Ok(value >> (64 - count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back(parts in proptest::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let mut writer = BitWriter::default();
            for (value, count) in &parts {
                writer.put(*value, *count);
            }
            let mut bytes = Vec::new();
            writer.finish_into(&mut bytes);
            let mut reader = BitReader::new(&bytes);
            for (value, count) in parts {
                let expected = if count == 0 { 0 } else { value & (u64::MAX >> (64 - count)) };
                prop_assert_eq!(reader.get(count), Ok(expected));
            }
            prop_assert!(reader.get(9).is_err());
        }

        #[test]
        fn a_run_is_its_numbers_one_by_one(bytes in proptest::collection::vec(any::<u8>(), 0..120), skip in 0u32..20, width in 0u32..=64, count in 0usize..=16) {
            let (mut single, mut run) = (BitReader::new(&bytes), BitReader::new(&bytes));
            prop_assert_eq!(single.get(skip), run.get(skip));
            let expected: Result<Vec<u64>, Damaged> = (0..count).map(|_| single.get(width)).collect();
            let mut out = vec![0; count];
            let read = run.get_run(width, &mut out).map(|()| out);
            prop_assert_eq!(read, expected);
        }
    }
}
