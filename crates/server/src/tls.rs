//! TLS on the server's port: what the operator names, what is read from the files, and how it is renewed.
//!
//! Each connection takes the certificate that stands when it begins, so a renewal drops nobody; a pair that cannot be
//! used leaves the old one in place. rustls with ring, TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
//! Deliberately absent: watching the files. The binary reloads and calls [`Server::renew_tls`](crate::Server::renew_tls)
//! when one of [`TlsConfig::paths`] changes. Certificates of clients are not asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Timestamp, duration};
use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error as RustlsError, ServerConfig};
use serde::Deserialize;
use thiserror::Error;

use crate::config::ConfigError;
use crate::validity;

/// The largest PEM file that is read.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// A certificate that ends sooner is named.
const EXPIRY_NOTICE: Duration = Duration::from_secs(14 * 86_400);
/// What clients may choose from, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// `server.ssl`: the files of the certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether the port speaks HTTPS, and HTTPS only.
    pub enabled: bool,
    /// The certificate, followed by those of the authorities in between.
    pub cert_file: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key_file: PathBuf,
}

/// Why the files cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("server.ssl.{key}: {}: {reason}", file.display())]
pub struct TlsError {
    key: &'static str,
    file: PathBuf,
    reason: String,
}

/// A certificate and a key that fit together, ready to be shown.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
    ends_at: Option<Timestamp>,
    warnings: Vec<String>,
}

impl TlsConfig {
    /// Checks what can be checked without reading the files.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |field| ConfigError {
            field,
            value: "empty".to_owned(),
            allowed: "a PEM file while server.ssl.enabled is true".to_owned(),
        };
        match (self.enabled, &self.cert_file, &self.key_file) {
            (true, cert, _) if cert.as_os_str().is_empty() => Err(refuse("ssl.cert_file")),
            (true, _, key) if key.as_os_str().is_empty() => Err(refuse("ssl.key_file")),
            _ => Ok(()),
        }
    }

    /// Gives the same with paths that start from `folder` where they start from nowhere.
    pub fn resolved(&self, folder: &Path) -> TlsConfig {
        let resolve = |path: &Path| match path.as_os_str().is_empty() {
            true => PathBuf::new(),
            false => folder.join(path),
        };
        TlsConfig {
            enabled: self.enabled,
            cert_file: resolve(&self.cert_file),
            key_file: resolve(&self.key_file),
        }
    }

    /// Gives the files whose change calls for a renewal; none while TLS is off.
    pub fn paths(&self) -> Vec<PathBuf> {
        match self.enabled {
            true => vec![self.cert_file.clone(), self.key_file.clone()],
            false => Vec::new(),
        }
    }

    /// Reads and judges the files; `None` while TLS is off. Call it off the async threads.
    pub fn prepare(&self, now: Timestamp) -> Result<Option<Tls>, TlsError> {
        if !self.enabled {
            return Ok(None);
        }
        let cert_pem = read("cert_file", &self.cert_file)?;
        let key_pem = read("key_file", &self.key_file)?;
        let chain = self.certificates(&cert_pem)?;
        let key = self.key(&key_pem)?;
        let validity = chain.first().and_then(|first| validity::of(first));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| self.unfit(&error))?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        let mut digest = Context::new(&SHA256);
        digest.update(&cert_pem);
        digest.update(&key_pem);
        let mut warnings = self.key_is_open_to_others();
        warnings.extend(validity.and_then(|validity| self.time_warning(validity, now)));
        Ok(Some(Tls {
            config: Arc::new(config),
            digest: digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"),
            ends_at: validity.map(|(_, ends_at)| ends_at),
            warnings,
        }))
    }

    fn certificates(&self, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let refuse = |reason| refuse("cert_file", &self.cert_file, reason);
        let found: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|error| refuse(pem_words(&error)))?;
        match found.is_empty() {
            false => Ok(found),
            true if PrivateKeyDer::from_pem_slice(text).is_ok() => Err(refuse(
                "holds a private key and no certificate; are cert_file and key_file exchanged?".to_owned(),
            )),
            true => Err(refuse(
                "holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned(),
            )),
        }
    }

    fn key(&self, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        let refuse = |reason| refuse("key_file", &self.key_file, reason);
        let holds = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
        PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
            pem::Error::NoItemsFound if holds(b"BEGIN ENCRYPTED PRIVATE KEY") => {
                refuse("the key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`".to_owned())
            }
            pem::Error::NoItemsFound if holds(b"BEGIN CERTIFICATE") => {
                refuse("holds a certificate and no private key".to_owned())
            }
            pem::Error::NoItemsFound => {
                refuse("holds no private key (-----BEGIN PRIVATE KEY-----)".to_owned())
            }
            error => refuse(pem_words(&error)),
        })
    }

    /// Says why rustls does not take the pair.
    fn unfit(&self, error: &RustlsError) -> TlsError {
        match error {
            RustlsError::InconsistentKeys(_) => refuse(
                "key_file",
                &self.key_file,
                format!(
                    "does not belong to the certificate in {}",
                    self.cert_file.display()
                ),
            ),
            RustlsError::InvalidCertificate(reason) => {
                refuse("cert_file", &self.cert_file, format!("bad certificate: {reason}"))
            }
            other => refuse("key_file", &self.key_file, other.to_string()),
        }
    }

    fn key_is_open_to_others(&self) -> Vec<String> {
        let mode = fs::metadata(&self.key_file).map_or(0, |found| found.permissions().mode());
        let warning = || {
            format!(
                "server.ssl.key_file: {}: every user of this machine may read the key (mode {:o}); chmod 640 or less",
                self.key_file.display(),
                mode & 0o777
            )
        };
        (mode & 0o004 != 0).then(warning).into_iter().collect()
    }

    fn time_warning(&self, (begins_at, ends_at): (Timestamp, Timestamp), now: Timestamp) -> Option<String> {
        let told = if ends_at <= now {
            format!("the certificate expired at {ends_at}; clients will refuse it")
        } else if begins_at > now {
            format!("the certificate is not valid before {begins_at}; clients will refuse it")
        } else if ends_at.since(now) < EXPIRY_NOTICE {
            let left = Duration::from_secs(ends_at.since(now).as_secs());
            format!(
                "the certificate expires at {ends_at}, in {}",
                duration::format(left)
            )
        } else {
            return None;
        };
        Some(format!(
            "server.ssl.cert_file: {}: {told}",
            self.cert_file.display()
        ))
    }
}

