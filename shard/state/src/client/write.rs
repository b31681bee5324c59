//! Encoding replies and pushes of one connection.

use super::command::Serving;
use crate::channel::{Encoded, Publication};
use crate::metrics::FrameType;
use crate::shard::Shard;
use crate::transport::{Shape, opcode};
use crate::{ConnectionId, Farewell, Options, TransportKind, Variant};
use ringcast_proto::client::{self as wire, Encoding, InvalidJson, Push, PushBody, Reply, ReplyResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_proto::websocket::{Deflater, encode_deflated_header};
use std::rc::Rc;

/// Room for messages while they are encoded; used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    payload: Vec<u8>,
    header: Vec<u8>,
    /// The payload as it goes out, if it is deflated.
    deflated: Vec<u8>,
    deflater: Deflater,
}

/// How the message in [`Scratch`] goes out.
struct Framed {
    is_deflated: bool,
    /// What follows it.
    behind: &'static [u8],
}

impl Scratch {
    /// What `encode` appends, as a frame that many connections share; `None` when it cannot be encoded.
    pub(crate) fn share<E>(
        &mut self,
        options: &Options,
        shape: Shape,
        encoding: Encoding,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Option<SharedFrame> {
        self.payload.clear();
        encode(&mut self.payload).ok()?;
        let framed = self.frame(options, shape, encoding);
        self.header.extend_from_slice(if framed.is_deflated { &self.deflated } else { &self.payload });
        self.header.extend_from_slice(framed.behind);
        Some(SharedFrame { bytes: Rc::from(&*self.header), message_len: self.payload.len() })
    }

    /// Writes the header that goes before `payload`, or before `deflated`.
    fn frame(&mut self, options: &Options, shape: Shape, encoding: Encoding) -> Framed {
        self.header.clear();
        if let Some(level) = options.compression_level(shape, self.payload.len())
            && self.deflater.deflate(level, &self.payload, &mut self.deflated)
        {
            encode_deflated_header(&mut self.header, opcode(encoding), self.deflated.len());
            return Framed { is_deflated: true, behind: b"" };
        }
        let behind = shape.framing.surround(encoding, self.payload.len(), &mut self.header);
        Framed { is_deflated: false, behind }
    }
}

/// A frame for many, and the length of the message in it.
#[derive(Clone, Debug)]
pub(crate) struct SharedFrame {
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) message_len: usize,
}

/// Appends a push in the form for its kind of client.
pub(crate) fn encode_push(
    kind: TransportKind,
    encoding: Encoding,
    push: &Push,
    out: &mut Vec<u8>,
) -> Result<(), InvalidJson> {
    match kind.is_unidirectional() {
        true => wire::encode_uni_push(encoding, Some(push), out),
        false => wire::encode_push(encoding, push, out),
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
        if self.clients.get(connection).is_some_and(|client| !client.is_closed())
            && let Err(disconnect) = self.append(connection, frame, encode)
        {
            self.close(connection, disconnect);
        }
    }

    /// Queues a message for one connection, also for one that is closed; an error says why it must close.
    pub(super) fn append<E>(
        &mut self,
        connection: ConnectionId,
        frame: FrameType,
        encode: impl FnOnce(Encoding, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), Disconnect> {
        let Some(client) = self.clients.get(connection) else { return Ok(()) };
        let (shape, encoding) = (client.shape, client.encoding);
        self.scratch.payload.clear();
        encode(encoding, &mut self.scratch.payload).map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
        let framed = self.scratch.frame(&self.options, shape, encoding);
        let Scratch { payload, header, deflated, .. } = &self.scratch;
        let bytes = [header, if framed.is_deflated { deflated } else { payload }, framed.behind];
        if !self.clients.push_owned(connection, bytes, self.options.client.queue_max_size) {
            return Err(Disconnect::SLOW);
        }
        self.metrics.sent(shape.kind, frame, 1, self.scratch.payload.len());
        Ok(())
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

    /// Tells that a command failed. A unidirectional client, whose only one is connect, is closed over it.
    pub(super) fn refuse(&mut self, connection: ConnectionId, serving: Serving, error: ReplyError) {
        let farewell =
            self.clients.get(connection).filter(|client| client.is_unidirectional()).map(|client| client.farewell);
        match farewell {
            None => self.write_error(connection, serving, error),
            Some(Farewell::Status) => {
                self.close(connection, Disconnect { code: error.code, reason: error.message });
            }
            Some(Farewell::Push | Farewell::None) => {
                let disconnect = self.options.client.unidirectional_disconnect(&error);
                self.close(connection, disconnect);
            }
        }
    }

    pub(crate) fn write_push(&mut self, connection: ConnectionId, channel: &str, body: PushBody) {
        let Some(client) = self.clients.get(connection) else { return };
        let kind = client.shape.kind;
        let push = Push { channel: channel.to_owned(), body, id: 0 };
        self.queue_with(connection, FrameType::of_push(&push.body), |encoding, out| {
            encode_push(kind, encoding, &push, out)
        });
    }
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
