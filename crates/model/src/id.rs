//! Identifiers of records: UUID version 7, so that they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Chance, Timestamp};

/// A UUID. New ones are of version 7 and sort by creation time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

/// The text is no UUID.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a UUID: {0:?}")]
pub struct IdError(String);

impl Id {
    /// Makes a new identifier from the time and 74 bits of chance.
    ///
    /// Source: RFC 9562, section 5.7.
    pub fn new(now: Timestamp, chance: &dyn Chance) -> Self {
        let millis = (now.millis().max(0) as u128) & 0xffff_ffff_ffff;
        let random = (u128::from(chance.next_u64()) << 64) | u128::from(chance.next_u64());
        let rand_a = (random >> 64) & 0xfff;
        let rand_b = random & 0x3fff_ffff_ffff_ffff;
        Id((millis << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b)
    }

    /// Gives the 128 bits, big-endian order of the text form.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Takes the 128 bits back.
    pub const fn from_u128(bits: u128) -> Self {
        Id(bits)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            b >> 96,
            (b >> 80) & 0xffff,
            (b >> 64) & 0xffff,
            (b >> 48) & 0xffff,
            b & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError(text.chars().take(64).collect());
        let has_hyphens = text.len() == 36 && [8, 13, 18, 23].iter().all(|i| text.as_bytes()[*i] == b'-');
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if !has_hyphens || hex.len() != 32 || hex.starts_with('+') {
            return Err(refuse());
        }
        u128::from_str_radix(&hex, 16).map(Id).map_err(|_| refuse())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;
    impl Chance for Ones {
        fn next_u64(&self) -> u64 {
            u64::MAX
        }
    }

    #[test]
    fn new_ids_carry_version_variant_and_time() {
        // The time of RFC 9562's example A.6: 2022-02-22T19:22:22Z = 0x017F22E279B0.
        let id = Id::new(Timestamp::from_millis(0x017F_22E2_79B0), &Ones);
        assert_eq!(id.to_string(), "017f22e2-79b0-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse::<Id>(), Ok(id));
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in [
            "",
            "x",
            "017f22e279b07fffbfffffffffffffff",
            "017f22e2-79b0-7fff-bfff-fffffffffffg",
            "+17f22e2-79b0-7fff-bfff-ffffffffffff",
        ] {
            assert!(text.parse::<Id>().is_err(), "{text:?} was accepted");
        }
    }
}
