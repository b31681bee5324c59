//! Who a client is and what a token opens to it. Source: behaviour §2.

mod claims;
mod endpoint;
mod inspect;
mod jwk;
mod keys;
mod object;
mod pem;
mod proof;
mod public_key;
mod signature;
mod token;

pub use endpoint::{Endpoint, EndpointError, KeySetAddress};
pub use inspect::{Inspected, Refused, TokenKind, inspect};
pub use jwk::{NamedKey, decode_key_set};
pub use keys::{KeyAnswer, KeyQuestion};
pub use pem::PemError;
pub use proof::SignatureCheck;
pub(crate) use proof::{Late, Proof, Proofs, Unproven, need};
pub use public_key::{Algorithm, KeyError, PublicKey};
pub(crate) use token::{ConnectionToken, SubscriptionToken, TokenError, verify_connection, verify_subscription};

#[cfg(test)]
mod tests;
