//! `gentoken`, `gensubtoken`: tokens to try things with, signed by HMAC with SHA-256.

use super::Failure;
use crate::config::{View, duration};
use crate::utc;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;
use std::path::PathBuf;

const NO_KEY: &str = "only supports generating HMAC-signed tokens, but no HMAC secret key is set in the configuration";
const OWN_TOOLING: &str =
    "if you use RSA/ECDSA/JWKS token verification you need to generate the JWT with your own tooling";

/// Flags of both commands.
#[derive(Debug)]
pub struct Request {
    /// The configuration file with the key.
    pub file: PathBuf,
    /// User id; empty for an anonymous user.
    pub user: String,
    /// Channel of a subscription token.
    pub channel: String,
    /// Life of the token; below 1 it never expires.
    pub ttl_seconds: i64,
    /// Print the token alone.
    pub quiet: bool,
}

/// Answer of `gentoken`.
pub fn connection_token(request: &Request) -> Result<String, Failure> {
    let loaded = super::load(&request.file)?;
    let options = loaded.settings.view().object("client").object("token");
    if options.text("hmac_secret_key").is_empty() {
        return Err(format!("error: gentoken {NO_KEY} (client.token.hmac_secret_key) – {OWN_TOOLING}"));
    }
    let token = token(request, options);
    Ok(answer(request, &token, ""))
}

/// Answer of `gensubtoken`.
pub fn subscription_token(request: &Request) -> Result<String, Failure> {
    let loaded = super::load(&request.file)?;
    if request.channel.is_empty() {
        return Err("channel is required".to_owned());
    }
    let client = loaded.settings.view().object("client");
    let own = client.object("subscription_token");
    let options = if own.bool("enabled") { own } else { client.object("token") };
    if options.text("hmac_secret_key").is_empty() {
        return Err(format!(
            "error: gensubtoken {NO_KEY} (client.subscription_token.token.hmac_secret_key, or client.token.hmac_secret_key when subscription token is not separately configured) – {OWN_TOOLING}"
        ));
    }
    let token = token(request, options);
    Ok(answer(request, &token, &format!(" and channel \"{}\"", request.channel)))
}

fn answer(request: &Request, token: &str, channel: &str) -> String {
    if request.quiet {
        return token.to_owned();
    }
    let user = match request.user.as_str() {
        "" => "anonymous user".to_owned(),
        user => format!("user \"{user}\""),
    };
    let expiration = match request.ttl_seconds {
        ..0 => "without expiration".to_owned(),
        ttl => {
            let ttl = duration::format(ttl.saturating_mul(duration::SECOND));
            format!("with expiration TTL {ttl}")
        }
    };
    format!("HMAC SHA-256 JWT for {user}{channel} {expiration}:\n{token}\n")
}

fn token(request: &Request, options: View<'_>) -> String {
    let claims = claims(request, options.text("user_id_claim"), utc::now());
    sign(&claims, options.text("hmac_secret_key"))
}

/// The claims as JSON, in the order of the reference.
fn claims(request: &Request, user_id_claim: &str, unix_seconds: u64) -> String {
    let mut claims: Vec<(&str, Value)> = Vec::new();
    if !request.user.is_empty() {
        claims.push(("sub", request.user.as_str().into()));
    }
    if let Ok(ttl @ 1..) = u64::try_from(request.ttl_seconds) {
        claims.push(("exp", unix_seconds.saturating_add(ttl).into()));
    }
    claims.push(("iat", unix_seconds.into()));
    if !request.channel.is_empty() {
        claims.push(("channel", request.channel.as_str().into()));
    }
    if !user_id_claim.is_empty() {
        claims.retain(|(name, _)| *name != user_id_claim);
        claims.push((user_id_claim, request.user.as_str().into()));
    }
    let pairs = claims.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fn sign(claims: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: &str, channel: &str, ttl_seconds: i64) -> Request {
        Request { file: PathBuf::new(), user: user.to_owned(), channel: channel.to_owned(), ttl_seconds, quiet: false }
    }

    #[test]
    fn claims_hold_what_was_asked_for() {
        let cases = [
            (request("42", "", 60), "", r#"{"sub":"42","exp":160,"iat":100}"#),
            (request("", "", -1), "", r#"{"iat":100}"#),
            (request("a\"b", "ch1", 0), "", r#"{"sub":"a\"b","iat":100,"channel":"ch1"}"#),
            (request("42", "", -1), "uid", r#"{"sub":"42","iat":100,"uid":"42"}"#),
        ];
        for (request, user_id_claim, want) in cases {
            assert_eq!(claims(&request, user_id_claim, 100), want);
        }
    }

    #[test]
    fn the_signature_is_that_of_jwt_io() {
        assert_eq!(
            sign(r#"{"sub":"1234567890","name":"John Doe","iat":1516239022}"#, "your-256-bit-secret"),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
        );
    }

    #[test]
    fn answers_say_for_whom_and_how_long() {
        assert_eq!(
            answer(&request("42", "", 604_800), "TOKEN", ""),
            "HMAC SHA-256 JWT for user \"42\" with expiration TTL 168h0m0s:\nTOKEN\n"
        );
        assert_eq!(
            answer(&request("", "ch1", -1), "TOKEN", " and channel \"ch1\""),
            "HMAC SHA-256 JWT for anonymous user and channel \"ch1\" without expiration:\nTOKEN\n"
        );
    }
}
