//! Names of blocks: ULIDs, which sort by time.
//!
//! The upper 48 bits are the moment of the cut, the lower 80 a number that the store never gives twice, so no
//! chance is needed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::Damaged;

/// Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A block's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ulid(u128);

impl Ulid {
    /// Makes a name from a moment in milliseconds and a number below 2⁸⁰.
    pub fn new(millis: i64, number: u128) -> Self {
        let time = (millis.max(0) as u128) & 0xffff_ffff_ffff;
        Ulid(time << 80 | number & ((1 << 80) - 1))
    }

    /// Gives the lower 64 bits of the number.
    pub fn number(self) -> u64 {
        self.0 as u64
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..26).rev() {
            let digit = (self.0 >> (place * 5)) as usize & 31;
            fmt::Write::write_char(f, char::from(DIGITS[digit]))?;
        }
        Ok(())
    }
}

impl FromStr for Ulid {
    type Err = Damaged;
    fn from_str(text: &str) -> Result<Self, Damaged> {
        let bytes = text.as_bytes();
        if bytes.len() != 26 || bytes[0] > b'7' {
            return Err(Damaged("not a ULID"));
        }
        let mut bits = 0u128;
        for byte in bytes {
            let digit = DIGITS.iter().position(|digit| digit == byte);
            bits = bits << 5 | digit.ok_or(Damaged("not a ULID"))? as u128;
        }
        Ok(Ulid(bits))
    }
}

impl Serialize for Ulid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_specification_does_and_sort_by_time() {
        // The example of github.com/ulid/spec: 01ARZ3NDEKTSV4RRFFQ69G5FAV; its first ten digits are the time.
        let spec: Ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("the specification's");
        assert_eq!(spec.to_string(), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        assert_eq!(&Ulid::new(1_469_922_850_259, 0).to_string()[..10], "01ARZ3NDEK");
        assert!(Ulid::new(1, 0).to_string() > Ulid::new(0, u128::MAX).to_string());
        for text in ["", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU"] {
            assert!(text.parse::<Ulid>().is_err(), "{text:?} was accepted");
        }
    }
}
