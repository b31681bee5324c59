//! The codes a client or an API caller is told, with the reference's words.
//!
//! Source: protocol §13 and server API §1.1. Values never change: client libraries decide by them whether to retry.

use std::borrow::Cow;

/// Why a command failed. Sent in the reply; the connection stays open.
///
/// Applications may use their own codes, 400 to 1999, through proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// Code on the wire.
    pub code: u32,
    /// Text on the wire.
    pub message: Cow<'static, str>,
    /// True when the same command may succeed later.
    pub temporary: bool,
}

impl ReplyError {
    /// Our fault, worth a retry.
    pub const INTERNAL: Self = Self::temporary(100, "internal server error");
    /// No valid credentials.
    pub const UNAUTHORIZED: Self = Self::lasting(101, "unauthorized");
    /// The namespace of the channel does not exist.
    pub const UNKNOWN_CHANNEL: Self = Self::lasting(102, "unknown channel");
    /// Not allowed by the channel's options or the token.
    pub const PERMISSION_DENIED: Self = Self::lasting(103, "permission denied");
    /// No such RPC method.
    pub const METHOD_NOT_FOUND: Self = Self::lasting(104, "method not found");
    /// Subscribed, or a subscribe command is under way.
    pub const ALREADY_SUBSCRIBED: Self = Self::lasting(105, "already subscribed");
    /// Over a configured limit.
    pub const LIMIT_EXCEEDED: Self = Self::lasting(106, "limit exceeded");
    /// The command is well formed and makes no sense.
    pub const BAD_REQUEST: Self = Self::lasting(107, "bad request");
    /// The feature is off for this channel.
    pub const NOT_AVAILABLE: Self = Self::lasting(108, "not available");
    /// The client library fetches a new token.
    pub const TOKEN_EXPIRED: Self = Self::lasting(109, "token expired");
    /// Credentials other than a token have expired.
    pub const EXPIRED: Self = Self::lasting(110, "expired");
    /// Over a rate limit.
    pub const TOO_MANY_REQUESTS: Self = Self::temporary(111, "too many requests");
    /// The asked for position is not in the history.
    pub const UNRECOVERABLE_POSITION: Self = Self::lasting(112, "unrecoverable position");
    /// Another page of the same map subscription is being read.
    pub const CONCURRENT_PAGINATION: Self = Self::temporary(113, "concurrent pagination");

    const fn temporary(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), temporary: true }
    }

    const fn lasting(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), temporary: false }
    }
}

/// Why a connection is closed by the server.
///
/// Clients come back after 3000-3499 and 4000-4499, and stay away after 3500-3999 and 4500-4999.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Code on the wire.
    pub code: u32,
    /// Text on the wire; a WebSocket close frame holds 123 bytes of it.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    /// The client has gone; no close frame is written.
    pub const CONNECTION_CLOSED: Self = Self::new(3000, "connection closed");
    /// The server stops.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// Our fault.
    pub const SERVER_ERROR: Self = Self::new(3004, "internal server error");
    /// The connection outlived its credentials.
    pub const EXPIRED: Self = Self::new(3005, "connection expired");
    /// A server-side subscription outlived its credentials.
    pub const SUB_EXPIRED: Self = Self::new(3006, "subscription expired");
    /// Over `client.queue_max_size`.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// The transport refused our bytes.
    pub const WRITE_ERROR: Self = Self::new(3009, "write error");
    /// A gap in a stream that the client must recover from.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// Asked for through the API.
    pub const FORCE_RECONNECT: Self = Self::new(3011, "force reconnect");
    /// No pong within `client.pong_timeout`.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// Over a rate limit.
    pub const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    /// The client drops its token and the state of its subscriptions.
    pub const STATE_INVALIDATED: Self = Self::new(3014, "state invalidated");
    /// The token is not ours or not right.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// Undecodable, or against the rules of the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// No connect command within `client.stale_close_delay`.
    pub const STALE: Self = Self::new(3502, "stale");
    /// Default of the disconnect API.
    pub const FORCE_NO_RECONNECT: Self = Self::new(3503, "force disconnect");
    /// Over `client.user_connection_limit`.
    pub const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    /// More server-side subscriptions than `client.channel_limit`.
    pub const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
    /// A payload cannot be written in the client's encoding.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// Connecting is not allowed.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// The command has no handler.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
    /// The client made too many errors.
    pub const TOO_MANY_ERRORS: Self = Self::new(3509, "too many errors");

    const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Whether client libraries connect again after this code.
    #[must_use]
    pub fn is_reconnect(&self) -> bool {
        !matches!(self.code, 3500..4000 | 4500..5000)
    }
}

