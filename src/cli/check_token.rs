//! `checktoken`, `checksubtoken`: whether a token would be accepted, and why not.

use super::Failure;
use crate::config::{self, lower};
use crate::jwks::{Fetcher, without_secrets};
use crate::log::{Level, Logs};
use crate::utc;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringcast_state::auth::{KeyQuestion, PublicKey, Refused, TokenKind, inspect};
use ringcast_state::options::{NodeOptions, TokenOptions};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};

/// Answer of both commands.
pub fn run(kind: TokenKind, file: &Path, tokens: &[&str]) -> Result<String, Failure> {
    let loaded = super::load(file)?;
    config::validate(&loaded.settings).map_err(|error| format!("error: {error}"))?;
    let options = lower::state(&loaded.settings, NodeOptions::default());
    let [token] = tokens else {
        let command = if kind == TokenKind::Connection { "checktoken" } else { "checksubtoken" };
        return Err(format!("error: provide token to check [ringcast {command} <TOKEN>]"));
    };
    let (algorithm, payload) = parts(token).ok_or("error: token format is not valid")?;
    let (token_options, unix) = (kind.options(&options), utc::now() as i64);
    // A second start cannot be: nothing else logs in a console command.
    let _logs = Logs::start(Level::Info, "").ok();
    log_verifiers(token_options);
    let mut is_missing = false;
    let find_key = |question: &KeyQuestion| {
        find_key(question).or_else(|| {
            is_missing = true;
            None
        })
    };
    let inspected = inspect(kind, token, token_options, unix, find_key).map_err(|refused| {
        let reason =
            if is_missing { "invalid token: jwks: public key not found" } else { reason(refused, kind, &payload) };
        format!("error: token with algorithm {algorithm} and claims {payload} has error: {reason}")
    })?;
    if inspected.channels.iter().any(|channel| options.channel.resolve(channel).is_none()) {
        return Err(format!(
            "error: token with algorithm {algorithm} and claims {payload} has error: 102: unknown channel"
        ));
    }
    let (user, channel) = (&inspected.user, inspected.channels.first().map_or("", String::as_str));
    let whom = match (kind, user.as_str()) {
        (_, "") => "anonymous user".to_owned(),
        (TokenKind::Connection, user) => format!("user {user}"),
        (TokenKind::Subscription, user) => format!("user \"{user}\""),
    };
    Ok(match kind {
        TokenKind::Connection => format!("valid token for {whom}\npayload: {payload}\n"),
        TokenKind::Subscription => {
            format!("valid subscription token for {whom} and channel \"{channel}\"\npayload: {payload}\n")
        }
    })
}

/// Tells which algorithms the configuration turns on, as at the start of the server.
pub fn log_verifiers(options: &TokenOptions) {
    if let Some(endpoint) = &options.jwks_public_endpoint {
        return info!(endpoint = without_secrets(&endpoint.to_string()), "JWKS manager created");
    }
    let mut algorithms = Vec::new();
    if !options.hmac_secret_key.is_empty() {
        algorithms.extend(["HS256", "HS384", "HS512"]);
    }
    let keys = [&options.rsa_public_key, &options.ecdsa_public_key];
    algorithms.extend(keys.into_iter().flatten().flat_map(|key| key.algorithms()).map(|algorithm| algorithm.name()));
    if !algorithms.is_empty() {
        info!(algorithms = algorithms.join(", "), "enabled JWT verifiers");
    }
}

/// The algorithm that a token names, and its claims as JSON; `None` for what is no token.
fn parts(token: &str) -> Option<(String, String)> {
    let (signed, _) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let header: Value = serde_json::from_str(&decode(header)?).ok()?;
    let claims = decode(claims)?;
    serde_json::from_str::<Value>(&claims).ok()?;
    Some((header.get("alg")?.as_str()?.to_owned(), claims))
}

fn reason(refused: Refused, kind: TokenKind, payload: &str) -> &'static str {
    let has_channel = serde_json::from_str::<Value>(payload)
        .is_ok_and(|claims| claims["channel"].as_str().is_some_and(|channel| !channel.is_empty()));
    match (refused, kind) {
        (Refused::Expired, _) => "token expired",
        (Refused::Signature, _) => "invalid token: signature is not valid",
        (Refused::Claims, TokenKind::Connection) if has_channel => {
            "invalid token: connection JWT can not contain channel claim, only subscription JWT can"
        }
        (Refused::Claims, TokenKind::Subscription) if !has_channel => {
            "invalid token: channel claim is required for subscription JWT"
        }
        (Refused::Claims, _) => "invalid token: claims are not as expected (issuer, audience, types)",
    }
}

/// Fetches the key set that a token names.
fn find_key(question: &KeyQuestion) -> Option<Arc<PublicKey>> {
    match Fetcher::new().fetch(&question.address) {
        Ok(keys) => keys.into_iter().rfind(|named| named.kid == question.kid).map(|named| named.key),
        Err(error) => {
            warn!(%error, "error fetching JWKS");
            None
        }
    }
}
