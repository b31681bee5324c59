//! Connection and subscription tokens: JSON Web Tokens signed with a key of the configuration.
//!
//! Claims are checked here, with the time as an input, and only after the signature: nothing that an unsigned token
//! says is acted on.

use super::claims::Claims;
use super::object::Object;
use super::proof::Proof;
use super::signature;
use crate::message::Overrides;
use crate::options::TokenOptions;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// Not a token, not signed by us, or not for us.
    Invalid,
    /// Rightly signed, but its time is over or has not come.
    Expired,
    /// Rightly signed, but the info of the connection is not the base64 that it should be: an error of our own making.
    BrokenInfo,
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
    /// Data of the connection that clients do not see; empty for none.
    pub(crate) meta: Bytes,
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
    proof: Proof,
    unix: i64,
) -> Result<ConnectionToken, TokenError> {
    // A subscription token must not open a connection.
    let is_meant = |claims: &Claims<'_>| claims.channel.is_empty();
    verify(token, options, proof, unix, is_meant, |claims, user| {
        let named = claims.subs.iter().map(|(channel, sub)| {
            let Some(Object(sub)) = sub else { return Some(TokenSub::plain(channel)) };
            Some(TokenSub {
                channel: channel.clone(),
                info: sub.info()?,
                data: sub.data()?,
                overrides: sub.overrides.as_ref().map_or_else(Overrides::default, |Object(o)| o.options()),
            })
        });
        let mut subs = named.collect::<Option<Vec<_>>>().ok_or(TokenError::Invalid)?;
        if subs.is_empty() {
            subs = claims.channels.iter().flatten().map(|channel| TokenSub::plain(channel)).collect();
        }
        let info = claims.info().ok_or(TokenError::BrokenInfo)?;
        Ok(ConnectionToken { user, expire_at: claims.expire_at(), info, meta: claims.meta(), subs })
    })
}

/// Checks a subscription token; whom and which channel it is for is compared by the caller.
pub(crate) fn verify_subscription(
    token: &str,
    options: &TokenOptions,
    proof: Proof,
    unix: i64,
) -> Result<SubscriptionToken, TokenError> {
    verify(
        token,
        options,
        proof,
        unix,
        |_| true,
        |claims, user| {
            if claims.channel.is_empty() {
                return Err(TokenError::Invalid);
            }
            Ok(SubscriptionToken {
                user,
                channel: claims.channel.clone(),
                client: claims.client.clone(),
                expire_at: claims.expire_at(),
                info: claims.info().ok_or(TokenError::Invalid)?,
                data: claims.data().ok_or(TokenError::Invalid)?,
                overrides: claims.overrides.as_ref().map_or_else(Overrides::default, |Object(o)| o.options()),
            })
        },
    )
}

