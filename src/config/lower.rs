//! Turns validated settings into the options that the code reads. The last word of a key is the
//! name of the field, so one search finds both ends.

mod nats;
mod redis;

pub use nats::without_history;

use super::proxies;
use super::settings::{Settings, View};
use crate::cli::VERSION;
use crate::control::WebTransportOptions;
use crate::control::acme::AcmeOptions;
use crate::control::engine::EngineOptions;
use crate::control::grpc::{GrpcApiOptions, GrpcOptions, PortOptions, UniGrpcOptions};
use crate::control::http3::Http3Options;
use crate::tls::Certificate;
use crate::web::{PrometheusOptions, swagger};
use bytes::Bytes;
use regex::Regex;
use ringcast_proto::codes::Disconnect;
use ringcast_runtime::balance::BalanceOptions;
use ringcast_runtime::listen::Listen;
use ringcast_runtime::options::{
    Asset, CodeResponse, EmulationOptions, Endpoints, HealthOptions, HttpApiOptions, ListenerOptions, SockJsOptions,
    StreamOptions, SwaggerOptions, UniWebSocketOptions, WebSocketOptions,
};
use ringcast_runtime::placement::{PlacementOptions, parse_cpu_list};
use ringcast_state::auth::{Endpoint, KeyError, PublicKey};
use ringcast_state::namespace::{ChannelConfig, ChannelOptions, DataFormat, DeltaType, RecoveryMode, SubscriptionType};
use ringcast_state::options::{ClientOptions, DeflateOptions, NodeOptions, PersonalChannel, TokenOptions};
use std::sync::Arc;
use std::time::Duration;

/// The page that `demo.enabled` serves at `/`.
const DEMO_PAGE: &[u8] = include_bytes!("../../dev/chat.html");

/// Options of the program itself.
#[derive(Debug)]
pub struct ProgramOptions {
    /// Key `pid_file`: receives the process id; empty, the default, for none.
    pub pid_file: String,
    /// Key `shutdown.timeout`: time for a graceful stop. Default 30 s.
    pub shutdown_timeout: Duration,
    /// Key `shutdown.drain`: time over which clients are closed before the stop. Default 0, all of them at the stop.
    pub shutdown_drain: Duration,
    /// Key `demo.enabled`. Default false.
    pub demo: bool,
    /// Config group `prometheus`.
    pub prometheus: PrometheusOptions,
    /// Key `memory.budget`, bytes: with more, load is shed. 0, the default, for four fifths of what the machine and its control
    /// groups grant; negative for no budget.
    pub memory_budget: i64,
    /// Key `health.delivery_check`. Default false.
    pub delivery_check: bool,
}

/// Options of the program itself.
pub fn program(settings: &Settings) -> ProgramOptions {
    let root = settings.view();
    ProgramOptions {
        pid_file: root.text("pid_file").to_owned(),
        shutdown_timeout: root.object("shutdown").duration("timeout"),
        shutdown_drain: root.object("shutdown").duration("drain"),
        demo: root.object("demo").bool("enabled"),
        prometheus: prometheus(root.object("prometheus")),
        memory_budget: root.object("memory").int("budget"),
        delivery_check: root.object("health").bool("delivery_check"),
    }
}

fn prometheus(prometheus: View<'_>) -> PrometheusOptions {
    PrometheusOptions {
        enabled: prometheus.bool("enabled"),
        recovered_publications_histogram: prometheus.bool("recovered_publications_histogram"),
        native_histograms: prometheus.bool("native_histograms"),
        version: VERSION.to_owned(),
    }
}

/// HTTP/3, if it is enabled. Fails without a certificate: those of ACME are not for it, as in the reference.
pub fn http3(settings: &Settings) -> Result<Option<Http3Options>, String> {
    let root = settings.view();
    let (http, client) = (root.object("http_server"), root.object("client"));
    let webtransport = root.object("webtransport");
    if !http.object("http3").bool("enabled") {
        return Ok(None);
    }
    Ok(Some(Http3Options {
        certificate: Certificate::read(http.object("tls"), "http_server.tls")?,
        // The external one is the first.
        listener: 0,
        body_size_limit: root.object("http_api").count("body_size_limit"),
        webtransport: webtransport.bool("enabled").then(|| WebTransportOptions {
            handler_prefix: prefix(webtransport),
            message_size_limit: webtransport.count("message_size_limit"),
        }),
        allowed_origins: owned(client.texts("allowed_origins")),
        user_id_http_header: client.text("user_id_http_header").to_ascii_lowercase(),
        forwarded_headers: proxies::forwarded(root, "http_headers"),
    }))
}

