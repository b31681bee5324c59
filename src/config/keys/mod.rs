//! Every configuration key: name, type, default, meaning, and whether it works.
//!
//! One table feeds the parser, the names of environment variables, flags, the report of
//! unknown keys and the generated documents. Objects that several keys hold (TLS, Redis, a
//! proxy, channel options) are described once and named where they are held. Names, types and
//! defaults are Centrifugo's; source: its `configdoc`.

/// Declares a table; a row is `Support name: Kind, "default", "meaning";`.
macro_rules! keys {
    ($(#[$doc:meta])* $table:ident {
        $($support:ident $name:tt: $kind:expr, $default:literal, $about:literal;)*
    }) => {
        $(#[$doc])*
        pub(super) const $table: &[Key] = &[$(Key {
            name: stringify!($name),
            kind: $kind,
            default: $default,
            support: Support::$support,
            about: $about,
        }),*];
    };
}

mod channel;
mod client;
mod consumer;
mod engine;
mod pro;
mod proxy;
mod server;
mod shared;
mod telemetry;
mod transport;

use Kind::{Bool, Int, List, Object, Text};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Last word of the key's path, as written in a file.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// Default as text, written as in an environment variable; empty is the zero of the kind.
    pub default: &'static str,
    /// Whether it has an effect.
    pub support: Support,
    /// What it is, in a line.
    pub about: &'static str,
}

/// The keys of an object: tables put side by side.
pub type Group = &'static [&'static [Key]];

/// Type of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True or false.
    Bool,
    /// Number of 64 bits, as `Int64`; shown as `int`.
    Int,
    /// Number of 32 bits.
    Int32,
    /// Number of 64 bits.
    Int64,
    /// Number of 32 bits, not negative.
    Uint32,
    /// String.
    Text,
    /// Span: a string with units (`1h30m`), or a number of nanoseconds.
    Duration,
    /// Text of a PEM, base64 of it, or a file with it.
    Pem,
    /// List of strings.
    Texts,
    /// Strings by name: an object, or a list of `{"key": .., "value": ..}`.
    Map,
    /// Anything: a section whose keys are not listed.
    Any,
    /// Nested keys.
    Object(Group),
    /// List of objects with these keys.
    List(Group),
}

/// Whether a key has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// The server reads it. Inside of a section marked `Later` it waits for the section.
    Works,
    /// Accepted without effect so far; one warning names it when it is set.
    Later,
    /// Tunes something that ringcast does not have, or does always; accepted without a word.
    Moot,
}

/// The keys at the top level of a configuration.
pub const ROOT: Group = &[SECTIONS, pro::PRO];

keys! {
    /// Sections and single keys at the top level
    SECTIONS {
        Works http_server:                Object(&[server::HTTP_SERVER]),                        "",  "HTTP server: addresses, ports, TLS";
        Works log:                        Object(&[server::LOG]),                                "",  "Logs";
        Works engine:                     Object(&[engine::ENGINE]),                             "",  "Broker and presence manager in one";
        Works broker:                     Object(&[engine::BROKER]),                             "",  "Broker, when not the engine's";
        Works presence_manager:           Object(&[engine::PRESENCE_MANAGER]),                   "",  "Presence manager, when not the engine's";
        Later map_broker:                 Object(&[engine::MAP_BROKER, pro::PRO_MAP_BROKER]),    "",  "Broker of map subscriptions";
        Later controller:                 Object(&[engine::CONTROLLER, pro::PRO_CONTROLLER]),    "",  "Channel of messages between nodes";
        Later shared_poll:                Object(&[channel::SHARED_POLL, pro::PRO_SHARED_POLL]), "",  "Shared poll subscriptions";
        Works client:                     Object(&[client::CLIENT, pro::PRO_CLIENT]),            "",  "Client connections: tokens, limits, intervals";
        Works channel:                    Object(&[channel::CHANNEL, pro::PRO_CHANNEL]),         "",  "Channels and namespaces";
        Works rpc:                        Object(&[proxy::RPC]),                                 "",  "Calls of clients to the backend";
        Works proxies:                    List(&[proxy::PROXY_NAME, proxy::PROXY]),              "",  "Backends by name";
        Works http_api:                   Object(&[server::HTTP_API, pro::PRO_API]),             "",  "Server API over HTTP";
        Works grpc_api:                   Object(&[server::GRPC_API, pro::PRO_API]),             "",  "Server API over GRPC";
        Later consumers:                  List(&[consumer::CONSUMER]),                           "",  "Queues to take publications from";
        Works websocket:                  Object(&[transport::WEBSOCKET, pro::PRO_WEBSOCKET]),   "",  "WebSocket";
        Works sse:                        Object(&[transport::SSE]),                             "",  "Server-sent events, bidirectional by emulation";
        Works http_stream:                Object(&[transport::HTTP_STREAM]),                     "",  "HTTP streaming, bidirectional by emulation";
        Works webtransport:               Object(&[transport::WEBTRANSPORT]),                    "",  "WebTransport";
        Works uni_sse:                    Object(&[transport::UNI_SSE]),                         "",  "Server-sent events, unidirectional";
        Works uni_http_stream:            Object(&[transport::UNI_HTTP_STREAM]),                 "",  "HTTP streaming, unidirectional";
        Works uni_websocket:              Object(&[transport::UNI_WEBSOCKET]),                   "",  "WebSocket, unidirectional";
        Works uni_grpc:                   Object(&[transport::UNI_GRPC]),                        "",  "GRPC stream, unidirectional";
        Works sockjs:                     Object(&[transport::SOCKJS]),                          "",  "SockJS";
        Works emulation:                  Object(&[transport::EMULATION]),                       "",  "Endpoint for the client's side of emulated transports";
        Later admin:                      Object(&[server::ADMIN, pro::PRO_ADMIN]),              "",  "Admin web UI";
        Works prometheus:                 Object(&[telemetry::PROMETHEUS, pro::PRO_PROMETHEUS]), "",  "Metrics endpoint";
        Works health:                     Object(&[server::HEALTH]),                             "",  "Health endpoint";
        Works swagger:                    Object(&[server::SWAGGER]),                            "",  "Swagger UI of the server API";
        Later debug:                      Object(&[server::DEBUG]),                              "",  "Profiles";
        Works init:                       Object(&[transport::INIT]),                            "",  "Endpoint that warms up a connection";
        Later opentelemetry:              Object(&[telemetry::OPENTELEMETRY, pro::PRO_OPENTELEMETRY]), "", "Traces";
        Later graphite:                   Object(&[telemetry::GRAPHITE]),                        "",  "Metrics for Graphite";
        Moot  usage_stats:                Object(&[telemetry::USAGE_STATS]),                     "",  "Usage reports, which ringcast never sends";
        Works node:                       Object(&[server::NODE]),                               "",  "This node";
        Works shutdown:                   Object(&[server::SHUTDOWN]),                           "",  "Graceful stop";
        Works pid_file:                   Text,                                                  "",  "File that receives the process id";
        Moot  enable_unreleased_features: Bool,                                                  "",  "Gate of unreleased code in Centrifugo";
        Works shards:                     Int,                                                   "",  "Threads that serve connections, 0 = one on every CPU this process may use, at most its CPU quota";
        Works shard_placement:            Object(&[server::SHARD_PLACEMENT]),                    "",  "CPUs of the shards";
        Works shard_balance:              Object(&[server::SHARD_BALANCE]),                      "",  "Even numbers of connections";
        Works demo:                       Object(&[server::DEMO]),                               "",  "Demo page";
    }
}

