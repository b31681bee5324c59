//! JSON Web Keys and sets of them. Source: RFC 7517, RFC 7518 section 6, RFC 8037.

use super::public_key::{Algorithm, Curve, KeyError, PublicKey, without_zeros};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Some writers pad, which the standard forbids.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key of a set, by its id.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedKey {
    /// `kid`; never empty.
    pub kid: String,
    /// The key.
    pub key: Arc<PublicKey>,
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// What is read of a key; everything else in it is passed over.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Jwk {
    kid: String,
    kty: String,
    r#use: String,
    alg: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// The keys of a set that tokens may be checked with: for signatures (`use`), with an id, of a kind that is served. One that
/// is broken is left out and spoils no other, where the reference drops the whole set. `None` when the bytes are no set.
pub fn decode_key_set(json: &[u8]) -> Option<Vec<NamedKey>> {
    let set: Set<'_> = serde_json::from_slice(json).ok()?;
    Some(set.keys.into_iter().filter_map(decode).collect())
}

fn decode(json: &RawValue) -> Option<NamedKey> {
    let jwk: Jwk = serde_json::from_str(json.get()).ok()?;
    if jwk.kid.is_empty() || jwk.r#use != "sig" {
        return None;
    }
    let mut key = public_key(&jwk).ok()?;
    if let Some(name) = jwk.alg.as_deref().filter(|name| !name.is_empty()) {
        let algorithm = match name {
            // The newer name of the same, RFC 9864.
            "Ed25519" => Algorithm::EdDSA,
            name => Algorithm::from_name(name)?,
        };
        key = key.only_for(algorithm);
    }
    Some(NamedKey { kid: jwk.kid, key: Arc::new(key) })
}

fn public_key(jwk: &Jwk) -> Result<PublicKey, KeyError> {
    match (&*jwk.kty, &*jwk.crv) {
        ("RSA", _) => PublicKey::rsa(&number(&jwk.n)?, &number(&jwk.e)?),
        ("EC", "P-256") => ecdsa(Curve::P256, jwk),
        ("EC", "P-384") => ecdsa(Curve::P384, jwk),
        ("EC", "P-521") => ecdsa(Curve::P521, jwk),
        ("OKP", "Ed25519") => PublicKey::ed25519(&number(&jwk.x)?),
        ("EC", _) => Err(KeyError::UnknownCurve),
        _ => Err(KeyError::BadNumbers),
    }
}

fn ecdsa(curve: Curve, jwk: &Jwk) -> Result<PublicKey, KeyError> {
    let size = curve.coordinate_bytes();
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        let bytes = number(coordinate)?;
        let bytes = without_zeros(&bytes);
        let zeros = size.checked_sub(bytes.len()).ok_or(KeyError::BadNumbers)?;
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(bytes);
    }
    PublicKey::ecdsa(curve, &point)
}

fn number(base64: &str) -> Result<Vec<u8>, KeyError> {
    BASE64.decode(base64).map_err(|_| KeyError::BadNumbers)
}
