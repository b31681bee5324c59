//! Public keys, and whether they made a signature. RSA, P-256, P-384 and Ed25519 are ring's work, P-521, which ring
//! does not know, that of the crate `p521`.
//!
//! Not on the `jsonwebtoken` crate: its provider of cryptography is global to the process, every check allocates it anew,
//! and neither its PEM nor its JWK side knows ES512.

use super::pem::{self, PemError};
use p521::ecdsa::signature::Verifier as _;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use std::fmt;

/// RSA keys of fewer bits are refused: ring does not check with them.
const RSA_BITS_MIN: usize = 2048;

/// RSA keys of more bits are refused: each check would take a millisecond and more.
const RSA_BITS_MAX: usize = 8192;

/// RSA keys of more bytes are slow to check with: measured 24 us at 2048 bits, 85 us at 4096, 330 us at 8192.
const RSA_QUICK_BYTES_MAX: usize = 512;

/// Signature algorithms of tokens that take a public key. Source: RFC 7518 section 3.1, RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of the `alg` header")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq)]
pub struct PublicKey {
    material: Material,
    /// The only algorithm that the key is for, where its owner named one.
    only: Option<Algorithm>,
}

#[derive(Clone, PartialEq)]
enum Material {
    Rsa {
        n: Box<[u8]>,
        e: Box<[u8]>,
    },
    /// A point, uncompressed.
    P256(Box<[u8]>),
    /// A point, uncompressed.
    P384(Box<[u8]>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Ed25519(Box<[u8]>),
}

/// Curves of ECDSA keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The text holds no PEM, or what is in it is no public key.
    Pem(PemError),
    /// Another kind of key is wanted; holds the name of the wanted one.
    OtherKind(&'static str),
    /// An RSA key of too few or too many bits.
    RsaSize {
        /// What it has.
        bits: usize,
    },
    /// A curve that no algorithm uses.
    UnknownCurve,
    /// Numbers that make no key.
    BadNumbers,
}

impl Algorithm {
    const ALL: [Algorithm; 7] = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::EdDSA,
    ];

    /// By the name in a header; `None` for HMAC and everything that is not served.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// As in a header.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::ES512 => "ES512",
            Algorithm::EdDSA => "EdDSA",
        }
    }
}

impl Curve {
    /// Bytes of a coordinate.
    pub(super) fn coordinate_bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }
}

impl PublicKey {
    /// Key `rsa_public_key`: a PEM of a public key (`PUBLIC KEY`) or of a certificate.
    pub fn from_rsa_pem(text: &str) -> Result<PublicKey, KeyError> {
        let key = pem::public_key(text)?;
        if matches!(key.material, Material::Rsa { .. }) { Ok(key) } else { Err(KeyError::OtherKind("RSA")) }
    }

    /// Key `ecdsa_public_key`: a PEM as for RSA.
    pub fn from_ecdsa_pem(text: &str) -> Result<PublicKey, KeyError> {
        let key = pem::public_key(text)?;
        match key.material {
            Material::P256(_) | Material::P384(_) | Material::P521(_) => Ok(key),
            Material::Rsa { .. } | Material::Ed25519(_) => Err(KeyError::OtherKind("ECDSA")),
        }
    }

    /// From modulus and exponent, big-endian.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<PublicKey, KeyError> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        if e.is_empty() {
            return Err(KeyError::BadNumbers);
        }
        Ok(PublicKey { material: Material::Rsa { n: n.into(), e: e.into() }, only: None })
    }

    /// From an uncompressed point: a 4 and both coordinates.
    pub(super) fn ecdsa(curve: Curve, point: &[u8]) -> Result<PublicKey, KeyError> {
        if point.len() != 1 + 2 * curve.coordinate_bytes() || point[0] != 4 {
            return Err(KeyError::BadNumbers);
        }
        let material = match curve {
            Curve::P256 => Material::P256(point.into()),
            Curve::P384 => Material::P384(point.into()),
            Curve::P521 => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| KeyError::BadNumbers)?;
                Material::P521(Box::new(key))
            }
        };
        Ok(PublicKey { material, only: None })
    }

    /// From the 32 bytes of an Ed25519 key.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        if bytes.len() != 32 {
            return Err(KeyError::BadNumbers);
        }
        Ok(PublicKey { material: Material::Ed25519(bytes.into()), only: None })
    }

    /// The same key, for one algorithm alone.
    pub(super) fn only_for(self, algorithm: Algorithm) -> PublicKey {
        PublicKey { only: Some(algorithm), ..self }
    }

    /// Whether tokens of the algorithm may be checked with this key: it is of the algorithm's kind and curve, and not
    /// kept for another one.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_kind = match &self.material {
            Material::Rsa { .. } => matches!(algorithm, Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512),
            Material::P256(_) => algorithm == Algorithm::ES256,
            Material::P384(_) => algorithm == Algorithm::ES384,
            Material::P521(_) => algorithm == Algorithm::ES512,
            Material::Ed25519(_) => algorithm == Algorithm::EdDSA,
        };
        is_of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// All that fit.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(|algorithm| self.fits(*algorithm))
    }

    /// Whether a check takes too long for a shard: measured 0.8 ms with P-384, 1.3 ms with P-521; 64 us with P-256 and
    /// 60 us with Ed25519 are not.
    pub fn is_slow(&self) -> bool {
        match &self.material {
            Material::Rsa { n, .. } => n.len() > RSA_QUICK_BYTES_MAX,
            Material::P384(_) | Material::P521(_) => true,
            Material::P256(_) | Material::Ed25519(_) => false,
        }
    }

    /// Whether the key made the signature; false, too, for an algorithm that does not fit it.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let check = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => {
                let key = signature::RsaPublicKeyComponents { n, e };
                key.verify(rsa_parameters(algorithm), message, signature).is_ok()
            }
            Material::P256(point) => check(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => check(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::P521(key) => {
                p521::ecdsa::Signature::from_slice(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Material::Ed25519(key) => check(&signature::ED25519, key),
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> &'static signature::RsaParameters {
    match algorithm {
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}

/// A number as ring wants it: some writers put zeros before it.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.material {
            Material::Rsa { n, .. } => return write!(f, "RSA key of {} bytes", n.len()),
            Material::P256(_) => "P-256 key",
            Material::P384(_) => "P-384 key",
            Material::P521(_) => "P-521 key",
            Material::Ed25519(_) => "Ed25519 key",
        };
        f.write_str(kind)
    }
}

impl From<PemError> for KeyError {
    fn from(error: PemError) -> Self {
        KeyError::Pem(error)
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Pem(PemError::NoPem) => f.write_str("key must be PEM encoded"),
            KeyError::Pem(PemError::NoPublicKey) => {
                f.write_str("the PEM holds neither a public key (PUBLIC KEY) nor a certificate")
            }
            KeyError::OtherKind(kind) => write!(f, "key is not a valid {kind} public key"),
            KeyError::RsaSize { bits } => {
                write!(f, "the RSA key has {bits} bits, {RSA_BITS_MIN} to {RSA_BITS_MAX} can be used")
            }
            KeyError::UnknownCurve => f.write_str("the curve of the key is none of P-256, P-384 and P-521"),
            KeyError::BadNumbers => f.write_str("the numbers in the key make no public key"),
        }
    }
}

impl std::error::Error for KeyError {}
