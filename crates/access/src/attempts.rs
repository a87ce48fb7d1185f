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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

    proptest! {
        #[test]
        fn no_pace_of_guessing_passes_more_than_the_free_ones_the_doublings_and_the_leak(
            gaps_ms in proptest::collection::vec(0u64..2_000_000, 1..400),
            names in proptest::collection::vec(0u8..40, 400),
            is_patient in any::<bool>(),
        ) {
            let limits = LoginAttempts::default();
            let attempts = Attempts::new();
            let (mut now, mut passed, mut passed_first) = (Duration::from_secs(1000), 0u64, 0u64);
            let began = now;
            for (gap, name) in gaps_ms.into_iter().zip(names) {
                now += Duration::from_millis(gap);
                // Mostly one name, so that its own bucket is what stops it.
                let name = if name < 30 { 0 } else { name };
                match attempts.begin(HERE, Some([name; 16]), &limits, now) {
                    Ok(ticket) => {
                        attempts.fail(&ticket, [0; 16], [0; 16]);
                        passed += 1;
                        passed_first += u64::from(name == 0);
                    }
                    Err(wait) => {
                        prop_assert!(wait <= Duration::from_secs(900));
                        if is_patient {
                            now += wait;
                        }
                    }
                }
            }
            // Eleven doublings from 1 s reach 900 s.
            let leaked = now.saturating_sub(began).as_secs() / 900 + 1;
            prop_assert!(passed_first <= 5 + 11 + leaked, "{passed_first} at one name, {leaked} leaked");
            prop_assert!(passed <= 30 + 11 + leaked, "{passed} in all, {leaked} leaked");
        }
    }

    #[test]
    fn what_was_given_back_counts_for_nothing_and_leaves_the_waits_of_others() {
        let (limits, now) = (LoginAttempts::default(), Duration::from_secs(1000));
        let attempts = Attempts::new();
        let name = Some([1; 16]);
        let begin = |name| attempts.begin(HERE, name, &limits, now);
        for _ in 0..100 {
            let ticket = begin(name).expect("nothing counts");
            attempts.give_back(&ticket);
        }
        let honest = begin(name).expect("the first that counts");
        for _ in 0..4 {
            assert!(begin(name).is_ok());
        }
        assert!(begin(name).is_err(), "five are on their way");
        attempts.succeed(&honest);
        assert!(begin(name).is_ok(), "a right one clears the name");
        let never_judged = begin(Some([2; 16])).expect("another name");
        for _ in 0..24 {
            _ = begin(None);
        }
        assert!(begin(None).is_err(), "the address has had its thirty");
        attempts.give_back(&never_judged);
        assert!(begin(None).is_err(), "the wait that others brought stands");
    }
}