impl Tls {
    /// Gives what a connection needs.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Says whether both were read from files with the same content.
    pub fn is_same(&self, other: &Tls) -> bool {
        self.digest == other.digest
    }

    /// Gives the end of the certificate's time; `None` when it cannot be read.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// Gives what an operator should know: an end that is near or past, a key that others may read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What a plain HTTP request to the TLS port is answered.
pub(crate) const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 48\r\nconnection: close\r\n\r\nthis port speaks HTTPS; ask again with https://\n";

fn refuse(key: &'static str, file: &Path, reason: String) -> TlsError {
    TlsError {
        key,
        file: file.to_owned(),
        reason,
    }
}

/// Reads a file of bounded size; a pipe or a device would never end.
fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    let refuse = |reason: String| refuse(key, file, reason);
    let io_words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("there is no such file".to_owned()),
        std::io::ErrorKind::PermissionDenied => {
            refuse("the user that runs this process may not read it".to_owned())
        }
        _ => refuse(error.to_string()),
    };
    let found = fs::metadata(file).map_err(io_words)?;
    if !found.is_file() {
        return Err(refuse("is not a file".to_owned()));
    }
    if found.len() > PEM_BYTES_MAX {
        return Err(refuse(format!("is longer than {PEM_BYTES_MAX} bytes")));
    }
    fs::read(file).map_err(io_words)
}

fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block does not end; is the file cut off?".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM block is damaged: it is not base64".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use marketprism_testkit::TestAuthority;

    /// 2026-08-01T09:30:00Z, within the time of the test authority's certificates.
    const NOW: Timestamp = Timestamp::from_millis(1_785_576_600_000);

    fn config(cert_file: &Path, key_file: &Path) -> TlsConfig {
        TlsConfig {
            enabled: true,
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_key_and_the_reason() {
        let authority = TestAuthority::new();
        let (own, other) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
        let written = |name: &str, text: &str| {
            let path = authority.folder().join(name);
            fs::write(&path, text).expect("the folder is writable");
            path
        };
        let check = |cert: &Path, key: &Path, at: &str, file: &Path, reason: &str| {
            let error = config(cert, key).prepare(NOW).err().expect(reason);
            let expected = format!("server.ssl.{at}: {}: {reason}", file.display());
            assert_eq!(error.to_string(), expected);
        };
        let missing = authority.folder().join("nope.pem");
        check(
            &missing,
            &own.key_file,
            "cert_file",
            &missing,
            "there is no such file",
        );
        check(
            &own.cert_file,
            &missing,
            "key_file",
            &missing,
            "there is no such file",
        );
        check(
            &own.cert_file,
            authority.folder(),
            "key_file",
            authority.folder(),
            "is not a file",
        );
        let stranger = format!(
            "does not belong to the certificate in {}",
            own.cert_file.display()
        );
        check(
            &own.cert_file,
            &other.key_file,
            "key_file",
            &other.key_file,
            &stranger,
        );
        let swapped = "holds a private key and no certificate; are cert_file and key_file exchanged?";
        check(&own.key_file, &own.cert_file, "cert_file", &own.key_file, swapped);
        let keyless = "holds a certificate and no private key";
        check(
            &own.cert_file,
            &own.cert_file,
            "key_file",
            &own.cert_file,
            keyless,
        );
        let empty = written("empty.pem", "");
        let no_key = "holds no private key (-----BEGIN PRIVATE KEY-----)";
        check(&own.cert_file, &empty, "key_file", &empty, no_key);
        let no_certificate = "holds no certificate (-----BEGIN CERTIFICATE-----)";
        check(&empty, &own.key_file, "cert_file", &empty, no_certificate);
        let text = fs::read_to_string(&own.cert_file).expect("written above");
        let cut = written("cut.pem", &text[..text.len() / 2]);
        let cut_off = "a PEM block does not end; is the file cut off?";
        check(&cut, &own.key_file, "cert_file", &cut, cut_off);
        let locked = written(
            "locked.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let encrypted = "the key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`";
        check(&own.cert_file, &locked, "key_file", &locked, encrypted);
        let nonsense = written(
            "der.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let error = config(&nonsense, &own.key_file)
            .prepare(NOW)
            .err()
            .expect("no certificate");
        assert!(error.to_string().starts_with("server.ssl.cert_file"), "{error}");
    }

    #[test]
    fn an_expired_certificate_and_an_open_key_are_warnings() {
        let authority = TestAuthority::new();
        let (good, expired) = (
            authority.issue(&["localhost"]),
            authority.issue_expired(&["localhost"]),
        );
        let close = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is our file");
        };
        close(&good.key_file, 0o600);
        close(&expired.key_file, 0o644);
        let prepare = |certificate: &marketprism_testkit::TestCertificate| {
            let config = config(&certificate.cert_file, &certificate.key_file);
            config.prepare(NOW).expect("the pair fits").expect("TLS is on")
        };
        assert_eq!(prepare(&good).warnings(), &[] as &[String]);
        let expired_tls = prepare(&expired);
        let warnings = expired_tls.warnings().join("\n");
        assert!(
            warnings.contains("the certificate expired at 2001-01-01T00:00:00"),
            "{warnings}"
        );
        assert!(warnings.contains("(mode 644)"), "{warnings}");
        assert!(!expired_tls.is_same(&prepare(&good)) && expired_tls.is_same(&prepare(&expired)));
    }

    #[test]
    fn paths_start_from_the_folder_of_the_configuration() {
        let config = config(Path::new("tls/server.crt"), Path::new("/etc/server.key"));
        let resolved = config.resolved(Path::new("/etc/marketprism"));
        let expected = ["/etc/marketprism/tls/server.crt", "/etc/server.key"];
        assert_eq!(resolved.paths(), expected.map(PathBuf::from));
        assert_eq!(
            TlsConfig::default().resolved(Path::new("/etc")).paths(),
            Vec::<PathBuf>::new()
        );
        let keyless = TlsConfig {
            key_file: PathBuf::new(),
            ..config
        };
        assert_eq!(
            keyless.validate().expect_err("no key").to_string(),
            "server.ssl.key_file is empty; it must be a PEM file while server.ssl.enabled is true"
        );
    }

    #[test]
    fn the_answer_to_plain_http_has_the_length_that_it_says() {
        let text = std::str::from_utf8(PLAIN_ANSWER).expect("it is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("it has a head");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
    }
}
