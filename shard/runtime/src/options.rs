//! Options of the runtime: listeners and endpoints. The last word of a configuration key is the name of the field.

use std::time::Duration;

use crate::balance::BalanceOptions;
use crate::listen::Listen;
use crate::placement::PlacementOptions;
use crate::uring::UringOptions;

/// Everything the runtime must know; fixed while it runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Key `shards`: threads that serve clients, each pinned to a CPU. 0, the default, for one on every CPU that the process may
    /// use, but no more than its quota of CPU time; `shard_placement` has more to say.
    pub shards: usize,
    /// Config group `shard_placement`.
    pub shard_placement: PlacementOptions,
    /// Config group `shard_balance`.
    pub shard_balance: BalanceOptions,
    /// Where to listen, and for what.
    pub listeners: Vec<ListenerOptions>,
    /// Config group `websocket`.
    pub websocket: WebSocketOptions,
    /// Config group `http_api`.
    pub http_api: HttpApiOptions,
    /// Config group `health`.
    pub health: HealthOptions,
    /// Config group `prometheus`.
    pub prometheus: PrometheusOptions,
    /// Key `client.allowed_origins`: glob patterns, matched against the lower-cased Origin. Empty, the default, refuses
    /// every request that has one; `*` alone allows all.
    pub allowed_origins: Vec<String>,
    /// Key `client.connection_limit`: client connections of this node; more are refused with 503. 0, the default,
    /// for no limit.
    pub connection_limit: usize,
    /// Key `client.connection_rate_limit`: tries to connect that this node has at most; one comes back per second, and more
    /// are refused with 503. 0, the default, for no limit.
    pub connection_rate_limit: usize,
    /// Key `client.user_id_http_header`: request header with the user id, set by a trusted reverse proxy. Empty, the
    /// default, for none.
    pub user_id_http_header: String,
    /// Static files, for the development mode.
    pub assets: Vec<Asset>,
    /// Sizes of each shard's ring.
    pub uring: UringOptions,
}

/// A port and what is served there.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The address.
    pub listen: Listen,
    /// What is served.
    pub endpoints: Endpoints,
}

/// Endpoints of a port; anything else is 404.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Unless `websocket.disabled`; external port.
    pub websocket: bool,
    /// Unless `http_api.disabled`; internal port, the external one with `http_api.external`.
    pub http_api: bool,
    /// With `health.enabled`; internal port.
    pub health: bool,
    /// With `prometheus.enabled`; internal port.
    pub prometheus: bool,
    /// Serves `Options::assets`.
    pub assets: bool,
}

/// Config group `websocket`.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// Key `websocket.handler_prefix`. Default `/connection/websocket`.
    pub handler_prefix: String,
    /// Key `websocket.message_size_limit`: bytes of one incoming message; more closes with 1009. Default 65536.
    pub message_size_limit: usize,
    /// Key `websocket.write_timeout`: how long a client may take no byte of what is sent to it. Default 1 s.
    pub write_timeout: Duration,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            handler_prefix: "/connection/websocket".to_owned(),
            message_size_limit: 65536,
            write_timeout: Duration::from_secs(1),
        }
    }
}

/// Config group `http_api`.
#[derive(Clone, Debug)]
pub struct HttpApiOptions {
    /// Key `http_api.handler_prefix`. Default `/api`.
    pub handler_prefix: String,
    /// Key `http_api.key`; empty, the default, refuses every request.
    pub key: String,
    /// Key `http_api.insecure`: no key is asked for. Default false.
    pub insecure: bool,
    /// Key `http_api.error_mode` is `transport`: errors are HTTP statuses. Default false.
    pub transport_errors: bool,
    /// Key `http_api.body_size_limit`, ours: bytes of a request body; more is answered with 413. Default 32 MiB.
    pub body_size_limit: usize,
}

impl Default for HttpApiOptions {
    fn default() -> Self {
        Self {
            handler_prefix: "/api".to_owned(),
            key: String::new(),
            insecure: false,
            transport_errors: false,
            body_size_limit: 32 << 20,
        }
    }
}

/// Config group `health`.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// Key `health.handler_prefix`. Default `/health`.
    pub handler_prefix: String,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { handler_prefix: "/health".to_owned() }
    }
}

/// Config group `prometheus`, as far as the shards see it.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    /// Key `prometheus.handler_prefix`; percentiles are at `/latency` below. Default `/metrics`.
    pub handler_prefix: String,
    /// Key `prometheus.instrument_http_handlers`: count requests by endpoint, method and status. Default false.
    pub instrument_http_handlers: bool,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self { handler_prefix: "/metrics".to_owned(), instrument_http_handlers: false }
    }
}

/// A static file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// As requested, such as `/`.
    pub path: String,
    /// Content type.
    pub content_type: String,
    /// Content.
    pub bytes: Vec<u8>,
}