/// GRPC, as far as it is enabled; none where it is not. Fails when a certificate cannot be read.
pub fn grpc(settings: &Settings) -> Result<Option<GrpcOptions>, String> {
    let root = settings.view();
    let (api, uni) = (root.object("grpc_api"), root.object("uni_grpc"));
    let api = api.bool("enabled").then(|| grpc_api(api)).transpose()?;
    let uni = uni.bool("enabled").then(|| grpc_port(uni, "uni_grpc")).transpose()?;
    let allowed_origins = owned(root.object("client").texts("allowed_origins"));
    let uni = uni.map(|port| UniGrpcOptions {
        port,
        allowed_origins,
        forwarded_metadata: proxies::forwarded(root, "grpc_metadata"),
    });
    Ok((api.is_some() || uni.is_some()).then_some(GrpcOptions { api, uni }))
}

fn grpc_api(api: View<'_>) -> Result<GrpcApiOptions, String> {
    Ok(GrpcApiOptions {
        port: grpc_port(api, "grpc_api")?,
        key: api.text("key").to_owned(),
        transport_errors: api.text("error_mode") == "transport",
        reflection: api.bool("reflection"),
        wrong_key_limit: api.count("wrong_key_limit"),
    })
}

fn grpc_port(group: View<'_>, path: &str) -> Result<PortOptions, String> {
    let port = u16::try_from(group.int("port")).expect("validated");
    let tls = group.object("tls");
    Ok(PortOptions {
        listen: Listen { address: group.text("address").to_owned(), port },
        tls: tls.bool("enabled").then(|| Certificate::read(tls, &format!("{path}.tls"))).transpose()?,
        max_receive_message_size: group.count("max_receive_message_size"),
    })
}

/// Disconnects by the code of an error.
fn disconnects(mapping: View<'_>) -> Vec<(u32, Disconnect)> {
    let transforms = mapping.list("transforms").filter(|_| mapping.bool("enabled"));
    let pairs = transforms.map(|transform| {
        let to = transform.object("to");
        let reason = to.text("reason").to_owned().into();
        (code(transform), Disconnect { code: code(to), reason })
    });
    pairs.collect()
}

fn code(object: View<'_>) -> u32 {
    u32::try_from(object.int("code")).expect("validated")
}

fn personal_channel(personal: View<'_>) -> Option<PersonalChannel> {
    personal.bool("enabled").then(|| PersonalChannel {
        personal_channel_namespace: personal.text("personal_channel_namespace").to_owned(),
        single_connection: personal.bool("single_connection"),
    })
}

/// A pattern that validation has compiled before; none when it is empty.
fn regex(pattern: &str) -> Option<Regex> {
    (!pattern.is_empty()).then(|| Regex::new(pattern).expect("validated"))
}

/// A key that validation has read before; none when the text is empty.
fn public_key(pem: &str, read: impl Fn(&str) -> Result<PublicKey, KeyError>) -> Option<Arc<PublicKey>> {
    (!pem.is_empty()).then(|| Arc::new(read(pem).expect("validated")))
}

/// Where keys are published; none when nothing is configured.
fn endpoint(token: View<'_>) -> Option<Endpoint> {
    let template = token.text("jwks_public_endpoint");
    let allow_private_addresses = token.bool("jwks_allow_private_addresses");
    (!template.is_empty()).then(|| Endpoint::parse(template, allow_private_addresses).expect("validated"))
}

/// Certificates by ACME; none unless they are asked for.
pub fn acme(settings: &Settings) -> Option<AcmeOptions> {
    let automatic = settings.view().object("http_server").object("tls_autocert");
    let text = |name: &str| automatic.text(name).to_owned();
    automatic.bool("enabled").then(|| AcmeOptions {
        host_whitelist: owned(automatic.texts("host_whitelist")),
        cache_dir: text("cache_dir"),
        email: text("email"),
        server_name: text("server_name"),
        http_addr: automatic.bool("http").then(|| text("http_addr")),
        directory_url: text("directory_url"),
        directory_ca_file: text("directory_ca_file"),
    })
}

