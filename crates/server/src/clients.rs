//! Who is connected: places for all, a share for each client, and a few places kept for this machine itself.
//!
//! Without shares one client with thousands of silent connections would keep everybody else out, the health check of
//! this very machine included. Addresses decide, for nothing else is known before a request; a network of one IPv6
//! customer (/64) counts as one client. Everything behind one proxy is one client too: whoever stands behind a proxy
//! with more connections raises `connections_per_client_max`.
//! Deliberately absent: who may ask. That is decided per request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At most so many places are kept for loopback addresses.
const LOOPBACK_PLACES_MAX: usize = 16;
/// So many accepted connections may wait for a place; further ones are closed at once.
const WAITING_MAX: usize = 256;

/// Why a connection was closed before a byte of it was read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The client has its share.
    #[error("the client has {limit} connections open, the most that one address may have")]
    Client {
        /// Its share.
        limit: usize,
    },
    /// All places are taken and enough connections wait already.
    #[error("all {limit} places for connections are taken")]
    Full {
        /// All places.
        limit: usize,
    },
}

/// How the places stand, for pages and scrapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ConnectionFigures {
    /// Connections with a place.
    pub open: usize,
    /// Connections that wait for one.
    pub waiting: usize,
    /// All places.
    pub open_max: usize,
    /// Addresses that have a connection.
    pub clients: usize,
    /// The share of one address.
    pub per_client_max: usize,
    /// Connections closed because their client had its share.
    pub refused_client: u64,
    /// Connections closed because there was no place.
    pub refused_full: u64,
}

/// The places of one server.
pub struct Clients {
    shares: Mutex<HashMap<IpAddr, usize>>,
    share_max: usize,
    places_max: usize,
    places: Arc<Semaphore>,
    loopback_max: usize,
    loopback: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused_client: AtomicU64,
    refused_full: AtomicU64,
}

/// A place that is given back when it is dropped.
pub struct Visit {
    _share: Share,
    _place: OwnedSemaphorePermit,
}

struct Share {
    clients: Arc<Clients>,
    key: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.clients.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = shares.get_mut(&self.key) {
            *open -= 1;
            if *open == 0 {
                shares.remove(&self.key);
            }
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clients {
    /// Makes places for `places_max` connections, of which one client may have `share_max`.
    pub fn new(places_max: usize, share_max: usize) -> Arc<Self> {
        let loopback_max = (places_max / 8).min(LOOPBACK_PLACES_MAX);
        Arc::new(Clients {
            shares: Mutex::default(),
            share_max,
            places_max,
            places: Arc::new(Semaphore::new(places_max - loopback_max)),
            loopback_max,
            loopback: Arc::new(Semaphore::new(loopback_max)),
            waiting: AtomicUsize::new(0),
            refused_client: AtomicU64::new(0),
            refused_full: AtomicU64::new(0),
        })
    }

    /// Gives a client a place, waiting for one while others wait no longer than allowed.
    ///
    /// A place kept for loopback goes to a loopback address only when no other is free.
    pub async fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Visit, Refused> {
        let share = self.share(address)?;
        if let Some(place) = self.free_place(address) {
            return Ok(Visit {
                _share: share,
                _place: place,
            });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            self.refused_full.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Full {
                limit: self.places_max,
            });
        }
        let ordinary = Arc::clone(&self.places).acquire_owned();
        let place = if address.is_loopback() {
            tokio::select! {
                place = ordinary => place,
                place = Arc::clone(&self.loopback).acquire_owned() => place,
            }
        } else {
            ordinary.await
        };
        Ok(Visit {
            _share: share,
            _place: place.expect("the semaphores are never closed"),
        })
    }

    /// Counts what is open, waits and was refused.
    pub fn figures(&self) -> ConnectionFigures {
        let free = self.places.available_permits() + self.loopback.available_permits();
        ConnectionFigures {
            open: self.places_max - free,
            waiting: self.waiting.load(Ordering::Relaxed),
            open_max: self.places_max,
            clients: self.shares.lock().unwrap_or_else(PoisonError::into_inner).len(),
            per_client_max: self.share_max,
            refused_client: self.refused_client.load(Ordering::Relaxed),
            refused_full: self.refused_full.load(Ordering::Relaxed),
        }
    }

    fn share(self: &Arc<Self>, address: IpAddr) -> Result<Share, Refused> {
        let key = client_of(address);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let open = shares.entry(key).or_insert(0);
        if *open >= self.share_max {
            self.refused_client.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Client {
                limit: self.share_max,
            });
        }
        *open += 1;
        Ok(Share {
            clients: Arc::clone(self),
            key,
        })
    }

    fn free_place(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let may_take = address.is_loopback() && self.loopback_max > 0;
        may_take
            .then(|| Arc::clone(&self.loopback).try_acquire_owned().ok())
            .flatten()
    }
}

/// Gives the address by which a client is counted.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn one_client_gets_its_share_and_leaves_the_rest_to_others() {
        let clients = Clients::new(64, 2);
        let first = clients.enter(address("192.0.2.1")).await.expect("its first");
        let _second = clients
            .enter(address("::ffff:192.0.2.1"))
            .await
            .expect("its second");
        let refused = clients.enter(address("192.0.2.1")).await.err();
        assert_eq!(refused, Some(Refused::Client { limit: 2 }));
        assert!(clients.enter(address("192.0.2.2")).await.is_ok());
        drop(first);
        assert!(clients.enter(address("192.0.2.1")).await.is_ok());
        assert_eq!(clients.figures().refused_client, 1);
    }

    #[tokio::test]
    async fn one_network_of_ipv6_is_one_client() {
        let clients = Clients::new(64, 1);
        let _first = clients.enter(address("2001:db8::1")).await.expect("its first");
        assert!(clients.enter(address("2001:db8::ffff:1")).await.is_err());
        assert!(clients.enter(address("2001:db8:0:1::1")).await.is_ok());
        let _own = clients.enter(address("::1")).await.expect("this machine");
        assert!(clients.enter(address("::1")).await.is_err());
    }

    #[tokio::test]
    async fn this_machine_gets_in_when_all_others_have_to_wait() {
        let clients = Clients::new(16, 16);
        let mut visits = Vec::new();
        for _ in 0..14 {
            visits.push(clients.enter(address("192.0.2.1")).await.expect("there is room"));
        }
        let stranger = clients.enter(address("192.0.2.2"));
        tokio::pin!(stranger);
        assert!(poll(stranger.as_mut()).is_pending());
        let own = clients
            .enter(address("127.0.0.1"))
            .await
            .expect("a place is kept");
        assert_eq!((clients.figures().open, clients.figures().waiting), (15, 1));
        drop(own);
        assert!(
            poll(stranger.as_mut()).is_pending(),
            "it was kept for this machine"
        );
        visits.pop();
        assert!(stranger.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_finds_the_waiting_room_full_is_told_at_once() {
        let clients = Clients::new(16, 65_536);
        let mut all: Vec<_> = (0..14 + WAITING_MAX)
            .map(|_| Box::pin(clients.enter(address("192.0.2.1"))))
            .collect();
        let mut visits = Vec::new();
        for entering in &mut all {
            if let Poll::Ready(visit) = poll(entering.as_mut()) {
                visits.push(visit.expect("there is room"));
            }
        }
        assert_eq!(visits.len(), 14);
        let refused = clients.enter(address("192.0.2.2")).await.err();
        assert_eq!(refused, Some(Refused::Full { limit: 16 }));
        drop(all);
        assert_eq!(clients.figures().waiting, 0);
    }
}
