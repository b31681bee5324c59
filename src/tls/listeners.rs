//! Which port gets which certificate. Source: config.md §7, "TLS selection".

use super::Certificate;
use crate::config::{Settings, View};
use ringcast_runtime::options::ListenerOptions;
use ringcast_runtime::tls::{Credentials, Sessions, TlsOptions, protocols};
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use std::collections::HashMap;
use std::sync::Arc;

/// TLS objects of the ports.
const OBJECTS: [&str; 2] = ["tls", "internal_tls"];

/// Makes the TLS of the ports; remembers from one reload to the next what must not change.
#[derive(Default)]
pub struct Listeners {
    sessions: HashMap<&'static str, Remembered>,
}

/// Sessions that were opened while other clients were trusted must not be resumed.
struct Remembered {
    client_authorities: Vec<CertificateDer<'static>>,
    sessions: Sessions,
}

/// What the ports use, external first.
fn chosen(http: View<'_>) -> [Option<&'static str>; 2] {
    let everywhere = http.object("tls").bool("enabled").then_some("tls");
    let inside = match http.object("internal_tls").bool("enabled") {
        true => Some("internal_tls"),
        false => everywhere.filter(|_| !http.bool("tls_external")),
    };
    [everywhere, inside]
}

/// Checks the certificates of all ports.
pub fn check(root: View<'_>) -> Result<(), String> {
    for (path, certificate) in certificates(root) {
        certificate?.check_time(&path)?;
    }
    Ok(())
}

/// The certificates that are configured for ports, by the path of their TLS object.
pub fn certificates(root: View<'_>) -> Vec<(String, Result<Certificate, String>)> {
    let http = root.object("http_server");
    let enabled = OBJECTS.into_iter().filter(|name| http.object(name).bool("enabled"));
    let read = |name: &str| {
        let path = format!("http_server.{name}");
        let certificate = Certificate::read(http.object(name), &path);
        (path, certificate)
    };
    enabled.map(read).collect()
}

impl Listeners {
    /// TLS of each listener, in their order. Fails as `check` does.
    pub fn make(
        &mut self,
        settings: &Settings,
        listeners: &[ListenerOptions],
    ) -> Result<Vec<Option<TlsOptions>>, String> {
        let http = settings.view().object("http_server");
        let mut credentials = HashMap::new();
        for name in OBJECTS.into_iter().filter(|name| http.object(name).bool("enabled")) {
            credentials.insert(name, self.credentials(http.object(name), name)?);
        }
        let options = |(name, listener): (Option<&str>, &ListenerOptions)| {
            let Some(credentials) = name.and_then(|name| credentials.get(name)) else { return Ok(None) };
            let options = TlsOptions::new(credentials, protocols(listener.endpoints));
            options.map(Some).map_err(|error| format!("TLS cannot be set up ({error})"))
        };
        chosen(http).into_iter().zip(listeners).map(options).collect()
    }

    fn credentials(&mut self, object: View<'_>, name: &'static str) -> Result<Credentials, String> {
        let path = format!("http_server.{name}");
        let certificate = Certificate::read(object, &path)?;
        certificate.check_time(&path)?;
        let clients = certificate.verifier().map_err(|error| format!("{path}.client_ca_pem {error}"))?;
        Ok(Credentials {
            certificates: Arc::new(SingleCertAndKey::from(certificate.certified)),
            clients,
            sessions: self.sessions(name, certificate.client_authorities)?,
            on_demand: None,
        })
    }

    fn sessions(&mut self, name: &'static str, authorities: Vec<CertificateDer<'static>>) -> Result<Sessions, String> {
        if let Some(found) = self.sessions.get(name)
            && found.client_authorities == authorities
        {
            return Ok(found.sessions.clone());
        }
        let sessions = Sessions::new().map_err(|error| format!("TLS cannot be set up ({error})"))?;
        self.sessions.insert(name, Remembered { client_authorities: authorities, sessions: sessions.clone() });
        Ok(sessions)
    }
}

#[cfg(test)]
mod tests;
