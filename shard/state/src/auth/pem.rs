//! Public keys in PEM: an X.509 SubjectPublicKeyInfo, or a certificate that holds one. The label of the PEM does not
//! matter, as in the reference. Source: RFC 7468, RFC 5280 section 4.1.

use super::public_key::{Curve, KeyError, PublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a text gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemError {
    /// No PEM is in it.
    NoPem,
    /// What is in the PEM is no public key.
    NoPublicKey,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
/// Version of a certificate.
const CONTEXT_0: u8 = 0xa0;

const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const CURVES: [(&[u8], Curve); 3] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], Curve::P256),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], Curve::P384),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], Curve::P521),
];

/// The key in the first PEM of a text.
pub(super) fn public_key(text: &str) -> Result<PublicKey, KeyError> {
    let der = decode(text).ok_or(PemError::NoPem)?;
    match key_info(&der) {
        Some(key) => key,
        None => certificate(&der).unwrap_or(Err(PemError::NoPublicKey.into())),
    }
}

/// The bytes between the first `BEGIN` line and the `END` line of the same label.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (base64, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let base64: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(base64).ok()
}

/// `SubjectPublicKeyInfo`: the kind of the key, and its bits. `None` when the bytes are something else.
fn key_info(mut der: &[u8]) -> Option<Result<PublicKey, KeyError>> {
    let mut info = take(&mut der, SEQUENCE).filter(|_| der.is_empty())?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    // The first byte counts unused bits at the end, of which a key has none.
    let bits = take(&mut info, BIT_STRING)?.strip_prefix(&[0])?;
    match take(&mut algorithm, OBJECT_ID)? {
        RSA_ENCRYPTION => rsa(bits),
        EC_PUBLIC_KEY => {
            let curve = take(&mut algorithm, OBJECT_ID)?;
            let known = CURVES.iter().find(|(id, _)| *id == curve);
            Some(known.map_or(Err(KeyError::UnknownCurve), |(_, curve)| PublicKey::ecdsa(*curve, bits)))
        }
        _ => None,
    }
}

fn rsa(mut bits: &[u8]) -> Option<Result<PublicKey, KeyError>> {
    let mut numbers = take(&mut bits, SEQUENCE)?;
    let n = take(&mut numbers, INTEGER)?;
    let e = take(&mut numbers, INTEGER)?;
    Some(PublicKey::rsa(n, e))
}

/// The key of a certificate; who signed it, and for how long, is not looked at, as in the reference.
fn certificate(mut der: &[u8]) -> Option<Result<PublicKey, KeyError>> {
    let mut certificate = take(&mut der, SEQUENCE)?;
    let mut signed = take(&mut certificate, SEQUENCE)?;
    if signed.first() == Some(&CONTEXT_0) {
        take(&mut signed, CONTEXT_0)?;
    }
    // Serial number; then algorithm, issuer, validity, subject.
    take(&mut signed, INTEGER)?;
    for _ in 0..4 {
        take(&mut signed, SEQUENCE)?;
    }
    let before = signed;
    take(&mut signed, SEQUENCE)?;
    key_info(&before[..before.len() - signed.len()])
}

/// Content of the element at the start of `input`, which is moved behind it; `None` when it has another tag or is cut.
fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some(content)
}
