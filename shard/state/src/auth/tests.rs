//! Public keys: every form and algorithm that is taken, and what must not pass for one.

use super::proof::{Need, need};
use super::*;
use crate::options::TokenOptions;
use crate::{Now, Time};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p521::ecdsa::signature::Signer as _;
use regex::Regex;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use std::sync::Arc;
use std::time::Duration;

const RSA: &str = include_str!("fixtures/rsa.pub.pem");
const EC: &str = include_str!("fixtures/ec.pub.pem");
const EC_384: &str = include_str!("fixtures/ec384.pub.pem");

const MESSAGE: &str = "eyJhbGciOiJ4In0.e30";

/// A private key of the conformance tests.
fn private(name: &str) -> Vec<u8> {
    let pem = match name {
        "rsa" => include_str!("../../../../tests/compat/keys/rsa.pem"),
        "rsa2" => include_str!("../../../../tests/compat/keys/rsa2.pem"),
        "ec" => include_str!("../../../../tests/compat/keys/ec.pem"),
        "ec384" => include_str!("../../../../tests/compat/keys/ec384.pem"),
        "ed" => include_str!("../../../../tests/compat/keys/ed.pem"),
        other => panic!("no key {other}"),
    };
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(base64).expect("a PEM")
}

/// The key of P-521, which is any number.
fn p521_key() -> p521::ecdsa::SigningKey {
    let mut number = [7; 66];
    number[0] = 0;
    p521::ecdsa::SigningKey::from_slice(&number).expect("a number below the order")
}

fn p521_point() -> Vec<u8> {
    p521::ecdsa::VerifyingKey::from(&p521_key()).to_sec1_point(false).as_bytes().to_vec()
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

fn p521_pem() -> String {
    let head = b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00";
    pem(&[&head[..], &p521_point()].concat())
}

fn sign(algorithm: Algorithm, key: &str, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |encoding: &'static dyn signature::RsaEncoding| {
        let key = RsaKeyPair::from_pkcs8(&private(key)).expect("a key");
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(encoding, &random, message, &mut signature).expect("signed");
        signature
    };
    let ecdsa = |algorithm| {
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &private(key), &random).expect("a key");
        key.sign(&random, message).expect("signed").as_ref().to_vec()
    };
    match algorithm {
        Algorithm::RS256 => rsa(&signature::RSA_PKCS1_SHA256),
        Algorithm::RS384 => rsa(&signature::RSA_PKCS1_SHA384),
        Algorithm::RS512 => rsa(&signature::RSA_PKCS1_SHA512),
        Algorithm::ES256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::ES512 => {
            let signature: p521::ecdsa::Signature = p521_key().sign(message);
            signature.to_bytes().to_vec()
        }
        Algorithm::EdDSA => ed25519().sign(message).as_ref().to_vec(),
    }
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private("ed")).expect("a key")
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Every algorithm with the name of a private key and the public one.
fn all() -> [(Algorithm, &'static str, PublicKey); 7] {
    let rsa = PublicKey::from_rsa_pem(RSA).expect("a key");
    let ed = PublicKey::ed25519(ed25519().public_key().as_ref()).expect("a key");
    [
        (Algorithm::RS256, "rsa", rsa.clone()),
        (Algorithm::RS384, "rsa", rsa.clone()),
        (Algorithm::RS512, "rsa", rsa),
        (Algorithm::ES256, "ec", PublicKey::from_ecdsa_pem(EC).expect("a key")),
        (Algorithm::ES384, "ec384", PublicKey::from_ecdsa_pem(EC_384).expect("a key")),
        (Algorithm::ES512, "", PublicKey::from_ecdsa_pem(&p521_pem()).expect("a key")),
        (Algorithm::EdDSA, "ed", ed),
    ]
}

/// U02, U05
#[test]
fn a_key_knows_the_signatures_of_its_private_half_in_every_algorithm() {
    for (algorithm, name, key) in all() {
        let signature = sign(algorithm, name, MESSAGE.as_bytes());
        assert!(key.verify(algorithm, MESSAGE.as_bytes(), &signature), "{algorithm:?}");
    }
}

/// U02
#[test]
fn no_key_takes_a_signature_of_another_algorithm_or_of_other_bytes() {
    for (algorithm, name, key) in all() {
        let signature = sign(algorithm, name, MESSAGE.as_bytes());
        for (other, ..) in all().into_iter().filter(|(other, ..)| *other != algorithm) {
            assert!(!key.verify(other, MESSAGE.as_bytes(), &signature), "{algorithm:?} as {other:?}");
        }
        assert!(!key.verify(algorithm, b"other", &signature), "{algorithm:?}");
        for length in [0, 1, signature.len() - 1] {
            assert!(!key.verify(algorithm, MESSAGE.as_bytes(), &signature[..length]), "{algorithm:?} cut to {length}");
        }
        let longer = [&signature[..], &[0]].concat();
        assert!(!key.verify(algorithm, MESSAGE.as_bytes(), &longer), "{algorithm:?} lengthened");
        // For ECDSA: r = s = 0, which a checker without the range test takes for every message.
        let zeros = vec![0; signature.len()];
        assert!(!key.verify(algorithm, MESSAGE.as_bytes(), &zeros), "{algorithm:?} of zeros");
        let mut flipped = signature;
        flipped[3] ^= 1;
        assert!(!key.verify(algorithm, MESSAGE.as_bytes(), &flipped), "{algorithm:?} with a bit flipped");
    }
}

/// U02
#[test]
fn signatures_of_ecdsa_are_taken_in_the_form_of_tokens_and_not_in_der() {
    let key =
        EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &private("ec"), &SystemRandom::new());
    let signature = key.expect("a key").sign(&SystemRandom::new(), MESSAGE.as_bytes()).expect("signed");
    let public = PublicKey::from_ecdsa_pem(EC).expect("a key");
    assert!(!public.verify(Algorithm::ES256, MESSAGE.as_bytes(), signature.as_ref()));
}