/// Options of the threads that serve connections.
pub fn runtime(settings: &Settings) -> ringcast_runtime::Options {
    let root = settings.view();
    let client = root.object("client");
    ringcast_runtime::Options {
        shards: root.count("shards"),
        shard_placement: shard_placement(root.object("shard_placement")),
        shard_balance: BalanceOptions { disabled: root.object("shard_balance").bool("disabled") },
        listeners: listeners(root),
        websocket: WebSocketOptions {
            lax_handshake: root.object("websocket").bool("lax_handshake"),
            ..websocket(root.object("websocket"))
        },
        http_stream: stream(root.object("http_stream")),
        sse: stream(root.object("sse")),
        uni_websocket: uni_websocket(root.object("uni_websocket")),
        uni_http_stream: uni_stream(root.object("uni_http_stream")),
        uni_sse: uni_stream(root.object("uni_sse")),
        sockjs: sockjs(root.object("sockjs")),
        emulation: emulation(root.object("emulation")),
        init_handler_prefix: prefix(root.object("init")),
        http_api: http_api(root.object("http_api")),
        health: HealthOptions { handler_prefix: prefix(root.object("health")) },
        prometheus: ringcast_runtime::options::PrometheusOptions {
            handler_prefix: prefix(root.object("prometheus")),
            instrument_http_handlers: root.object("prometheus").bool("instrument_http_handlers"),
        },
        allowed_origins: owned(client.texts("allowed_origins")),
        http_origin_check_disabled: client.bool("http_origin_check_disabled"),
        connection_limit: client.count("connection_limit"),
        connection_rate_limit: client.count("connection_rate_limit"),
        user_id_http_header: client.text("user_id_http_header").to_owned(),
        forwarded_headers: proxies::forwarded(root, "http_headers"),
        assets: assets(root),
        swagger: swagger(root),
        ..ringcast_runtime::Options::default()
    }
}

fn shard_placement(placement: View<'_>) -> PlacementOptions {
    PlacementOptions {
        cpus: parse_cpu_list(placement.text("cpus")).expect("validated"),
        one_per_core: placement.bool("one_per_core"),
        reserve: placement.count("reserve"),
        follow_interrupts: placement.bool("follow_interrupts"),
    }
}

/// Options of the state machines. `node` is what only the program knows of this node; a name in
/// the settings comes before the one in it.
pub fn state(settings: &Settings, node: NodeOptions) -> ringcast_state::Options {
    let root = settings.view();
    let client = root.object("client");
    let subscription_token = client.object("subscription_token");
    let ping = root.object("rpc").object("ping");
    let name = match root.object("node").text("name") {
        "" => node.name,
        name => name.to_owned(),
    };
    ringcast_state::Options {
        client: client_options(client),
        token: token(client.object("token")),
        subscription_token: subscription_token.bool("enabled").then(|| token(subscription_token)),
        channel: channel(root),
        proxy: proxies::asked(root),
        rpc_ping_method: ping.bool("enabled").then(|| ping.text("method").to_owned()),
        has_broker: broker_type(root) != "memory",
        presence_is_local: broker_type(root) != "memory" && presence_type(root) == "memory",
        node: NodeOptions { name, ..node },
        websocket: deflate(root.object("websocket")),
        uni_websocket: deflate(root.object("uni_websocket")),
        ..ringcast_state::Options::default()
    }
}

/// Brokers and who keeps presence. Says what cannot be served.
pub fn engine(settings: &Settings) -> Result<EngineOptions, String> {
    let root = settings.view();
    check_types(root)?;
    let nats = nats::broker(root)?;
    let redis = if broker_type(root) == "redis" { Some(redis::broker(root)?) } else { None };
    // The engine's Redis does both over the same connections.
    let is_one = redis.is_some() && !root.object("broker").bool("enabled") && !is_presence_apart(root);
    let presence = if presence_type(root) == "redis" && !is_one { Some(redis::presence(root)?) } else { None };
    Ok(EngineOptions { nats, redis, presence })
}

