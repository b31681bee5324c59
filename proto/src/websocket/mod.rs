//! WebSocket framing and handshake, both roles, with permessage-deflate. Source: RFC 6455, RFC 7692.

mod deflate;
mod extension;
mod frame;
mod handshake;
mod header;
mod mask;
mod merge;

pub use deflate::{Deflater, Inflater};
pub use extension::{Deflate, negotiate};
pub use frame::Decoder;
pub use handshake::{
    Accepted, HandshakeError, Strictness, Upgraded, accept, check_response, offer_deflate, write_connected,
    write_refusal, write_request, write_response,
};
pub use header::{
    Opcode, encode_close, encode_deflated_header, encode_frame, encode_header, encode_masked_close, encode_masked_frame,
};
pub use merge::merge_frames;

use std::fmt;

/// Which side of the connection we are. Clients mask their frames, servers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We accepted the connection.
    Server,
    /// We opened it.
    Client,
}

/// What came from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message in valid UTF-8.
    Text(&'a [u8]),
    /// A whole message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// Answer to a ping, or unasked.
    Pong(&'a [u8]),
    /// The peer closes; nothing more comes.
    Close {
        /// `None` when the peer gave no code.
        code: Option<u16>,
        /// Valid UTF-8.
        reason: &'a [u8],
    },
}

/// Why a connection must be closed, with the code for the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The peer breaks the framing rules: 1002.
    Framing(&'static str),
    /// Text that is not UTF-8: 1007.
    InvalidUtf8,
    /// A message over the limit: 1009.
    TooBig,
    /// A message over the limit once it is inflated: 1009.
    TooBigInflated,
    /// A message that cannot be inflated: 1007. The reference takes it for a broken command, 3501.
    Deflate,
}

impl ProtocolError {
    /// Code for the close frame.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Framing(_) => 1002,
            Self::InvalidUtf8 | Self::Deflate => 1007,
            Self::TooBig | Self::TooBigInflated => 1009,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Framing(reason) => reason,
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::TooBig => "message over the size limit",
            Self::TooBigInflated => "message too big after decompression",
            Self::Deflate => "message cannot be inflated",
        })
    }
}

impl std::error::Error for ProtocolError {}
