//! Options of the state machines: immutable, shared by all shards, replaced as a whole on reload.
//!
//! The last word of a configuration key is the name of the field.

use crate::Framing;
use crate::auth::{Endpoint, Proof, PublicKey};
use crate::namespace::ChannelConfig;
use crate::proxy::ProxyOptions;
use crate::transport::Shape;
use regex::Regex;
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::sync::Arc;
use std::time::Duration;

/// Everything that the shards of one process must know.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Config group `client`.
    pub client: ClientOptions,
    /// Config group `client.token`: connection tokens, and subscription tokens unless those have their own.
    pub token: TokenOptions,
    /// Config group `client.subscription_token`, present when `client.subscription_token.enabled`.
    pub subscription_token: Option<TokenOptions>,
    /// Config group `channel`.
    pub channel: ChannelConfig,
    /// Method of the built-in ping RPC; config keys `rpc.ping.enabled` and `rpc.ping.method`.
    pub rpc_ping_method: Option<String>,
    /// Which backends are asked.
    pub proxy: ProxyOptions,
    /// Bounds of what shards hold for each other.
    pub limits: Limits,
    /// Key `engine.type` or `broker.type`: a broker orders channels, and not their home alone. Of a process, not to be reloaded.
    pub has_broker: bool,
    /// Keys `presence_manager.type` or `engine.type`: presence is in memory beside a broker, so that each node shows who is connected to
    /// it. Of a process, not to be reloaded.
    pub presence_is_local: bool,
    /// With key `health.delivery_check`: how many brokers there are, where several have a part of the channels each; 1 for memory. Without,
    /// 0. Of a process, not to be reloaded.
    pub delivery_check: u16,
    /// This node, as `info` shows it.
    pub node: NodeOptions,
    /// Config group `websocket`.
    pub websocket: DeflateOptions,
    /// Config group `uni_websocket`.
    pub uni_websocket: DeflateOptions,
}

/// What is deflated for the clients of an endpoint that negotiated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOptions {
    /// Key `compression_level`: 1, the fastest, to 9; 0 deflates nothing. Default 1.
    pub compression_level: u8,
    /// Key `compression_min_size`: messages of so many bytes, and shorter ones, stay as they are; 0, the default, tries all.
    pub compression_min_size: usize,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self { compression_level: 1, compression_min_size: 0 }
    }
}

impl Options {
    /// How messages of `length` bytes are deflated for connections of this shape; `None` when they are not.
    pub(crate) fn compression_level(&self, shape: Shape, length: usize) -> Option<u8> {
        if shape.framing != Framing::WebSocketDeflated {
            return None;
        }
        let options = if shape.kind.is_unidirectional() { &self.uni_websocket } else { &self.websocket };
        (length > options.compression_min_size).then_some(options.compression_level)
    }

    /// What subscription tokens are checked with.
    pub fn subscription_token(&self) -> &TokenOptions {
        self.subscription_token.as_ref().unwrap_or(&self.token)
    }

    /// Some token may take a public key.
    pub(crate) fn uses_public_keys(&self) -> bool {
        let is_checked = !self.client.insecure_skip_token_signature_verify;
        is_checked && [&self.token, self.subscription_token()].iter().any(|options| options.has_public_keys())
    }
}