/// What comes of a PEM, in words.
fn read(kind: &str, pem: &str) -> String {
    let key = if kind == "RSA" { PublicKey::from_rsa_pem(pem) } else { PublicKey::from_ecdsa_pem(pem) };
    key.map_or_else(|error| error.to_string(), |key| format!("{key:?}"))
}

/// U02
#[test]
fn keys_are_read_from_pem_of_a_public_key_or_a_certificate() {
    let relabelled = RSA.replace("PUBLIC KEY", "WHATEVER");
    let indented = format!("key:\r\n{}", RSA.replace('\n', " \r\n"));
    let cut = RSA.replace("MIIB", "MIIC");
    for (kind, pem, want) in [
        ("RSA", RSA, "RSA key of 256 bytes"),
        ("RSA", include_str!("fixtures/rsa.crt.pem"), "RSA key of 256 bytes"),
        ("RSA", &relabelled, "RSA key of 256 bytes"),
        ("RSA", &indented, "RSA key of 256 bytes"),
        ("ECDSA", EC, "P-256 key"),
        ("ECDSA", include_str!("fixtures/ec.crt.pem"), "P-256 key"),
        ("ECDSA", EC_384, "P-384 key"),
        ("ECDSA", &p521_pem(), "P-521 key"),
        ("RSA", "", "key must be PEM encoded"),
        ("RSA", "-----BEGIN PUBLIC KEY-----", "key must be PEM encoded"),
        ("RSA", "-----BEGIN A-----\n*\n-----END A-----", "key must be PEM encoded"),
        (
            "RSA",
            "-----BEGIN A-----\nMIIB\n-----END A-----",
            "the PEM holds neither a public key (PUBLIC KEY) nor a certificate",
        ),
        ("RSA", &cut, "the PEM holds neither a public key (PUBLIC KEY) nor a certificate"),
        (
            "RSA",
            include_str!("fixtures/rsa.pkcs1.pem"),
            "the PEM holds neither a public key (PUBLIC KEY) nor a certificate",
        ),
        (
            "RSA",
            include_str!("fixtures/ed.pub.pem"),
            "the PEM holds neither a public key (PUBLIC KEY) nor a certificate",
        ),
        ("RSA", EC, "key is not a valid RSA public key"),
        ("ECDSA", RSA, "key is not a valid ECDSA public key"),
        ("RSA", include_str!("fixtures/rsa1024.pub.pem"), "the RSA key has 1024 bits, 2048 to 8192 can be used"),
        ("ECDSA", include_str!("fixtures/ec224.pub.pem"), "the curve of the key is none of P-256, P-384 and P-521"),
    ] {
        assert_eq!(read(kind, pem), want, "{kind}: {pem}");
    }
}

