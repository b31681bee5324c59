//! Keys of channels and namespaces.

use super::pro::{PRO_CHANNEL_OPTIONS, PRO_CHANNEL_PROXY, PRO_MAP, PRO_NAMESPACE, PRO_SHARED_POLL_OPTIONS};
use super::proxy::PROXY;
use super::{Key, Kind::*, Support};

keys! {
    /// `channel`
    CHANNEL {
        Works without_namespace:       Object(&[CHANNEL_OPTIONS, PRO_CHANNEL_OPTIONS]),                    "",     "Channel options for names without namespace";
        Works namespaces:              List(&[NAME, CHANNEL_OPTIONS, PRO_NAMESPACE, PRO_CHANNEL_OPTIONS]), "",     "List of {name + channel options}";
        Works history_meta_ttl:        Duration,                                                           "720h", "Default life of stream meta";
        Works publication_data_format: Text,                                                               "",     "Default format check";
        Works max_length:              Int,                                                                "255",  "Longest channel name (bytes)";
        Works private_prefix:          Text,                                                               "$",    "Prefix demanding a token";
        Works namespace_boundary:      Text,                                                               ":",    "Namespace separator";
        Works user_boundary:           Text,                                                               "#",    "Start of user list";
        Works user_separator:          Text,                                                               ",",    "Between user ids";
        Works proxy:                   Object(&[CHANNEL_PROXY, PRO_CHANNEL_PROXY]),                        "",     "Default backends of channel events";
    }
}

keys! {
    /// Name of one of `channel.namespaces`
    NAME {
        Works name: Text, "", "Unique, `^[-a-zA-Z0-9_.]{2,}$`";
    }
}

keys! {
    /// Options of a channel: `channel.without_namespace` and every namespace
    CHANNEL_OPTIONS {
        Works presence:                             Bool,                                                    "",        "Keep presence";
        Works join_leave:                           Bool,                                                    "",        "Emit join/leave";
        Works force_push_join_leave:                Bool,                                                    "",        "Push them without asking";
        Later map_clients_presence_channel_prefix:  Text,                                                    "",        "Publish client presence to `<prefix><channel>` map";
        Later map_users_presence_channel_prefix:    Text,                                                    "",        "Same per user";
        Works history_size:                         Int,                                                     "",        "Publications kept";
        Works history_ttl:                          Duration,                                                "",        "Their life, whole seconds";
        Works history_meta_ttl:                     Duration,                                                "",        "Override of meta life";
        Works force_positioning:                    Bool,                                                    "",        "Positions for all";
        Works allow_positioning:                    Bool,                                                    "",        "Client may ask";
        Works force_recovery:                       Bool,                                                    "",        "Recovery for all";
        Works allow_recovery:                       Bool,                                                    "",        "Client may ask";
        Works force_recovery_mode:                  Text,                                                    "",        "\"\" / stream / cache";
        Works auto_cache_recover:                   Bool,                                                    "",        "Push last publication on every subscribe (cache mode)";
        Works allowed_delta_types:                  Texts,                                                   "",        "`fossil`";
        Works allow_tags_filter:                    Bool,                                                    "",        "Client filters";
        Works delta_publish:                        Bool,                                                    "",        "Delta for every publish";
        Works allow_subscribe_for_anonymous:        Bool,                                                    "",        "Anonymous too";
        Works allow_subscribe_for_client:           Bool,                                                    "",        "Any authenticated client";
        Works allow_publish_for_anonymous:          Bool,                                                    "",        "Anonymous too";
        Works allow_publish_for_subscriber:         Bool,                                                    "",        "Subscribers";
        Works allow_publish_for_client:             Bool,                                                    "",        "Any client";
        Works allow_presence_for_anonymous:         Bool,                                                    "",        "Anonymous too";
        Works allow_presence_for_subscriber:        Bool,                                                    "",        "Subscribers";
        Works allow_presence_for_client:            Bool,                                                    "",        "Any client";
        Works allow_history_for_anonymous:          Bool,                                                    "",        "Anonymous too";
        Works allow_history_for_subscriber:         Bool,                                                    "",        "Subscribers";
        Works allow_history_for_client:             Bool,                                                    "",        "Any client";
        Works allow_user_limited_channels:          Bool,                                                    "",        "`#` user lists";
        Works channel_regex:                        Text,                                                    "",        "Pattern for the part after the namespace";
        Works publication_data_format:              Text,                                                    "",        "\"\", json, json_object, binary";
        Works subscribe_proxy_enabled:              Bool,                                                    "",        "Ask backend";
        Works subscribe_proxy_name:                 Text,                                                    "default", "Proxy";
        Works publish_proxy_enabled:                Bool,                                                    "",        "Ask backend";
        Works publish_proxy_name:                   Text,                                                    "default", "Proxy";
        Works sub_refresh_proxy_enabled:            Bool,                                                    "",        "Ask backend";
        Works sub_refresh_proxy_name:               Text,                                                    "default", "Proxy";
        Works subscribe_stream_proxy_enabled:       Bool,                                                    "",        "Stream from backend";
        Works subscribe_stream_proxy_name:          Text,                                                    "default", "Proxy";
        Works subscribe_stream_proxy_bidirectional: Bool,                                                    "",        "Client publishes go into the stream";
        Later subscription_type:                    Text,                                                    "",        "\"\", stream, map, map_clients, map_users, shared_poll";
        Later map:                                  Object(&[MAP, PRO_MAP]),                                 "",        "Map subscriptions";
        Later shared_poll:                          Object(&[SHARED_POLL_OPTIONS, PRO_SHARED_POLL_OPTIONS]), "",        "Shared poll subscriptions";
    }
}

