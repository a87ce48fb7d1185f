//! From a name and a port to an open TCP connection.
//!
//! Addresses are tried as RFC 8305 advises: both families in turn, the next one joining the race when
//! the others are slow, so that a broken IPv6 route costs a quarter of a second and not a timeout.
//! The egress guard judges here, on the very addresses that are then dialled.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Egress, NetError};

/// How long one address has the race for itself.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long dialling may take in all, also when nobody waits for it any more.
const DIAL_MAX: Duration = Duration::from_secs(60);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 16;

/// Resolves `host` (a name, or an address without brackets) and connects to it.
pub(crate) async fn dial(host: &str, port: u16, egress: &Egress) -> Result<TcpStream, NetError> {
    let peer = peer(host, port);
    let dialling = async {
        let addresses = permitted(resolve(host, port).await?, egress, &peer)?;
        let stream = race(addresses).await.map_err(|error| NetError::Connect {
            peer: peer.clone(),
            reason: words(&error),
        })?;
        // Requests are written whole; waiting for more to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    };
    timeout(DIAL_MAX, dialling)
        .await
        .unwrap_or(Err(NetError::Timeout {
            peer: peer.clone(),
            timeout: DIAL_MAX,
        }))
}

/// Writes host and port as errors name the peer.
pub(crate) fn peer(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, NetError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let refuse = |reason: String| NetError::Resolve {
        host: host.to_owned(),
        reason,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| refuse(resolver_words(&error)))?
        .collect();
    if found.is_empty() {
        return Err(refuse("the name has no address".to_owned()));
    }
    Ok(interleave(found))
}

/// Puts the families in turn, beginning with the resolver's first choice.
fn interleave(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == is_first_v6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [preferred.next(), others.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    ordered.truncate(ADDRESSES_MAX);
    ordered
}

fn permitted(addresses: Vec<SocketAddr>, egress: &Egress, peer: &str) -> Result<Vec<SocketAddr>, NetError> {
    let mut refusal = None;
    let mut permitted = addresses;
    permitted.retain(|address| match egress.check(address.ip()) {
        Ok(()) => true,
        Err(error) => {
            refusal = Some(error);
            false
        }
    });
    match refusal {
        Some(error) if permitted.is_empty() => Err(NetError::Forbidden {
            peer: peer.to_owned(),
            reason: error.to_string(),
        }),
        _ => Ok(permitted),
    }
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut racing = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        if let Some(address) = waiting.next() {
            racing.push(TcpStream::connect(address));
        }
        let outcome = if waiting.len() > 0 {
            timeout(HEAD_START, racing.next()).await.ok()
        } else {
            Some(racing.next().await)
        };
        match outcome {
            Some(Some(Ok(stream))) => return Ok(stream),
            Some(Some(Err(error))) => {
                first_error.get_or_insert(error);
            }
            Some(None) => {
                return Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
            // The head start is over; the next address joins.
            None => {}
        }
    }
}

/// Says what the system said, without its number.
pub(crate) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::AddrNotAvailable => "address not available".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed by peer".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_owned()
        }
    }
}

/// The standard library puts the resolver's words behind a prefix that says nothing new.
fn resolver_words(error: &io::Error) -> String {
    let text = words(error);
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_resolvers_choice() {
        assert_eq!(
            interleave(addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1"])),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
    }

    #[test]
    fn a_name_with_one_forbidden_address_is_dialled_at_the_others() {
        let found = addresses(&["169.254.169.254:80", "10.0.0.1:80"]);
        let kept = permitted(found, &Egress::default(), "x:80").expect("one is left");
        assert_eq!(kept, addresses(&["10.0.0.1:80"]));
        let error = permitted(addresses(&["169.254.169.254:80"]), &Egress::default(), "x:80");
        assert!(matches!(error, Err(NetError::Forbidden { .. })));
    }

    #[tokio::test]
    async fn a_refused_address_does_not_hide_a_working_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback");
        let open = listener.local_addr().expect("bound");
        let closed = {
            let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("loopback");
            gone.local_addr().expect("bound")
        };
        let stream = race(vec![closed, open])
            .await
            .expect("the second address listens");
        assert_eq!(stream.peer_addr().expect("connected"), open);
        let error = race(vec![closed]).await.expect_err("nobody listens");
        assert_eq!(words(&error), "connection refused");
    }
}
