//! TLS towards the server: whom to trust.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::failure::Failure;
use crate::options::Common;

/// How to speak with `host`: its certificate is checked against `--ca`, or not at all with `--insecure`.
pub fn client(common: &Common, host: &str) -> Result<(Arc<ClientConfig>, ServerName<'static>), Failure> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| Failure::Tls(format!("{host} is no name that a certificate can have")))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Failure::Tls(error.to_string()))?;
    let config = if common.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAll(provider))).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(&common.ca)?).with_no_client_auth()
    };
    Ok((Arc::new(config), name))
}

fn roots(path: &Path) -> Result<RootCertStore, Failure> {
    let told = |error: String| Failure::Tls(format!("{}: {error}; name another file with --ca", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| told(error.to_string()))? {
        let certificate = certificate.map_err(|error| told(error.to_string()))?;
        roots.add(certificate).map_err(|error| told(error.to_string()))?;
    }
    if roots.is_empty() { Err(told("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Takes every certificate; that the server has its key is still checked.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_named() {
        for path in ["/nowhere/ca.pem", "/dev/null"] {
            let error = roots(Path::new(path)).expect_err("there is no certificate").to_string();
            assert!(error.contains(path) && error.contains("--ca"), "{error}");
        }
    }
}