/// Broken keys are an error, whatever they are cut or bent to.
#[test]
fn no_der_makes_the_reader_panic() {
    let base64: String = include_str!("fixtures/rsa.crt.pem").lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(base64).expect("a PEM");
    for length in 0..der.len() {
        assert!(PublicKey::from_rsa_pem(&pem(&der[..length])).is_err(), "cut to {length}");
    }
    for index in 0..der.len() {
        for byte in [0, 0x7f, 0x80, 0x84, 0x85, 0xff] {
            let mut bent = der.clone();
            bent[index] = byte;
            let _ = PublicKey::from_rsa_pem(&pem(&bent));
        }
    }
}

/// A point that is not on the curve.
#[test]
fn numbers_that_make_no_key_are_refused_or_never_match() {
    let mut point = p521_point();
    point[40] ^= 1;
    assert_eq!(PublicKey::ecdsa(public_key::Curve::P521, &point), Err(KeyError::BadNumbers));
    let off =
        PublicKey::ecdsa(public_key::Curve::P256, &[[4].as_slice(), &[1; 64]].concat()).expect("looks like a key");
    let signature = sign(Algorithm::ES256, "ec", MESSAGE.as_bytes());
    assert!(!off.verify(Algorithm::ES256, MESSAGE.as_bytes(), &signature));
    let even = PublicKey::rsa(&[0x80; 256], &[1, 0, 1]).expect("looks like a key");
    assert!(!even.verify(Algorithm::RS256, MESSAGE.as_bytes(), &[1; 256]));
}

fn rsa_numbers() -> (String, String) {
    let pair = RsaKeyPair::from_pkcs8(&private("rsa")).expect("a key");
    let components = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
    (base64(&components.n), base64(&components.e))
}

fn rsa_jwk(more: &str) -> String {
    let (n, e) = rsa_numbers();
    format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"{more}}}"#)
}

