//! Keys of the server itself: listeners, logs, server API, inner endpoints, node.

use super::shared::TLS;
use super::{Key, Kind::*, Support};

keys! {
    /// `http_server`
    HTTP_SERVER {
        Works address:          Text,                "",     "Bind host of the external server, empty = all interfaces";
        Works port:             Int,                 "8000", "Port of the external server";
        Works internal_address: Text,                "",     "Bind host for internal endpoints, falls back to address";
        Works internal_port:    Text,                "",     "Separate port for internal endpoints, empty = same port";
        Works tls:              Object(&[TLS]),      "",     "TLS of all HTTP endpoints";
        Works tls_external:     Bool,                "",     "TLS only on the external port";
        Works internal_tls:     Object(&[TLS]),      "",     "Own TLS for the internal port";
        Works h2c_external:     Bool,                "",     "Cleartext HTTP/2 outside; needs internal_port, no TLS";
        Works tls_autocert:     Object(&[AUTOCERT]), "",     "Certificates from an ACME provider";
        Works http3:            Object(&[HTTP3]),    "",     "HTTP/3 on the external port";
    }
}

keys! {
    /// `http_server.tls_autocert`
    AUTOCERT {
        Works enabled:        Bool,  "",    "Certificates from an ACME provider";
        Works host_whitelist: Texts, "",    "Host names allowed to get certificates";
        Works cache_dir:      Text,  "",    "Directory keeping issued certificates";
        Works email:          Text,  "",    "ACME account contact";
        Works server_name:    Text,  "",    "SNI assumed when a client sends none";
        Works http:           Bool,  "",    "Also serve http-01 challenges";
        Works http_addr:      Text,  ":80", "Address for http-01 challenges";
        Works directory_url:  Text,  "https://acme-v02.api.letsencrypt.org/directory", "ACME directory, a key of ringcast";
        Works directory_ca_file: Text, "", "PEM file of the authority of the directory's own certificate, a key of ringcast; empty = those of the system";
    }
}

keys! {
    /// `http_server.http3`
    HTTP3 {
        Works enabled: Bool, "", "HTTP/3 on the external port, experimental";
    }
}

keys! {
    /// `log`
    LOG {
        Works level: Text, "info", "Smallest level written: trace, debug, info, warn, error, fatal, none";
        Works file:  Text, "",     "Log to this file instead of the terminal";
    }
}

keys! {
    /// `http_api`
    HTTP_API {
        Works disabled:       Bool, "",     "No HTTP API";
        Works handler_prefix: Text, "/api", "URL prefix";
        Works key:            Text, "",     "API key";
        Works error_mode:     Text, "",     "\"\" or transport";
        Works external:       Bool, "",     "Serve on the external port";
        Works insecure:       Bool, "",     "No key check";
        Works body_size_limit: Int, "33554432", "Bytes of a request body, a key of ringcast; more is answered with 413";
        Works wrong_key_limit: Int, "10",       "Wrong keys of an address in a minute, a key of ringcast; more are answered with 429, -1 = no limit";
    }
}

keys! {
    /// `grpc_api`
    GRPC_API {
        Works enabled:                  Bool,           "",      "Run GRPC API";
        Works error_mode:               Text,           "",      "\"\" or transport";
        Works address:                  Text,           "",      "Bind host";
        Works port:                     Int,            "10000", "Port";
        Works key:                      Text,           "",      "Key in metadata";
        Works tls:                      Object(&[TLS]), "",      "TLS object";
        Works reflection:               Bool,           "",      "Server reflection";
        Works max_receive_message_size: Int,            "",      "Bytes, 0 = library default";
        Works wrong_key_limit:          Int,            "10",    "Wrong keys of an address in a minute, a key of ringcast; more get RESOURCE_EXHAUSTED, -1 = no limit";
    }
}

keys! {
    /// `admin`
    ADMIN {
        Works enabled:           Bool, "", "Web UI and its API";
        Works handler_prefix:    Text, "", "URL prefix, empty = root";
        Works password:          Text, "", "Login password";
        Works secret:            Text, "", "Signs admin tokens";
        Works insecure:          Bool, "", "No login";
        Works web_path:          Text, "", "Serve UI from a directory";
        Works web_proxy_address: Text, "", "Proxy UI requests (development)";
        Works external:          Bool, "", "Serve on the external port";
    }
}

keys! {
    /// `health`
    HEALTH {
        Works enabled:        Bool, "",        "Health endpoint";
        Works handler_prefix: Text, "/health", "Path";
        Works delivery_check: Bool, "",        "Publish once a second, and say at /ready whether it arrives";
    }
}

keys! {
    /// `swagger`
    SWAGGER {
        Works enabled:        Bool, "",         "Swagger UI";
        Works handler_prefix: Text, "/swagger", "Path";
    }
}

keys! {
    /// `debug`
    DEBUG {
        Works enabled:        Bool, "",             "Pprof endpoints";
        Works handler_prefix: Text, "/debug/pprof", "Path";
    }
}

keys! {
    /// `shard_placement`, a key of ringcast
    SHARD_PLACEMENT {
        Works cpus:              Text, "", "CPU of each shard, in order, such as 0-3,8; empty chooses";
        Works one_per_core:      Bool, "", "No two shards on hyperthreads of one core";
        Works reserve:           Int,  "", "Cores without a shard, lowest numbers first, for the control plane and interrupts";
        Works follow_interrupts: Bool, "", "A connection goes to the shard on the CPU that takes its packets";
    }
}

keys! {
    /// `shard_balance`, a key of ringcast
    SHARD_BALANCE {
        Works disabled: Bool, "", "Every connection stays with the shard that the kernel chose, however uneven";
    }
}

keys! {
    /// `demo`, a key of ringcast
    DEMO {
        Works enabled: Bool, "", "Serve the demo page at `/`, for development";
    }
}

keys! {
    /// `node`
    NODE {
        Works name:                            Text,     "",    "Node name, default `<hostname>_<port>`";
        Later info_metrics_aggregate_interval: Duration, "60s", "Window of info metrics";
    }
}

keys! {
    /// `shutdown`
    SHUTDOWN {
        Works timeout: Duration, "30s", "Graceful stop limit";
        Works drain:   Duration, "",    "Time over which clients are told to reconnect before the stop, a key of ringcast; 0 = all at once";
    }
}

keys! {
    /// `memory`, a group of ringcast
    MEMORY {
        Works budget: Int, "", "Bytes from which load is shed, 0 = 80 % of the least that machine and control groups grant, negative = never";
    }
}
