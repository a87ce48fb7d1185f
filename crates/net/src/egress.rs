//! Where this program may not connect to, wherever the address came from.
//!
//! A metadata service gives a cloud machine's credentials to whoever asks from that machine, so no
//! target, redirect or webhook may be led there. The judgement falls on resolved addresses, inside the
//! dialling itself: a name that changes its answer between a check and the connection gains nothing.
//! Deliberately absent: judging names, which resolve to whatever their owner likes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Addresses at which clouds hand out credentials. Link-local as a whole is not refused, because
/// node-local resolvers are scraped there.
const METADATA: [IpAddr; 11] = [
    // AWS, Google, Azure, Oracle, DigitalOcean, OpenStack and many more.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: container tasks, then pods.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Tencent Cloud.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    // Scaleway.
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Oracle Cloud, classic.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS over IPv6: machines, then pods.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// An address may not be connected to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0} is a cloud's metadata address, which gives out credentials; allow it under security.egress.allow"
)]
pub struct EgressError(pub IpAddr);

/// Judges addresses before a connection is opened.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    allowed: Vec<Network>,
}

impl Egress {
    /// Refuses metadata addresses unless one of `allowed` holds them.
    pub fn new(allowed: Vec<Network>) -> Self {
        Egress { allowed }
    }

    /// Says whether the address may be connected to; IPv4 inside IPv6 is judged as IPv4.
    pub fn check(&self, address: IpAddr) -> Result<(), EgressError> {
        let address = unwrap_ipv4(address);
        let is_allowed = self.allowed.iter().any(|network| network.contains(address));
        if METADATA.contains(&address) && !is_allowed {
            return Err(EgressError(address));
        }
        Ok(())
    }
}

/// Takes an IPv4 address out of its mapped (`::ffff:0:0/96`), compatible (`::/96`) or translated
/// (`64:ff9b::/96`) form, all of which reach the same machine.
fn unwrap_ipv4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let [a, b] = [segments[6].to_be_bytes(), segments[7].to_be_bytes()];
    let embedded = IpAddr::V4(Ipv4Addr::new(a[0], a[1], b[0], b[1]));
    match segments[..6] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => embedded,
        [0, 0, 0, 0, 0, 0] if segments[6] != 0 => embedded,
        _ => address,
    }
}

/// A block of addresses, `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// The text names no block of addresses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not a network: {0:?}; expected an address such as 10.1.2.3 or a block such as 10.0.0.0/8")]
pub struct NetworkError(String);

impl Network {
    /// Says whether the address lies in the block; the two families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix_bits);
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let refuse = || NetworkError(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| refuse())?,
            None => bits_max,
        };
        if prefix_bits > bits_max {
            return Err(refuse());
        }
        Ok(Network { address, prefix_bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &[&str], address: &str) -> bool {
        let allowed = allowed.iter().map(|text| text.parse().expect(text)).collect();
        Egress::new(allowed)
            .check(address.parse().expect(address))
            .is_ok()
    }

    #[test]
    fn metadata_addresses_are_refused_in_every_disguise() {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::169.254.169.254",
        ] {
            assert!(!check(&[], address), "{address} was let through");
        }
    }

    #[test]
    fn ordinary_and_neighbouring_addresses_pass() {
        for address in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "169.254.20.10",
            "169.254.169.253",
            "8.8.8.8",
        ] {
            assert!(check(&[], address), "{address} was refused");
        }
    }

    #[test]
    fn an_allowed_network_lets_its_addresses_through_and_no_other() {
        assert!(check(&["169.254.169.254"], "169.254.169.254"));
        assert!(check(&["169.254.0.0/16"], "::ffff:169.254.169.254"));
        assert!(check(&["0.0.0.0/0"], "169.254.169.254"));
        assert!(!check(&["169.254.0.0/16"], "100.100.100.200"));
        assert!(!check(&["::/0"], "169.254.169.254"));
    }

    #[test]
    fn malformed_networks_are_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/-1",
            "host",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?} was accepted");
        }
    }
}