/// The memory of a node is a broker only where it keeps presence, too.
fn check_types(root: View<'_>) -> Result<(), String> {
    let (broker, presence) = (broker_type(root), presence_type(root));
    if !["memory", "redis", "nats"].contains(&broker) {
        return Err(format!("broker.type is {broker}, which is not supported yet: expected memory, redis or nats"));
    }
    if !["memory", "redis"].contains(&presence) {
        return Err(format!("presence_manager.type is {presence}, expected memory or redis"));
    }
    if broker == "memory" && presence == "redis" {
        return Err("the broker is memory and the presence manager redis, which is not supported: expected broker.type redis or nats, or presence_manager.type memory".into());
    }
    Ok(())
}

/// Who orders publications: the broker, or the engine.
fn broker_type(root: View<'_>) -> &str {
    let broker = root.object("broker");
    if broker.bool("enabled") { broker.text("type") } else { root.object("engine").text("type") }
}

fn is_presence_apart(root: View<'_>) -> bool {
    root.object("presence_manager").bool("enabled")
}

/// Who keeps presence: the presence manager, or the engine.
fn presence_type(root: View<'_>) -> &str {
    let manager = root.object("presence_manager");
    if manager.bool("enabled") { manager.text("type") } else { root.object("engine").text("type") }
}

/// One listener for everything, or a second one for what is not for the outside.
fn listeners(root: View<'_>) -> Vec<ListenerOptions> {
    let http = root.object("http_server");
    let api = root.object("http_api");
    let port = u16::try_from(http.int("port")).expect("validated");
    let external = Listen { address: http.text("address").to_owned(), port };
    let internal = Listen {
        address: or(http.text("internal_address"), &external.address),
        port: http.text("internal_port").parse().unwrap_or(port),
    };

    let is_on = |section| root.object(section).bool("enabled");
    let has_api = !api.bool("disabled");
    let outside = Endpoints {
        websocket: !root.object("websocket").bool("disabled"),
        http_stream: is_on("http_stream"),
        sse: is_on("sse"),
        uni_websocket: is_on("uni_websocket"),
        uni_http_stream: is_on("uni_http_stream"),
        uni_sse: is_on("uni_sse"),
        sockjs: is_on("sockjs"),
        emulation: is_on("http_stream") || is_on("sse"),
        init: is_on("init"),
        http_api: has_api && api.bool("external"),
        health: false,
        ready: false,
        prometheus: false,
        assets: is_on("demo"),
        swagger: false,
    };
    let inside = Endpoints {
        http_api: has_api && !api.bool("external"),
        health: is_on("health"),
        ready: root.object("health").bool("delivery_check"),
        prometheus: is_on("prometheus"),
        swagger: is_on("swagger"),
        ..Endpoints::default()
    };
    let http3 = http.object("http3").bool("enabled").then_some(0);
    if internal == external {
        let http_api = outside.http_api || inside.http_api;
        let Endpoints { health, ready, prometheus, swagger, .. } = inside;
        let endpoints = Endpoints { http_api, health, ready, prometheus, swagger, ..outside };
        return vec![ListenerOptions { listen: external, endpoints, tls: None, h2c: false, http3 }];
    }
    let h2c = http.bool("h2c_external");
    vec![
        ListenerOptions { listen: external, endpoints: outside, tls: None, h2c, http3 },
        ListenerOptions { listen: internal, endpoints: inside, tls: None, h2c: false, http3: None },
    ]
}

fn websocket(websocket: View<'_>) -> WebSocketOptions {
    WebSocketOptions {
        handler_prefix: prefix(websocket),
        message_size_limit: or_default(websocket.count("message_size_limit"), 65536),
        compression: websocket.bool("compression"),
        decompressed_message_size_limit: websocket.count("decompressed_message_size_limit"),
        lax_handshake: false,
        write_timeout: websocket.duration("write_timeout"),
    }
}

/// For the clients of one of the two endpoints. A level that the reference does not know is 1, as it is there.
fn deflate(websocket: View<'_>) -> DeflateOptions {
    let compression_level = match websocket.int("compression_level") {
        level @ 1..=9 => u8::try_from(level).expect("small"),
        // What the reference takes for -1.
        -1 => 6,
        _ => 1,
    };
    DeflateOptions { compression_level, compression_min_size: websocket.count("compression_min_size") }
}

