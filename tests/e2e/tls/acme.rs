//! Automatic certificates: the real binary and `pebble`, the test authority of Let's Encrypt.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::authority::{Authority, Client, VERSIONS, dial, exchange, peer_certificate, trusting};
use super::{publish, start};
use crate::http;
use crate::server::{PATIENCE, config, free_port};
use crate::support;

/// Of `pebble`, from the Go module proxy.
const VERSION: &str = "v2.10.3";

/// An authority with its directory.
struct Pebble {
    child: Child,
    folder: PathBuf,
    port: u16,
    /// Trusts what it signs.
    client: Arc<ClientConfig>,
}

impl Pebble {
    /// Looks for answers to tls-alpn-01 and http-01 on these ports; what it signs counts for `seconds`.
    fn start(tls_port: u16, http_port: u16, seconds: u32) -> Pebble {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ringcast-pebble-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("written");
        let authority = Authority::new();
        let pair = authority.sign();
        write("ca.pem", authority.pem());
        write("cert.pem", pair.certificate_pem());
        write("key.pem", pair.key_pem());
        let (port, management) = (free_port(), free_port());
        let options = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.join("cert.pem"), "privateKey": folder.join("key.pem"),
            "httpPort": http_port, "tlsPort": tls_port, "externalAccountBindingRequired": false,
            "profiles": {"default": {"description": "for tests", "validityPeriod": seconds}},
        }});
        write("config.json", options.to_string());
        let log = fs::File::create(folder.join("log")).expect("a log");
        let child = Command::new(binary())
            .arg("-config")
            .arg(folder.join("config.json"))
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "5")])
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("pebble starts");
        let trusts_directory = authority.client(&VERSIONS, None);
        let started = Instant::now();
        let root = loop {
            let management = SocketAddr::from(([127, 0, 0, 1], management));
            let root = dial(management, &trusts_directory)
                .and_then(|mut stream| exchange(&mut stream, "GET /roots/0 HTTP/1.0|Host: h||"));
            match root {
                Ok(root) => break root,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(20));
        };
        let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate");
        Pebble { child, folder, port, client: trusting(&root, &VERSIONS, None) }
    }

    /// A server that has its certificate from here.
    fn config(&self, port: u16) -> Value {
        let mut config = config(port);
        config["http_server"]["tls_autocert"] = json!({
            "enabled": true, "host_whitelist": ["localhost"], "cache_dir": self.folder.join("cache"),
            "email": "somebody@example.org", "directory_url": format!("https://localhost:{}/dir", self.port),
            "directory_ca_file": self.folder.join("ca.pem"),
        });
        config
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).expect("a log")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn binary() -> PathBuf {
    let folder = support::installed(&format!("pebble-{VERSION}"), &[], |folder| {
        let mut install = Command::new("go");
        install.arg("install").arg(format!("github.com/letsencrypt/pebble/v2/cmd/pebble@{VERSION}"));
        install.env("GOBIN", folder).env("GOFLAGS", "-mod=mod");
        support::run(&mut install, "Go 1.25 or newer (https://go.dev/dl), access to the Go module proxy");
    });
    folder.join("pebble")
}

/// Z03
#[test]
fn certificate_is_obtained_served_and_kept_over_a_restart() {
    let port = free_port();
    let pebble = Pebble::start(port, free_port(), 7_776_000);
    let options = pebble.config(port);
    let server = start(4, &options);
    // The first handshakes wait for it.
    let shown: Vec<_> = thread::scope(|scope| {
        let dial = || peer_certificate(&dial(server.address(), &pebble.client).expect("a handshake"));
        let dials: Vec<_> = (0..8).map(|_| scope.spawn(dial)).collect();
        dials.into_iter().map(|dial| dial.join().expect("a certificate")).collect()
    });
    assert!(shown.iter().all(|certificate| *certificate == shown[0]), "ordered once");
    publish(server.address(), &pebble.client, "chat:a", &json!(1));
    drop(server);

    let (client, log) = (pebble.client.clone(), pebble.log());
    let again = start(1, &options);
    assert_eq!(peer_certificate(&dial(again.address(), &client).expect("a handshake")), shown[0]);
    assert_eq!(pebble.log(), log, "nothing was asked of the authority");
}

#[test]
fn certificate_is_renewed_under_load_and_nobody_is_lost() {
    let port = free_port();
    let pebble = Pebble::start(port, free_port(), 12);
    let server = start(2, &pebble.config(port));
    let address = server.address();
    let mut old = Client::subscribed(dial(address, &pebble.client).expect("a handshake"), "chat:a");
    let first = old.certificate();
    let stop = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                publish(address, &pebble.client, "chat:a", &json!(number));
                number += 1;
            }
            number
        });
        let started = Instant::now();
        // A resumed session shows the certificate that it began with, so the name of the log decides.
        let renewed = |log: &str| log.matches("certificate obtained").count() >= 2;
        while !renewed(&server.log()) && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("no publish failed")
    });
    let log = server.log();
    assert!(log.matches("certificate obtained").count() >= 2, "not renewed:\n{log}");
    assert!(published > 0);
    for number in 0..published {
        let message: Value = serde_json::from_str(&old.message()).expect("JSON");
        assert_eq!(message["push"]["pub"]["data"], json!(number));
    }
    let mut config = (*pebble.client).clone();
    config.resumption = rustls::client::Resumption::disabled();
    let shown = peer_certificate(&dial(address, &Arc::new(config)).expect("a handshake"));
    assert_ne!(shown, first);
}

#[test]
fn name_is_proved_by_http_where_tls_does_not_reach() {
    let (port, http_port) = (free_port(), free_port());
    // Nobody listens where pebble looks for TLS.
    let pebble = Pebble::start(free_port(), http_port, 7_776_000);
    let mut options = pebble.config(port);
    let automatic = &mut options["http_server"]["tls_autocert"];
    automatic["http"] = json!(true);
    automatic["http_addr"] = json!(format!("127.0.0.1:{http_port}"));
    let server = start(1, &options);
    publish(server.address(), &pebble.client, "chat:a", &json!(1));
    let at = SocketAddr::from(([127, 0, 0, 1], http_port));
    let get = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        http::raw(at, request.as_bytes()).expect("an answer").status
    };
    assert_eq!(get("/.well-known/acme-challenge/none", "localhost"), 404);
    assert_eq!([get("/a?b", "localhost:80"), get("/", "elsewhere.example")], [302, 400]);
    drop(TcpStream::connect(at).expect("it listens"));
}

#[test]
fn handshakes_for_other_hosts_fail_at_once_and_the_rest_of_the_server_works_without_the_authority() {
    let port = free_port();
    let mut options = config(port);
    let internal = free_port();
    options["http_server"]["internal_port"] = json!(internal.to_string());
    options["http_server"]["tls_external"] = json!(true);
    options["http_server"]["tls_autocert"] = json!({
        "enabled": true, "host_whitelist": ["a.example"], "directory_url": format!("https://127.0.0.1:{}/dir", free_port()),
    });
    let server = start(1, &options);
    let client = Authority::new().client(&VERSIONS, None);
    assert!(dial(server.address(), &client).is_err(), "localhost is not on the list");
    let reply = http::try_get(SocketAddr::from(([127, 0, 0, 1], internal)), "/health");
    assert_eq!(reply.map(|reply| reply.status), Some(200));
    server.wait_for_log(PATIENCE, |log| log.contains("no certificate").then_some(()));
}
