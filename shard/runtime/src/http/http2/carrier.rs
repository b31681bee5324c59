//! One stream of HTTP/2 as the carrier of a client: a response without end, or a WebSocket.

use std::rc::Rc;
use std::sync::Arc;

use h2::server::SendResponse;
use ringcast_proto::codes::Disconnect;

use super::outgoing::{Chunk, End, Outgoing};
use super::respond;
use crate::connection::{Carrier, last_frames};
use crate::options::Options;
use crate::transport::stream::Stream;
use crate::uring::SendBytes;

/// What a client's stream sends.
pub struct StreamCarrier {
    out: Rc<Outgoing>,
    kind: Kind,
}

enum Kind {
    /// A response whose first message decides about its status.
    Unbegun(Box<Unbegun>),
    Stream,
    /// With close frames, or without them.
    WebSocket {
        says_why: bool,
        /// Its messages are frames of SockJS.
        framed: bool,
    },
}

struct Unbegun {
    respond: SendResponse<Chunk>,
    stream: Stream,
    options: Arc<Options>,
}

impl StreamCarrier {
    /// A response that has begun.
    pub fn stream(out: Rc<Outgoing>) -> Self {
        Self { out, kind: Kind::Stream }
    }

    /// A response that begins with the first message, or whose status says why there is none.
    pub fn unbegun(out: Rc<Outgoing>, respond: SendResponse<Chunk>, stream: Stream, options: Arc<Options>) -> Self {
        Self { out, kind: Kind::Unbegun(Box::new(Unbegun { respond, stream, options })) }
    }

    /// A WebSocket; `says_why` if it ends with a close frame, `framed` if its messages are frames of SockJS.
    pub fn websocket(out: Rc<Outgoing>, says_why: bool, framed: bool) -> Self {
        Self { out, kind: Kind::WebSocket { says_why, framed } }
    }

    fn begin(&mut self) {
        if let Kind::Unbegun(unbegun) = std::mem::replace(&mut self.kind, Kind::Stream) {
            let Unbegun { mut respond, mut stream, .. } = *unbegun;
            respond::begin(&self.out, &mut respond, stream.take_head().unwrap_or_default());
        }
    }
}

impl Carrier for StreamCarrier {
    fn send(&mut self, bytes: SendBytes) {
        self.begin();
        self.out.unconfirmed.set(true);
        self.out.send(bytes, 0, false, false);
    }

    fn refuse(&mut self, why: &Disconnect) -> bool {
        let Kind::Unbegun(unbegun) = &mut self.kind else { return false };
        let Some(response) = unbegun.stream.refuse(&unbegun.options, why) else { return false };
        respond::whole(&self.out, &mut unbegun.respond, response);
        self.kind = Kind::Stream;
        self.out.ended.set(Some(End::Patient));
        self.out.tell();
        true
    }

    fn end(&mut self, why: Option<&Disconnect>) -> bool {
        self.begin();
        let close = match self.kind {
            Kind::WebSocket { says_why: true, framed } => why.and_then(|why| last_frames(why, framed)),
            _ => None,
        };
        let tells = close.is_some();
        self.out.send(SendBytes::Owned(close.unwrap_or_default()), 0, true, false);
        let is_slow = why.is_none_or(|why| [Disconnect::SLOW.code, Disconnect::WRITE_ERROR.code].contains(&why.code));
        self.out.ended.set(Some(if is_slow { End::Slow } else { End::Patient }));
        self.out.tell();
        tells
    }

    fn pause(&mut self, paused: bool) {
        self.out.paused.set(paused);
        if !paused {
            self.out.tell();
        }
    }
}