/// For keys of which the reference takes 0 and less for unset.
fn or_default(value: usize, default: usize) -> usize {
    if value == 0 { default } else { value }
}

fn uni_websocket(websocket: View<'_>) -> UniWebSocketOptions {
    UniWebSocketOptions {
        websocket: self::websocket(websocket),
        disable_closing_handshake: websocket.bool("disable_closing_handshake"),
        disable_disconnect_push: websocket.bool("disable_disconnect_push"),
        join_push_messages: websocket.bool("join_push_messages"),
    }
}

fn stream(stream: View<'_>) -> StreamOptions {
    StreamOptions {
        handler_prefix: prefix(stream),
        max_request_body_size: body_size(stream),
        connect_code_to_http_response: None,
    }
}

fn uni_stream(stream: View<'_>) -> StreamOptions {
    let mapping = stream.object("connect_code_to_http_response");
    let responses = mapping.list("transforms").map(|transform| {
        let to = transform.object("to");
        CodeResponse {
            code: code(transform),
            status_code: u16::try_from(to.int("status_code")).expect("validated"),
            body: to.text("body").to_owned(),
        }
    });
    StreamOptions {
        connect_code_to_http_response: mapping.bool("enabled").then(|| responses.collect()),
        ..self::stream(stream)
    }
}

fn sockjs(sockjs: View<'_>) -> SockJsOptions {
    SockJsOptions {
        handler_prefix: prefix(sockjs),
        url: sockjs.text("url").to_owned(),
        heartbeat_delay: sockjs.duration("heartbeat_delay"),
    }
}

fn emulation(emulation: View<'_>) -> EmulationOptions {
    EmulationOptions { handler_prefix: prefix(emulation), max_request_body_size: body_size(emulation) }
}

/// As the reference: nothing stands for 64 KiB.
fn body_size(endpoint: View<'_>) -> usize {
    match endpoint.count("max_request_body_size") {
        0 => 65536,
        size => size,
    }
}

fn http_api(api: View<'_>) -> HttpApiOptions {
    HttpApiOptions {
        handler_prefix: prefix(api),
        key: api.text("key").to_owned(),
        insecure: api.bool("insecure"),
        transport_errors: api.text("error_mode") == "transport",
        body_size_limit: api.count("body_size_limit"),
        wrong_key_limit: api.count("wrong_key_limit"),
    }
}

fn assets(root: View<'_>) -> Vec<Asset> {
    let page = Asset {
        path: "/".to_owned(),
        content_type: "text/html; charset=utf-8".to_owned(),
        bytes: Bytes::from_static(DEMO_PAGE),
    };
    if root.object("demo").bool("enabled") { vec![page] } else { Vec::new() }
}

fn swagger(root: View<'_>) -> SwaggerOptions {
    let swagger = root.object("swagger");
    let files = if swagger.bool("enabled") { swagger::files(&prefix(root.object("http_api"))) } else { Vec::new() };
    SwaggerOptions { handler_prefix: prefix(swagger), files }
}

fn client_options(client: View<'_>) -> ClientOptions {
    ClientOptions {
        insecure: client.bool("insecure"),
        allow_anonymous_connect_without_token: client.bool("allow_anonymous_connect_without_token"),
        disallow_anonymous_connection_tokens: client.bool("disallow_anonymous_connection_tokens"),
        insecure_skip_token_signature_verify: client.bool("insecure_skip_token_signature_verify"),
        ping_interval: client.duration("ping_interval"),
        pong_timeout: client.duration("pong_timeout"),
        expired_close_delay: client.duration("expired_close_delay"),
        expired_sub_close_delay: client.duration("expired_sub_close_delay"),
        stale_close_delay: client.duration("stale_close_delay"),
        channel_position_max_time_lag: client.duration("channel_position_max_time_lag"),
        presence_update_interval: client.duration("presence_update_interval"),
        channel_position_check_delay: client.duration("channel_position_check_delay"),
        channel_limit: client.count("channel_limit"),
        queue_max_size: client.count("queue_max_size"),
        write_delay: client.duration("write_delay"),
        reply_without_queue: client.bool("reply_without_queue"),
        max_messages_in_frame: usize::try_from(client.int("max_messages_in_frame")).unwrap_or(usize::MAX),
        concurrency: client.count("concurrency"),
        user_connection_limit: client.count("user_connection_limit"),
        connect_include_server_time: client.bool("connect_include_server_time"),
        connect_code_to_unidirectional_disconnect: disconnects(
            client.object("connect_code_to_unidirectional_disconnect"),
        ),
        subscribe_to_user_personal_channel: personal_channel(client.object("subscribe_to_user_personal_channel")),
        history_max_publication_limit: client.count("history_max_publication_limit"),
        recovery_max_publication_limit: client.count("recovery_max_publication_limit"),
    }
}

