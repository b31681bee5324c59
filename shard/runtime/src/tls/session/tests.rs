//! Sessions against a client of rustls, without sockets.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::super::*;
use super::*;

const PLAIN_HTTP: &str = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

struct NeverThere;

impl OnDemand for NeverThere {
    fn look_up(&self, hello: &ClientHello<'_>) -> Readiness {
        assert_eq!(hello.server_name(), Some("localhost"));
        Readiness::Pending
    }
}

/// A server's options and what a client needs to trust it.
fn pair(on_demand: Option<Arc<dyn OnDemand>>) -> (TlsOptions, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let signing = ring::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
    let certificates = Arc::new(One(Arc::new(certified)));
    let credentials = Credentials { certificates, clients: None, sessions: Sessions::new().unwrap(), on_demand };
    let options = TlsOptions::new(&credentials, protocols(crate::options::Endpoints::default())).unwrap();
    (options, roots)
}

fn client(roots: RootCertStore, versions: &[&'static SupportedProtocolVersion]) -> ClientConnection {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Both ends of one connection.
struct Pair {
    session: Session,
    client: ClientConnection,
    /// What the server has decrypted.
    plain: Vec<u8>,
    /// Next length of a piece.
    random: u64,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        let (options, roots) = pair(None);
        let client = client(roots, &[version]);
        Self { session: Session::new(options).unwrap(), client, plain: Vec::new(), random: seed | 1 }
    }

    fn piece(&mut self, left: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let longest = [1, 7, 100, 2048, 40_000][(self.random >> 40) as usize % 5];
        (1 + (self.random >> 33) as usize % longest).min(left)
    }

    /// One byte stream to the server, in pieces.
    fn tell_server(&mut self, bytes: &[u8]) -> Heard {
        let (mut at, mut heard) = (0, Heard::More);
        while at < bytes.len() {
            let length = self.piece(bytes.len() - at);
            let mut piece = bytes[at..at + length].to_vec();
            at += length;
            heard = match self.session.stage() {
                Stage::Open | Stage::Failed => self.session.receive(&mut piece, &mut self.plain),
                Stage::Fresh | Stage::Handshaking => match self.session.keep(&piece) {
                    Some(true) => self.session.handshake(&mut self.plain),
                    Some(false) => Heard::More,
                    None => Heard::Failed,
                },
            };
        }
        heard
    }

    /// Until neither has anything to say.
    fn exchange(&mut self) -> Heard {
        let mut heard = Heard::More;
        loop {
            let mut out = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut out).unwrap();
            }
            if !out.is_empty() {
                heard = self.tell_server(&out);
            }
            let records = self.session.take_records();
            if records.is_empty() {
                return heard;
            }
            self.tell_client(&records);
        }
    }

    fn tell_client(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            self.client.read_tls(&mut records).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[test]
fn any_split_of_the_bytes_gives_the_same_messages() {
    for version in VERSIONS {
        for seed in 0..40 {
            let mut pair = Pair::new(version, seed);
            pair.exchange();
            assert_eq!(pair.session.stage(), Stage::Open, "seed {seed}");
            let message: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
            pair.client.writer().write_all(&message).unwrap();
            pair.client.writer().write_all(b"the end").unwrap();
            assert_eq!(pair.exchange(), Heard::More);
            assert!(pair.plain.starts_with(&message) && pair.plain.ends_with(b"the end"), "seed {seed}");
            let mut sealed = Vec::new();
            assert!(pair.session.seal(&message, &mut sealed) && pair.session.seal(b"too", &mut sealed));
            pair.session.close(&mut sealed);
            let mut got = Vec::new();
            for piece in sealed.chunks(1 + seed as usize * 400) {
                pair.tell_client(piece);
                let _ = pair.client.reader().read_to_end(&mut got);
            }
            assert!(got.starts_with(&message) && got.ends_with(b"too"), "seed {seed}");
            assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "closed with a notice");
        }
    }
}

#[test]
fn end_of_the_peer_is_heard_once_it_says_so() {
    for version in VERSIONS {
        let mut pair = Pair::new(version, 3);
        pair.exchange();
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        assert_eq!(pair.exchange(), Heard::Ended);
        assert_eq!(pair.plain, b"last");
        let mut sealed = Vec::new();
        assert!(pair.session.seal(b"still served", &mut sealed));
    }
}

#[test]
fn idle_session_holds_no_bytes() {
    for version in VERSIONS {
        let mut pair = Pair::new(version, 5);
        pair.exchange();
        pair.client.writer().write_all(b"hello").unwrap();
        pair.exchange();
        assert_eq!((pair.session.stash.capacity(), pair.session.records.capacity()), (0, 0));
        assert!(pair.session.options.is_none());
    }
}

#[test]
fn keys_may_change_but_not_without_end() {
    let mut pair = Pair::new(&version::TLS13, 9);
    pair.exchange();
    for round in 0..100 {
        pair.client.refresh_traffic_keys().unwrap();
        if pair.exchange() == Heard::Failed {
            assert!(round > 10, "a few are everybody's right");
            return;
        }
        assert!(pair.session.records.len() < 1000);
    }
    panic!("never refused");
}

#[test]
fn broken_bytes_end_the_session_and_are_answered_with_an_alert() {
    for version in VERSIONS {
        for seed in 0..200u64 {
            let mut pair = Pair::new(version, seed);
            if seed % 2 == 0 {
                pair.exchange();
            }
            let mut out = Vec::new();
            let _ = pair.client.writer().write_all(b"message");
            pair.client.write_tls(&mut out).unwrap();
            let at = pair.piece(out.len()) - 1;
            out[at] ^= 1 << (seed % 8);
            pair.tell_server(&out);
            // A broken length waits for bytes that never come.
            pair.tell_server(&[0; 20_000]);
            assert_eq!(pair.session.stage(), Stage::Failed, "seed {seed}, byte {at}");
            assert!(pair.session.take_records().len() > 6 || seed % 2 == 1 || at < 5, "an alert, seed {seed}");
            assert!(!pair.session.seal(b"nothing", &mut Vec::new()));
            assert_eq!(pair.session.stash.capacity(), 0);
        }
    }
}

#[test]
fn handshake_without_end_is_cut() {
    let mut pair = Pair::new(&version::TLS13, 1);
    // The first record of a message of 16 MiB, and the next ones.
    pair.tell_server(&[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]);
    let record = [&[0x16, 3, 1, 0x20, 0][..], &[0; 0x2000]].concat();
    for _ in 0..20 {
        pair.tell_server(&record);
    }
    assert_eq!(pair.session.stage(), Stage::Failed);
    assert!(pair.session.stash.len() <= 64 << 10);
}

#[test]
fn requests_without_tls_are_told_so() {
    let mut pair = Pair::new(&version::TLS13, 1);
    assert_eq!(pair.tell_server(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"), Heard::Failed);
    let mut out = Vec::new();
    pair.session.close(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), PLAIN_HTTP);
}

#[test]
fn handshake_waits_for_a_certificate_that_is_being_obtained() {
    let (options, roots) = pair(Some(Arc::new(NeverThere)));
    let mut client = client(roots, &[&version::TLS13]);
    let mut session = Session::new(options).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    assert_eq!(session.keep(&hello), Some(true));
    for _ in 0..3 {
        assert_eq!(session.handshake(&mut Vec::new()), Heard::Pending);
        assert_eq!(session.stage(), Stage::Fresh);
    }
}