/// The keys of a group, in the order of the tables.
pub fn each(group: Group) -> impl Iterator<Item = &'static Key> {
    group.iter().copied().flatten()
}

/// The key with this name in a group.
pub fn find(group: Group, name: &str) -> Option<&'static Key> {
    each(group).find(|key| key.name == name)
}

/// The key at a path such as `client.token.audience`; lists are not entered.
pub fn at(path: &str) -> Option<&'static Key> {
    let mut group = ROOT;
    let mut found = None;
    for name in path.split('.') {
        let key = find(group, name)?;
        group = match key.kind {
            Object(nested) => nested,
            _ => &[],
        };
        found = Some(key);
    }
    found
}

impl Kind {
    /// What a value of this kind looks like, for an operator who wrote another.
    pub fn expected(&self) -> &'static str {
        match self {
            Bool => "true or false",
            Int | Kind::Int64 => "a whole number",
            Kind::Int32 => "a whole number of 32 bits",
            Kind::Uint32 => "a whole number of 32 bits, not negative",
            Text | Kind::Pem => "a string",
            Kind::Duration => "a duration such as \"1h30m\", or a number of nanoseconds",
            Kind::Texts => "a list of strings",
            Kind::Map => "an object of strings, or a list of {\"key\": .., \"value\": ..}",
            Kind::Any => "a value",
            Object(_) => "an object",
            List(_) => "a list of objects",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value;
    use std::collections::BTreeSet;

    /// Calls `visit` with every key and the path it is found at.
    fn walk(group: Group, path: &str, visit: &mut impl FnMut(&str, &'static Key)) {
        for key in each(group) {
            let path = format!("{path}{}", key.name);
            visit(&path, key);
            if let Object(nested) | List(nested) = key.kind {
                walk(nested, &format!("{path}."), visit);
            }
        }
    }

    #[test]
    fn no_object_names_a_key_twice() {
        let mut seen = BTreeSet::new();
        walk(ROOT, "", &mut |path, _| assert!(seen.insert(path.to_owned()), "{path} twice"));
        assert!(seen.len() > 1000, "{} keys", seen.len());
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        walk(ROOT, "", &mut |path, key| {
            assert!(value::default(key).is_some(), "{path}: {:?} is no {:?}", key.default, key.kind);
        });
    }

    #[test]
    fn every_key_says_what_it_is() {
        walk(ROOT, "", &mut |path, key| assert!(key.about.len() > 2, "{path}"));
    }

    #[test]
    fn keys_are_found_by_path() {
        assert_eq!(at("client.token.audience").map(|key| key.name), Some("audience"));
        assert_eq!(at("http_server.port").map(|key| key.default), Some("8000"));
        assert!(at("client.token.audience.deeper").is_none());
        assert!(at("clients").is_none());
    }
}
