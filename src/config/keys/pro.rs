//! Keys of Centrifugo PRO that ringcast knows. Few work yet; a section whose own keys are not
//! listed takes any value until it does.

use super::proxy::PROXY;
use super::shared::TLS;
use super::{Key, Kind::*, Support};

keys! {
    /// Sections at the top level
    PRO {
        Later brokers:                Any,                         "", "Further brokers, chosen per namespace";
        Later presence_managers:      Any,                         "", "Further presence managers, chosen per namespace";
        Later map_brokers:            Any,                         "", "Further map brokers, chosen per namespace";
        Later shared_poll_relay:      Any,                         "", "Relay of shared polls";
        Later singleflight:           Object(&[PRO_SINGLEFLIGHT]), "", "Merging of equal broker calls";
        Later sentry:                 Any,                         "", "Reports to Sentry";
        Later clickhouse_analytics:   Any,                         "", "Export to ClickHouse";
        Later user_status:            Any,                         "", "Last time a user was seen";
        Later user_block:             Any,                         "", "Blocked users";
        Later token_revoke:           Any,                         "", "Revoked tokens";
        Later user_tokens_invalidate: Any,                         "", "Tokens of a user invalid before a time";
        Later database:               Any,                         "", "Database shared by the sections above";
        Later push_notifications:     Any,                         "", "Push notifications";
        Later schemas:                Any,                         "", "Schemas of client publications";
    }
}

keys! {
    /// `singleflight`
    PRO_SINGLEFLIGHT {
        Works enabled: Bool, "", "Merge equal broker calls";
    }
}

keys! {
    /// `client`
    PRO_CLIENT {
        Works write_delay:           Duration, "",   "Collect messages this long before writing";
        Moot  write_with_timer:      Bool,     "",   "Flush by timer; always so";
        Moot  queue_shrink_delay:    Duration, "",   "Delay of queue shrinking";
        Works max_messages_in_frame: Int,      "16", "Messages per WebSocket frame with write_delay, -1 = unlimited";
        Works reply_without_queue:   Bool,     "",   "Write replies, and what waits before them, without write_delay";
        Moot  batch_periodic_events: Bool,     "",   "Timer wheel for pings and presence";
        Later rate_limit:            Any,      "",   "Buckets per client and per user";
    }
}

keys! {
    /// `client.token` and `client.subscription_token`
    PRO_TOKEN {
        Later meta_from_claim:   Any, "", "Claim paths taken into the connection's meta";
        Later labels_from_claim: Any, "", "Claim paths taken into labels";
        Later jwks:              Any, "", "Several issuers with a JWKS endpoint each";
    }
}

keys! {
    /// `channel`
    PRO_CHANNEL {
        Later patterns: Bool, "", "Namespaces by route pattern, `/path/:var`";
    }
}

keys! {
    /// `channel.proxy`
    PRO_CHANNEL_PROXY {
        Later state:       Object(&[PROXY]), "", "Told about occupied and vacated channels";
        Later cache_empty: Object(&[PROXY]), "", "Asked when a cache is empty";
    }
}

keys! {
    /// One of `channel.namespaces`
    PRO_NAMESPACE {
        Later pattern: Text, "", "Route pattern";
    }
}

keys! {
    /// Options of a channel
    PRO_CHANNEL_OPTIONS {
        Later subscribe_cel:                    Text,     "", "Expression that permits to subscribe";
        Later publish_cel:                      Text,     "", "Expression that permits to publish";
        Later history_cel:                      Text,     "", "Expression that permits to read history";
        Later presence_cel:                     Text,     "", "Expression that permits to read presence";
        Later cache_empty_proxy_enabled:        Bool,     "", "Ask backend when the cache is empty";
        Later cache_empty_proxy_name:           Text,     "", "Proxy";
        Later state_proxy_enabled:              Bool,     "", "Tell backend about occupied and vacated channels";
        Later state_proxy_name:                 Text,     "", "Proxy";
        Later state_events:                     Texts,    "", "Which of these events";
        Moot  shared_position_sync:             Bool,     "", "Share position checks of a channel";
        Later keep_latest_publication:          Bool,     "", "Deltas without history";
        Works batch_max_size:                   Int,      "", "Publications collected per channel";
        Works batch_max_delay:                  Duration, "", "Time to collect them";
        Works batch_flush_latest:               Bool,     "", "Send only the newest of them";
        Later allow_channel_compaction:         Bool,     "", "Numbers instead of channel names on the wire";
        Later client_publish_debounce_interval: Duration, "", "Told to the client library";
        Later broker_name:                      Text,     "", "One of `brokers`";
        Later presence_manager_name:            Text,     "", "One of `presence_managers`";
    }
}

