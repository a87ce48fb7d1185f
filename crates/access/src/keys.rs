//! The keys that come from the JWT secret, one for each purpose.

use ring::hmac;

use crate::jwt::JwtKey;
use crate::vouch::{Voucher, derived};

/// A short keyed digest, to recognise a name or a credential again without keeping it.
pub(crate) type Print = [u8; 16];

/// The keys of one secret.
pub(crate) struct Keys {
    pub jwt: JwtKey,
    pub voucher: Voucher,
    prints: hmac::Key,
}

impl Keys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Keys {
            jwt: JwtKey::new(secret),
            voucher: Voucher::new(secret),
            prints: derived(secret, b"marketprism prints v1"),
        }
    }

    /// Gives the print of several parts; where one ends and the next begins matters.
    pub(crate) fn print(&self, parts: &[&[u8]]) -> Print {
        let mut context = hmac::Context::with_key(&self.prints);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut print = Print::default();
        print.copy_from_slice(&context.sign().as_ref()[..16]);
        print
    }
}
