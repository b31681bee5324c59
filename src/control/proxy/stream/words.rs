//! The messages of a stream of GRPC, one after another, and its end.

use super::super::backend::BackendError;
use super::super::grpc::{PREFIX_BYTES, check_status, inflate};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ringcast_proto::DecodeError;

/// Most bytes of a message, as in the reference.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a backend says on a stream.
///
/// Bound: a message that is not whole, and what the windows of HTTP/2 let through.
pub struct Words {
    body: Incoming,
    buffer: BytesMut,
}

impl Words {
    pub fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; none at the end that the backend wanted. May be dropped while it waits. Fails when the connection does, the
    /// backend says that it has failed, or what it says is no message.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackendError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return check_status(&http::HeaderMap::new(), true).map(|()| None);
            };
            match frame.map_err(|error| BackendError::Exchange(Box::new(error)))?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    check_status(&frame.into_trailers().unwrap_or_default(), true)?;
                    return if self.buffer.is_empty() { Ok(None) } else { Err(broken()) };
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, BackendError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(BackendError::TooLong(MESSAGE_BYTES_MAX));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let message = self.buffer.split_to(PREFIX_BYTES + length).freeze().slice(PREFIX_BYTES..);
        match flag {
            0 => Ok(Some(message)),
            1 => inflate(&message, MESSAGE_BYTES_MAX).map(Some),
            _ => Err(broken()),
        }
    }
}

fn broken() -> BackendError {
    BackendError::Decode(DecodeError { reason: "not a message of GRPC", position: 0 })
}