fn token(token: View<'_>) -> TokenOptions {
    TokenOptions {
        hmac_secret_key: token.text("hmac_secret_key").to_owned(),
        hmac_previous_secret_key: token.text("hmac_previous_secret_key").to_owned(),
        hmac_previous_secret_key_valid_until: token.int("hmac_previous_secret_key_valid_until"),
        rsa_public_key: public_key(token.text("rsa_public_key"), PublicKey::from_rsa_pem),
        ecdsa_public_key: public_key(token.text("ecdsa_public_key"), PublicKey::from_ecdsa_pem),
        jwks_public_endpoint: endpoint(token),
        audience: token.text("audience").to_owned(),
        audience_regex: regex(token.text("audience_regex")),
        issuer: token.text("issuer").to_owned(),
        issuer_regex: regex(token.text("issuer_regex")),
        user_id_claim: token.text("user_id_claim").to_owned(),
    }
}

fn channel(root: View<'_>) -> ChannelConfig {
    let channel = root.object("channel");
    let namespaces = channel.list("namespaces");
    ChannelConfig {
        without_namespace: channel_options(root, channel.object("without_namespace")),
        namespaces: namespaces
            .map(|options| (options.text("name").to_owned(), channel_options(root, options)))
            .collect(),
        history_meta_ttl: channel.duration("history_meta_ttl"),
        publication_data_format: data_format(channel).unwrap_or_default(),
        max_length: channel.count("max_length"),
        private_prefix: channel.text("private_prefix").to_owned(),
        namespace_boundary: channel.text("namespace_boundary").to_owned(),
        user_boundary: channel.text("user_boundary").to_owned(),
        user_separator: channel.text("user_separator").to_owned(),
    }
}

fn channel_options(root: View<'_>, options: View<'_>) -> ChannelOptions {
    ChannelOptions {
        presence: options.bool("presence"),
        join_leave: options.bool("join_leave"),
        force_push_join_leave: options.bool("force_push_join_leave"),
        history_size: options.count("history_size"),
        history_ttl: options.duration("history_ttl"),
        history_meta_ttl: options.duration("history_meta_ttl"),
        force_positioning: options.bool("force_positioning"),
        allow_positioning: options.bool("allow_positioning"),
        force_recovery: options.bool("force_recovery"),
        allow_recovery: options.bool("allow_recovery"),
        force_recovery_mode: match options.text("force_recovery_mode") {
            "cache" => RecoveryMode::Cache,
            _ => RecoveryMode::Stream,
        },
        auto_cache_recover: options.bool("auto_cache_recover"),
        allow_subscribe_for_anonymous: options.bool("allow_subscribe_for_anonymous"),
        allow_subscribe_for_client: options.bool("allow_subscribe_for_client"),
        allow_publish_for_anonymous: options.bool("allow_publish_for_anonymous"),
        allow_publish_for_subscriber: options.bool("allow_publish_for_subscriber"),
        allow_publish_for_client: options.bool("allow_publish_for_client"),
        allow_presence_for_anonymous: options.bool("allow_presence_for_anonymous"),
        allow_presence_for_subscriber: options.bool("allow_presence_for_subscriber"),
        allow_presence_for_client: options.bool("allow_presence_for_client"),
        allow_history_for_anonymous: options.bool("allow_history_for_anonymous"),
        allow_history_for_subscriber: options.bool("allow_history_for_subscriber"),
        allow_history_for_client: options.bool("allow_history_for_client"),
        allow_user_limited_channels: options.bool("allow_user_limited_channels"),
        subscribe_proxy: proxies::of_channel(root, options, "subscribe"),
        sub_refresh_proxy: proxies::of_channel(root, options, "sub_refresh"),
        subscribe_stream_proxy: proxies::of_channel(root, options, "subscribe_stream"),
        subscribe_stream_proxy_bidirectional: options.bool("subscribe_stream_proxy_bidirectional"),
        publish_proxy: proxies::of_channel(root, options, "publish"),
        channel_regex: regex(options.text("channel_regex")),
        publication_data_format: data_format(options),
        subscription_type: match options.text("subscription_type") {
            "map" => SubscriptionType::Map,
            "map_clients" => SubscriptionType::MapClients,
            "map_users" => SubscriptionType::MapUsers,
            "shared_poll" => SubscriptionType::SharedPoll,
            _ => SubscriptionType::Stream,
        },
        allowed_delta_types: options.texts("allowed_delta_types").filter_map(delta_type).collect(),
        batch_max_size: options.count("batch_max_size"),
        batch_max_delay: options.duration("batch_max_delay"),
        batch_flush_latest: options.bool("batch_flush_latest"),
        delta_publish: options.bool("delta_publish"),
        allow_tags_filter: options.bool("allow_tags_filter"),
    }
}

