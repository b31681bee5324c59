//! What a unidirectional connection is told, apart from publications and pings. JSON only.

use serde_json::Value;

/// A push.
#[derive(Debug, PartialEq, Eq)]
pub enum UniPush {
    /// The connection is open.
    Connected {
        /// Seconds from one ping to the next; 0 for none.
        ping: u32,
        /// Channels that the server has subscribed the client to.
        subscriptions: usize,
    },
    /// The subscription or the connection is over, and why.
    Ended(String),
    /// Of no consequence here.
    Other,
}

/// Reads one message.
pub fn read(message: &[u8]) -> Result<UniPush, String> {
    let push: Value = serde_json::from_slice(message).map_err(|error| format!("bad push: {error}"))?;
    if let Some(connected) = push.get("connect") {
        let ping = connected["ping"].as_u64().and_then(|ping| u32::try_from(ping).ok()).unwrap_or_default();
        let subscriptions = connected["subs"].as_object().map_or(0, |subs| subs.len());
        return Ok(UniPush::Connected { ping, subscriptions });
    }
    for (key, what) in [("disconnect", "disconnected"), ("unsubscribe", "unsubscribed")] {
        if let Some(told) = push.get(key) {
            return Ok(UniPush::Ended(format!("{what} with {} {}", told["code"], told["reason"])));
        }
    }
    Ok(UniPush::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_told_apart() {
        let connected = |ping, subscriptions| UniPush::Connected { ping, subscriptions };
        for (message, want) in [
            (r#"{"connect":{"client":"c","ping":25,"subs":{"a":{}}}}"#, connected(25, 1)),
            (r#"{"connect":{}}"#, connected(0, 0)),
            (
                r#"{"disconnect":{"code":3500,"reason":"x"}}"#,
                UniPush::Ended(r#"disconnected with 3500 "x""#.to_owned()),
            ),
            (
                r#"{"channel":"a","unsubscribe":{"code":2500,"reason":"x"}}"#,
                UniPush::Ended(r#"unsubscribed with 2500 "x""#.to_owned()),
            ),
            (r#"{"channel":"a","join":{}}"#, UniPush::Other),
        ] {
            assert_eq!(read(message.as_bytes()), Ok(want), "{message}");
        }
        assert!(read(b"{").is_err());
    }
}
