//! Keys of backends that are asked about events, and of RPC.

use super::pro::PRO_PROXY_HTTP;
use super::shared::TLS;
use super::{Key, Kind::*, Support};

keys! {
    /// A proxy, wherever one is configured
    PROXY {
        Works endpoint:                Text,                                  "",   "`http(s)://…` or `grpc://host:port`; \"\" refused";
        Works timeout:                 Duration,                              "1s", "Request limit";
        Works http_headers:            Texts,                                 "",   "Transport headers to forward";
        Works grpc_metadata:           Texts,                                 "",   "Incoming metadata to forward";
        Works emulated_headers:        Texts,                                 "",   "Client-sent headers to forward";
        Works binary_encoding:         Bool,                                  "",   "B64 fields instead of JSON";
        Works include_connection_meta: Bool,                                  "",   "Add meta to request";
        Works http:                    Object(&[PROXY_HTTP, PRO_PROXY_HTTP]), "",   "HTTP part";
        Works grpc:                    Object(&[PROXY_GRPC]),                 "",   "GRPC part";
    }
}

keys! {
    /// `http` of a proxy
    PROXY_HTTP {
        Works tls:                       Object(&[TLS]),            "", "TLS object";
        Works static_headers:            Map,                       "", "Constant headers";
        Works status_to_code_transforms: List(&[STATUS_TRANSFORM]), "", "List below";
    }
}

keys! {
    /// One of `http.status_to_code_transforms`
    STATUS_TRANSFORM {
        Works status_code:   Int,                      "", "Status to match";
        Works to_error:      Object(&[TO_ERROR]),      "", "Error for the client";
        Works to_disconnect: Object(&[TO_DISCONNECT]), "", "Or a disconnect";
    }
}

keys! {
    /// `to_error` of such a transform
    TO_ERROR {
        Works code:      Uint32, "", "Error code";
        Works message:   Text,   "", "Error text";
        Works temporary: Bool,   "", "Retry hint";
    }
}

keys! {
    /// `to_disconnect` of such a transform
    TO_DISCONNECT {
        Works code:   Uint32, "", "Disconnect code";
        Works reason: Text,   "", "Disconnect text";
    }
}

keys! {
    /// `grpc` of a proxy
    PROXY_GRPC {
        Works tls:               Object(&[TLS]), "", "TLS object";
        Works credentials_key:   Text,           "", "Per-RPC credential name";
        Works credentials_value: Text,           "", "Its value";
        Works compression:       Bool,           "", "Gzip";
        Works static_metadata:   Map,            "", "Constant metadata";
    }
}

keys! {
    /// Name of one of `proxies`
    PROXY_NAME {
        Works name: Text, "", "Reference name, `default` reserved";
    }
}

keys! {
    /// `rpc`
    RPC {
        Works proxy:              Object(&[PROXY]),               "",  "Default RPC proxy";
        Works without_namespace:  Object(&[RPC_OPTIONS]),         "",  "RPC options for plain methods";
        Works namespaces:         List(&[RPC_NAME, RPC_OPTIONS]), "",  "List of {name, proxy_enabled, proxy_name}";
        Works namespace_boundary: Text,                           ":", "RPC namespace separator";
        Works ping:               Object(&[RPC_PING]),            "",  "Ping that the server answers by itself";
    }
}

keys! {
    /// Options of RPC methods: `rpc.without_namespace` and every namespace
    RPC_OPTIONS {
        Works proxy_enabled: Bool, "",        "Send to backend";
        Works proxy_name:    Text, "default", "Which proxy";
    }
}

keys! {
    /// Name of one of `rpc.namespaces`
    RPC_NAME {
        Works name: Text, "", "Same pattern as channels";
    }
}

keys! {
    /// `rpc.ping`
    RPC_PING {
        Works enabled: Bool, "",     "Built-in ping RPC";
        Works method:  Text, "ping", "Its method name";
    }
}
