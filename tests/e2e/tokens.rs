//! Tokens with public keys: keys of the configuration, and keys that a server publishes, which may be slow, wrong or wicked.

use std::fs;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bystander::Bystander;
use crate::client::Client;
use crate::key_server::{Behaviour, KeyServer, named, signed, token};
use crate::server::{PATIENCE, Server, config, free_port};
use crate::support::tests_folder;

/// Close code for a token that is not accepted; the client does not come back with it.
const INVALID_TOKEN: u16 = 3500;

/// A server with more keys under `client.token`.
fn start(token: Value) -> Server {
    Server::start_with(2, &with_token(free_port(), token))
}

fn with_token(port: u16, token: Value) -> Value {
    let mut config = config(port);
    config["client"]["token"] = token;
    config
}

/// Connects with a token: the user is let in, or the close code.
fn connect(server: &Server, token: &str) -> Result<Client, u16> {
    let mut client = Client::open(server.address());
    client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
    client.first_reply()
}

#[track_caller]
fn check(server: &Server, token: &str, want: Result<(), u16>) {
    assert_eq!(connect(server, token).map(|_| ()), want, "{token}");
}

fn ada() -> Value {
    json!({"sub": "ada"})
}

fn private(name: &str) -> Vec<u8> {
    let pem =
        fs::read_to_string(tests_folder().join("compat/keys").join(name)).expect("a key of the conformance tests");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(base64).expect("a PEM")
}

fn rs256(key: &str, claims: &Value) -> String {
    signed(&json!({"alg": "RS256"}), claims, |text| {
        let key = RsaKeyPair::from_pkcs8(&private(key)).expect("a key");
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).expect("signed");
        signature
    })
}

fn es384(claims: &Value) -> String {
    signed(&json!({"alg": "ES384"}), claims, |text| {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &private("ec384.pem"), &random).expect("a key");
        key.sign(&random, text).expect("signed").as_ref().to_vec()
    })
}

/// U02: ES384 is checked on a helper thread, RS256 on the shard.
#[test]
fn keys_of_the_configuration_check_tokens_of_connections_and_subscriptions() {
    let server = start(json!({
        "rsa_public_key": include_str!("../../shard/state/src/auth/fixtures/rsa.pub.pem"),
        "ecdsa_public_key": include_str!("../../shard/state/src/auth/fixtures/ec384.pub.pem"),
    }));
    for token in [rs256, |_: &str, claims: &Value| es384(claims)] {
        let mut client = connect(&server, &token("rsa.pem", &ada())).expect("let in");
        let good = token("rsa.pem", &json!({"sub": "ada", "channel": "private:a"}));
        let reply = client.call("subscribe", json!({"channel": "private:a", "token": good}));
        assert!(reply.get("subscribe").is_some(), "{reply}");
        let reply = client.call("subscribe", json!({"channel": "private:b", "token": format!("{good}AAAA")}));
        assert_eq!(reply["error"]["code"], 103, "{reply}");
        let expired = token("rsa.pem", &json!({"sub": "ada", "channel": "private:b", "exp": 1}));
        let reply = client.call("subscribe", json!({"channel": "private:b", "token": expired}));
        assert_eq!(reply["error"]["code"], 109, "{reply}");
    }
    check(&server, &rs256("rsa2.pem", &ada()), Err(INVALID_TOKEN));
}

/// U04, U05
#[test]
fn a_new_key_works_at_once_and_a_flood_of_unknown_ones_costs_nothing() {
    let keys = KeyServer::start(Behaviour::Keys(vec![1]));
    let server = start(json!({"jwks_public_endpoint": keys.url("/jwks")}));
    for _ in 0..5 {
        check(&server, &token(1, &ada()), Ok(()));
    }
    assert_eq!(keys.paths(), ["/jwks"], "one fetch for both shards and all clients");
    keys.set(Behaviour::Keys(vec![1, 2]));
    check(&server, &token(2, &ada()), Ok(()));
    for number in 0..20 {
        check(&server, &named(3, &format!("unknown{number}"), &ada()), Err(INVALID_TOKEN));
    }
    check(&server, &named(2, "k1", &ada()), Err(INVALID_TOKEN));
    check(&server, &named(1, "../k1", &ada()), Err(INVALID_TOKEN));
    check(&server, &crate::client::token(&ada()), Err(INVALID_TOKEN));
    check(&server, &token(1, &ada()), Ok(()));
    assert_eq!(keys.paths().len(), 2, "two fetches a minute");
}

