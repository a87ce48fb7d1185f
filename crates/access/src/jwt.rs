//! The token of a session: a JWT signed with HMAC-SHA-256, and nothing else that calls itself a JWT.
//!
//! Own lines and not the crate `jsonwebtoken`: its present version takes its cryptography from aws-lc, which is
//! banned here, or from seven RustCrypto crates with RSA and elliptic curves among them; all of its choices
//! (algorithms, key ids, optional claims) are what an attacker plays with, and here there is none. The first part
//! must be the one header this program writes, byte for byte, so `none`, a foreign algorithm, `kid`, `jwk` and
//! `crit` need no case of their own; the signature is checked before anything behind it is read.
//! Deliberately absent: whether the session was ended and what its user may do now; that is asked of the records.
//!
//! Source: RFC 7515 (JWS compact serialisation), RFC 7519 (claims), RFC 8725 (best practices).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use marketprism_model::{Id, Role, Secret, Timestamp};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::Refusal;

/// `{"alg":"HS256","typ":"JWT"}`, the only header there is.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// Most bytes of a token.
const BYTES_MAX: usize = 4096;
/// How far ahead another replica's clock may be.
const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// What a session's token says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    /// The user's name.
    pub sub: String,
    /// The role at the login; the present one may be weaker.
    pub role: Role,
    /// When the token was made, in seconds since the Unix epoch.
    pub iat: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    /// The session; carries the millisecond at which it began.
    pub jti: Id,
}

impl Claims {
    /// Gives the moment at which the session ends by itself.
    pub(crate) fn expires_at(&self) -> Timestamp {
        seconds(self.exp)
    }

    /// Gives the millisecond at which the session began, which a version 7 UUID carries.
    ///
    /// Source: RFC 9562, section 5.7.
    pub(crate) fn began_at(&self) -> Timestamp {
        Timestamp::from_millis((self.jti.as_u128() >> 80) as i64)
    }

    /// Judges the times. A session longer than `expiry` ends when `expiry` has passed.
    pub(crate) fn judge_times(&self, now: Timestamp, expiry: Duration) -> Result<(), Refusal> {
        let issued_at = seconds(self.iat);
        if issued_at > now + CLOCK_LEEWAY || self.exp < self.iat {
            return Err(Refusal::BadCredential);
        }
        if now >= self.expires_at().min(issued_at + expiry) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

fn seconds(count: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(count.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// Signs and reads the tokens of one secret.
pub(crate) struct JwtKey(hmac::Key);

impl JwtKey {
    /// Takes the secret's bytes as the key, as every other reader of HS256 does.
    pub(crate) fn new(secret: &[u8]) -> Self {
        JwtKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Writes a token.
    pub(crate) fn sign(&self, claims: &Claims) -> Secret {
        let payload = serde_json::to_vec(claims).expect("plain fields serialise");
        let mut token = format!("{HEADER}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = hmac::sign(&self.0, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Secret::new(token)
    }

    /// Reads a token whose signature holds; its times are not judged yet.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        if token.len() > BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if header != HEADER {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        read_claims(&payload)
    }
}

/// Reads the claims; a claim that is missing, doubled or unknown makes them worthless.
pub(crate) fn read_claims(payload: &[u8]) -> Option<Claims> {
    serde_json::from_slice(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_signs_as_the_rfc_signs() {
        // RFC 7515, appendix A.1.
        let secret = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("the RFC's key");
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog\
                      Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let key = JwtKey::new(&secret);
        let signature = hmac::sign(&key.0, signed.as_bytes());
        let expected = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(URL_SAFE_NO_PAD.encode(signature), expected);
        assert_eq!(
            key.read(&format!("{signed}.{expected}")),
            None,
            "well signed, and no session of ours"
        );
    }

    #[test]
    fn the_header_says_what_it_should() {
        let header = URL_SAFE_NO_PAD.decode(HEADER).expect("base64url");
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
    }
}
