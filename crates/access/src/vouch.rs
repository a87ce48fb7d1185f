//! How one replica tells another whose request it passes on.
//!
//! A standby forwards to the leader, and the leader must judge the client, not the standby. The word is signed with
//! a key derived from the JWT secret, which all replicas share, and holds for thirty seconds: whoever overhears it
//! may pose as that address so long, but needs credentials all the same. Deliberately absent: who the user is; the
//! forwarded request brings its own credentials.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use marketprism_model::Timestamp;
use ring::hmac;

use crate::Client;

/// The header that carries the word.
pub const HEADER: HeaderName = HeaderName::from_static("x-marketprism-client");
/// How long a word holds, and how far apart the replicas' clocks may be.
const LIFETIME: Duration = Duration::from_secs(30);
/// Most bytes of a word: version, milliseconds, address, flag, signature.
const BYTES_MAX: usize = 160;

/// Writes and reads the words.
pub(crate) struct Voucher(hmac::Key);

impl Voucher {
    /// Derives its key from the secret.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Voucher(derived(secret, b"marketprism vouch v1"))
    }

    /// Writes `v1;MILLISECONDS;ADDRESS;direct|named;SIGNATURE`.
    pub(crate) fn vouch(&self, client: &Client, now: Timestamp) -> HeaderValue {
        let way = if client.is_direct { "direct" } else { "named" };
        let mut word = format!("v1;{};{};{way}", now.millis(), client.address);
        let signature = hmac::sign(&self.0, word.as_bytes());
        word.push(';');
        URL_SAFE_NO_PAD.encode_string(signature, &mut word);
        HeaderValue::try_from(word).expect("digits, letters and punctuation make a header")
    }

    /// Reads the word among the headers; `None` when there is none that holds.
    pub(crate) fn client(&self, headers: &HeaderMap, now: Timestamp) -> Option<Client> {
        let mut words = headers.get_all(&HEADER).iter();
        let word = words.next()?.to_str().ok()?;
        if words.next().is_some() {
            return None;
        }
        self.read(word, now)
    }

    fn read(&self, word: &str, now: Timestamp) -> Option<Client> {
        if word.len() > BYTES_MAX {
            return None;
        }
        let (signed, signature) = word.rsplit_once(';')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).ok()?;
        let mut parts = signed.split(';');
        let (version, millis, address, way) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let spoken_at = Timestamp::from_millis(millis.parse().ok()?);
        let age = now.since(spoken_at).max(spoken_at.since(now));
        if version != "v1" || parts.next().is_some() || age > LIFETIME {
            return None;
        }
        let address: IpAddr = address.parse().ok()?;
        Some(Client {
            is_direct: way == "direct",
            ..Client::named(address)
        })
    }
}

/// Derives a key for one purpose, so that what is signed for one never passes for another.
pub(crate) fn derived(secret: &[u8], purpose: &[u8]) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose).as_ref())
}