/// Config group `client`.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Key `client.insecure`: no authentication and every permission. Default false.
    pub insecure: bool,
    /// Key `client.allow_anonymous_connect_without_token`. Default false.
    pub allow_anonymous_connect_without_token: bool,
    /// Key `client.disallow_anonymous_connection_tokens`. Default false.
    pub disallow_anonymous_connection_tokens: bool,
    /// Key `client.insecure_skip_token_signature_verify`. Default false.
    pub insecure_skip_token_signature_verify: bool,
    /// Key `client.ping_interval`. Default 25 s; zero sends no pings.
    pub ping_interval: Duration,
    /// Key `client.pong_timeout`: wait for the pong, shorter than `ping_interval`. Default 8 s.
    pub pong_timeout: Duration,
    /// Key `client.expired_close_delay`: grace for client-side refresh. Default 25 s.
    pub expired_close_delay: Duration,
    /// Key `client.expired_sub_close_delay`: grace for subscription refresh. Default 25 s.
    pub expired_sub_close_delay: Duration,
    /// Key `client.stale_close_delay`: time to authenticate. Default 10 s.
    pub stale_close_delay: Duration,
    /// Key `client.channel_position_max_time_lag`: time that a publication may take from its home to a subscriber with a
    /// position, who is told of insufficient state after more; 0 for any. Default 0.
    pub channel_position_max_time_lag: Duration,
    /// Key `client.presence_update_interval`: how often the reference looks after a connection's subscriptions; here the
    /// time after which presence shows what a refresh changed. Default 27 s.
    pub presence_update_interval: Duration,
    /// Key `client.channel_position_check_delay`: how long a position may be unchecked when it does. Here positions need no
    /// check, but whoever has one keeps the stream alive as checks do there. Default 40 s.
    pub channel_position_check_delay: Duration,
    /// Key `client.channel_limit`: channels per connection. Default 128.
    pub channel_limit: usize,
    /// Key `client.queue_max_size`: outgoing bytes per connection. Default 1 MiB.
    pub queue_max_size: usize,
    /// Key `client.write_delay`: how long output of a connection waits so that more leaves in one write. Counted from the
    /// first message; a disconnect ends it. Default 0.
    pub write_delay: Duration,
    /// Key `client.reply_without_queue`: a reply ends the wait of its connection, so that what waits leaves with it, in
    /// order. Default false.
    pub reply_without_queue: bool,
    /// Key `client.max_messages_in_frame`: messages that share a WebSocket frame where `write_delay` is set; -1 in the
    /// configuration is no limit. Default 16.
    pub max_messages_in_frame: usize,
    /// Key `client.concurrency`: commands of one connection served at a time; 0 and 1 mean one. Default 0.
    pub concurrency: usize,
    /// Key `client.user_connection_limit`: connections of one user on this node, 0 for no limit. Default 0.
    pub user_connection_limit: usize,
    /// Key `client.connect_include_server_time`. Default false.
    pub connect_include_server_time: bool,
    /// Key `client.subscribe_to_user_personal_channel`, present when enabled.
    pub subscribe_to_user_personal_channel: Option<PersonalChannel>,
    /// Key `client.connect_code_to_unidirectional_disconnect`: disconnects for errors of connect requests, by error code; empty, the
    /// default, for the usual ones.
    pub connect_code_to_unidirectional_disconnect: Vec<(u32, Disconnect)>,
    /// Key `client.history_max_publication_limit`. Default 300.
    pub history_max_publication_limit: usize,
    /// Key `client.recovery_max_publication_limit`, 0 for no limit. Default 300.
    pub recovery_max_publication_limit: usize,
}

impl ClientOptions {
    /// The time from one check of a position to the next, in the reference: the first look at the subscriptions after the
    /// delay.
    pub(crate) fn position_check_period(&self) -> Duration {
        let (interval, delay) = (self.presence_update_interval.as_secs(), self.channel_position_check_delay.as_secs());
        let looks = delay.checked_div(interval).map_or(u64::MAX, |looks| looks + 1);
        Duration::from_secs(interval.saturating_mul(looks))
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            insecure: false,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            insecure_skip_token_signature_verify: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            stale_close_delay: Duration::from_secs(10),
            channel_position_max_time_lag: Duration::ZERO,
            presence_update_interval: Duration::from_secs(27),
            channel_position_check_delay: Duration::from_secs(40),
            channel_limit: 128,
            queue_max_size: 1 << 20,
            write_delay: Duration::ZERO,
            reply_without_queue: false,
            max_messages_in_frame: 16,
            concurrency: 0,
            user_connection_limit: 0,
            connect_include_server_time: false,
            subscribe_to_user_personal_channel: None,
            connect_code_to_unidirectional_disconnect: Vec::new(),
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
        }
    }
}

impl ClientOptions {
    /// A proof counts as given where the operator asks for none.
    pub(crate) fn proof(&self, proof: Proof) -> Proof {
        if self.insecure_skip_token_signature_verify { Proof::Right } else { proof }
    }
}

