//! Tokens as a backend makes them, and the seconds that they count.

use crate::model::info_of;
use crate::scenario::SECRET;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ringcast_state::{Now, Time};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Seconds since 1970 at time 0 of the simulation.
const START: i64 = 1_700_000_000;

/// Both clocks at a moment. `turned`: how far the wall clock was put forward, in milliseconds.
pub fn clocks(at: Time, turned: i64) -> Now {
    Now { at, unix_ms: (START as u64 * 1000 + at.0 / 1000).saturating_add_signed(turned) }
}

/// The moment at which the second `unix` begins, for a clock that nobody turns.
pub fn moment(unix: i64) -> Time {
    Time(0) + Duration::from_secs((unix - START) as u64)
}

/// A token for a user with server-side subscriptions; `with_terms`: they have infos and payloads.
pub fn connection(user: &str, channels: &[String], with_terms: bool, exp: Option<i64>) -> String {
    let mut claims = json!({"sub": user, "info": info(user)});
    if with_terms {
        let terms =
            channels.iter().map(|channel| (channel.clone(), json!({"info": info(channel), "data": info(channel)})));
        claims["subs"] = Value::Object(terms.collect::<Map<_, _>>());
    } else {
        claims["channels"] = json!(channels);
    }
    signed(claims, exp)
}

/// A token for one channel.
pub fn subscription(user: &str, channel: &str, exp: Option<i64>) -> String {
    signed(json!({"sub": user, "channel": channel, "info": info(channel), "data": info(channel)}), exp)
}

fn info(name: &str) -> Value {
    serde_json::from_str(&info_of(name)).expect("an info is JSON")
}

fn signed(mut claims: Value, exp: Option<i64>) -> String {
    if let Some(exp) = exp {
        claims["exp"] = exp.into();
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
