//! Sizes in bytes as Prometheus writes them: `512MB`, `1GB`; the units are powers of 1024.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A number of bytes; 0 means no limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Size(pub u64);

/// The text is no size.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a size: {0:?}; expected a number with one of B, KB, MB, GB, TB, PB, EB, such as \"10MB\"")]
pub struct SizeError(String);

const UNITS: [(&str, u32); 7] = [
    ("EB", 60),
    ("PB", 50),
    ("TB", 40),
    ("GB", 30),
    ("MB", 20),
    ("KB", 10),
    ("B", 0),
];

impl std::str::FromStr for Size {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text == "0" {
            return Ok(Size(0));
        }
        let bad = || SizeError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.replace("iB", "B");
        let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Size).ok_or_else(bad)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, shift) = UNITS
            .iter()
            .find(|(_, shift)| self.0 > 0 && self.0.is_multiple_of(1 << shift))
            .copied()
            .unwrap_or(("B", 0));
        serializer.collect_str(&format_args!("{}{name}", self.0 >> shift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_need_a_unit() {
        let check =
            |text: &str, bytes: Option<u64>| assert_eq!(text.parse().ok(), bytes.map(Size), "{text:?}");
        check("0", Some(0));
        check("1B", Some(1));
        check("10MB", Some(10 << 20));
        check("10MiB", Some(10 << 20));
        check("1EB", Some(1 << 60));
        check("16EB", None);
        check("10", None);
        check("MB", None);
        check("-1MB", None);
        check("1.5MB", None);
    }
}
