//! Encoding replies and pushes of one connection.

use super::command::Serving;
use crate::channel::{Encoded, Publication};
use crate::metrics::FrameType;
use crate::shard::Shard;
use crate::{ConnectionId, Framing, Variant};
use ringcast_proto::client::{self as wire, Encoding, Push, PushBody, Reply, ReplyResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_proto::websocket::{Opcode, encode_header};
use std::rc::Rc;

/// Room for messages while they are encoded; used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    payload: Vec<u8>,
    header: Vec<u8>,
}

impl Scratch {
    /// What `encode` appends, as a frame that many connections share; `None` when it cannot be encoded.
    pub(crate) fn share<E>(
        &mut self,
        framing: Framing,
        encoding: Encoding,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Option<Rc<[u8]>> {
        self.payload.clear();
        encode(&mut self.payload).ok()?;
        self.frame(framing, encoding);
        self.header.extend_from_slice(&self.payload);
        Some(Rc::from(&*self.header))
    }

    /// Writes the header that goes before `payload`.
    fn frame(&mut self, framing: Framing, encoding: Encoding) {
        self.header.clear();
        match (framing, encoding) {
            (Framing::WebSocket, Encoding::Json) => encode_header(&mut self.header, Opcode::Text, self.payload.len()),
            (Framing::WebSocket, Encoding::Protobuf) => {
                encode_header(&mut self.header, Opcode::Binary, self.payload.len());
            }
        }
    }
}

impl Shard {
    /// Queues a reply for one connection; a payload that its encoding cannot carry closes it.
    pub(crate) fn write_with<E>(
        &mut self,
        connection: ConnectionId,
        frame: FrameType,
        encode: impl FnOnce(Encoding, &mut Vec<u8>) -> Result<(), E>,
    ) {
        self.queue_with(connection, frame, encode);
        if self.options.client.reply_without_queue {
            self.clients.hurry(connection);
        }
    }

    fn queue_with<E>(
        &mut self,
        connection: ConnectionId,
        frame: FrameType,
        encode: impl FnOnce(Encoding, &mut Vec<u8>) -> Result<(), E>,
    ) {
        // What is answered after the goodbye has no reader.
        let Some(client) = self.clients.get(connection).filter(|client| !client.is_closed()) else { return };
        let (framing, encoding) = (client.framing, client.encoding);
        self.scratch.payload.clear();
        if encode(encoding, &mut self.scratch.payload).is_err() {
            return self.close(connection, Disconnect::INAPPROPRIATE_PROTOCOL);
        }
        self.scratch.frame(framing, encoding);
        let bytes = [&*self.scratch.header, &*self.scratch.payload];
        if !self.clients.push_owned(connection, bytes, self.options.client.queue_max_size) {
            return self.close(connection, Disconnect::SLOW);
        }
        self.metrics.sent(frame, 1, self.scratch.payload.len());
    }

    fn write(&mut self, connection: ConnectionId, reply: &Reply) {
        self.write_with(connection, FrameType::of_reply(reply), |encoding, out| {
            wire::encode_reply(encoding, reply, out)
        });
    }

    pub(crate) fn write_result(&mut self, connection: ConnectionId, id: u32, result: ReplyResult) {
        self.write(connection, &Reply::Result { id, result });
    }

    pub(crate) fn write_error(&mut self, connection: ConnectionId, serving: Serving, error: ReplyError) {
        self.metrics.reply_errors.count((serving.frame, error.code));
        let reply = Reply::Error { id: serving.id, error };
        self.write_with(connection, serving.frame, |encoding, out| wire::encode_reply(encoding, &reply, out));
    }

    pub(crate) fn write_push(&mut self, connection: ConnectionId, channel: &str, body: PushBody) {
        let push = Reply::Push(Push { channel: channel.to_owned(), body, id: 0 });
        self.queue_with(connection, FrameType::of_reply(&push), |encoding, out| {
            wire::encode_reply(encoding, &push, out)
        });
    }
}

/// Bytes of the message in a frame that the server sends.
pub(super) fn payload_len(frame: &[u8]) -> usize {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        Some(_) | None => 2,
    };
    frame.len().saturating_sub(header)
}

/// The encoded bodies of publications, as reply encoders take them, in the forms that the home made for this reader: each
/// but the first may be a patch of the one before. `None` when one cannot be encoded so.
pub(crate) fn bodies<'a>(
    publications: impl IntoIterator<Item = &'a Publication>,
    variant: Variant,
) -> Option<Vec<&'a [u8]>> {
    let body = |(number, publication): (usize, &'a Publication)| match publication
        .encoded(publication.form_for(variant, number > 0))
    {
        Encoded::Body(body) => Some(&body[..]),
        Encoded::Absent | Encoded::Impossible => None,
    };
    publications.into_iter().enumerate().map(body).collect()
}
