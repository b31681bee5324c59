//! Options of the runtime: listeners and endpoints. The last word of a configuration key is the name of the field.

use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::websocket::Strictness;

use crate::balance::BalanceOptions;
use crate::http::forwarded::ForwardedHeaders;
use crate::listen::Listen;
use crate::placement::PlacementOptions;
use crate::tls::TlsOptions;
use crate::uring::UringOptions;

/// Everything the runtime must know; fixed while it runs.
#[derive(Clone, Debug)]
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
    /// Config group `http_stream`.
    pub http_stream: StreamOptions,
    /// Config group `sse`.
    pub sse: StreamOptions,
    /// Config group `uni_websocket`.
    pub uni_websocket: UniWebSocketOptions,
    /// Config group `uni_http_stream`.
    pub uni_http_stream: StreamOptions,
    /// Config group `uni_sse`.
    pub uni_sse: StreamOptions,
    /// Config group `sockjs`, ours.
    pub sockjs: SockJsOptions,
    /// Config group `emulation`.
    pub emulation: EmulationOptions,
    /// Key `init.handler_prefix`. Default `/connection/init`.
    pub init_handler_prefix: String,
    /// Config group `http_api`.
    pub http_api: HttpApiOptions,
    /// Config group `health`.
    pub health: HealthOptions,
    /// Config group `prometheus`.
    pub prometheus: PrometheusOptions,
    /// Key `client.allowed_origins`: glob patterns, matched against the lower-cased Origin. Empty, the default, refuses
    /// every request that has one; `*` alone allows all.
    pub allowed_origins: Vec<String>,
    /// Key `client.http_origin_check_disabled`, ours: HTTP streaming, SSE and emulation serve requests of other origins too, without the
    /// headers that let a page read the answer, as the reference does. Default false: 403.
    pub http_origin_check_disabled: bool,
    /// Key `client.connection_limit`: client connections of this node; more are refused with 503. 0, the default,
    /// for no limit.
    pub connection_limit: usize,
    /// Key `client.connection_rate_limit`: tries to connect that this node has at most; one comes back per second, and more
    /// are refused with 503. 0, the default, for no limit.
    pub connection_rate_limit: usize,
    /// Key `client.user_id_http_header`: request header with the user id, set by a trusted reverse proxy. Empty, the
    /// default, for none.
    pub user_id_http_header: String,
    /// Keys `http_headers` of the proxies: headers of clients' requests that backends may hear of.
    pub forwarded_headers: ForwardedHeaders,
    /// Static files, for the development mode.
    pub assets: Vec<Asset>,
    /// Pages that describe the server API.
    pub swagger: SwaggerOptions,
    /// Sizes of each shard's ring.
    pub uring: UringOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 0,
            shard_placement: PlacementOptions::default(),
            shard_balance: BalanceOptions::default(),
            listeners: Vec::new(),
            websocket: WebSocketOptions::default(),
            http_stream: StreamOptions::at("/connection/http_stream"),
            sse: StreamOptions::at("/connection/sse"),
            uni_websocket: UniWebSocketOptions::default(),
            uni_http_stream: StreamOptions::at("/connection/uni_http_stream"),
            uni_sse: StreamOptions::at("/connection/uni_sse"),
            sockjs: SockJsOptions::default(),
            emulation: EmulationOptions::default(),
            init_handler_prefix: "/connection/init".to_owned(),
            http_api: HttpApiOptions::default(),
            health: HealthOptions::default(),
            prometheus: PrometheusOptions::default(),
            allowed_origins: Vec::new(),
            http_origin_check_disabled: false,
            connection_limit: 0,
            connection_rate_limit: 0,
            user_id_http_header: String::new(),
            forwarded_headers: ForwardedHeaders::default(),
            assets: Vec::new(),
            swagger: SwaggerOptions::default(),
            uring: UringOptions::default(),
        }
    }
}

/// A port and what is served there.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The address.
    pub listen: Listen,
    /// What is served.
    pub endpoints: Endpoints,
    /// `None`: without TLS.
    pub tls: Option<TlsOptions>,
    /// Key `http_server.h2c_external`: HTTP/2 without TLS, for clients that begin with it. Default off.
    pub h2c: bool,
    /// UDP port of HTTP/3, key `http_server.http3.enabled`: responses name it in `Alt-Svc`. 0 for the number of the port itself.
    /// Default `None`: there is none.
    pub http3: Option<u16>,
}

