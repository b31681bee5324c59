//! TLS of connections that the server itself makes.

use super::certificate::{certificates, chain, key};
use crate::config::View;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::sync::Arc;

/// What a TLS object comes to in the role of a client.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Whom to trust, and who we are.
    pub config: ClientConfig,
    /// Key `server_name`: expected instead of the host of the address; empty for that.
    pub server_name: String,
}

impl ClientTls {
    /// Reads a TLS object. Errors begin with the key: `client.proxy.connect.http.tls.server_ca_pem ...`.
    pub fn read(object: View<'_>, path: &str) -> Result<Self, String> {
        let at = |name: &'static str| move |error: String| format!("{path}.{name} {error}");
        let authorities = match object.text("server_ca_pem") {
            "" => Vec::new(),
            value => certificates(value).map_err(at("server_ca_pem"))?,
        };
        let identity = match (object.text("cert_pem"), object.text("key_pem")) {
            ("", "") => None,
            (cert_pem, key_pem) => {
                Some((chain(cert_pem).map_err(at("cert_pem"))?, key(key_pem).map_err(at("key_pem"))?))
            }
        };
        let builder = builder();
        let builder = if object.bool("insecure_skip_verify") {
            let provider = builder.crypto_provider().clone();
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAll(provider)))
        } else if authorities.is_empty() {
            builder.with_platform_verifier().map_err(|error| format!("{path}: {error}"))?
        } else {
            builder.with_root_certificates(roots(authorities).map_err(at("server_ca_pem"))?)
        };
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| at("cert_pem")(error.to_string()))?
            }
        };
        Ok(Self { config, server_name: object.text("server_name").to_owned() })
    }

    /// Trusts whom the system trusts. Fails where the system has no authorities.
    pub fn system() -> Result<Self, String> {
        let builder =
            builder().with_platform_verifier().map_err(|error| format!("no authorities to trust: {error}"))?;
        Ok(Self { config: builder.with_no_client_auth(), server_name: String::new() })
    }
}

/// For connections without TLS: trusts nobody.
pub fn nobody() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the versions of TLS")
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| format!("holds something that is no authority ({error})"))?;
    }
    Ok(roots)
}

/// Key `insecure_skip_verify`: takes every certificate whose key the other side has.
#[derive(Debug)]
struct TrustsAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAll {
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
