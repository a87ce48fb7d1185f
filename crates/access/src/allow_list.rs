//! Which addresses may connect, and which address a request came from when proxies stand between.
//!
//! `X-Forwarded-For` is read from the right, because only its right end was written by a proxy that is trusted;
//! whatever a client wrote itself stands further left and is never reached. Deliberately absent: `Forwarded`
//! (RFC 7239) and `X-Real-IP`: a proxy that sets one header passes the others through as the client sent them,
//! so each further header that counted would be a way around the list.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use marketprism_net::Network;
use thiserror::Error;

/// The header that proxies write.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most bytes of the header that are looked at, from the right.
const FORWARDED_BYTES_MAX: usize = 4096;
/// Most proxies that are walked back.
const HOPS_MAX: usize = 32;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// The address, after trusted proxies; IPv4 inside IPv6 stands as IPv4.
    pub address: IpAddr,
    /// Whether the address is the connection's own, so that loopback means a process of this machine.
    pub is_direct: bool,
    /// The request's trace id, for the audit log; whoever has one fills it in.
    pub trace_id: String,
}

impl Client {
    /// Makes the client of a connection without proxies.
    pub fn direct(address: IpAddr) -> Self {
        Client {
            address: address.to_canonical(),
            is_direct: true,
            trace_id: String::new(),
        }
    }

    /// Adds the request's trace id.
    #[must_use]
    pub fn with_trace_id(mut self, trace_id: impl Into<String>) -> Self {
        self.trace_id = trace_id.into();
        self
    }

    /// Makes the client that somebody else named.
    pub(crate) fn named(address: IpAddr) -> Self {
        Client {
            is_direct: false,
            ..Client::direct(address)
        }
    }
}

/// What does not fit in a list of networks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NetworksError {
    /// An entry is no network.
    #[error("{0:?} is no address and no block; expected such as 10.1.2.3, 10.0.0.0/8 or fd00::/8")]
    Entry(String),
    /// A block of IPv4 inside IPv6 that holds more than IPv4.
    #[error("{0:?} holds IPv4 inside IPv6 and more; write the IPv4 block and the IPv6 block")]
    Mixed(String),
    /// The list is too long.
    #[error("has {count} entries; it must have at most {max}")]
    Count {
        /// How many there are.
        count: usize,
        /// How many may be there.
        max: usize,
    },
}

/// Reads a list of networks; gives those that are good, and the faults of the others.
pub(crate) fn networks(list: &[String], max: usize) -> (Vec<Network>, Vec<NetworksError>) {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    if list.len() > max {
        let count = list.len();
        faults.push(NetworksError::Count { count, max });
    }
    for text in list.iter().take(max) {
        match network(text) {
            Ok(network) => good.push(network),
            Err(fault) => faults.push(fault),
        }
    }
    (good, faults)
}

/// Reads one address or block. IPv4 inside IPv6 (`::ffff:10.0.0.0/104`) becomes the IPv4 block that it means.
pub fn network(text: &str) -> Result<Network, NetworksError> {
    let shown = || text.chars().take(64).collect::<String>();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworksError::Entry(shown()))?;
    let is_number = |prefix: &str| !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    if prefix.is_some_and(|prefix| !is_number(prefix)) {
        return Err(NetworksError::Entry(shown()));
    }
    let plain = match (address.to_canonical(), address, prefix) {
        (IpAddr::V4(inner), IpAddr::V6(_), Some(prefix)) => match prefix.parse::<u8>() {
            Ok(bits @ 96..=128) => format!("{inner}/{}", bits - 96),
            Ok(0..96) => return Err(NetworksError::Mixed(shown())),
            _ => return Err(NetworksError::Entry(shown())),
        },
        (canonical, _, Some(prefix)) => format!("{canonical}/{prefix}"),
        (canonical, _, None) => canonical.to_string(),
    };
    plain.parse().map_err(|_| NetworksError::Entry(shown()))
}

/// The compiled lists.
#[derive(Debug, Default)]
pub(crate) struct AllowList {
    /// Whether the list counts.
    pub is_enabled: bool,
    /// Who may connect.
    pub allowed: Vec<Network>,
    /// Whose header counts.
    pub trusted_proxies: Vec<Network>,
}

impl AllowList {
    /// Says whether the client may connect.
    pub(crate) fn admits(&self, client: &Client) -> bool {
        !self.is_enabled
            || (client.address.is_loopback() && client.is_direct)
            || self
                .allowed
                .iter()
                .any(|network| network.contains(client.address))
    }

    /// Finds who asks behind the trusted proxies.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let direct = Client::direct(peer);
        if !self.is_proxy(direct.address) || !headers.contains_key(&FORWARDED_FOR) {
            return direct;
        }
        let mut lines: Vec<&[u8]> = headers
            .get_all(&FORWARDED_FOR)
            .iter()
            .map(http::HeaderValue::as_bytes)
            .collect();
        lines.reverse();
        self.walk(direct.address, &lines)
    }

    /// Walks back from the peer over `lines`, the last header line first, until a hop is no trusted proxy.
    fn walk(&self, peer: IpAddr, lines: &[&[u8]]) -> Client {
        let (mut last_good, mut is_readable) = (peer, false);
        let mut bytes_left = FORWARDED_BYTES_MAX;
        let hops = lines.iter().flat_map(|line| line.rsplit(|byte| *byte == b','));
        for (count, hop) in hops.enumerate() {
            bytes_left = bytes_left.saturating_sub(hop.len() + 1);
            let address = std::str::from_utf8(hop).ok().and_then(hop_address);
            let Some(address) = address.filter(|_| bytes_left > 0 && count < HOPS_MAX) else {
                is_readable = false;
                break;
            };
            (last_good, is_readable) = (address, true);
            if !self.is_proxy(address) {
                break;
            }
        }
        // A proxy of this machine that forwards garbage did name a client, only an unreadable one: it is not
        // this machine that asks, unless the last readable hop is all there was. What a proxy elsewhere calls
        // loopback is its own machine.
        Client {
            is_direct: is_readable && last_good.is_loopback() && peer.is_loopback(),
            ..Client::named(last_good)
        }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(address))
    }
}

/// Reads one hop of `X-Forwarded-For`: an address, with or without a port, IPv6 bare or in brackets.
pub fn hop_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let is_port = |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, tail) = rest.split_once(']')?;
        let is_end = tail.is_empty() || tail.strip_prefix(':').is_some_and(is_port);
        let address: std::net::Ipv6Addr = inner.parse().ok()?;
        return is_end.then(|| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    is_port(port).then_some(IpAddr::V4(address))
}
