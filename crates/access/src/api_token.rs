//! The value of an API token: `mp_`, 32 random bytes, a checksum.
//!
//! The prefix lets scanners find a token that slipped into a repository; the checksum tells a token from a
//! typing error without asking the records. Neither makes it easier to guess: 256 bits are drawn.
//! Deliberately absent: who may do what with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use marketprism_model::{Entropy, Secret};
use ring::digest;

/// How every token begins.
pub(crate) const PREFIX: &str = "mp_";
/// Letters of the random part and of the checksum.
const BODY_LETTERS: usize = 43;
const CHECK_LETTERS: usize = 6;

/// Draws a new token's value.
pub(crate) fn make(entropy: &dyn Entropy) -> Secret {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    let mut text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let check = checksum(&text);
    text.push_str(&check);
    Secret::new(text)
}

/// Says whether a text is meant to be an API token, right or wrong.
pub fn is_api_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Gives the digest under which the token is kept; `None` when the text is no token, a mistyped one for instance.
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let whole_len = PREFIX.len() + BODY_LETTERS + CHECK_LETTERS;
    if text.len() != whole_len || !text.is_ascii() || !is_api_token(text) {
        return None;
    }
    let (body, check) = text.split_at(PREFIX.len() + BODY_LETTERS);
    if checksum(body) != check {
        return None;
    }
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().ok()
}

fn checksum(body: &str) -> String {
    URL_SAFE_NO_PAD.encode(crc32fast::hash(body.as_bytes()).to_be_bytes())
}
