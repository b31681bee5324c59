//! The body of a request, until it is whole.

use ringcast_proto::api::Method;
use ringcast_proto::client::Encoding;
use ringcast_proto::http::{ChunkedDecoder, HttpError};

use super::origin::Cors;
use crate::transport::sockjs::SendRequest;
use crate::transport::stream::StreamRequest;

/// First reservation for a body. What a header merely announces is not reserved.
const BODY_RESERVE_BYTES: usize = 16 << 10;

/// Once so much of a body has come, room for all that was announced is reserved, which is no memory until it is written to. Buffers that
/// were outgrown stayed resident: a body of 29 MiB cost 59 MiB.
const BODY_BELIEVED_BYTES: usize = 256 << 10;

/// What the body is for.
pub enum Purpose {
    /// A call of the server API.
    Call {
        /// None for the bare prefix.
        method: Option<Method>,
        /// Errors as HTTP statuses.
        transport_errors: bool,
    },
    /// The first commands of a stream, or its connect request.
    Stream(StreamRequest),
    /// Messages for a session of SockJS.
    SockJs(SendRequest),
    /// Commands for a stream.
    Emulation {
        /// Of the request and the commands in it.
        encoding: Encoding,
        /// For the response.
        cors: Cors,
    },
}

/// A request whose body is coming.
pub struct Incoming {
    purpose: Purpose,
    body: Vec<u8>,
    length: Length,
}

enum Length {
    Missing(usize),
    Chunked(ChunkedDecoder),
    /// Until the stream ends, at most so many bytes.
    Unknown(usize),
}

impl Incoming {
    /// A body of so many bytes.
    pub fn with_length(purpose: Purpose, length: usize) -> Self {
        Self { purpose, body: Vec::new(), length: Length::Missing(length) }
    }

    /// A body of at most so many bytes.
    pub fn chunked(purpose: Purpose, bytes_max: usize) -> Self {
        Self { purpose, body: Vec::new(), length: Length::Chunked(ChunkedDecoder::new(bytes_max)) }
    }

    /// A body of at most so many bytes, whose end is told.
    pub fn until_end(purpose: Purpose, bytes_max: usize) -> Self {
        Self { purpose, body: Vec::new(), length: Length::Unknown(bytes_max) }
    }

    /// Takes bytes. Tells how many, and whether the body is whole.
    pub fn take(&mut self, input: &[u8]) -> Result<(usize, bool), HttpError> {
        match &mut self.length {
            Length::Missing(missing) => {
                let used = input.len().min(*missing);
                if self.body.len() >= BODY_BELIEVED_BYTES {
                    self.body.reserve_exact(*missing);
                }
                reserve(&mut self.body, used, *missing);
                self.body.extend_from_slice(&input[..used]);
                *missing -= used;
                Ok((used, *missing == 0))
            }
            Length::Chunked(decoder) => {
                let used = decoder.decode(input, &mut self.body)?;
                Ok((used, decoder.is_done()))
            }
            Length::Unknown(bytes_max) if self.body.len() + input.len() > *bytes_max => {
                Err(HttpError { status: 413, reason: "body over the size limit" })
            }
            Length::Unknown(bytes_max) => {
                let missing = *bytes_max - self.body.len();
                reserve(&mut self.body, input.len(), missing);
                self.body.extend_from_slice(input);
                Ok((input.len(), false))
            }
        }
    }

    /// What the body is for.
    pub fn purpose(&self) -> &Purpose {
        &self.purpose
    }

    /// The body, and what it is for.
    pub fn finish(self) -> (Purpose, Vec<u8>) {
        (self.purpose, self.body)
    }
}

/// Doubles, but not beyond the announced end, so that a large body is not held twice.
fn reserve(body: &mut Vec<u8>, now: usize, missing: usize) {
    if body.capacity() - body.len() < now {
        body.reserve_exact(missing.min(body.len().max(BODY_RESERVE_BYTES)).max(now));
    }
}