keys! {
    /// `map` of a channel
    MAP {
        Works mode:                                  Text,     "",        "Ephemeral, recoverable, persistent";
        Works key_ttl:                               Duration, "",        "Key life (required unless persistent)";
        Works stream_size:                           Int,      "",        "Change stream length";
        Works stream_ttl:                            Duration, "",        "Change stream life";
        Works meta_ttl:                              Duration, "",        "Meta life";
        Works remove_client_on_unsubscribe:          Bool,     "",        "Drop own key at unsubscribe";
        Works client_key:                            Text,     "",        "\"\" / client_id / user_id";
        Works allow_publish_for_client:              Bool,     "",        "Any client writes";
        Works allow_publish_for_subscriber:          Bool,     "",        "Subscribers write";
        Works allow_publish_for_anonymous:           Bool,     "",        "Anonymous too";
        Works allow_remove_for_client:               Bool,     "",        "Any client removes";
        Works allow_remove_for_subscriber:           Bool,     "",        "Subscribers remove";
        Works allow_remove_for_anonymous:            Bool,     "",        "Anonymous too";
        Works publish_proxy_enabled:                 Bool,     "",        "Ask backend";
        Works publish_proxy_name:                    Text,     "default", "Proxy";
        Works remove_proxy_enabled:                  Bool,     "",        "Ask backend";
        Works remove_proxy_name:                     Text,     "default", "Proxy";
        Works default_page_size:                     Int,      "",        "0 = 100";
        Works min_page_size:                         Int,      "",        "0 = 100";
        Works max_page_size:                         Int,      "",        "0 = 1000";
        Works live_transition_max_publication_limit: Int,      "",        "0 = max page size";
        Works subscribe_catch_up_timeout:            Duration, "",        "Catch-up limit";
    }
}

keys! {
    /// `shared_poll` of a channel
    SHARED_POLL_OPTIONS {
        Works proxy_name:                Text,     "", "\"\" = default";
        Works refresh_interval:          Duration, "", "Poll period";
        Works refresh_batch_size:        Int,      "", "Keys per request";
        Works max_keys_per_connection:   Int,      "", "0 = 5000";
        Works mode:                      Text,     "", "\"\" = versionless, versioned";
        Works channel_shutdown_delay:    Duration, "", "Keep polling after last client";
        Works track_expired_extra_delay: Duration, "", "Grace after key expiry";
        Works publish_enabled:           Bool,     "", "API publish (versioned only)";
    }
}

keys! {
    /// `shared_poll`
    SHARED_POLL {
        Works hmac_secret_key:                      Text,  "", "Key of track signatures";
        Works hmac_previous_secret_key:             Text,  "", "Old key during rotation";
        Works hmac_previous_secret_key_valid_until: Int64, "", "Unix time limit for the old key";
        Works concurrency_limit:                    Int,   "", "Parallel backend polls, 0 = 64";
    }
}

keys! {
    /// `channel.proxy`
    CHANNEL_PROXY {
        Works subscribe:           Object(&[PROXY]), "", "Default proxy object";
        Works publish:             Object(&[PROXY]), "", "Default proxy object";
        Works sub_refresh:         Object(&[PROXY]), "", "Default proxy object";
        Works subscribe_stream:    Object(&[PROXY]), "", "Default proxy object (GRPC only)";
        Later map_publish:         Object(&[PROXY]), "", "Default proxy object";
        Later map_remove:          Object(&[PROXY]), "", "Default proxy object";
        Later shared_poll_refresh: Object(&[PROXY]), "", "Default proxy object";
    }
}
