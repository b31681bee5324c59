//! Who we are to Redis, and whether it is the one it says it is: TLS and ACL.

use super::servers::{Server, cli, free_port};
use super::*;
use crate::config::{Environment, Sources, load, lower};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value as Json, json};

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key of `redis.test`.
    fn sign(&self) -> [String; 2] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["redis.test".to_owned()]).expect("a name");
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, "redis.test");
        [params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem()]
    }
}

/// A server that takes TLS alone, from clients with a certificate of the authority.
fn start_tls(name: &str, authority: &Authority) -> (Server, u16) {
    let dir = std::env::temp_dir().join(format!("ringcast-redis-{}-{name}-pem", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let [certificate, key] = authority.sign();
    let [ca_file, certificate_file, key_file] = [("ca", &authority.pem), ("certificate", &certificate), ("key", &key)]
        .map(|(name, pem)| {
            let path = dir.join(name);
            std::fs::write(&path, pem).expect("a file");
            path.display().to_string()
        });
    let port = free_port();
    let port_text = port.to_string();
    let words = [
        ["--tls-port", &port_text],
        ["--tls-cert-file", &certificate_file],
        ["--tls-key-file", &key_file],
        ["--tls-ca-cert-file", &ca_file],
        ["--tls-auth-clients", "yes"],
    ];
    let server = Server::start_with(name, 0, &words.concat());
    std::fs::remove_dir_all(&dir).expect("it was made here");
    (server, port)
}

/// The options that a configuration comes to.
fn lowered(redis: &Json) -> RedisOptions {
    let name = format!("ringcast-redis-{}-{:?}.json", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, json!({"engine": {"type": "redis", "redis": redis}}).to_string()).expect("a file");
    let environment = Environment::default();
    let loaded = load(Sources { file: Some(&path), environment: &environment, flags: &[] }).expect("loaded");
    std::fs::remove_file(&path).expect("it was made here");
    lower::engine(&loaded.settings).expect("lowered").redis.expect("Redis")
}

fn try_to_connect(options: &RedisOptions) -> Result<Node, String> {
    let (sender, news) = channel();
    let (redis, control) =
        connect(options, "node", Arc::new(Ear(sender.into())), true).map_err(|error| error.to_string())?;
    Ok(Node { redis, control, news, next: 0, events: Vec::new() })
}

#[track_caller]
fn check(redis: &Json) {
    let mut node = try_to_connect(&lowered(redis)).expect("connected");
    node.done(subscribe("ch"));
    assert_eq!(node.publish(kept("1")).0, 1);
    node.hears(1, "1", None);
    node.done(BrokerAsk::RemoveHistory { channel: "ch".into() });
    drop(node);
}

#[track_caller]
fn check_refused(redis: &Json, part: &str) {
    let error = try_to_connect(&lowered(redis)).err().expect("an error");
    assert!(error.contains(part), "{error}");
}

/// E02, Z05
#[test]
fn redis_is_reached_over_tls_by_whom_both_sides_trust() {
    let authority = Authority::new();
    let (server, port) = start_tls("tls", &authority);
    let [cert_pem, key_pem] = authority.sign();
    let address = format!("127.0.0.1:{port}");
    let tls = |more: Json| {
        let mut tls = json!({"enabled": true, "cert_pem": cert_pem, "key_pem": key_pem});
        tls.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"address": [address], "tls": tls})
    };
    let flush = || assert_eq!(server.cli(&["FLUSHALL"]), "OK");
    check(&tls(json!({"server_ca_pem": authority.pem, "server_name": "redis.test"})));
    flush();
    check(&tls(json!({"insecure_skip_verify": true})));
    flush();
    let mut with_scheme = tls(json!({"insecure_skip_verify": true}));
    with_scheme["address"] = json!([format!("rediss://{address}")]);
    check(&with_scheme);
    // The address is not in the certificate.
    check_refused(&tls(json!({"server_ca_pem": authority.pem})), "certificate");
    let stranger = Authority::new();
    check_refused(&tls(json!({"server_ca_pem": stranger.pem, "server_name": "redis.test"})), "certificate");
    let without = json!({"enabled": true, "server_ca_pem": authority.pem, "server_name": "redis.test"});
    check_refused(&json!({"address": [address], "tls": without}), "");
    check_refused(&json!({"address": [address], "connect_timeout": "300ms"}), "");
}

/// E02
#[test]
fn redis_is_told_who_we_are() {
    let rules = "--user default off --user app on >s3cret ~centrifugo.* &centrifugo.* +@all";
    let server = Server::start_with("acl", free_port(), &rules.split(' ').collect::<Vec<_>>());
    let address = format!("127.0.0.1:{}", server.port);
    let flush = || cli(&["-p", &server.port.to_string(), "--user", "app", "--pass", "s3cret"], &["FLUSHALL"]);
    for force_resp2 in [false, true] {
        let with = |password: &str| json!({"address": [address], "user": "app", "password": password, "client_name": "ringcast-test", "force_resp2": force_resp2});
        check(&with("s3cret"));
        flush();
        check_refused(&with("wrong"), "WRONGPASS");
        check_refused(&json!({"address": [address], "force_resp2": force_resp2}), "NOAUTH");
        let url = json!({"address": [format!("redis://app:s3cret@{address}/3")], "force_resp2": force_resp2});
        check(&url);
        flush();
    }
    // What the user may not do fails, and nothing else does.
    let other = json!({"address": [address], "user": "app", "password": "s3cret", "prefix": "other"});
    let mut node = try_to_connect(&lowered(&other)).expect("connected");
    let answer = node.ask(BrokerAsk::Publish(Box::new(kept("1"))));
    assert!(matches!(answer, BrokerAnswer::Failed(BrokerError::Unavailable)), "{answer:?}");
    let answer = node.ask(subscribe("ch"));
    assert!(matches!(answer, BrokerAnswer::Failed(BrokerError::Unavailable)), "{answer:?}");
}
