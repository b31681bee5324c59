//! How the messages of a client travel, as the servers name it. Source: protocol §14 and §15.

use clap::ValueEnum;

/// Transport of all clients of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Websocket,
    /// A response without end; commands by the emulation endpoint.
    #[value(name = "http_stream")]
    HttpStream,
    /// The same as server-sent events.
    Sse,
    /// Only what the server sends, as those that follow.
    #[value(name = "uni_websocket")]
    UniWebsocket,
    #[value(name = "uni_http_stream")]
    UniHttpStream,
    #[value(name = "uni_sse")]
    UniSse,
}

impl Transport {
    /// Of its addresses; with an `s` for TLS.
    pub fn scheme(self) -> &'static str {
        if self.is_stream() { "http" } else { "ws" }
    }

    /// Where servers have it unless they are told otherwise.
    pub fn path(self) -> &'static str {
        match self {
            Self::Websocket => "/connection/websocket",
            Self::HttpStream => "/connection/http_stream",
            Self::Sse => "/connection/sse",
            Self::UniWebsocket => "/connection/uni_websocket",
            Self::UniHttpStream => "/connection/uni_http_stream",
            Self::UniSse => "/connection/uni_sse",
        }
    }

    /// Whether it is a response without end, and no WebSocket.
    pub fn is_stream(self) -> bool {
        !matches!(self, Self::Websocket | Self::UniWebsocket)
    }

    /// Whether clients say nothing after they have connected.
    pub fn is_uni(self) -> bool {
        matches!(self, Self::UniWebsocket | Self::UniHttpStream | Self::UniSse)
    }

    /// Whether messages are events of a stream.
    pub fn is_events(self) -> bool {
        matches!(self, Self::Sse | Self::UniSse)
    }

    /// Whether it can carry Protobuf.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Websocket | Self::HttpStream)
    }
}
