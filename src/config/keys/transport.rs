//! Keys of the ways a client can connect.

use super::shared::TLS;
use super::{Key, Kind::*, Support};

keys! {
    /// `websocket`
    WEBSOCKET {
        Works disabled:                        Bool,     "",                      "No WebSocket endpoint";
        Works handler_prefix:                  Text,     "/connection/websocket", "Path";
        Works compression:                     Bool,     "",                      "Offer permessage-deflate";
        Works compression_min_size:            Int,      "",                      "Smallest compressed message";
        Works compression_level:               Int,      "1",                     "Deflate level";
        Moot  read_buffer_size:                Int,      "",                      "Bytes, 0 = 4096 or server's";
        Moot  use_write_buffer_pool:           Bool,     "",                      "Share write buffers";
        Moot  write_buffer_size:               Int,      "",                      "Bytes, 0 = default";
        Works write_timeout:                   Duration, "1000ms",                "Limit of one write";
        Works message_size_limit:              Int,      "65536",                 "Largest incoming message";
        Works decompressed_message_size_limit: Int,      "",                      "After inflate, 0 = 10 × limit, at most limit + 4 × deflated";
        Works lax_handshake:                   Bool,     "",                      "Upgrade what RFC 6455 forbids and Centrifugo forgives, on every WebSocket endpoint, a key of ringcast";
    }
}

keys! {
    /// `sse`
    SSE {
        Works enabled:               Bool, "",                "SSE + emulation";
        Works handler_prefix:        Text, "/connection/sse", "Path";
        Works max_request_body_size: Int,  "65536",           "POST body cap";
    }
}

keys! {
    /// `http_stream`
    HTTP_STREAM {
        Works enabled:               Bool, "",                        "HTTP streaming + emulation";
        Works handler_prefix:        Text, "/connection/http_stream", "Path";
        Works max_request_body_size: Int,  "65536",                   "POST body cap";
    }
}

keys! {
    /// `webtransport`
    WEBTRANSPORT {
        Works enabled:            Bool, "",                         "WebTransport (bidirectional)";
        Works handler_prefix:     Text, "/connection/webtransport", "Path";
        Works message_size_limit: Int,  "65536",                    "Largest command";
    }
}

keys! {
    /// `uni_sse`
    UNI_SSE {
        Works enabled:                       Bool,                                     "",                    "Unidirectional SSE";
        Works handler_prefix:                Text,                                     "/connection/uni_sse", "Path";
        Works max_request_body_size:         Int,                                      "65536",               "POST body cap";
        Works connect_code_to_http_response: Object(&[CONNECT_CODE_TO_HTTP_RESPONSE]), "",                    "Statuses for connect failures";
    }
}

keys! {
    /// `uni_http_stream`
    UNI_HTTP_STREAM {
        Works enabled:                       Bool,                                     "",                            "Unidirectional HTTP stream";
        Works handler_prefix:                Text,                                     "/connection/uni_http_stream", "Path";
        Works max_request_body_size:         Int,                                      "65536",                       "POST body cap";
        Works connect_code_to_http_response: Object(&[CONNECT_CODE_TO_HTTP_RESPONSE]), "",                            "As uni_sse";
    }
}

keys! {
    /// `connect_code_to_http_response` of the unidirectional HTTP transports
    CONNECT_CODE_TO_HTTP_RESPONSE {
        Works enabled:    Bool,                             "", "Map connect failures to HTTP statuses";
        Works transforms: List(&[HTTP_RESPONSE_TRANSFORM]), "", "List of {code, to{status_code, body}}";
    }
}

keys! {
    /// One of `connect_code_to_http_response.transforms`
    HTTP_RESPONSE_TRANSFORM {
        Works code: Uint32,                   "", "Connect error or disconnect code to match";
        Works to:   Object(&[HTTP_RESPONSE]), "", "Answer instead";
    }
}

keys! {
    /// `to` of such a transform
    HTTP_RESPONSE {
        Works status_code: Int,  "", "HTTP status";
        Works body:        Text, "", "Body";
    }
}

keys! {
    /// `uni_websocket`
    UNI_WEBSOCKET {
        Works enabled:                         Bool,     "",                          "Unidirectional WebSocket";
        Works handler_prefix:                  Text,     "/connection/uni_websocket", "Path";
        Later compression:                     Bool,     "",                          "As websocket";
        Later compression_min_size:            Int,      "",                          "As websocket";
        Later compression_level:               Int,      "1",                         "As websocket";
        Moot  read_buffer_size:                Int,      "",                          "As websocket";
        Moot  use_write_buffer_pool:           Bool,     "",                          "As websocket";
        Moot  write_buffer_size:               Int,      "",                          "As websocket";
        Works write_timeout:                   Duration, "1000ms",                    "As websocket";
        Works message_size_limit:              Int,      "65536",                     "As websocket";
        Later decompressed_message_size_limit: Int,      "",                          "As websocket";
        Works disable_closing_handshake:       Bool,     "",                          "No close frame";
        Works disable_disconnect_push:         Bool,     "",                          "No disconnect push";
        Works join_push_messages:              Bool,     "",                          "Several pushes per frame";
    }
}

keys! {
    /// `uni_grpc`
    UNI_GRPC {
        Works enabled:                  Bool,           "",      "Unidirectional GRPC";
        Works address:                  Text,           "",      "Bind host";
        Works port:                     Int,            "11000", "Port";
        Works max_receive_message_size: Int,            "",      "Bytes, 0 = library default";
        Works tls:                      Object(&[TLS]), "",      "TLS object";
    }
}

keys! {
    /// `sockjs`, a key of ringcast; Centrifugo had it up to version 5
    SOCKJS {
        Works enabled:         Bool,     "",                                                               "SockJS, for browsers and networks without WebSocket";
        Works handler_prefix:  Text,     "/connection/sockjs",                                             "Path";
        Works url:             Text,     "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js", "Client that the iframe page loads";
        Works heartbeat_delay: Duration, "25s",                                                            "Silence before a heartbeat, at least 1s";
    }
}

keys! {
    /// `emulation`
    EMULATION {
        Works handler_prefix:        Text, "/emulation", "Path";
        Works max_request_body_size: Int,  "65536",      "Body cap";
    }
}

keys! {
    /// `init`
    INIT {
        Works enabled:        Bool, "",                 "`GET` answering `{}` to warm connections";
        Works handler_prefix: Text, "/connection/init", "Path";
    }
}
