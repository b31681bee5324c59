//! Streams that a session of SockJS answers, at once or piece by piece.

use ringcast_state::Time;

use super::outgoing::End;
use super::{Exchange, Http2, State, begin};
use crate::connection::{RESPONSE_TIMEOUT, STREAM_WRITE_TIMEOUT};
use crate::metrics::Request as Counted;
use crate::sockjs::Told;
use crate::uring::SendBytes;

impl Http2 {
    /// What a session answers to a stream; one that waits no more has told it, or tells it now. Gives the request to count.
    pub fn told(&mut self, now: Time, number: u32, mut buffer: Vec<u8>, told: Told) -> Option<Counted> {
        let stream = self.streams.get_mut(&number)?;
        let mut counted = None;
        match (&mut stream.state, told) {
            (State::Answering { exchange, respond }, Told::More(piece)) => {
                let relay = exchange.begin_relay(&mut buffer)?;
                counted = exchange.take_counted();
                relay.more(&piece, &mut buffer);
                stream.out.unconfirmed.set(true);
                begin(&stream.out, respond, buffer);
                stream.state = State::Relay { relay, written: 0 };
            }
            (State::Answering { .. }, told) => {
                let write = |exchange: &mut Exchange, out: &mut Vec<u8>| exchange.answer_session(&told, out);
                return self.answer(number, now + RESPONSE_TIMEOUT, buffer, write);
            }
            (State::Relay { .. }, Told::More(piece)) => {
                stream.out.unconfirmed.set(true);
                stream.out.send(SendBytes::Owned(piece), 0, false, false);
            }
            (State::Relay { relay, written }, Told::Last(piece)) => {
                relay.attachment.finish();
                let written = *written;
                stream.out.send(SendBytes::Owned(piece), 0, true, false);
                stream.state = State::Leaving { written, end: Some(End::Patient) };
            }
            _ => return None,
        }
        let deadline = now + STREAM_WRITE_TIMEOUT;
        stream.deadline = Some(deadline);
        self.stream_timeout = self.stream_timeout.min(deadline);
        self.desk.look_at(number);
        counted
    }
}