/// Endpoints of a port; anything else is 404.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Unless `websocket.disabled`; external port.
    pub websocket: bool,
    /// With `http_stream.enabled`; external port, like those that follow.
    pub http_stream: bool,
    /// With `sse.enabled`.
    pub sse: bool,
    /// With `uni_websocket.enabled`.
    pub uni_websocket: bool,
    /// With `uni_http_stream.enabled`.
    pub uni_http_stream: bool,
    /// With `uni_sse.enabled`.
    pub uni_sse: bool,
    /// With `sockjs.enabled`.
    pub sockjs: bool,
    /// With `http_stream.enabled` or `sse.enabled`.
    pub emulation: bool,
    /// With `init.enabled`.
    pub init: bool,
    /// Unless `http_api.disabled`; internal port, the external one with `http_api.external`.
    pub http_api: bool,
    /// With `health.enabled`; internal port.
    pub health: bool,
    /// With `health.delivery_check`: `/ready` on the internal port.
    pub ready: bool,
    /// With `prometheus.enabled`; internal port.
    pub prometheus: bool,
    /// Serves `Options::assets`.
    pub assets: bool,
    /// With `swagger.enabled`; internal port.
    pub swagger: bool,
}

#[cfg(test)]
impl Endpoints {
    /// Everything on one port.
    pub(crate) const ALL: Self = Self {
        websocket: true,
        http_stream: true,
        sse: true,
        uni_websocket: true,
        uni_http_stream: true,
        uni_sse: true,
        sockjs: true,
        emulation: true,
        init: true,
        http_api: true,
        health: true,
        ready: true,
        prometheus: true,
        assets: true,
        swagger: true,
    };
}

/// Config group `websocket`.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// Key `websocket.handler_prefix`. Default `/connection/websocket`.
    pub handler_prefix: String,
    /// Key `websocket.message_size_limit`: bytes of one incoming message; more closes with 1009. Default 65536.
    pub message_size_limit: usize,
    /// Key `websocket.compression`: accepts permessage-deflate, both ways and without context takeover. What is deflated
    /// for clients is in `DeflateOptions` of the state. Default false.
    pub compression: bool,
    /// Key `websocket.decompressed_message_size_limit`: bytes of one incoming message once it is inflated; more closes with
    /// 1009. 0, the default, for ten times `message_size_limit`, but no more than that limit and 4 times the deflated bytes; the
    /// reference has no such proportion, and a number here has none either.
    pub decompressed_message_size_limit: usize,
    /// Key `websocket.lax_handshake`, ours: upgrades over HTTP/1.0, with other versions beside 13 or with a second key pass, as in
    /// the reference. Holds for `uni_websocket` and `sockjs`, too. Default false: 400.
    pub lax_handshake: bool,
    /// Key `websocket.write_timeout`: how long a client may take no byte of what is sent to it. Default 1 s.
    pub write_timeout: Duration,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            handler_prefix: "/connection/websocket".to_owned(),
            message_size_limit: 65536,
            compression: false,
            decompressed_message_size_limit: 0,
            lax_handshake: false,
            write_timeout: Duration::from_secs(1),
        }
    }
}

impl WebSocketOptions {
    /// How closely upgrades are looked at.
    pub(crate) fn strictness(&self) -> Strictness {
        if self.lax_handshake { Strictness::Lax } else { Strictness::Strict }
    }

    /// What an incoming message may have once it is inflated.
    pub(crate) fn decompressed_bytes_max(&self) -> usize {
        match self.decompressed_message_size_limit {
            0 => self.message_size_limit.saturating_mul(10),
            limit => limit,
        }
    }
}

/// Config group `uni_websocket`.
#[derive(Clone, Debug)]
pub struct UniWebSocketOptions {
    /// The keys that `websocket` has, too. The path is `/connection/uni_websocket` by default.
    pub websocket: WebSocketOptions,
    /// Key `uni_websocket.disable_closing_handshake`: no close frame at the end. Default false.
    pub disable_closing_handshake: bool,
    /// Key `uni_websocket.disable_disconnect_push`: the close frame alone tells why. Default false.
    pub disable_disconnect_push: bool,
    /// Key `uni_websocket.join_push_messages`: pushes that leave together share a frame. Default false.
    pub join_push_messages: bool,
}