/// Why a subscription is ended by the server. From 2500 on the client subscribes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Code on the wire.
    pub code: u32,
    /// Text on the wire.
    pub reason: Cow<'static, str>,
}

impl Unsubscribe {
    /// Asked for through the API.
    pub const SERVER: Self = Self::new(2000, "server unsubscribe");
    /// A gap in the stream; the client recovers.
    pub const INSUFFICIENT_STATE: Self = Self::new(2500, "insufficient state");
    /// The subscription outlived its token.
    pub const EXPIRED: Self = Self::new(2501, "subscription expired");
    /// The client drops cached state and token.
    pub const STATE_INVALIDATED: Self = Self::new(2502, "state invalidated");

    const fn new(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

/// Why a call of the server API failed. Source: server API §1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Code on the wire.
    pub code: u32,
    /// Text on the wire.
    pub message: Cow<'static, str>,
}

impl ApiError {
    /// Our fault.
    pub const INTERNAL: Self = Self::new(100, "internal server error");
    /// The namespace of the channel does not exist.
    pub const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel");
    /// No such method.
    pub const NOT_FOUND: Self = Self::new(104, "not found");
    /// A parameter is missing or wrong.
    pub const BAD_REQUEST: Self = Self::new(107, "bad request");
    /// The feature is off for this channel.
    pub const NOT_AVAILABLE: Self = Self::new(108, "not available");
    /// The asked for position is not in the history.
    pub const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position");
    /// The state has changed meanwhile.
    pub const CONFLICT: Self = Self::new(113, "conflict");

    const fn new(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }

    /// HTTP status in transport error mode.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.code {
            102 | 104 => 404,
            107 | 108 => 400,
            112 => 416,
            113 => 409,
            _ => 500,
        }
    }

    /// Status code of GRPC in transport error mode.
    #[must_use]
    pub fn grpc_status(&self) -> i32 {
        const INVALID_ARGUMENT: i32 = 3;
        const NOT_FOUND: i32 = 5;
        const ALREADY_EXISTS: i32 = 6;
        const OUT_OF_RANGE: i32 = 11;
        const INTERNAL: i32 = 13;
        match self.code {
            102 | 104 => NOT_FOUND,
            107 | 108 => INVALID_ARGUMENT,
            112 => OUT_OF_RANGE,
            113 => ALREADY_EXISTS,
            _ => INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_stay_away_after_terminal_codes_only() {
        for (code, want) in
            [(3000, true), (3499, true), (3500, false), (3999, false), (4000, true), (4500, false), (5000, true)]
        {
            let disconnect = Disconnect { code, reason: Cow::Borrowed("") };
            assert_eq!(disconnect.is_reconnect(), want, "{code}");
        }
    }

    #[test]
    fn transport_mode_maps_codes_to_statuses() {
        for (error, http, grpc) in [
            (ApiError::INTERNAL, 500, 13),
            (ApiError::UNKNOWN_CHANNEL, 404, 5),
            (ApiError::NOT_FOUND, 404, 5),
            (ApiError::BAD_REQUEST, 400, 3),
            (ApiError::NOT_AVAILABLE, 400, 3),
            (ApiError::UNRECOVERABLE_POSITION, 416, 11),
            (ApiError::CONFLICT, 409, 6),
            (ApiError { code: 1000, message: Cow::Borrowed("own") }, 500, 13),
        ] {
            assert_eq!((error.http_status(), error.grpc_status()), (http, grpc), "{error:?}");
        }
    }
}
