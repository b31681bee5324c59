//! A token looked at outside of a shard, by an operator who wants to know what is wrong with it.

use super::keys::KeyQuestion;
use super::proof::{Proof, prove};
use super::public_key::PublicKey;
use super::token::{TokenError, verify_connection, verify_subscription};
use crate::options::{Options, TokenOptions};
use std::sync::Arc;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A connection.
    Connection,
    /// A subscription.
    Subscription,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Empty for an anonymous user.
    pub user: String,
    /// Channels of its subscriptions.
    pub channels: Vec<String>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No key of the options made it.
    Signature,
    /// Rightly signed, but not for us, or not of this kind.
    Claims,
    /// Its time is over or has not come.
    Expired,
}

impl TokenKind {
    /// What tokens of the kind are checked with.
    pub fn options(self, options: &Options) -> &TokenOptions {
        match self {
            TokenKind::Connection => &options.token,
            TokenKind::Subscription => options.subscription_token(),
        }
    }
}

/// Checks a token as a shard does. `find_key` gets a key out of a published set; `unix` is the time in seconds.
pub fn inspect(
    kind: TokenKind,
    token: &str,
    options: &TokenOptions,
    unix: i64,
    find_key: impl FnOnce(&KeyQuestion) -> Option<Arc<PublicKey>>,
) -> Result<Inspected, Refused> {
    let verify = |proof| match kind {
        TokenKind::Connection => verify_connection(token, options, proof, unix).map(|token| {
            let channels = token.subs.into_iter().map(|sub| sub.channel).collect();
            Inspected { user: token.user, channels }
        }),
        TokenKind::Subscription => verify_subscription(token, options, proof, unix)
            .map(|token| Inspected { user: token.user, channels: vec![token.channel] }),
    };
    verify(prove(token, options, find_key)).map_err(|error| match error {
        TokenError::Expired => Refused::Expired,
        TokenError::Invalid => match verify(Proof::Right) {
            Err(TokenError::Invalid) => Refused::Claims,
            Ok(_) | Err(TokenError::Expired | TokenError::BrokenInfo) => Refused::Signature,
        },
        TokenError::BrokenInfo => Refused::Claims,
    })
}
