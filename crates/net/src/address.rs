//! Where a request goes: the URL taken apart, its user and password out of sight.
//!
//! Deliberately absent: resolving (see `dial`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::NetError;

/// The longest URL that is accepted, in bytes.
const URL_BYTES_MAX: usize = 16 * 1024;

/// A URL that can be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    url: Url,
    /// The `Authorization` header that stood in the URL as `user:password@`.
    pub(crate) basic_auth: Option<HeaderValue>,
}

impl Address {
    /// Takes an absolute `http` or `https` URL apart.
    pub(crate) fn parse(text: &str) -> Result<Self, NetError> {
        let refuse = |reason: String| NetError::Address {
            url: without_credentials(text).chars().take(256).collect(),
            reason,
        };
        if text.len() > URL_BYTES_MAX {
            return Err(refuse(format!("longer than {URL_BYTES_MAX} bytes")));
        }
        let url = Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        Address::from_url(url).map_err(refuse)
    }

    /// Resolves a `Location` header against this address.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        let url = self.url.join(location).map_err(|error| error.to_string())?;
        Address::from_url(url)
    }

    fn from_url(mut url: Url) -> Result<Self, String> {
        if url.scheme() != "http" && url.scheme() != "https" {
            return Err(format!(
                "scheme {:?}; only http and https are spoken",
                url.scheme()
            ));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("no host".to_owned());
        }
        let basic_auth = take_credentials(&mut url)?;
        url.set_fragment(None);
        Ok(Address { url, basic_auth })
    }

    /// Gives the URL as hyper wants it.
    pub(crate) fn uri(&self) -> Result<http::Uri, NetError> {
        self.url
            .as_str()
            .parse()
            .map_err(|error: http::uri::InvalidUri| NetError::Address {
                url: self.url.as_str().chars().take(256).collect(),
                reason: error.to_string(),
            })
    }

    /// Gives host and port, as errors name the peer.
    pub(crate) fn peer(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(0);
        match self.url.host() {
            Some(Host::Ipv6(address)) => format!("[{address}]:{port}"),
            host => format!("{}:{port}", host.map(|h| h.to_string()).unwrap_or_default()),
        }
    }

    /// Says whether credentials for this address may be shown to the other: same scheme, host and port.
    pub(crate) fn is_same_origin(&self, other: &Address) -> bool {
        self.url.origin() == other.url.origin()
    }
}

fn take_credentials(url: &mut Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(url.password().unwrap_or("")));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))
        .map_err(|_| "user and password do not fit a header".to_owned())?;
    value.set_sensitive(true);
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .map_err(|()| "user and password are not allowed here".to_owned())?;
    Ok(Some(value))
}

/// Cuts `user:password@` out of a URL, well-formed or not, so that it can be shown.
pub fn without_credentials(url: &str) -> String {
    let start = url.find("//").map_or(0, |at| at + 2);
    let end = url[start..]
        .find(['/', '?', '#', '\\'])
        .map_or(url.len(), |length| start + length);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}{}", &url[..start], &url[start + at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_become_a_header_and_leave_the_url() {
        let address = Address::parse("https://us%40er:pa%3Ass@host:8443/x?y=1#z").expect("well-formed");
        // `printf 'us@er:pa:ss' | base64`
        assert_eq!(
            address.basic_auth.as_ref().map(HeaderValue::as_bytes),
            Some(&b"Basic dXNAZXI6cGE6c3M="[..])
        );
        assert_eq!(
            address.uri().expect("well-formed").to_string(),
            "https://host:8443/x?y=1"
        );
        assert_eq!(address.peer(), "host:8443");
    }

    #[test]
    fn errors_never_show_the_password() {
        for url in [
            "ftp://user:hunter2@host/",
            "http://user:hunter2@:80/",
            "http://user:hunter2@ho st/",
            "user:hunter2@host",
            "http://user:hunter2@host:99999/",
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn peers_of_ipv6_and_default_ports_are_written_in_full() {
        let check = |url, peer: &str| assert_eq!(Address::parse(url).expect(url).peer(), peer);
        check("http://[::1]/", "[::1]:80");
        check("https://example.com", "example.com:443");
        check("http://127.1/", "127.0.0.1:80");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let check = |other: &str, expected| {
            let ours = Address::parse("https://a.example/x").expect("well-formed");
            let theirs = ours.join(other).expect(other);
            assert_eq!(ours.is_same_origin(&theirs), expected, "{other}");
        };
        check("/y", true);
        check("https://a.example:443/", true);
        check("http://a.example/", false);
        check("https://a.example:8443/", false);
        check("//b.example/", false);
    }
}
