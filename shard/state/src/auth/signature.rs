//! Whether a token was signed with a secret key of ours. Public keys: `proof.rs`.

use super::object::Object;
use crate::options::TokenOptions;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The three parts of a token, taken apart and not yet believed.
pub(super) struct Parts<'a> {
    /// What is signed: header and claims as they stand.
    signed: &'a str,
    /// `None`: not one of ours, or one that takes a public key.
    algorithm: Option<hmac::Algorithm>,
    signature: Vec<u8>,
    /// Decoded claims.
    pub(super) claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    /// Extensions that have to be understood, of which none is. Source: RFC 7515 section 4.1.11.
    crit: Option<IgnoredAny>,
}

/// Takes a token apart; `None` when it is none.
pub(super) fn parse(token: &str) -> Option<Parts<'_>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let Object(header) = serde_json::from_slice::<Object<Header<'_>>>(&header).ok()?;
    if header.crit.is_some() {
        return None;
    }
    let algorithm = match header.alg {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    Some(Parts { signed, algorithm, signature, claims })
}

/// Whether the HMAC key of the options, or while it is valid the one before, made the signature. Published keys replace both.
pub(super) fn is_ours(parts: &Parts<'_>, unix: i64, options: &TokenOptions) -> bool {
    let Some(algorithm) = parts.algorithm.filter(|_| options.jwks_public_endpoint.is_none()) else { return false };
    let is_signed_with = |secret: &str| {
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        !secret.is_empty() && hmac::verify(&key, parts.signed.as_bytes(), &parts.signature).is_ok()
    };
    let valid_until = options.hmac_previous_secret_key_valid_until;
    let is_previous_valid = || valid_until == 0 || unix <= valid_until;
    is_signed_with(&options.hmac_secret_key) || is_previous_valid() && is_signed_with(&options.hmac_previous_secret_key)
}