fn ec_jwk(curve: &str, point: &[u8], more: &str) -> String {
    let (x, y) = point[1..].split_at(point.len() / 2);
    format!(r#"{{"kty":"EC","crv":"{curve}","x":"{}","y":"{}"{more}}}"#, base64(x), base64(y))
}

/// Ids of the keys in a set that can be used.
fn kids(keys: &[String]) -> Vec<String> {
    let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    decode_key_set(set.as_bytes()).expect("a set").into_iter().map(|named| named.kid).collect()
}

/// U04, U05
#[test]
fn published_keys_of_every_kind_check_tokens() {
    let p521 = ec_jwk("P-521", &p521_point(), r#","kid":"d","use":"sig","alg":"ES512""#);
    let ed = base64(ed25519().public_key().as_ref());
    let padded = rsa_jwk(r#","kid":"b","use":"sig""#).replace("AQAB", "AAEAAQ==");
    let set = [
        rsa_jwk(r#","kid":"a","use":"sig","alg":"RS256","x5c":["MII"],"key_ops":["verify"]"#),
        padded,
        p521,
        format!(r#"{{"kid":"e","use":"sig","kty":"OKP","crv":"Ed25519","x":"{ed}","alg":"EdDSA"}}"#),
        format!(r#"{{"kid":"f","use":"sig","kty":"OKP","crv":"Ed25519","x":"{ed}","alg":"Ed25519"}}"#),
    ];
    let keys = decode_key_set(format!(r#"{{"keys":[{}],"more":1}}"#, set.join(",")).as_bytes()).expect("a set");
    for (kid, algorithm, name, want) in [
        ("a", Algorithm::RS256, "rsa", true),
        ("a", Algorithm::RS512, "rsa", false),
        ("b", Algorithm::RS512, "rsa", true),
        ("b", Algorithm::RS256, "rsa2", false),
        ("d", Algorithm::ES512, "", true),
        ("e", Algorithm::EdDSA, "ed", true),
        ("f", Algorithm::EdDSA, "ed", true),
    ] {
        let key = &keys.iter().find(|named| named.kid == kid).expect("in the set").key;
        let signature = sign(algorithm, name, MESSAGE.as_bytes());
        assert_eq!(key.verify(algorithm, MESSAGE.as_bytes(), &signature), want, "{kid} {algorithm:?}");
    }
}

/// U04
#[test]
fn a_key_that_cannot_be_used_spoils_no_other() {
    let good = |kid: &str| rsa_jwk(&format!(r#","kid":"{kid}","use":"sig""#));
    let point = [[4].as_slice(), &[1; 64]].concat();
    let keys = [
        good("first"),
        good("without use").replace(r#","use":"sig""#, ""),
        good("for encryption").replace("sig", "enc"),
        good(""),
        good("null").replace(r#""null""#, "null"),
        good("unknown algorithm").replace("}", r#","alg":"PS256"}"#),
        good("short").replace(&rsa_numbers().0, "AQAB"),
        good("no base64").replace("AQAB", "*"),
        good("no exponent").replace("AQAB", ""),
        r#"{"kty":"oct","kid":"secret","use":"sig","k":"AAAA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"X25519","kid":"exchange","use":"sig","x":"AAAA"}"#.to_owned(),
        r#"{"kty":"OKP","crv":"Ed25519","kid":"short","use":"sig","x":"AAAA"}"#.to_owned(),
        ec_jwk("secp256k1", &point, r#","kid":"other curve","use":"sig""#),
        ec_jwk("P-384", &[[4].as_slice(), &[1; 100]].concat(), r#","kid":"long","use":"sig""#),
        "7".to_owned(),
        "null".to_owned(),
        good("last"),
    ];
    assert_eq!(kids(&keys), ["first", "last"]);
    for broken in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, "{\"keys\":[", "\u{0}"] {
        assert_eq!(decode_key_set(broken.as_bytes()), None, "{broken}");
    }
}

/// A coordinate with zeros at its start may be written without them.
#[test]
fn coordinates_are_numbers() {
    let point = [[4].as_slice(), &[0], &[1; 31], &[2; 32]].concat();
    let whole = ec_jwk("P-256", &point, r#","kid":"a","use":"sig""#);
    let short = whole.replace(&base64(&point[1..33]), &base64(&point[2..33]));
    assert_ne!(whole, short);
    let key = |json: &str| decode_key_set(format!(r#"{{"keys":[{json}]}}"#).as_bytes()).expect("a set").remove(0);
    assert_eq!(key(&whole), key(&short));
}

/// The address for given claims; empty when there is none.
#[track_caller]
fn check_address(template: &str, issuer: &str, audience: &str, claims: &str, want: &str) {
    let regex = |pattern: &str| (!pattern.is_empty()).then(|| Regex::new(pattern).expect("a pattern"));
    let options = TokenOptions {
        jwks_public_endpoint: Some(Endpoint::parse(template, false).expect("an endpoint")),
        issuer_regex: regex(issuer),
        audience_regex: regex(audience),
        ..TokenOptions::default()
    };
    let token = format!("{}.{}.AAAA", base64(br#"{"alg":"RS256","kid":"k"}"#), base64(claims.as_bytes()));
    let url = match need(&token, &options, &keys::Keys::new(1), Now::default()) {
        Some(Need::Key(Algorithm::RS256, question)) => question.address.url.to_string(),
        None => String::new(),
        other => panic!("{other:?}"),
    };
    assert_eq!(url, want, "{template} {claims}");
}

/// U04
#[test]
fn addresses_are_filled_from_the_claims_that_the_patterns_match() {
    const PATH: &str = "http://h/{{tenant}}/jwks";
    const TENANT: &str = "^(?P<tenant>.*)$";
    check_address("http://h/jwks", "", "", "{}", "http://h/jwks");
    check_address("http://h/jwks/", "", "", "{}", "http://h/jwks/");
    check_address(PATH, TENANT, "", r#"{"iss":"acme"}"#, "http://h/acme/jwks");
    check_address(PATH, "", TENANT, r#"{"aud":"acme"}"#, "http://h/acme/jwks");
    check_address(PATH, "", "^x(?P<tenant>.*)$", r#"{"aud":["y1","x2","x3"]}"#, "http://h/2/jwks");
    check_address(PATH, "^(?P<tenant>a)", "^(?P<tenant>b)", r#"{"iss":"a","aud":"b"}"#, "http://h/b/jwks");
    check_address("https://{{t}}.h/{{t}}", "^(?P<t>.*)$", "", r#"{"iss":"a"}"#, "https://a.h/a");
    check_address(PATH, "^(?P<tenant>a)$", "", r#"{"iss":"b"}"#, "");
    check_address(PATH, TENANT, "^x$", r#"{"iss":"a","aud":"b"}"#, "");
    check_address(PATH, TENANT, "", "[]", "");
    check_address(PATH, TENANT, "", "broken", "");
}

/// U04
#[test]
fn claims_do_not_walk_in_the_path_nor_change_the_shape_of_an_address() {
    for tenant in [
        "", "..", "../..", "a/..", "./a", "a/./b", "a//b", "%2e%2e", "a%2fb", "a?b", "a#b", "a@b", "a b", "a\\\\b", "ä",
    ] {
        let claims = format!(r#"{{"iss":"{tenant}"}}"#);
        check_address("http://h/{{t}}/jwks", "(?s)^(?P<t>.*)$", "", &claims, "");
    }
    check_address("http://h/{{t}}/jwks", "^(?P<t>.*)$", "", r#"{"iss":"a/b.c"}"#, "http://h/a/b.c/jwks");
    let long = format!(r#"{{"iss":"{}"}}"#, "a".repeat(3000));
    check_address("http://h/{{t}}/jwks", "^(?P<t>.*)$", "", &long, "");
}

/// U04
#[test]
fn only_a_host_out_of_a_token_is_guarded() {
    for (template, allow, want) in [
        ("http://h/{{t}}", false, Ok(false)),
        ("http://h?{{t}}", false, Ok(false)),
        ("http://{{t}}/x", false, Ok(true)),
        ("http://a{{t}}", false, Ok(true)),
        ("http://h:{{t}}/", false, Ok(true)),
        ("http://{{t}}/x", true, Ok(false)),
        ("ftp://h", false, Err(EndpointError::Scheme)),
        ("{{t}}://h", false, Err(EndpointError::Scheme)),
        ("http://", false, Err(EndpointError::Host)),
        ("https:///x", false, Err(EndpointError::Host)),
        ("http://h/{{t", false, Err(EndpointError::Placeholder)),
    ] {
        let guarded =
            Endpoint::parse(template, allow).map(|endpoint| endpoint.address(|_| "v").expect("plain").is_guarded);
        assert_eq!(guarded, want, "{template}");
        let shown = Endpoint::parse(template, allow).map(|endpoint| endpoint.to_string());
        assert!(shown.is_err() || shown == Ok(template.to_owned()), "{template}");
    }
}

/// What a token needs, in words.
fn needs(options: &TokenOptions, header: &str) -> String {
    let token = format!("{}.e30.AAAA", base64(header.as_bytes()));
    match need(&token, options, &keys::Keys::new(1), Now::default()) {
        None => "nothing".to_owned(),
        Some(Need::Check(algorithm, key)) => format!("{algorithm:?} with {key:?}"),
        Some(Need::Key(algorithm, question)) => format!("{algorithm:?} with key {}", question.kid),
    }
}

/// U02, U04
#[test]
fn what_a_token_needs_is_told_by_its_header() {
    let with_keys = TokenOptions {
        rsa_public_key: PublicKey::from_rsa_pem(RSA).map(Arc::new).ok(),
        ecdsa_public_key: PublicKey::from_ecdsa_pem(EC).map(Arc::new).ok(),
        ..TokenOptions::default()
    };
    let endpoint = Endpoint::parse("http://h/jwks", false).ok();
    let published = TokenOptions { jwks_public_endpoint: endpoint, ..with_keys.clone() };
    let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(2000));
    for (options, header, want) in [
        (&with_keys, r#"{"alg":"RS512","kid":"k"}"#, "RS512 with RSA key of 256 bytes"),
        (&with_keys, r#"{"alg":"ES256"}"#, "ES256 with P-256 key"),
        (&with_keys, r#"{"alg":"ES384"}"#, "nothing"),
        (&with_keys, r#"{"alg":"EdDSA"}"#, "nothing"),
        (&with_keys, r#"{"alg":"HS256"}"#, "nothing"),
        (&with_keys, r#"{"alg":"none"}"#, "nothing"),
        (&with_keys, r#"{"alg":"PS256"}"#, "nothing"),
        (&with_keys, r#"["RS256"]"#, "nothing"),
        (&published, r#"{"alg":"RS256","kid":"a\/b"}"#, "RS256 with key a/b"),
        (&published, r#"{"alg":"EdDSA","kid":"../e"}"#, "EdDSA with key ../e"),
        (&published, r#"{"alg":"RS256"}"#, "nothing"),
        (&published, r#"{"alg":"RS256","kid":""}"#, "nothing"),
        (&published, r#"{"alg":"RS256","kid":7}"#, "nothing"),
        (&published, r#"{"alg":"HS256","kid":"k"}"#, "nothing"),
        (&published, &long, "nothing"),
    ] {
        assert_eq!(needs(options, header), want, "{header}");
    }
}

/// U04
#[test]
fn known_keys_are_used_for_their_time_and_the_oldest_goes_first() {
    let mut known = keys::Keys::new(1);
    let endpoint = Endpoint::parse("http://h/jwks", false).expect("an endpoint");
    let key = Arc::new(PublicKey::from_rsa_pem(RSA).expect("a key"));
    let question = |kid: &str| KeyQuestion { address: endpoint.address(|_| "").expect("plain"), kid: kid.to_owned() };
    let at = |seconds: u64| Now { at: Time(seconds * 1_000_000), ..Now::default() };
    let learn = |known: &mut keys::Keys, kid: &str, seconds| {
        let answer =
            KeyAnswer { question: Arc::new(question(kid)), key: Some(key.clone()), valid_for: Duration::from_secs(60) };
        known.answer(at(seconds), &answer)
    };
    learn(&mut known, "a", 0);
    assert!(known.get(&question("a"), at(59)).is_some());
    assert!(known.get(&question("a"), at(60)).is_none());
    assert!(known.get(&question("b"), at(0)).is_none());
    learn(&mut known, "a", 60);
    for index in 0..1023 {
        learn(&mut known, &format!("k{index}"), 61);
    }
    assert!(known.get(&question("a"), at(62)).is_some());
    learn(&mut known, "one more", 62);
    assert!(known.get(&question("a"), at(62)).is_none());
    assert!(known.get(&question("k0"), at(62)).is_some());
    known.clear();
    assert!(known.get(&question("k0"), at(62)).is_none());
}
