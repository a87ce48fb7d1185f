//! Where the PostgreSQL server is: `postgres://user:password@host:port/database?sslmode=…`, and how far it is trusted.
//!
//! `sslmode` means what it means to libpq: `disable`, `prefer` (the default) and `require` check no certificate, unless
//! `sslrootcert` names an authority; `verify-ca` checks the chain, `verify-full` the name as well, against
//! `sslrootcert` or the system's authorities. The other parameters are the driver's.
//! Invariant: nothing that is shown holds the password, nor a part of a text that could not be read.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres_runtime::CALL_MAX;

/// How long one attempt to connect may take.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a connection may say nothing before it is asked whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// A server, and how to reach it.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// What people are shown: no password, no parameters.
    pub(crate) name: String,
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    Anything,
    Chain,
    ChainAndName,
}

/// Reads the address of a server. The error is for people and names no part of the text but known words.
pub(crate) fn parse(url: &str) -> Result<Server, String> {
    const SHAPE: &str = "want postgres://user:password@host:port/database?sslmode=require, with %-escapes for special characters";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(format!("the address cannot be read; {SHAPE}"));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut authority, mut others) = ("prefer".to_owned(), None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = value.to_owned(),
            Some(("sslrootcert", value)) => {
                let path = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                authority = Some(path.into_owned());
            }
            _ => others.push(pair),
        }
    }
    let rest = if others.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", others.join("&"))
    };
    let mut config = Config::from_str(&rest).map_err(|_| format!("the address cannot be read; {SHAPE}"))?;
    if config.get_hosts().is_empty() {
        return Err(format!("the address names no host; {SHAPE}"));
    }
    let (ssl_mode, trust) = match mode.as_str() {
        "disable" => (SslMode::Disable, Trust::Anything),
        "prefer" | "allow" => (SslMode::Prefer, Trust::Anything),
        "require" if authority.is_some() => (SslMode::Require, Trust::Chain),
        "require" => (SslMode::Require, Trust::Anything),
        "verify-ca" => (SslMode::Require, Trust::Chain),
        "verify-full" => (SslMode::Require, Trust::ChainAndName),
        _ => return Err("sslmode is none of disable, prefer, require, verify-ca, verify-full".to_owned()),
    };
    config
        .ssl_mode(ssl_mode)
        .connect_timeout(CONNECT_MAX)
        .tcp_user_timeout(CALL_MAX)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if config.get_application_name().is_none() {
        config.application_name("marketprism");
    }
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok(Server {
        name: shown(&config),
        tls: MakeRustlsConnect::new(tls(trust, authority)?),
        config,
    })
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("postgres://{}/{database}", hosts.join(","))
}

fn tls(trust: Trust, authority: Option<String>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if trust == Trust::Anything {
        Arc::new(Unchecked(Arc::clone(&provider)))
    } else {
        let roots = Arc::new(roots(authority)?);
        let web_pki = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| format!("the authorities for sslmode cannot be used: {error}"))?;
        match trust {
            Trust::Chain => Arc::new(AnyName(web_pki)),
            _ => web_pki,
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn roots(authority: Option<String>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authority.as_deref() {
        None | Some("system") => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let path = PathBuf::from(path);
            let refuse = |reason: String| format!("sslrootcert {}: {reason}", path.display());
            let pem = fs::read(&path).map_err(|error| refuse(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|error| refuse(error.to_string()))?;
            }
        }
    }
    if roots.is_empty() {
        return Err("no authority is known for sslmode; name a PEM file with sslrootcert".to_owned());
    }
    Ok(roots)
}

/// Takes any certificate: what `prefer` and `require` mean, which guard against listening and not against a stranger.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain and takes any name: what `verify-ca` means.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, once the chain has been found good.
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_holds_no_password() {
        let server =
            parse("postgres://li:s3cr%20et@db.example:6432/alerts?sslmode=require&connect_timeout=3")
                .expect("reads");
        assert_eq!(server.name, "postgres://db.example:6432/alerts");
        assert_eq!(server.config.get_password(), Some(b"s3cr et".as_slice()));
        assert_eq!(server.config.get_ssl_mode(), SslMode::Require);
        for url in [
            "postgres://li:s3cret@db/x?sslmode=s3cret",
            "postgres://li:s3cret@db/x?s3cret=1",
            "postgres://li:s3cret@db:s3cret/x",
            "mysql://li:s3cret@db/x",
            "postgres://",
            "s3cret",
            "",
        ] {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url:?} was accepted"));
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_missing_authority_is_named() {
        let error = parse("postgres://li@db/x?sslmode=verify-full&sslrootcert=%2Fabsent%2Fca.pem")
            .err()
            .expect("refused");
        assert!(error.contains("/absent/ca.pem"), "{error}");
    }
}