keys! {
    /// `map` of a channel
    PRO_MAP {
        Later broker_name:               Text,     "",      "One of `map_brokers`";
        Later full_state_channel_prefix: Text,     "",      "Prefix of channels with the whole state";
        Later full_state_tick_interval:  Duration, "250ms", "Period of these channels";
    }
}

keys! {
    /// `shared_poll` of a channel
    PRO_SHARED_POLL_OPTIONS {
        Later keep_latest_data: Bool, "", "Cache what was polled";
    }
}

keys! {
    /// `shared_poll`
    PRO_SHARED_POLL {
        Later notification: Any, "", "Channel that starts a poll";
    }
}

keys! {
    /// `engine.redis` and `broker.redis`
    PRO_REDIS {
        Later subscribe_on_replica:           Bool, "", "Subscribe at replicas";
        Later sharded_pub_sub_partitions:     Int,  "", "Partitions of sharded PUB/SUB";
        Later use_precomputed_partition_tags: Bool, "", "Tags of partitions from a table";
        Later group_sharded_pub_sub_by_node:  Bool, "", "One connection per Redis node";
        Later channel_state:                  Any,  "", "Occupied and vacated events over nodes";
    }
}

keys! {
    /// `map_broker`
    PRO_MAP_BROKER {
        Later cache: Any, "", "Cache of maps in the node";
    }
}

keys! {
    /// `controller`
    PRO_CONTROLLER {
        Later redis: Any, "", "Redis controller";
        Later nats:  Any, "", "NATS controller";
    }
}

keys! {
    /// `http` of a proxy
    PRO_PROXY_HTTP {
        Moot  use_fast_client: Bool, "", "Faster HTTP/1.1 client";
    }
}

keys! {
    /// `websocket`
    PRO_WEBSOCKET {
        Moot  compression_prepared_message_cache_size: Int,  "", "Bytes of prepared compressed frames";
        Moot  process_commands_off_read_loop:          Bool, "", "Own goroutine for commands";
    }
}

keys! {
    /// `http_api` and `grpc_api`
    PRO_API {
        Later jwks: Object(&[PRO_API_JWKS]), "", "Tokens instead of a key";
    }
}

keys! {
    /// `jwks` of a server API
    PRO_API_JWKS {
        Works enabled:  Bool,           "", "Accept tokens";
        Works endpoint: Text,           "", "JWKS URL";
        Works audience: Text,           "", "Required aud";
        Works issuer:   Text,           "", "Required iss";
        Works scope:    Text,           "", "Required scope";
        Works tls:      Object(&[TLS]), "", "TLS of the endpoint";
    }
}

keys! {
    /// `admin`
    PRO_ADMIN {
        Later api_key: Text, "", "Key of the admin API";
        Later oidc:    Any,  "", "Login by OpenID Connect";
    }
}

keys! {
    /// `prometheus`
    PRO_PROMETHEUS {
        Later additional_client_names:          Texts, "", "Client names kept as labels";
        Later channel_namespace_resolution:     Bool,  "", "Label with the namespace";
        Later expose_transport_accept_protocol: Bool,  "", "Label with the HTTP version";
        Later client_labels:                    Texts, "", "Labels of a client kept as labels";
    }
}

keys! {
    /// `opentelemetry`
    PRO_OPENTELEMETRY {
        Later metrics: Bool, "", "Push metrics too";
    }
}
