//! Which port gets which certificate. Source: config.md §7, "TLS selection".

use super::Certificate;
use crate::config::{Settings, View};
use crate::control::acme::Store;
use ringcast_runtime::options::ListenerOptions;
use ringcast_runtime::tls::{Credentials, Sessions, TlsOptions, protocols};
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use std::collections::HashMap;
use std::sync::Arc;

/// TLS objects of the ports.
const OBJECTS: [&str; 2] = ["tls", "internal_tls"];

/// Groups of ports of GRPC, each with a TLS object of its own.
const GRPC: [&str; 2] = ["grpc_api", "uni_grpc"];

/// Object of certificates by ACME.
const AUTOMATIC: &str = "tls_autocert";

/// Makes the TLS of the ports; remembers from one reload to the next what must not change.
#[derive(Default)]
pub struct Listeners {
    /// With `http_server.tls_autocert`, which then stands for `http_server.tls`. Source: the reference.
    acme: Option<Arc<Store>>,
    sessions: HashMap<&'static str, Remembered>,
}

/// Sessions that were opened while other clients were trusted must not be resumed.
struct Remembered {
    client_authorities: Vec<CertificateDer<'static>>,
    sessions: Sessions,
}

/// What the ports use, external first.
fn chosen(http: View<'_>) -> [Option<&'static str>; 2] {
    let is_automatic = http.object("tls_autocert").bool("enabled");
    let everywhere = if is_automatic { Some(AUTOMATIC) } else { http.object("tls").bool("enabled").then_some("tls") };
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
    check_automatic(root.object("http_server").object(AUTOMATIC))
}

fn check_automatic(automatic: View<'_>) -> Result<(), String> {
    let url = automatic.text("directory_url");
    if automatic.bool("enabled") && !url.starts_with("https://") {
        return Err(format!("http_server.tls_autocert.directory_url is \"{url}\", expected an address with https://"));
    }
    let address = automatic.text("http_addr");
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if automatic.bool("http") && !matches!(port, Some(Ok(_))) {
        return Err(format!("http_server.tls_autocert.http_addr is \"{address}\", expected HOST:PORT or :PORT"));
    }
    Ok(())
}

/// The certificates that are configured for ports, by the path of their TLS object.
pub fn certificates(root: View<'_>) -> Vec<(String, Result<Certificate, String>)> {
    let http = root.object("http_server");
    let of_http = used(http).map(|name| (format!("http_server.{name}"), http.object(name)));
    let of_grpc = GRPC.into_iter().filter(|name| root.object(name).bool("enabled"));
    let of_grpc = of_grpc.map(|name| (format!("{name}.tls"), root.object(name).object("tls")));
    let of_grpc = of_grpc.filter(|(_, tls)| tls.bool("enabled"));
    let read = |(path, object): (String, View<'_>)| {
        let certificate = Certificate::read(object, &path);
        (path, certificate)
    };
    of_http.chain(of_grpc).map(read).collect()
}

/// Objects with certificates of their own.
fn used(http: View<'_>) -> impl Iterator<Item = &'static str> {
    let is_automatic = http.object(AUTOMATIC).bool("enabled");
    let is_used = move |name: &&str| http.object(name).bool("enabled") && !(is_automatic && *name == "tls");
    OBJECTS.into_iter().filter(is_used)
}

impl Listeners {
    /// With the certificates of ACME, if they are asked for.
    pub fn new(acme: Option<Arc<Store>>) -> Self {
        Listeners { acme, sessions: HashMap::new() }
    }

    /// TLS of each listener, in their order. Fails as `check` does.
    pub fn make(
        &mut self,
        settings: &Settings,
        listeners: &[ListenerOptions],
    ) -> Result<Vec<Option<TlsOptions>>, String> {
        let http = settings.view().object("http_server");
        let mut credentials = HashMap::new();
        if let Some(store) = self.acme.clone() {
            credentials.insert(AUTOMATIC, self.automatic(store)?);
        }
        for name in used(http) {
            credentials.insert(name, self.credentials(http.object(name), name)?);
        }
        let options = |(name, listener): (Option<&str>, &ListenerOptions)| {
            let Some(credentials) = name.and_then(|name| credentials.get(name)) else { return Ok(None) };
            let options = TlsOptions::new(credentials, protocols(listener.endpoints));
            options.map(Some).map_err(|error| format!("TLS cannot be set up ({error})"))
        };
        chosen(http).into_iter().zip(listeners).map(options).collect()
    }

    fn automatic(&mut self, store: Arc<Store>) -> Result<Credentials, String> {
        let sessions = self.sessions(AUTOMATIC, Vec::new())?;
        Ok(Credentials { certificates: store.clone(), clients: None, sessions, on_demand: Some(store) })
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
