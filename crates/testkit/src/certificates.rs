//! Certificates for tests: an authority of its own, and what it signs, as PEM files in a temporary folder.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// An authority that nobody but the test trusts.
pub struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as PEM files that live as long as their authority.
#[derive(Clone, Debug)]
pub struct TestCertificate {
    /// PEM file of the certificate.
    pub cert_file: PathBuf,
    /// PEM file of the key.
    pub key_file: PathBuf,
}

impl TestAuthority {
    /// Makes an authority.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "MarketPrism test authority");
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("parameters are complete");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("temporary folder is writable");
        TestAuthority { issuer, folder }
    }

    /// Gives the PEM file of the authority's own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Gives the folder, for further files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Signs a certificate for names and addresses.
    pub fn issue(&self, names: &[&str]) -> TestCertificate {
        self.sign(names, |_| ())
    }

    /// Signs a certificate that expired in 2001.
    pub fn issue_expired(&self, names: &[&str]) -> TestCertificate {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TestCertificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names are well-formed");
        change(&mut params);
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("our own authority signs");
        let number = std::fs::read_dir(self.folder()).expect("made above").count();
        let certificate_files = TestCertificate {
            cert_file: self.folder().join(format!("{number}.cert.pem")),
            key_file: self.folder().join(format!("{number}.key.pem")),
        };
        std::fs::write(&certificate_files.cert_file, certificate.pem())
            .expect("temporary folder is writable");
        std::fs::write(&certificate_files.key_file, key.serialize_pem())
            .expect("temporary folder is writable");
        certificate_files
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        TestAuthority::new()
    }
}
