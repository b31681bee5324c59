//! Connection and subscription tokens: JSON Web Tokens signed with a key of the configuration.
//!
//! Claims are checked here, with the time as an input, and only after the signature: nothing that an unsigned token
//! says is acted on.

use super::claims::Claims;
use super::object::Object;
use super::signature;
use crate::message::Overrides;
use crate::options::TokenOptions;
use bytes::Bytes;
use serde_json::Value;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// Not a token, not signed by us, or not for us.
    Invalid,
    /// Rightly signed, but its time is over or has not come.
    Expired,
}

/// What a connection token says.
#[derive(Debug)]
pub(crate) struct ConnectionToken {
    /// Empty for an anonymous user.
    pub(crate) user: String,
    /// When the connection expires, Unix seconds.
    pub(crate) expire_at: Option<i64>,
    /// Connection info that others see.
    pub(crate) info: Bytes,
    /// Server-side subscriptions.
    pub(crate) subs: Vec<TokenSub>,
}

/// A server-side subscription of a connection token.
#[derive(Debug)]
pub(crate) struct TokenSub {
    pub(crate) channel: String,
    pub(crate) info: Bytes,
    pub(crate) data: Bytes,
    pub(crate) overrides: Overrides,
}

/// What a subscription token says.
#[derive(Debug)]
pub(crate) struct SubscriptionToken {
    pub(crate) user: String,
    pub(crate) channel: String,
    /// The only connection that may use it, when not empty.
    pub(crate) client: String,
    /// When the subscription expires, Unix seconds.
    pub(crate) expire_at: Option<i64>,
    pub(crate) info: Bytes,
    pub(crate) data: Bytes,
    pub(crate) overrides: Overrides,
}

/// Checks a connection token. `unix` is the wall clock in seconds; no leeway is given.
pub(crate) fn verify_connection(
    token: &str,
    options: &TokenOptions,
    skip_signature: bool,
    unix: i64,
) -> Result<ConnectionToken, TokenError> {
    verify(token, options, skip_signature, unix, |claims, user| {
        // A subscription token must not open a connection.
        if !claims.channel.is_empty() {
            return None;
        }
        let named = claims.subs.iter().map(|(channel, Object(sub))| {
            Some(TokenSub {
                channel: channel.clone(),
                info: sub.info()?,
                data: sub.data()?,
                overrides: sub.overrides.as_ref().map_or_else(Overrides::default, |Object(o)| o.options()),
            })
        });
        let mut subs = named.collect::<Option<Vec<_>>>()?;
        if subs.is_empty() {
            subs = claims.channels.iter().map(|channel| TokenSub::plain(channel)).collect();
        }
        Some(ConnectionToken { user, expire_at: claims.expire_at(), info: claims.info()?, subs })
    })
}

/// Checks a subscription token; whom and which channel it is for is compared by the caller.
pub(crate) fn verify_subscription(
    token: &str,
    options: &TokenOptions,
    skip_signature: bool,
    unix: i64,
) -> Result<SubscriptionToken, TokenError> {
    verify(token, options, skip_signature, unix, |claims, user| {
        if claims.channel.is_empty() {
            return None;
        }
        Some(SubscriptionToken {
            user,
            channel: claims.channel.clone(),
            client: claims.client.clone(),
            expire_at: claims.expire_at(),
            info: claims.info()?,
            data: claims.data()?,
            overrides: claims.overrides.as_ref().map_or_else(Overrides::default, |Object(o)| o.options()),
        })
    })
}

fn verify<T>(
    token: &str,
    options: &TokenOptions,
    skip_signature: bool,
    unix: i64,
    read: impl FnOnce(&Claims<'_>, String) -> Option<T>,
) -> Result<T, TokenError> {
    let parts = signature::parse(token).ok_or(TokenError::Invalid)?;
    let Object(claims) =
        serde_json::from_slice::<Object<Claims<'_>>>(&parts.claims).map_err(|_| TokenError::Invalid)?;
    if !skip_signature && !signature::is_ours(&parts, claims.iat.map(|iat| iat as i64), options) {
        return Err(TokenError::Invalid);
    }
    if !is_for_us(&claims, options) {
        return Err(TokenError::Invalid);
    }
    let user = user(&parts.claims, &claims, options).ok_or(TokenError::Invalid)?;
    let content = read(&claims, user).ok_or(TokenError::Invalid)?;
    let is_over = claims.exp.is_some_and(|exp| exp as i64 <= unix);
    let is_early = claims.nbf.is_some_and(|nbf| nbf as i64 > unix);
    if is_over || is_early { Err(TokenError::Expired) } else { Ok(content) }
}

/// Whether issuer and audience are the configured ones.
fn is_for_us(claims: &Claims<'_>, options: &TokenOptions) -> bool {
    let has_issuer = options.issuer.is_empty() || claims.iss == options.issuer;
    let has_audience = options.audience.is_empty() || claims.aud.any(|aud| aud == options.audience);
    let matches_issuer = options.issuer_regex.as_ref().is_none_or(|regex| regex.is_match(&claims.iss));
    let matches_audience =
        options.audience_regex.as_ref().is_none_or(|regex| claims.aud.any(|aud| regex.is_match(aud)));
    has_issuer && has_audience && matches_issuer && matches_audience
}

/// The user that the token is for; `None` when the configured claim is not a string.
fn user(raw: &[u8], claims: &Claims<'_>, options: &TokenOptions) -> Option<String> {
    if options.user_id_claim.is_empty() || options.user_id_claim == "sub" {
        return Some(claims.sub.clone());
    }
    let all: Value = serde_json::from_slice(raw).ok()?;
    match all.get(&options.user_id_claim) {
        None => Some(String::new()),
        Some(claim) => claim.as_str().map(str::to_owned),
    }
}

impl TokenSub {
    fn plain(channel: &str) -> Self {
        let (info, data) = (Bytes::new(), Bytes::new());
        TokenSub { channel: channel.to_owned(), info, data, overrides: Overrides::default() }
    }
}
