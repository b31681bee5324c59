//! Objects of the configuration in all their forms, good and bad.

use super::*;
use crate::config::{Environment, Loaded, Sources, lower, validate};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

/// Certificate and key of `localhost` as PEM.
fn pair(until_year: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_after = date_time_ymd(until_year, 1, 1);
    let certificate = params.self_signed(&key).expect("signed");
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
}

fn pem(what: &str, der: &[u8]) -> String {
    let lines: Vec<_> = BASE64_STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

fn load(http_server: &Value) -> Loaded {
    let path = std::env::temp_dir().join(format!("ringcast-tls-{}-{:p}.json", std::process::id(), http_server));
    std::fs::write(&path, json!({"http_server": http_server}).to_string()).expect("written");
    let environment = Environment::default();
    let loaded = crate::config::load(Sources { file: Some(&path), environment: &environment, flags: &[] });
    std::fs::remove_file(&path).expect("removed");
    loaded.expect("merged")
}

#[track_caller]
fn check_error(http_server: Value, want: &str) {
    let error = validate(&load(&http_server).settings).expect_err("an error").0;
    assert!(error.contains(want), "{error}");
}

/// Which listeners have TLS.
#[track_caller]
fn check_ports(http_server: Value, want: &[bool]) {
    let settings = load(&http_server).settings;
    validate(&settings).expect("valid");
    let listeners = lower::runtime(&settings).listeners;
    let made = Listeners::default().make(&settings, &listeners).expect("made");
    assert_eq!(made.iter().map(Option::is_some).collect::<Vec<_>>(), want, "{http_server}");
}

/// Z01, Z04
#[test]
fn ports_have_the_tls_that_was_chosen_for_them() {
    let (cert, key) = pair(2100);
    let tls = json!({"enabled": true, "cert_pem": cert, "key_pem": BASE64_STANDARD.encode(&key)});
    let off = json!({"enabled": false, "cert_pem": "/nowhere"});
    check_ports(json!({"tls": off}), &[false]);
    check_ports(json!({"tls": tls}), &[true]);
    check_ports(json!({"tls": tls, "internal_port": "1"}), &[true, true]);
    check_ports(json!({"tls": tls, "internal_port": "1", "tls_external": true}), &[true, false]);
    check_ports(json!({"tls": tls, "internal_port": "1", "tls_external": true, "internal_tls": tls}), &[true, true]);
    check_ports(json!({"internal_port": "1", "internal_tls": tls}), &[false, true]);
    check_ports(json!({"internal_tls": tls}), &[false]);
}

#[test]
fn what_is_wrong_is_said_with_its_key() {
    let ((cert, key), (_, other_key), (old, old_key)) = (pair(2100), pair(2100), pair(2020));
    let tls = |cert: &str, key: &str| json!({"tls": {"enabled": true, "cert_pem": cert, "key_pem": key}});
    check_error(tls("", &key), "http_server.tls.cert_pem is empty, expected");
    check_error(tls(&cert, ""), "http_server.tls.key_pem is empty, expected");
    check_error(tls("/nowhere", &key), "http_server.tls.cert_pem file \"/nowhere\" cannot be read");
    check_error(tls(&key, &key), "http_server.tls.cert_pem holds no certificate");
    check_error(tls(&cert, &cert), "http_server.tls.key_pem holds no private key");
    check_error(tls(&cert, &other_key), "http_server.tls.key_pem holds another key");
    check_error(tls(&old, &old_key), "expired at 2020-01-01T00:00:00Z");
    check_error(
        json!({"internal_tls": {"enabled": true, "cert_pem": cert, "key_pem": key, "client_ca_pem": key}}),
        "http_server.internal_tls.client_ca_pem holds no certificate",
    );
    check_error(
        json!({"tls_autocert": {"enabled": true, "directory_url": "http://a"}}),
        "http_server.tls_autocert.directory_url is \"http://a\", expected an address with https://",
    );
    check_error(
        json!({"tls_autocert": {"enabled": true, "http": true, "http_addr": "80"}}),
        "http_server.tls_autocert.http_addr is \"80\", expected HOST:PORT or :PORT",
    );
}
