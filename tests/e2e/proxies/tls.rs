//! Backends behind TLS that wants certificates of its clients.

use super::script::Script;
use crate::client::Client;
use crate::server::{Server, config, free_port};
use crate::tls::authority::{Authority, Pair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

/// Takes TLS off on the way to a backend. Returns where.
fn terminate(target: SocketAddr, authority: &Authority, pair: &Pair, protocol: &str) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_client_cert_verifier(verifier.expect("roots"));
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem().as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(vec![pair.certificate.clone()], key).expect("a pair");
    config.alpn_protocols = vec![protocol.into()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Builder::new_current_thread().enable_all().build().expect("a thread").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut inside) = acceptor.accept(socket).await else { return };
                    let mut outside = TcpStream::connect(target).await.expect("the backend listens");
                    let _ = copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
    });
    address
}

/// X11, Z05
#[test]
fn backends_over_tls_are_proved_and_prove_the_server() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign();
    for script in Script::both() {
        let (scheme, protocol) = if script.is_grpc() { ("grpc", "h2") } else { ("https", "http/1.1") };
        let address = terminate(script.address(), &authority, &authority.sign(), protocol);
        let object = |authority: &Authority, more: Value| {
            let mut object = json!({"enabled": true, "server_ca_pem": authority.pem()});
            object.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            object
        };
        let pair = json!({"cert_pem": own.certificate_pem(), "key_pem": own.key_pem()});
        let with = |more: Value| {
            let mut pair = pair.clone();
            pair.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            pair
        };
        let cases = [
            ("proved", object(&authority, pair.clone()), true),
            ("named", object(&authority, with(json!({"server_name": "localhost"}))), true),
            ("other_name", object(&authority, with(json!({"server_name": "example.org"}))), false),
            ("stranger", object(&stranger, pair.clone()), false),
            ("trusted_anyhow", object(&stranger, with(json!({"insecure_skip_verify": true}))), true),
            ("without_pair", object(&authority, json!({})), false),
        ];
        let mut config = config(free_port());
        let proxies = cases.iter().map(|(name, tls, _)| {
            let path = if script.is_grpc() { "" } else { "/rpc" };
            let endpoint = format!("{scheme}://{address}{path}");
            json!({"name": name, "endpoint": endpoint, "timeout": "5s", "http": {"tls": tls}, "grpc": {"tls": tls}})
        });
        config["proxies"] = proxies.collect();
        let namespaces =
            cases.iter().map(|(name, ..)| json!({"name": name, "proxy_enabled": true, "proxy_name": name}));
        config["rpc"] = json!({"namespaces": namespaces.collect::<Value>()});
        let server = Server::start_with(1, &config);
        let mut client = Client::connect(server.address());
        for (name, _, works) in cases {
            let reply = client.call("rpc", json!({"method": format!("{name}:m"), "data": 1}));
            assert_eq!(reply.get("rpc").is_some(), works, "{scheme} {name}: {reply}");
            assert!(works || reply["error"]["code"] == 100, "{scheme} {name}: {reply}");
        }
    }
}
