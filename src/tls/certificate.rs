//! A certificate with its key, and those of clients' authorities.

use super::{Validity, pem};
use crate::config::View;
use crate::utc;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use std::sync::Arc;

/// What a TLS object comes to in the role of a server.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The chain with its key.
    pub certified: Arc<CertifiedKey>,
    /// Of the first of the chain.
    pub validity: Validity,
    /// Authorities of clients; empty asks clients for nothing.
    pub client_authorities: Vec<CertificateDer<'static>>,
}

impl Certificate {
    /// Reads a TLS object. Errors begin with the key: `http_server.tls.cert_pem ...`.
    pub fn read(object: View<'_>, path: &str) -> Result<Self, String> {
        let at = |name: &'static str| move |error: String| format!("{path}.{name} {error}");
        let chain = chain(object.text("cert_pem")).map_err(at("cert_pem"))?;
        let key = key(object.text("key_pem")).map_err(at("key_pem"))?;
        let client_authorities = match object.text("client_ca_pem") {
            "" => Vec::new(),
            value => certificates(value).map_err(at("client_ca_pem"))?,
        };
        let found = Self::new(chain, &key, client_authorities).map_err(|error| format!("{path}.{error}"))?;
        found.verifier().map_err(at("client_ca_pem"))?;
        Ok(found)
    }

    /// Of parts; errors begin with `cert_pem` or `key_pem`.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
        client_authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        let first = chain.first().ok_or("cert_pem holds no certificate")?;
        let validity = Validity::of(first).ok_or("cert_pem holds something that is no certificate of X.509")?;
        let signing = ring::sign::any_supported_type(key).map_err(|error| {
            format!("key_pem holds a key that cannot be used ({error}), expected ECDSA P-256 or P-384, RSA or Ed25519")
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err("key_pem holds another key than that of the first certificate in cert_pem".to_owned());
            }
            Err(error) => return Err(format!("cert_pem holds a certificate that cannot be used ({error})")),
        }
        Ok(Self { certified: Arc::new(certified), validity, client_authorities })
    }

    /// Fails once the certificate has expired: no client would accept it. `path` is that of the TLS object.
    pub fn check_time(&self, path: &str) -> Result<(), String> {
        match self.validity.not_after >= utc::now() {
            true => Ok(()),
            false => Err(format!(
                "{path}.cert_pem holds a certificate that expired at {}, expected a valid one",
                utc::rfc3339(self.validity.not_after)
            )),
        }
    }

    /// Checks clients' certificates; none without authorities.
    pub fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        if self.client_authorities.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        for authority in &self.client_authorities {
            roots.add(authority.clone()).map_err(|error| format!("holds something that is no authority ({error})"))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(|verifier| Some(verifier as Arc<_>)).map_err(|error| format!("is of no use ({error})"))
    }
}

pub(super) fn chain(value: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if value.is_empty() {
        return Err("is empty, expected a certificate as PEM, base64 of PEM or a file".to_owned());
    }
    certificates(value)
}

pub(super) fn certificates(value: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = pem::load(value)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate, expected -----BEGIN CERTIFICATE-----".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("holds broken PEM ({error})")),
    }
}

pub(super) fn key(value: &str) -> Result<PrivateKeyDer<'static>, String> {
    if value.is_empty() {
        return Err("is empty, expected the private key of cert_pem as PEM, base64 of PEM or a file".to_owned());
    }
    let bytes = pem::load(value)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound => {
            "holds no private key, expected -----BEGIN PRIVATE KEY----- without a password".to_owned()
        }
        error => format!("holds broken PEM ({error})"),
    })
}
