//! How often somebody may fail: a leaking bucket for each address, and for each user name tried from it.
//!
//! A few failures are free, then each doubles the wait, up to a limit; one failure is forgotten each time the
//! longest wait has passed. Names are counted below their address, never on their own, so nobody can lock a user
//! out from elsewhere; an address can push out only its own names. The attempt is charged before the check and
//! given back when it was right, so a thousand guesses at once pass no more than one after another would.
//! A credential that has just been found wrong teaches nobody anything when it comes again: it is refused
//! without being counted or checked, so a tool with an old password does not shut its address out.
//! Deliberately absent: the check itself.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::bounded::Bounded;
use crate::config::LoginAttempts;
use crate::keys::Print;

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;
/// Names that are remembered for one address; the address's own bucket holds for all of them.
const NAMES_MAX: usize = 16;
/// Wrong credentials that are remembered for one address.
const WRONG_MAX: usize = 8;
/// The first wait.
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// Remembers failures. Times are monotonic.
pub(crate) struct Attempts(Mutex<Bounded<u128, Address>>);

#[derive(Default)]
struct Address {
    all: Bucket,
    names: VecDeque<(Print, Bucket)>,
    wrong: VecDeque<(Print, Print)>,
}

/// An attempt that was let through and charged.
pub(crate) struct Ticket {
    address: u128,
    name: Option<Print>,
    charged_all: Charge,
    charged_name: Charge,
}

/// What a charge changed, so that it can be taken back.
#[derive(Clone, Copy, Default)]
struct Charge {
    before: Duration,
    after: Duration,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Failures, as they stood at `at`.
    level: f64,
    at: Duration,
    blocked_until: Duration,
}

impl Bucket {
    fn wait(&self, now: Duration) -> Option<Duration> {
        let left = self.blocked_until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }

    fn charge(&mut self, now: Duration, free: u32, delay_max: Duration) -> Charge {
        let before = self.blocked_until;
        let forgotten = now.saturating_sub(self.at).as_secs_f64() / delay_max.as_secs_f64();
        self.level = (self.level - forgotten).max(0.0) + 1.0;
        self.at = now;
        // Rounded, because a little of the last failure has leaked away while its wait passed.
        let beyond = (self.level - f64::from(free)).round();
        if beyond >= 0.0 {
            let delay = DELAY_FIRST.mul_f64(2f64.powf(beyond.min(20.0)));
            self.blocked_until = now + delay.min(delay_max);
        }
        Charge {
            before,
            after: self.blocked_until,
        }
    }

    fn give_back(&mut self, charge: Charge) {
        self.level = (self.level - 1.0).max(0.0);
        // A wait that somebody else's failure brought meanwhile stands.
        if self.blocked_until == charge.after {
            self.blocked_until = charge.before;
        }
    }
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Attempts(Mutex::new(Bounded::new(ADDRESSES_MAX)))
    }

    /// Lets an attempt through and charges it, or says how long to wait.
    pub(crate) fn begin(
        &self,
        address: IpAddr,
        name: Option<Print>,
        limits: &LoginAttempts,
        now: Duration,
    ) -> Result<Ticket, Duration> {
        let key = address_key(address);
        let delay_max = Duration::from_secs(u64::from(limits.delay_max_seconds.max(1)));
        let mut addresses = self.0.lock();
        let entry = addresses.get_or_put(key, Address::default);
        let by_name = name
            .and_then(|name| entry.bucket(name))
            .and_then(|bucket| bucket.wait(now));
        if let Some(wait) = entry.all.wait(now).max(by_name) {
            return Err(wait);
        }
        let charged_all = entry.all.charge(now, limits.per_address, delay_max);
        let charged_name = name.map_or_else(Charge::default, |name| {
            entry.bucket_or_new(name).charge(now, limits.per_user, delay_max)
        });
        Ok(Ticket {
            address: key,
            name,
            charged_all,
            charged_name,
        })
    }

    /// The attempt was right: it counts for nothing, and the name's failures are forgotten.
    pub(crate) fn succeed(&self, ticket: &Ticket) {
        self.with(ticket, |entry| {
            entry.all.give_back(ticket.charged_all);
            entry.names.retain(|(name, _)| Some(*name) != ticket.name);
        });
    }

    /// The attempt was never judged: it counts for nothing.
    pub(crate) fn give_back(&self, ticket: &Ticket) {
        self.with(ticket, |entry| {
            entry.all.give_back(ticket.charged_all);
            if let Some(bucket) = ticket.name.and_then(|name| entry.bucket(name)) {
                bucket.give_back(ticket.charged_name);
            }
        });
    }

    /// The attempt was wrong: the charge stands, and `credential` is remembered as wrong against `mark`.
    pub(crate) fn fail(&self, ticket: &Ticket, credential: Print, mark: Print) {
        self.with(ticket, |entry| {
            if entry.wrong.len() >= WRONG_MAX {
                entry.wrong.pop_front();
            }
            entry.wrong.push_back((credential, mark));
        });
    }

    /// Says whether this address has already shown `credential` and was told that it is wrong against `mark`.
    pub(crate) fn is_known_wrong(&self, address: IpAddr, credential: Print, mark: Print) -> bool {
        let mut addresses = self.0.lock();
        let entry = addresses.get(&address_key(address));
        entry.is_some_and(|entry| entry.wrong.contains(&(credential, mark)))
    }

    /// Counts the addresses that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn with(&self, ticket: &Ticket, change: impl FnOnce(&mut Address)) {
        if let Some(entry) = self.0.lock().get(&ticket.address) {
            change(entry);
        }
    }
}

impl Address {
    fn bucket(&mut self, name: Print) -> Option<&mut Bucket> {
        let found = self.names.iter_mut().find(|(known, _)| *known == name);
        found.map(|(_, bucket)| bucket)
    }

    fn bucket_or_new(&mut self, name: Print) -> &mut Bucket {
        let place = self.names.iter().position(|(known, _)| *known == name);
        let entry = place.and_then(|place| self.names.remove(place));
        if self.names.len() >= NAMES_MAX {
            self.names.pop_front();
        }
        self.names.push_back(entry.unwrap_or((name, Bucket::default())));
        let (_, bucket) = self.names.back_mut().expect("it was just pushed");
        bucket
    }
}

/// Gives what counts as one address: IPv4 whole, IPv6 its /64, which one subscriber has to himself.
pub(crate) fn address_key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}
