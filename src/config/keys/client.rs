//! Keys of client connections: limits, tokens, personal channels.

use super::pro::PRO_TOKEN;
use super::proxy::PROXY;
use super::{Key, Kind::*, Support};

keys! {
    /// `client`
    CLIENT {
        Works allowed_origins:                           Texts,                                           "",        "Glob list; `*` = all; empty = none";
        Works http_origin_check_disabled:                           Bool,                                            "",        "HTTP transports serve requests of other origins, too, a key of ringcast";
        Works token:                                     Object(&[TOKEN, PRO_TOKEN]),                     "",        "Token verification";
        Works subscription_token:                        Object(&[SUBSCRIPTION_TOKEN, TOKEN, PRO_TOKEN]), "",        "Same keys as client.token for subscription tokens";
        Works allow_anonymous_connect_without_token:     Bool,                                            "",        "Accept connects without token";
        Works disallow_anonymous_connection_tokens:      Bool,                                            "",        "Refuse tokens with empty user";
        Works ping_interval:                             Duration,                                        "25s",     "Server ping period";
        Works pong_timeout:                              Duration,                                        "8s",      "Wait for pong, must be below ping_interval";
        Works expired_close_delay:                       Duration,                                        "25s",     "Grace for client-side refresh";
        Works expired_sub_close_delay:                   Duration,                                        "25s",     "Grace for subscription refresh";
        Works stale_close_delay:                         Duration,                                        "10s",     "Time to authenticate";
        Works channel_limit:                             Int,                                             "128",     "Channels per connection";
        Works queue_max_size:                            Int,                                             "1048576", "Outgoing queue bytes per connection";
        Works presence_update_interval:                  Duration,                                        "27s",     "Presence refresh period";
        Works concurrency:                               Int,                                             "",        "Parallel commands per connection, ≤1 sequential";
        Works channel_position_check_delay:              Duration,                                        "40s",     "Stream position check period";
        Works channel_position_max_time_lag:             Duration,                                        "",        "PUB/SUB lag limit, 0 = off";
        Works connection_limit:                          Int,                                             "",        "Connections per node, 0 = none";
        Works user_connection_limit:                     Int,                                             "",        "Connections per user and node";
        Works connection_rate_limit:                     Int,                                             "",        "Accept bucket size, refilled by 1 per second";
        Works connect_include_server_time:               Bool,                                            "",        "Send server time at connect";
        Works history_max_publication_limit:             Int,                                             "300",     "Cap of a client history call";
        Works recovery_max_publication_limit:            Int,                                             "300",     "Cap of recovered publications";
        Works insecure_skip_token_signature_verify:      Bool,                                            "",        "Accept any signature";
        Works user_id_http_header:                       Text,                                            "",        "Trusted header carrying the user id";
        Works insecure:                                  Bool,                                            "",        "No auth, all permissions";
        Works proxy:                                     Object(&[CLIENT_PROXY]),                         "",        "Backend asked about connections";
        Works subscribe_to_user_personal_channel:        Object(&[PERSONAL_CHANNEL]),                     "",        "Subscribe users to their own channel at connect";
        Works connect_code_to_unidirectional_disconnect: Object(&[UNI_DISCONNECT]),                       "",        "Other disconnect codes for unidirectional clients";
    }
}

keys! {
    /// `client.token`: what a JWT is checked with; also part of `client.subscription_token`
    TOKEN {
        Works hmac_secret_key:                          Text,  "", "HS256/384/512 key";
        Works hmac_previous_secret_key:                 Text,  "", "Old HMAC key";
        Works hmac_previous_secret_key_valid_until:     Int64, "", "Unix time until which the old key is accepted";
        Works rsa_public_key:                           Text,  "", "RS256/384/512 key (PEM)";
        Works ecdsa_public_key:                         Text,  "", "ES256/384/512 key (PEM)";
        Works jwks_public_endpoint:                     Text,  "", "JWKS URL, may contain `{{var}}` from issuer/audience regex groups";
        Works audience:                                 Text,  "", "Required aud";
        Works audience_regex:                           Text,  "", "Pattern for aud";
        Works issuer:                                   Text,  "", "Required iss";
        Works issuer_regex:                             Text,  "", "Pattern for iss";
        Works user_id_claim:                            Text,  "", "Claim used as user id (path `a.b` not allowed; `^[a-zA-Z_]+$`), default sub";
        Works insecure_skip_jwks_endpoint_safety_check: Bool,  "", "Allow loose regex with a templated URL";
        Works jwks_allow_private_addresses:             Bool,  "", "Allow private addresses for a host that comes out of a token by the templated URL";
    }
}

keys! {
    /// `client.subscription_token`, beside the keys of a token
    SUBSCRIPTION_TOKEN {
        Works enabled: Bool, "", "Use the separate set";
    }
}

keys! {
    /// `client.proxy`
    CLIENT_PROXY {
        Works connect: Object(&[CONNECT_PROXY, PROXY]), "", "Asked when a client connects without a token";
        Works refresh: Object(&[REFRESH_PROXY, PROXY]), "", "Asked when a connection expires";
    }
}

keys! {
    /// `client.proxy.connect`, beside the keys of a proxy
    CONNECT_PROXY {
        Works enabled: Bool, "", "Ask backend when no token came";
    }
}

keys! {
    /// `client.proxy.refresh`, beside the keys of a proxy
    REFRESH_PROXY {
        Works enabled: Bool, "", "Ask backend when a connection expires";
    }
}

keys! {
    /// `client.subscribe_to_user_personal_channel`
    PERSONAL_CHANNEL {
        Works enabled:                    Bool, "", "Auto server-side subscription of users";
        Works personal_channel_namespace: Text, "", "Namespace of `ns:#user`";
        Works single_connection:          Bool, "", "Keep one connection per user (needs presence)";
    }
}

keys! {
    /// `client.connect_code_to_unidirectional_disconnect`
    UNI_DISCONNECT {
        Works enabled:    Bool,                              "", "Use the mapping";
        Works transforms: List(&[UNI_DISCONNECT_TRANSFORM]), "", "List of {code, to{code, reason}}";
    }
}

keys! {
    /// One of its `transforms`
    UNI_DISCONNECT_TRANSFORM {
        Works code: Uint32,                "", "Connect error code to match";
        Works to:   Object(&[DISCONNECT]), "", "Disconnect instead";
    }
}

keys! {
    /// A disconnect in a transform
    DISCONNECT {
        Works code:   Uint32, "", "Disconnect code";
        Works reason: Text,   "", "Disconnect text";
    }
}
