//! Certificates made for a test, and clients that trust them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::server::PATIENCE;

/// Both versions.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Python takes no authority without it, and no certificate that does not name the key of its authority.
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate of `localhost` and its address.
    pub fn sign(&self) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a name");
        params.use_authority_key_identifier_extension = true;
        // By default both have one subject, and OpenSSL takes who has his issuer's name for self-signed.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Pair { certificate, key: key.serialize_der() }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its own certificate as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// How a client speaks that trusts this authority; `with` shows who it is.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], with: Option<&Pair>) -> Arc<ClientConfig> {
        trusting(&self.certificate, versions, with)
    }
}

/// How a client speaks that trusts an authority.
pub fn trusting(
    authority: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    with: Option<&Pair>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions").with_root_certificates(roots);
    let mut config = match with {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::try_from(pair.key.clone()).expect("a key");
            builder.with_client_auth_cert(vec![pair.certificate.clone()], key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

impl Pair {
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// The TLS object of a server.
    pub fn object(&self) -> Value {
        json!({"enabled": true, "cert_pem": self.certificate_pem(), "key_pem": self.key_pem()})
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

/// A connection whose handshake is through; the error of either side otherwise.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Stream> {
    dial_over(TcpStream::connect(address)?, config)
}

/// The same over a connection that is there.
pub fn dial_over(mut socket: TcpStream, config: &Arc<ClientConfig>) -> std::io::Result<Stream> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(config.clone(), name).expect("a configuration");
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(tls, socket))
}

/// Everything the server says to a request until it closes, which it must do with a notice.
pub fn exchange(stream: &mut Stream, request: &str) -> std::io::Result<String> {
    stream.write_all(request.replace('|', "\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A WebSocket client of the JSON protocol.
pub struct Client {
    socket: WebSocket<Stream>,
}

impl Client {
    pub fn subscribed(stream: Stream, channel: &str) -> Client {
        let request = "wss://localhost/connection/websocket".into_client_request().expect("an address");
        let (socket, _) = tungstenite::client::client(request, stream).expect("the server upgrades");
        let mut client = Client { socket };
        client.send(json!({"id": 1, "connect": {}}));
        assert!(client.message().contains("\"connect\""));
        client.send(json!({"id": 2, "subscribe": {"channel": channel}}));
        assert!(client.message().contains("\"subscribe\""));
        client
    }

    fn send(&mut self, command: Value) {
        self.socket.send(Message::text(command.to_string())).expect("sent");
    }

    /// The next message that is no ping.
    #[track_caller]
    pub fn message(&mut self) -> String {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if text.as_str() == "{}" => self.send(json!({})),
                Ok(Message::Text(text)) => return text.as_str().to_owned(),
                other => panic!("no message: {other:?}"),
            }
        }
    }

    /// The certificate that the server showed.
    pub fn certificate(&self) -> Vec<u8> {
        peer_certificate(self.socket.get_ref())
    }
}

/// The certificate that the server showed.
pub fn peer_certificate(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
}
