//! How a request says who sends it: a bearer token, a name with a password, or the session's cookie.
//!
//! Reading only; whether it is true is asked in the room `access`. A header that cannot be understood is told apart
//! from an absent one, so that a client with a mistake in it is never taken for nobody. Deliberately absent:
//! credentials in the address, which end up in logs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use marketprism_access::Credential;
use marketprism_model::Secret;

/// The cookie in which a browser keeps its session.
pub const COOKIE: &str = "marketprism_session";
/// Longer credentials are not ours.
const CREDENTIAL_BYTES_MAX: usize = 8 << 10;

/// The request carries something that is no credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

/// Reads the credential of a request. `Authorization` goes before the cookie, and only one is ever tried.
pub fn read(headers: &HeaderMap) -> Result<Option<Credential>, Unreadable> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(cookie(headers).map(|value| Credential::Cookie(Secret::new(value)))),
        (Some(value), None) => authorization(value).map(Some).ok_or(Unreadable),
        (Some(_), Some(_)) => Err(Unreadable),
    }
}

/// Source: RFC 6750, section 2.1, and RFC 7617, section 2; the scheme's name in any case, as RFC 9110 has it.
fn authorization(value: &HeaderValue) -> Option<Credential> {
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= CREDENTIAL_BYTES_MAX)?;
    let (scheme, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return (!rest.is_empty()).then(|| Credential::Bearer(Secret::new(rest)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(Credential::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    })
}

/// Gives the session's cookie; an empty one is none. Of several the first counts, the one with the longest path.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty() && value.len() <= CREDENTIAL_BYTES_MAX)
}

/// Writes the cookie of a session that ends after `lasts_s` seconds.
///
/// No script can read it. It is sent when a link in a mail leads here, which `SameSite=Strict` would forbid; that
/// no other site can make a browser change something is the guard's work.
pub fn session_cookie(token: &Secret, lasts_s: u64, is_secure: bool) -> Option<HeaderValue> {
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE}={}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{secure}",
        token.expose()
    );
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Writes the cookie that ends a session in the browser.
pub fn no_cookie(is_secure: bool) -> HeaderValue {
    HeaderValue::from_static(if is_secure {
        "marketprism_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    } else {
        "marketprism_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(credential: &Credential) -> String {
        match credential {
            Credential::Bearer(token) => format!("bearer {}", token.expose()),
            Credential::Cookie(token) => format!("cookie {}", token.expose()),
            Credential::Basic { user, password } => format!("basic {user} {}", password.expose()),
        }
    }

    fn check(pairs: &[(&'static str, &str)], expected: Result<Option<&str>, Unreadable>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                *name,
                HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
            );
        }
        let found = read(&headers).map(|credential| credential.map(|credential| told(&credential)));
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{pairs:?}");
    }

    #[test]
    fn what_a_request_says_of_its_sender_is_read_as_the_standards_have_it() {
        check(&[], Ok(None));
        check(&[("authorization", "Bearer abc.def")], Ok(Some("bearer abc.def")));
        check(&[("authorization", "bEARER  abc")], Ok(Some("bearer abc")));
        // The example of RFC 7617, section 2, and the one of section 2.1 with a pound sign.
        check(
            &[("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")],
            Ok(Some("basic Aladdin open sesame")),
        );
        check(
            &[("authorization", "Basic dGVzdDoxMjPCow==")],
            Ok(Some("basic test 123£")),
        );
        // A password may hold colons, a name may not.
        check(&[("authorization", "basic YTpiOmM=")], Ok(Some("basic a b:c")));
        check(
            &[("cookie", "a=b; marketprism_session=xyz; c=d")],
            Ok(Some("cookie xyz")),
        );
        check(
            &[("cookie", "a=b"), ("cookie", "marketprism_session=xyz")],
            Ok(Some("cookie xyz")),
        );
        check(&[("cookie", "marketprism_session=")], Ok(None));
        check(
            &[("cookie", "xmarketprism_session=a; marketprism_sessionx=b")],
            Ok(None),
        );
        check(
            &[
                ("authorization", "Bearer t"),
                ("cookie", "marketprism_session=xyz"),
            ],
            Ok(Some("bearer t")),
        );
    }

    #[test]
    fn what_is_no_credential_is_told_apart_from_none() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Digest abc",
            "Basic",
            "Basic !!!",
            "Basic QWxhZGRpbg==",
            "Basic /w==",
            "Basic YTpi=",
            "Bearer \u{e9}",
        ] {
            check(&[("authorization", value)], Err(Unreadable));
        }
        let long = format!("Bearer {}", "a".repeat(9 << 10));
        check(&[("authorization", &long)], Err(Unreadable));
        check(
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            Err(Unreadable),
        );
        check(
            &[
                ("authorization", "Digest a"),
                ("cookie", "marketprism_session=xyz"),
            ],
            Err(Unreadable),
        );
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(
            authorization: Vec<u8>, cookie: Vec<u8>, scheme in "(?i)(bearer|basic|digest)? ?",
        ) {
            let mut headers = HeaderMap::new();
            let authorization = [scheme.as_bytes(), &authorization].concat();
            if let Ok(value) = HeaderValue::from_bytes(&authorization) {
                headers.append(header::AUTHORIZATION, value);
            }
            if let Ok(value) = HeaderValue::from_bytes(&cookie) {
                headers.append(header::COOKIE, value);
            }
            let _ = read(&headers);
        }
    }
}
