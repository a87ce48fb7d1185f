//! Passwords: argon2id, a few at once, the same work for a name that nobody has.
//!
//! One check takes 19 MiB and tens of milliseconds on purpose, so only so many run at once as there are cores; a
//! short queue waits, the rest is told to come back. A hash made with another cost takes another time until the next
//! login lifts it. Deliberately absent: who may try how often (`attempts`).
//!
//! Source: RFC 9106; parameters from the OWASP Password Storage Cheat Sheet (m = 19 MiB, t = 2, p = 1).

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use marketprism_model::{Entropy, Secret};
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use thiserror::Error;

/// Fewest and most bytes of a password.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;
/// What a new hash costs: memory in KiB, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// What a stored hash may cost at most; a damaged record must not take the machine's memory.
const COST_MAX: (u32, u32, u32) = (256 * 1024, 16, 16);
/// Checks that wait while all slots are taken.
const QUEUE_MAX: usize = 16;
const SALT_BYTES: usize = 16;

/// A password is not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a password has 8 to 1024 bytes, not {0}")]
pub struct PasswordError(pub usize);

/// All slots are taken and the queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// Says whether a password may be set, or be worth a check.
pub(crate) fn judge(password: &Secret) -> Result<(), PasswordError> {
    let bytes = password.expose().len();
    let is_fit = PASSWORD_BYTES.contains(&bytes);
    is_fit.then_some(()).ok_or(PasswordError(bytes))
}

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right, and its hash costs less than new ones do.
    RightButCheap,
}

/// Makes and checks hashes.
pub(crate) struct Passwords {
    slots: Slots,
    /// Checked when there is no such user, so that the work is the same.
    nobody: String,
    runs: Counter,
}

impl Passwords {
    /// Counts every run of argon2 in `runs`.
    pub(crate) fn new(slots: usize, entropy: &dyn Entropy, runs: Counter) -> Self {
        let passwords = Passwords {
            slots: Slots::new(slots, QUEUE_MAX),
            nobody: String::new(),
            runs,
        };
        let mut unknown = [0; 32];
        entropy.fill(&mut unknown);
        let nobody = passwords.compute(&unknown, entropy);
        Passwords { nobody, ..passwords }
    }

    /// Hashes a password that [`judge`] took, into a PHC string.
    pub(crate) fn hash(&self, password: &Secret, entropy: &dyn Entropy) -> Result<Secret, Busy> {
        let _slot = self.slots.take()?;
        Ok(Secret::new(self.compute(password.expose().as_bytes(), entropy)))
    }

    /// Checks a password that [`judge`] took against a stored hash, or against nobody's.
    pub(crate) fn check(&self, password: &Secret, stored: Option<&Secret>) -> Result<Verdict, Busy> {
        let _slot = self.slots.take()?;
        let readable = stored.and_then(|stored| readable(stored.expose()));
        let (hash, is_somebody) = match &readable {
            Some(hash) => (hash, true),
            None => (
                &PasswordHash::new(&self.nobody).expect("an own hash reads back"),
                false,
            ),
        };
        self.runs.inc();
        let is_right = argon2(COST)
            .verify_password(password.expose().as_bytes(), hash)
            .is_ok();
        Ok(match is_right && is_somebody {
            false => Verdict::Wrong,
            true if is_cheap(hash) => Verdict::RightButCheap,
            true => Verdict::Right,
        })
    }

    fn compute(&self, password: &[u8], entropy: &dyn Entropy) -> String {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        self.runs.inc();
        let hash: PasswordHash = argon2(COST)
            .hash_password_with_salt(password, &salt)
            .expect("a bounded password and a salt of 16 bytes are within argon2's limits");
        hash.to_string()
    }
}

fn argon2((memory_kib, passes, lanes): (u32, u32, u32)) -> Argon2<'static> {
    let params =
        Params::new(memory_kib, passes, lanes, None).expect("the constants are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn cost(hash: &PasswordHash) -> Option<(u32, u32, u32)> {
    let params = Params::try_from(hash).ok()?;
    Some((params.m_cost(), params.t_cost(), params.p_cost()))
}

/// Reads a stored hash; `None` when it is damaged or costs more than this program ever writes.
fn readable(stored: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(stored).ok()?;
    let (memory, passes, lanes) = cost(&hash)?;
    let is_bearable = memory <= COST_MAX.0 && passes <= COST_MAX.1 && lanes <= COST_MAX.2;
    is_bearable.then_some(hash)
}

fn is_cheap(hash: &PasswordHash) -> bool {
    let is_argon2id = hash.algorithm.as_str() == "argon2id" && hash.version == Some(0x13);
    !is_argon2id || cost(hash).is_none_or(|(memory, passes, _)| memory < COST.0 || passes < COST.1)
}

/// So many at once, so many in the queue, no more.
struct Slots {
    state: Mutex<SlotsState>,
    freed: Condvar,
    queue_max: usize,
}

struct SlotsState {
    free: usize,
    waiting: usize,
}

impl Slots {
    fn new(count: usize, queue_max: usize) -> Self {
        let state = SlotsState {
            free: count.max(1),
            waiting: 0,
        };
        Slots {
            state: Mutex::new(state),
            freed: Condvar::new(),
            queue_max,
        }
    }

    fn take(&self) -> Result<Slot<'_>, Busy> {
        let mut state = self.state.lock();
        if state.free == 0 {
            if state.waiting >= self.queue_max {
                return Err(Busy);
            }
            state.waiting += 1;
            while state.free == 0 {
                self.freed.wait(&mut state);
            }
            state.waiting -= 1;
        }
        state.free -= 1;
        Ok(Slot(self))
    }
}

struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.state.lock().free += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use argon2::ParamsBuilder;

    use super::*;

    #[test]
    fn argon2id_computes_what_the_rfc_computes() {
        // RFC 9106, section 5.3.
        let params = ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .output_len(32)
            .data(argon2::AssociatedData::new(&[4; 12]).expect("12 bytes"))
            .build()
            .expect("the RFC's parameters");
        let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params);
        let mut tag = [0; 32];
        argon2
            .expect("the RFC's parameters")
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .expect("the RFC's input");
        let expected = [
            0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53, 0xc9,
            0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01, 0xe6, 0x59,
        ];
        assert_eq!(tag, expected);
    }
}