fn delta_type(name: &str) -> Option<DeltaType> {
    (name == "fossil").then_some(DeltaType::Fossil)
}

/// `None` where nothing is set.
fn data_format(object: View<'_>) -> Option<DataFormat> {
    match object.text("publication_data_format") {
        "json" => Some(DataFormat::Json),
        "json_object" => Some(DataFormat::JsonObject),
        "binary" => Some(DataFormat::Binary),
        _ => None,
    }
}

/// A `handler_prefix` without the slash at its end; `/` when nothing else is left.
fn prefix(endpoint: View<'_>) -> String {
    or(endpoint.text("handler_prefix").trim_end_matches('/'), "/")
}

fn or(text: &str, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text.to_owned() }
}

fn owned<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, merge, validate};
    use serde_json::{Value, json};

    fn settings(file: Value) -> Settings {
        let object = file.as_object().expect("an object").clone();
        let merged = merge::merge(object, &Environment::default(), &[]).expect("merged");
        validate(&merged.settings).expect("valid");
        merged.settings
    }

    fn node() -> NodeOptions {
        NodeOptions { name: "host_8000".to_owned(), ..NodeOptions::default() }
    }

    #[test]
    fn defaults_of_the_table_are_those_of_the_code() {
        let settings = settings(json!({}));
        let state = state(&settings, NodeOptions::default());
        assert_eq!(format!("{state:?}"), format!("{:?}", ringcast_state::Options::default()));
        let runtime = runtime(&settings);
        let same =
            ringcast_runtime::Options { listeners: runtime.listeners.clone(), ..ringcast_runtime::Options::default() };
        assert_eq!(format!("{runtime:?}"), format!("{same:?}"));
        assert_eq!(program(&settings).shutdown_timeout, Duration::from_secs(30));
    }

    /// L11
    #[test]
    fn options_take_what_was_set() {
        let settings = settings(json!({
            "shards": 3,
            "shard_placement": {"cpus": "5,0-1", "follow_interrupts": true},
            "shard_balance": {"disabled": true},
            "websocket": {"handler_prefix": "/ws/", "message_size_limit": 100, "compression": true, "compression_level": 9},
            "uni_websocket": {"compression_min_size": 200, "decompressed_message_size_limit": 300, "message_size_limit": 0},
            "http_api": {"handler_prefix": "/", "error_mode": "transport"},
            "client": {
                "ping_interval": "-1s", "pong_timeout": "-2s",
                "subscription_token": {"enabled": true, "hmac_secret_key": "sub"},
            },
            "channel": {"namespaces": [
                {"name": "chat", "channel_regex": "^a", "history_size": 5, "history_ttl": "60s",
                 "force_recovery": true, "force_recovery_mode": "cache", "publication_data_format": "json",
                 "allowed_delta_types": ["fossil"]},
            ]},
        }));
        let runtime = runtime(&settings);
        assert_eq!(runtime.shard_placement.cpus, [5, 0, 1]);
        assert!(runtime.shard_placement.follow_interrupts && runtime.shard_balance.disabled);
        assert_eq!((runtime.shards, &*runtime.websocket.handler_prefix), (3, "/ws"));
        assert_eq!((runtime.websocket.message_size_limit, &*runtime.http_api.handler_prefix), (100, "/"));
        assert!(runtime.http_api.transport_errors);
        assert!(runtime.websocket.compression && !runtime.uni_websocket.websocket.compression);
        let uni = &runtime.uni_websocket.websocket;
        assert_eq!((uni.message_size_limit, uni.decompressed_message_size_limit), (65536, 300));
        let state = state(&settings, node());
        assert_eq!(state.client.ping_interval, Duration::ZERO);
        assert_eq!((state.websocket.compression_level, state.uni_websocket.compression_level), (9, 1));
        assert_eq!((state.websocket.compression_min_size, state.uni_websocket.compression_min_size), (0, 200));
        assert_eq!(state.subscription_token.expect("enabled").hmac_secret_key, "sub");
        assert_eq!(state.node.name, "host_8000");
        let chat = &state.channel.namespaces["chat"];
        assert!(chat.has_history() && chat.channel_regex.is_some());
        assert_eq!(chat.force_recovery_mode, RecoveryMode::Cache);
        assert_eq!(chat.publication_data_format, Some(DataFormat::Json));
        assert_eq!(chat.allowed_delta_types, [DeltaType::Fossil]);
    }

    /// T13
    #[test]
    fn cleartext_http2_is_for_the_outer_port() {
        let h2c = |file: Value| -> Vec<_> { runtime(&settings(file)).listeners.iter().map(|one| one.h2c).collect() };
        assert_eq!(h2c(json!({})), [false]);
        assert_eq!(h2c(json!({"http_server": {"internal_port": "2", "h2c_external": true}})), [true, false]);
    }

    #[test]
    fn compression_levels_are_those_of_the_reference() {
        // 0 is taken for unset, in every key.
        for (level, want) in [(-3, 1), (-2, 1), (-1, 6), (0, 1), (1, 1), (9, 9), (10, 1)] {
            let state = state(&settings(json!({"websocket": {"compression_level": level}})), node());
            assert_eq!(state.websocket.compression_level, want, "{level}");
        }
    }

    /// Port and endpoints of each listener: websocket, API, health, assets.
    #[track_caller]
    fn check_listeners(file: Value, want: &[(&str, u16, &str)]) {
        let found: Vec<_> = runtime(&settings(file.clone())).listeners;
        let found: Vec<_> = found
            .iter()
            .map(|listener| {
                let Endpoints { websocket, http_api, health, prometheus, assets, swagger, .. } = listener.endpoints;
                let marks = [
                    (websocket, 'w'),
                    (http_api, 'a'),
                    (prometheus, 'm'),
                    (health, 'h'),
                    (assets, 'd'),
                    (swagger, 's'),
                ];
                let marks = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| mark);
                (listener.listen.address.as_str(), listener.listen.port, marks.collect::<String>())
            })
            .collect();
        let want: Vec<_> = want.iter().map(|(address, port, marks)| (*address, *port, (*marks).to_owned())).collect();
        assert_eq!(found, want, "{file}");
    }

    #[test]
    fn inner_endpoints_move_to_the_inner_port() {
        check_listeners(json!({}), &[("", 8000, "wa")]);
        check_listeners(json!({"prometheus": {"enabled": true}}), &[("", 8000, "wam")]);
        check_listeners(json!({"health": {"enabled": true}, "demo": {"enabled": true}}), &[("", 8000, "wahd")]);
        check_listeners(
            json!({
                "http_server": {"address": "::1", "port": 1, "internal_port": "2"},
                "health": {"enabled": true}, "prometheus": {"enabled": true}, "swagger": {"enabled": true},
            }),
            &[("::1", 1, "w"), ("::1", 2, "amhs")],
        );
        check_listeners(
            json!({"http_server": {"internal_address": "::1"}, "http_api": {"external": true}}),
            &[("", 8000, "wa"), ("::1", 8000, "")],
        );
        check_listeners(
            json!({"http_server": {"internal_port": "8000"}, "http_api": {"disabled": true}, "websocket": {"disabled": true}}),
            &[("", 8000, "")],
        );
    }
}
