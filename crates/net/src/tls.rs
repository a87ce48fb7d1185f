//! How TLS is spoken: whom we trust, what we show, and what went wrong in words.
//!
//! The system's authorities are used; a bare container has none, and then Mozilla's list, which is
//! built in, stands in for them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{NetError, TlsPolicy};

/// The largest PEM file that is read.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// A TLS policy cannot be put into practice.
#[derive(Clone, Debug, Error)]
#[error("{file}: {reason}")]
pub(crate) struct PolicyError {
    file: String,
    reason: String,
}

/// Makes the configuration of a policy, offering `protocols` by ALPN. Reads files: call it off the async threads.
pub(crate) fn client_config(policy: &TlsPolicy, protocols: &[&[u8]]) -> Result<ClientConfig, PolicyError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &policy.ca_file {
        Some(file) => Arc::new(roots_from(file)?),
        None => system_roots(),
    };
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = if let Some(file) = &policy.pinned_file {
        let pinned = certificates_from(file)?.into_iter().next();
        let pinned = pinned.ok_or_else(|| PolicyError {
            file: shown(Some(file)),
            reason: "holds no certificate".to_owned(),
        })?;
        Arc::new(Unjudged {
            algorithms,
            pinned: Some(pinned),
        })
    } else if policy.is_verification_skipped {
        Arc::new(Unjudged {
            algorithms,
            pinned: None,
        })
    } else {
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| PolicyError {
                file: shown(policy.ca_file.as_deref()),
                reason: error.to_string(),
            })?
    };
    let builder = base(provider)
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&policy.cert_file, &policy.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (cert, key) => {
            let missing = |what| PolicyError {
                file: what,
                reason: "cert_file and key_file go together".to_owned(),
            };
            let cert = cert.as_deref().ok_or_else(|| missing("cert_file".to_owned()))?;
            let key = key.as_deref().ok_or_else(|| missing("key_file".to_owned()))?;
            builder
                .with_client_auth_cert(certificates_from(cert)?, key_from(key)?)
                .map_err(|error| PolicyError {
                    file: shown(Some(cert)),
                    reason: error.to_string(),
                })?
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn base(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
}

/// Shakes hands over an open connection. `name` is the host, an address without brackets included.
pub(crate) async fn handshake(
    config: Arc<ClientConfig>,
    name: &str,
    stream: TcpStream,
    peer: &str,
) -> Result<TlsStream<TcpStream>, NetError> {
    let refuse = |reason| NetError::Tls {
        peer: peer.to_owned(),
        reason,
    };
    let server_name = ServerName::try_from(name.to_owned())
        .map_err(|_| refuse(format!("{name:?} is no name that a certificate could bear")))?;
    TlsConnector::from(config)
        .connect(server_name, stream)
        .await
        .map_err(|error| refuse(words(&error)))
}

/// Says what failed in a handshake as an administrator would.
fn words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match inner {
        Some(TlsError::InvalidCertificate(reason)) => certificate_words(reason),
        Some(TlsError::InvalidMessage(_)) => "the peer does not speak TLS".to_owned(),
        Some(TlsError::AlertReceived(alert)) => format!("the peer refused: {alert:?}"),
        Some(other) => other.to_string(),
        None => crate::dial::words(error),
    }
}

fn certificate_words(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            "the certificate is not signed by a trusted authority (set ca_file)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another name".to_owned()
        }
        CertificateError::ApplicationVerificationFailure => {
            "the certificate is not the pinned one".to_owned()
        }
        CertificateError::Revoked => "the certificate is revoked".to_owned(),
        other => format!("bad certificate: {other}"),
    }
}

fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    }))
}

fn roots_from(file: &Path) -> Result<RootCertStore, PolicyError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates_from(file)?);
    if added == 0 {
        return Err(PolicyError {
            file: shown(Some(file)),
            reason: "holds no usable certificate".to_owned(),
        });
    }
    Ok(roots)
}

fn certificates_from(file: &Path) -> Result<Vec<CertificateDer<'static>>, PolicyError> {
    CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<_, _>>()
        .map_err(|error| PolicyError {
            file: shown(Some(file)),
            reason: error.to_string(),
        })
}

fn key_from(file: &Path) -> Result<PrivateKeyDer<'static>, PolicyError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| PolicyError {
        file: shown(Some(file)),
        reason: error.to_string(),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, PolicyError> {
    let refuse = |reason| PolicyError {
        file: shown(Some(file)),
        reason,
    };
    let size = fs::metadata(file)
        .map_err(|error| refuse(crate::dial::words(&error)))?
        .len();
    if size > PEM_BYTES_MAX {
        return Err(refuse(format!("is longer than {PEM_BYTES_MAX} bytes")));
    }
    fs::read(file).map_err(|error| refuse(crate::dial::words(&error)))
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(
        || "the system's certificates".to_owned(),
        |f| f.display().to_string(),
    )
}

/// Accepts any certificate, or the one that is pinned, without asking who signed it. The handshake's signature is
/// still checked, so the peer does own the certificate that it shows.
#[derive(Debug)]
struct Unjudged {
    algorithms: WebPkiSupportedAlgorithms,
    pinned: Option<CertificateDer<'static>>,
}

impl ServerCertVerifier for Unjudged {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        match &self.pinned {
            Some(pinned) if pinned != shown => Err(TlsError::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