impl Default for UniWebSocketOptions {
    fn default() -> Self {
        let handler_prefix = "/connection/uni_websocket".to_owned();
        Self {
            websocket: WebSocketOptions { handler_prefix, ..WebSocketOptions::default() },
            disable_closing_handshake: false,
            disable_disconnect_push: false,
            join_push_messages: false,
        }
    }
}

/// Config groups `http_stream`, `sse`, `uni_http_stream` and `uni_sse`.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Key `handler_prefix`. Default `/connection/` and the name of the group.
    pub handler_prefix: String,
    /// Key `max_request_body_size`: bytes of the request; more is answered with 413. Default 65536.
    pub max_request_body_size: usize,
    /// Key `connect_code_to_http_response.transforms` when it is enabled, of the unidirectional groups: HTTP responses to connect
    /// requests that fail. A code that is not among them is answered with 500. Default `None`: 200 and a disconnect push.
    pub connect_code_to_http_response: Option<Vec<CodeResponse>>,
}

impl StreamOptions {
    fn at(handler_prefix: &str) -> Self {
        let handler_prefix = handler_prefix.to_owned();
        Self { handler_prefix, max_request_body_size: 65536, connect_code_to_http_response: None }
    }
}

/// One of `connect_code_to_http_response.transforms`.
#[derive(Clone, Debug)]
pub struct CodeResponse {
    /// Key `code`: of an error or a disconnect.
    pub code: u32,
    /// Key `to.status_code`.
    pub status_code: u16,
    /// Key `to.body`; empty for the text of the code.
    pub body: String,
}

/// Config group `sockjs`, ours: Centrifugo had it up to version 5.
#[derive(Clone, Debug)]
pub struct SockJsOptions {
    /// Key `sockjs.handler_prefix`; everything is below. Default `/connection/sockjs`.
    pub handler_prefix: String,
    /// Key `sockjs.url`: where the iframe page loads the client from. Default a public one of version 1.
    pub url: String,
    /// Key `sockjs.heartbeat_delay`: silence before a heartbeat. At least 1 s; default 25 s.
    pub heartbeat_delay: Duration,
}

impl Default for SockJsOptions {
    fn default() -> Self {
        Self {
            handler_prefix: "/connection/sockjs".to_owned(),
            url: "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js".to_owned(),
            heartbeat_delay: Duration::from_secs(25),
        }
    }
}

/// Config group `emulation`.
#[derive(Clone, Debug)]
pub struct EmulationOptions {
    /// Key `emulation.handler_prefix`. Default `/emulation`.
    pub handler_prefix: String,
    /// Key `emulation.max_request_body_size`: bytes of a request; more is answered with 413. Default 65536.
    pub max_request_body_size: usize,
}

impl Default for EmulationOptions {
    fn default() -> Self {
        Self { handler_prefix: "/emulation".to_owned(), max_request_body_size: 65536 }
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
    /// Key `http_api.wrong_key_limit`, ours: wrong keys that an address may send in a minute; for more it gets 429. 0, of a
    /// negative number in the key, is no limit. Default 10.
    pub wrong_key_limit: usize,
}

impl Default for HttpApiOptions {
    fn default() -> Self {
        Self {
            handler_prefix: "/api".to_owned(),
            key: String::new(),
            insecure: false,
            transport_errors: false,
            body_size_limit: 32 << 20,
            wrong_key_limit: 10,
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
    /// As requested, such as `/`; of a file below a prefix, what follows the prefix and its slash.
    pub path: String,
    /// Content type.
    pub content_type: String,
    /// Content.
    pub bytes: Bytes,
}

/// Config group `swagger`.
#[derive(Clone, Debug)]
pub struct SwaggerOptions {
    /// Key `swagger.handler_prefix`. Default `/swagger`; without the slash at its end.
    pub handler_prefix: String,
    /// What is below it, by paths relative to it: the page itself has the empty one. Without files nothing is served.
    pub files: Vec<Asset>,
}

impl Default for SwaggerOptions {
    fn default() -> Self {
        Self { handler_prefix: "/swagger".to_owned(), files: Vec::new() }
    }
}