fn verify<T>(
    token: &str,
    options: &TokenOptions,
    proof: Proof,
    unix: i64,
    is_meant: impl FnOnce(&Claims<'_>) -> bool,
    read: impl FnOnce(&Claims<'_>, String) -> Result<T, TokenError>,
) -> Result<T, TokenError> {
    let parts = signature::parse(token).ok_or(TokenError::Invalid)?;
    let Object(claims) =
        serde_json::from_slice::<Object<Claims<'_>>>(&parts.claims).map_err(|_| TokenError::Invalid)?;
    let is_signed = match proof {
        Proof::Right => true,
        Proof::Wrong => false,
        Proof::Open => signature::is_ours(&parts, unix, options),
    };
    if !is_signed {
        return Err(TokenError::Invalid);
    }
    if !is_for_us(&claims, options) || !is_meant(&claims) {
        return Err(TokenError::Invalid);
    }
    let user = user(&parts.claims, &claims, options).ok_or(TokenError::Invalid)?;
    let is_over = claims.exp.is_some_and(|exp| exp as i64 <= unix);
    let is_early = claims.nbf.is_some_and(|nbf| nbf as i64 > unix);
    if is_over || is_early { Err(TokenError::Expired) } else { read(&claims, user) }
}

/// Whether issuer and audience are the configured ones.
fn is_for_us(claims: &Claims<'_>, options: &TokenOptions) -> bool {
    let has_issuer = options.issuer.is_empty() || claims.iss == options.issuer;
    let has_audience = options.audience.is_empty() || claims.aud.iter().any(|aud| aud == options.audience);
    let matches_issuer = options.issuer_regex.as_ref().is_none_or(|regex| regex.is_match(&claims.iss));
    let matches_audience =
        options.audience_regex.as_ref().is_none_or(|regex| claims.aud.iter().any(|aud| regex.is_match(aud)));
    has_issuer && has_audience && matches_issuer && matches_audience
}

/// The user that the token is for. A claim of the configuration that is no string counts as it is written, as in the
/// reference; `null` and an absent one name nobody.
fn user(raw: &[u8], claims: &Claims<'_>, options: &TokenOptions) -> Option<String> {
    if options.user_id_claim.is_empty() || options.user_id_claim == "sub" {
        return Some(claims.sub.clone());
    }
    let all: BTreeMap<String, &RawValue> = serde_json::from_slice(raw).ok()?;
    match all.get(&options.user_id_claim).map(|claim| claim.get()) {
        None | Some("null") => Some(String::new()),
        Some(claim) if claim.starts_with('"') => serde_json::from_str(claim).ok(),
        Some(claim) => Some(claim.to_owned()),
    }
}

impl TokenSub {
    fn plain(channel: &str) -> Self {
        let (info, data) = (Bytes::new(), Bytes::new());
        TokenSub { channel: channel.to_owned(), info, data, overrides: Overrides::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use regex::Regex;
    use ring::hmac;

    const KEY: &str = "key";
    const NOW: i64 = 1_700_000_000;

    fn options() -> TokenOptions {
        TokenOptions { hmac_secret_key: KEY.to_owned(), ..TokenOptions::default() }
    }

    fn signed(header: &str, claims: &str, algorithm: hmac::Algorithm, key: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token of ours.
    fn token(claims: &str) -> String {
        signed(r#"{"alg":"HS256"}"#, claims, hmac::HMAC_SHA256, KEY)
    }

    fn user_of(token: &str, options: &TokenOptions) -> Result<String, TokenError> {
        verify_connection(token, options, Proof::Open, NOW).map(|token| token.user)
    }

    #[track_caller]
    fn check_token(token: &str, options: &TokenOptions, want: Result<&str, TokenError>) {
        assert_eq!(user_of(token, options).as_deref(), want.as_ref().map(|user| *user), "{token}");
    }

    /// Checks a connection token of ours with these claims.
    #[track_caller]
    fn check(claims: &str, options: &TokenOptions, want: Result<&str, TokenError>) {
        let got = user_of(&token(claims), options);
        assert_eq!(got.as_deref(), want.as_ref().map(|user| *user), "{claims}");
    }

    const INVALID: Result<&str, TokenError> = Err(TokenError::Invalid);
    const EXPIRED: Result<&str, TokenError> = Err(TokenError::Expired);

    /// U01
    #[test]
    fn each_hmac_algorithm_is_served() {
        let claims = r#"{"sub":"ann"}"#;
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            let header = format!(r#"{{"alg":"{name}","typ":"JWT"}}"#);
            check_token(&signed(&header, claims, algorithm, KEY), &options(), Ok("ann"));
        }
    }

    #[test]
    fn signature_must_be_made_by_the_algorithm_and_key_of_ours() {
        let claims = r#"{"sub":"ann"}"#;
        check_token(&signed(r#"{"alg":"HS256"}"#, claims, hmac::HMAC_SHA256, "other"), &options(), INVALID);
        check_token(&signed(r#"{"alg":"HS512"}"#, claims, hmac::HMAC_SHA256, KEY), &options(), INVALID);
        for algorithm in ["none", "None", "hs256", "RS256", "ES256", ""] {
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            check_token(&signed(&header, claims, hmac::HMAC_SHA256, KEY), &options(), INVALID);
        }
        let unsigned = token(claims);
        let unsigned = unsigned.rsplit_once('.').expect("three parts").0;
        check_token(&format!("{unsigned}."), &options(), INVALID);
    }

    #[test]
    fn empty_key_signs_nothing() {
        let forged = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ann"}"#, hmac::HMAC_SHA256, "");
        check_token(&forged, &TokenOptions::default(), INVALID);
        check_token(&forged, &options(), INVALID);
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        let good = token(r#"{"sub":"ann"}"#);
        for broken in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}="),
            format!("{good} "),
            good.replacen('.', "", 1),
            good[1..].to_owned(),
            token("null"),
            token("[]"),
            token("{"),
            token(""),
            signed("", "{}", hmac::HMAC_SHA256, KEY),
            signed("{}", "{}", hmac::HMAC_SHA256, KEY),
            signed(r#"{"alg":256}"#, "{}", hmac::HMAC_SHA256, KEY),
            signed(r#"{"alg":"HS256","crit":["exp2"],"exp2":1}"#, "{}", hmac::HMAC_SHA256, KEY),
            signed(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}", hmac::HMAC_SHA256, KEY),
        ] {
            check_token(&broken, &options(), INVALID);
        }
    }

    #[test]
    fn claims_of_the_wrong_type_are_refused() {
        for claims in [
            r#"{"sub":42}"#,
            r#"{"sub":"ann","exp":"1800000000"}"#,
            r#"{"sub":"ann","nbf":{}}"#,
            r#"{"sub":"ann","channels":"news"}"#,
            r#"{"sub":"ann","jti":42}"#,
            r#"{"sub":"ann","aud":null}"#,
            r#"{"sub":"ann","subs":[]}"#,
            r#"{"sub":"ann","subs":{"news":{"b64info":"?"}}}"#,
            r#"{"sub":"ann","subs":{"news":{"b64data":"?"}}}"#,
        ] {
            check(claims, &options(), INVALID);
        }
        check(r#"{"sub":"ann","b64info":"?"}"#, &options(), Err(TokenError::BrokenInfo));
    }

    #[test]
    fn time_is_looked_at_before_payloads_and_after_the_kind_of_token() {
        check(r#"{"sub":"ann","exp":1,"b64info":"?"}"#, &options(), EXPIRED);
        check(r#"{"sub":"ann","exp":1,"subs":{"news":{"b64data":"?"}}}"#, &options(), EXPIRED);
        check(r#"{"sub":"ann","exp":1,"channel":"news"}"#, &options(), INVALID);
    }

    #[test]
    fn null_is_a_payload() {
        let token =
            verify_connection(&token(r#"{"info":null,"subs":{"news":{"data":null}}}"#), &options(), Proof::Open, NOW);
        let token = token.expect("a good token");
        assert_eq!((&*token.info, &*token.subs[0].data), (&b"null"[..], &b"null"[..]));
    }

    #[test]
    fn token_lives_from_nbf_to_exp() {
        for (claims, want) in [
            (format!(r#"{{"sub":"ann","exp":{}}}"#, NOW + 1), Ok("ann")),
            (format!(r#"{{"sub":"ann","exp":{NOW}}}"#), EXPIRED),
            (format!(r#"{{"sub":"ann","exp":{}}}"#, NOW - 1), EXPIRED),
            (format!(r#"{{"sub":"ann","nbf":{NOW}}}"#), Ok("ann")),
            (format!(r#"{{"sub":"ann","nbf":{}}}"#, NOW + 1), EXPIRED),
            (r#"{"sub":"ann"}"#.to_owned(), Ok("ann")),
        ] {
            check(&claims, &options(), want);
        }
    }

    #[test]
    fn expired_token_of_somebody_else_is_not_told_to_be_expired() {
        let expired = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ann","exp":1}"#, hmac::HMAC_SHA256, "other");
        check_token(&expired, &options(), INVALID);
    }

    /// U07
    #[test]
    fn audience_is_one_or_one_of_several() {
        let options = TokenOptions { audience: "svc".into(), ..options() };
        check(r#"{"sub":"ann","aud":"svc"}"#, &options, Ok("ann"));
        check(r#"{"sub":"ann","aud":["other","svc"]}"#, &options, Ok("ann"));
        check(r#"{"sub":"ann","aud":["other"]}"#, &options, INVALID);
        check(r#"{"sub":"ann","aud":"svc2"}"#, &options, INVALID);
        check(r#"{"sub":"ann","aud":[]}"#, &options, INVALID);
        check(r#"{"sub":"ann"}"#, &options, INVALID);
    }

    #[test]
    fn issuer_must_be_the_configured_one() {
        let options = TokenOptions { issuer: "https://issuer.example".into(), ..options() };
        check(r#"{"sub":"ann","iss":"https://issuer.example"}"#, &options, Ok("ann"));
        check(r#"{"sub":"ann","iss":"https://other.example"}"#, &options, INVALID);
        check(r#"{"sub":"ann"}"#, &options, INVALID);
    }

    /// U07
    #[test]
    fn issuer_and_audience_may_be_patterns() {
        let pattern = |text: &str| Some(Regex::new(text).expect("a pattern"));
        let options =
            TokenOptions { audience_regex: pattern("^svc-[0-9]+$"), issuer_regex: pattern("^iss"), ..options() };
        check(r#"{"sub":"ann","aud":["x","svc-12"],"iss":"iss-x"}"#, &options, Ok("ann"));
        check(r#"{"sub":"ann","aud":"svc-x","iss":"iss-x"}"#, &options, INVALID);
        check(r#"{"sub":"ann","aud":"svc-1","iss":"xiss"}"#, &options, INVALID);
    }

    /// U08
    #[test]
    fn user_may_stand_in_another_claim() {
        let options = TokenOptions { user_id_claim: "user_id".into(), ..options() };
        check(r#"{"sub":"ann","user_id":"bob"}"#, &options, Ok("bob"));
        check(r#"{"sub":"ann"}"#, &options, Ok(""));
        check(r#"{"user_id":42}"#, &options, Ok("42"));
        check(r#"{"user_id":true}"#, &options, Ok("true"));
        check(r#"{"user_id":null}"#, &options, Ok(""));
        check(r#"{"user_id":"\u0061"}"#, &options, Ok("a"));
    }

    /// U06
    #[test]
    fn previous_key_is_good_until_its_time_is_over() {
        let previous = |valid_until| TokenOptions {
            hmac_previous_secret_key: "old".into(),
            hmac_previous_secret_key_valid_until: valid_until,
            ..options()
        };
        let token = |claims| signed(r#"{"alg":"HS256"}"#, claims, hmac::HMAC_SHA256, "old");
        check_token(&token(r#"{"sub":"ann"}"#), &options(), INVALID);
        check_token(&token(r#"{"sub":"ann"}"#), &previous(0), Ok("ann"));
        check_token(&token(r#"{"sub":"ann"}"#), &previous(NOW), Ok("ann"));
        // When the token was issued does not count: who holds an old key can write any time into it.
        for claims in [r#"{"sub":"ann"}"#, r#"{"sub":"ann","iat":100}"#] {
            check_token(&token(claims), &previous(NOW - 1), INVALID);
        }
        check(r#"{"sub":"ann"}"#, &previous(NOW - 1), Ok("ann"));
    }

    /// U14
    #[test]
    fn signature_may_be_skipped_and_nothing_else() {
        let foreign = |claims| signed(r#"{"alg":"HS256"}"#, claims, hmac::HMAC_SHA256, "other");
        let skipped = |token: &str| verify_connection(token, &options(), Proof::Right, NOW).map(|token| token.user);
        assert_eq!(skipped(&foreign(r#"{"sub":"ann"}"#)).as_deref(), Ok("ann"));
        assert_eq!(skipped(&foreign(r#"{"sub":"ann","exp":1}"#)), Err(TokenError::Expired));
        assert_eq!(skipped("a.b.c"), Err(TokenError::Invalid));
    }

    #[test]
    fn connection_and_subscription_tokens_do_not_stand_for_each_other() {
        let subscription = token(r#"{"sub":"ann","channel":"news"}"#);
        check_token(&subscription, &options(), INVALID);
        let opened = verify_subscription(&subscription, &options(), Proof::Open, NOW).expect("a subscription token");
        assert_eq!((&*opened.user, &*opened.channel, &*opened.client), ("ann", "news", ""));
        let connection = token(r#"{"sub":"ann"}"#);
        let refused = verify_subscription(&connection, &options(), Proof::Open, NOW).map(|_| ());
        assert_eq!(refused, Err(TokenError::Invalid));
    }

    #[test]
    fn expire_at_wins_over_exp_and_zero_is_never() {
        for (claims, want) in [
            (format!(r#"{{"exp":{}}}"#, NOW + 9), Some(NOW + 9)),
            (format!(r#"{{"exp":{},"expire_at":{}}}"#, NOW + 9, NOW + 5), Some(NOW + 5)),
            (format!(r#"{{"exp":{},"expire_at":0}}"#, NOW + 9), None),
            ("{}".to_owned(), None),
        ] {
            let got = verify_connection(&token(&claims), &options(), Proof::Open, NOW).expect("a connection token");
            assert_eq!(got.expire_at, want, "{claims}");
        }
    }

    /// U15
    #[test]
    fn payloads_come_as_json_or_in_base64() {
        let claims = r#"{"info":{ "a" : 1 },"subs":{"x":{"data":[1]},"y":{"b64data":"AAE="},"z":{"info":null}}}"#;
        let got = verify_connection(&token(claims), &options(), Proof::Open, NOW).expect("a connection token");
        assert_eq!(&got.info[..], br#"{ "a" : 1 }"#);
        let subs: Vec<(&str, &[u8], &[u8])> =
            got.subs.iter().map(|s| (&*s.channel, &s.data[..], &s.info[..])).collect();
        assert_eq!(subs, [("x", &b"[1]"[..], &b""[..]), ("y", b"\x00\x01", b""), ("z", b"", b"null")]);
    }

    #[test]
    fn channels_are_subscriptions_where_no_subs_are_named() {
        let names = |claims| {
            let got = verify_connection(&token(claims), &options(), Proof::Open, NOW).expect("a connection token");
            got.subs.iter().map(|sub| sub.channel.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(r#"{"channels":["b",null,"a"]}"#), ["b", "a"]);
        assert_eq!(names(r#"{"channels":["b","a"],"subs":{"c":{}}}"#), ["c"]);
    }

    #[test]
    fn options_are_overridden_by_objects_with_a_value() {
        let claims = r#"{"channel":"x","override":{"presence":{"value":true},"force_recovery":{"value":false}}}"#;
        let got = verify_subscription(&token(claims), &options(), Proof::Open, NOW).expect("a subscription token");
        assert_eq!(got.overrides.presence, Some(true));
        assert_eq!(got.overrides.force_recovery, Some(false));
        assert_eq!(got.overrides.join_leave, None);
    }
}