impl ClientOptions {
    /// How a unidirectional client is closed over an error of its connect request. Source: protocol §13.3.
    pub(crate) fn unidirectional_disconnect(&self, error: &ReplyError) -> Disconnect {
        let mut configured = self.connect_code_to_unidirectional_disconnect.iter();
        if let Some((_, disconnect)) = configured.find(|(code, _)| *code == error.code) {
            return disconnect.clone();
        }
        match error.code {
            code if code == ReplyError::EXPIRED.code || code == ReplyError::TOKEN_EXPIRED.code => Disconnect::EXPIRED,
            code if code == ReplyError::TOO_MANY_REQUESTS.code => Disconnect::TOO_MANY_REQUESTS,
            code if code == ReplyError::PERMISSION_DENIED.code => Disconnect::PERMISSION_DENIED,
            _ => Disconnect::SERVER_ERROR,
        }
    }
}

/// Config group `client.subscribe_to_user_personal_channel`.
#[derive(Clone, Debug, Default)]
pub struct PersonalChannel {
    /// Key `personal_channel_namespace`; empty for names without namespace.
    pub personal_channel_namespace: String,
    /// Key `single_connection`: a new connection of a user closes those before. Default false.
    pub single_connection: bool,
}

/// Config group `client.token` or `client.subscription_token`: how tokens are verified.
#[derive(Clone, Debug, Default)]
pub struct TokenOptions {
    /// Key `hmac_secret_key`: HS256, HS384 and HS512. Empty turns these algorithms off.
    pub hmac_secret_key: String,
    /// Key `hmac_previous_secret_key`: the key before, during rotation.
    pub hmac_previous_secret_key: String,
    /// Key `hmac_previous_secret_key_valid_until`: Unix seconds, after which the old key is none any more. 0 for
    /// no limit.
    pub hmac_previous_secret_key_valid_until: i64,
    /// Key `rsa_public_key`: RS256, RS384 and RS512.
    pub rsa_public_key: Option<Arc<PublicKey>>,
    /// Key `ecdsa_public_key`: ES256, ES384 or ES512, by its curve.
    pub ecdsa_public_key: Option<Arc<PublicKey>>,
    /// Key `jwks_public_endpoint`: where the keys are published. Replaces all other keys.
    pub jwks_public_endpoint: Option<Endpoint>,
    /// Key `audience`: required `aud`, empty for any.
    pub audience: String,
    /// Key `audience_regex`: what `aud` must match.
    pub audience_regex: Option<Regex>,
    /// Key `issuer`: required `iss`, empty for any.
    pub issuer: String,
    /// Key `issuer_regex`: what `iss` must match.
    pub issuer_regex: Option<Regex>,
    /// Key `user_id_claim`: claim that holds the user id, empty for `sub`.
    pub user_id_claim: String,
}

impl TokenOptions {
    fn has_public_keys(&self) -> bool {
        self.rsa_public_key.is_some() || self.ecdsa_public_key.is_some() || self.jwks_public_endpoint.is_some()
    }
}

/// Bounds of what a shard keeps while it waits for others.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of messages waiting for one other shard; deliveries beyond shrink to one mark per channel. 8 MiB.
    pub outbox_max_size: usize,
    /// How long another shard may take for an answer before the client gets error 100. 1 s.
    pub request_timeout: Duration,
    /// How long a command waits for the key of its token before the token is refused, and then for the check of the
    /// signature before the connection is closed with 3004. 5 s each.
    pub proof_timeout: Duration,
    /// Bytes of commands that a connection may have waiting behind an unanswered one before its receiving is paused. 64 KiB.
    pub backlog_max_size: usize,
    /// How long the result of a publish with an idempotency key is remembered. 5 min.
    pub idempotency_ttl: Duration,
    /// Channels of a shard of which nothing is left but offset and epoch; one more, and the one that is so for the longest
    /// time is forgotten: who comes back to it is told that it cannot recover. 262,144, about 300 bytes each.
    pub idle_streams: usize,
    /// Questions of a shard that its broker has not answered; one more fails at once. 16,384.
    pub broker_requests_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            outbox_max_size: 8 << 20,
            request_timeout: Duration::from_secs(1),
            proof_timeout: Duration::from_secs(5),
            backlog_max_size: 64 << 10,
            idempotency_ttl: Duration::from_secs(300),
            idle_streams: 1 << 18,
            broker_requests_max: 1 << 14,
        }
    }
}

/// This node, as the `info` method of the server API shows it.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// A UUID made at start.
    pub uid: String,
    /// Key `node.name`.
    pub name: String,
    /// Shown in connect replies and `info`, such as `0.1.0`.
    pub version: String,
}