/// U04
#[test]
fn a_key_server_that_hangs_delays_only_those_who_need_its_keys() {
    let keys = KeyServer::start(Behaviour::Hang);
    let server = start(json!({"jwks_public_endpoint": keys.url("/jwks")}));
    let mut bystander = Bystander::new(&server);
    let mut waiting: Vec<_> = (0..8)
        .map(|number| {
            let mut client = Client::open(server.address());
            let token = named(1, &format!("k{number}"), &ada());
            client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
            client
        })
        .collect();
    let started = Instant::now();
    while keys.paths().is_empty() {
        assert!(started.elapsed() < PATIENCE, "nobody asks for the keys");
        std::thread::sleep(Duration::from_millis(5));
    }
    bystander.is_undisturbed(&server, "tokens whose key does not come");
    Client::connect(server.address());
    for client in &mut waiting {
        client.is_closed_with(INVALID_TOKEN, "a key that does not come");
    }
    assert!(keys.paths().len() <= 4, "one fetch of two tries for all: {:?}", keys.paths());
    let log = server.wait_for_log(PATIENCE, |log| log.contains("error fetching JWKS").then(|| log.to_owned()));
    assert!(log.contains(&keys.url("/jwks")) && !log.contains("eyJ"), "{log}");
}

/// U04
#[test]
fn answers_from_elsewhere_or_without_end_are_not_taken() {
    let target = KeyServer::start(Behaviour::Keys(vec![1]));
    for behaviour in [Behaviour::Redirect(target.url("/jwks")), Behaviour::TooLong(1), Behaviour::Keys(vec![2])] {
        let keys = KeyServer::start(behaviour);
        let server = start(json!({"jwks_public_endpoint": keys.url("/jwks")}));
        check(&server, &token(1, &ada()), Err(INVALID_TOKEN));
        assert!(!keys.paths().is_empty());
    }
    assert_eq!(target.paths(), [""; 0]);
}

/// U04
#[test]
fn the_endpoint_is_made_of_what_the_issuer_pattern_matches() {
    let keys = KeyServer::start(Behaviour::Keys(vec![1]));
    let server = start(json!({
        "jwks_public_endpoint": keys.url("/{{tenant}}/jwks"),
        "issuer_regex": "^https://(?P<tenant>.*)$",
        "insecure_skip_jwks_endpoint_safety_check": true,
    }));
    server.wait_for_log(PATIENCE, |log| log.contains("JWKS endpoint safety check skipped").then_some(()));
    let of = |issuer: &str| token(1, &json!({"sub": "ada", "iss": issuer}));
    check(&server, &of("https://acme"), Ok(()));
    check(&server, &of("https://../acme"), Err(INVALID_TOKEN));
    check(&server, &of("https://a?b"), Err(INVALID_TOKEN));
    check(&server, &of("http://acme"), Err(INVALID_TOKEN));
    check(&server, &token(1, &ada()), Err(INVALID_TOKEN));
    assert_eq!(keys.paths(), ["/acme/jwks"]);
}

/// U04
#[test]
fn a_host_out_of_a_token_is_no_private_address_unless_allowed() {
    let keys = KeyServer::start(Behaviour::Keys(vec![1]));
    for (allow, want) in [(false, Err(INVALID_TOKEN)), (true, Ok(()))] {
        let server = start(json!({
            "jwks_public_endpoint": format!("http://{{{{host}}}}:{}/jwks", keys.port()),
            "issuer_regex": "^(?P<host>127\\.0\\.0\\.1)$",
            "jwks_allow_private_addresses": allow,
        }));
        check(&server, &token(1, &json!({"sub": "ada", "iss": "127.0.0.1"})), want);
        assert_eq!(keys.paths().len(), usize::from(allow));
    }
}

/// U03, U04
#[test]
fn subscription_tokens_have_keys_of_their_own() {
    let keys = KeyServer::start(Behaviour::Keys(vec![1]));
    let mut config = config(free_port());
    config["client"]["subscription_token"] = json!({"enabled": true, "jwks_public_endpoint": keys.url("/jwks")});
    let server = Server::start_with(2, &config);
    let mut client = connect(&server, &crate::client::token(&ada())).expect("let in");
    let claims = json!({"sub": "ada", "channel": "private:a"});
    let reply = client.call("subscribe", json!({"channel": "private:a", "token": crate::client::token(&claims)}));
    assert_eq!(reply["error"]["code"], 103, "{reply}");
    let reply = client.call("subscribe", json!({"channel": "private:a", "token": token(1, &claims)}));
    assert!(reply.get("subscribe").is_some(), "{reply}");
}

/// L10, U04
#[test]
fn a_reload_changes_the_endpoint_and_disconnects_nobody() {
    let (old, new) = (KeyServer::start(Behaviour::Keys(vec![1])), KeyServer::start(Behaviour::Keys(vec![2])));
    let port = free_port();
    let with_endpoint = |url: String| with_token(port, json!({"jwks_public_endpoint": url}));
    let server = Server::start_with(2, &with_endpoint(old.url("/jwks")));
    let mut client = connect(&server, &token(1, &ada())).expect("let in");
    check(&server, &token(2, &ada()), Err(INVALID_TOKEN));

    fs::write(server.config_path(), with_endpoint(new.url("/jwks")).to_string()).expect("the file is ours");
    server.signal(Signal::HUP);
    server.wait_for_log(PATIENCE, |log| log.contains("configuration successfully reloaded").then_some(()));
    check(&server, &token(2, &ada()), Ok(()));
    check(&server, &token(1, &ada()), Err(INVALID_TOKEN));
    client.subscribe("chat:a");
}
