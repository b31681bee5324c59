//! Requests that a session of SockJS answers.

use super::{Exchange, State, Step};
use crate::http::origin::Cors;
use crate::sockjs::{Ask, Attachment, Name, Told};
use crate::transport::sockjs::{self, Relay, Waiting};

impl Exchange {
    pub(super) fn await_session(&mut self, session: Name, ask: Ask, waiting: Box<Waiting>) -> Step<'static> {
        self.state = State::Session(waiting);
        Step::Session { session, ask }
    }

    /// Answers messages that cannot be read, in a body that has come.
    pub(super) fn refuse_messages(&mut self, text: &str, cors: &Cors, out: &mut Vec<u8>) -> Step<'static> {
        let keep_alive = self.keep_alive && !self.last;
        self.responded(400);
        sockjs::refuse(text, cors, out, keep_alive);
        self.state = State::Head { parsed: 0 };
        if keep_alive { Step::Next } else { Step::Close }
    }

    /// The session knows of the request that waits for it.
    pub fn attach(&mut self, attachment: Attachment) {
        if let State::Session(waiting) = &mut self.state {
            waiting.attach(attachment);
        }
    }

    /// Writes all that a session answers. Returns whether another request may follow.
    pub fn answer_session(&mut self, told: &Told, out: &mut Vec<u8>) -> bool {
        let keep_alive = self.keep_alive && !self.last;
        if let State::Session(waiting) = &mut self.state {
            let from = out.len();
            let status = waiting.answer(told, out, keep_alive);
            self.advertise(from, out);
            self.responded(status);
        }
        self.state = State::Head { parsed: 0 };
        keep_alive
    }

    /// Writes the head of an answer that goes on.
    pub fn begin_relay(&mut self, out: &mut Vec<u8>) -> Option<Relay> {
        match std::mem::replace(&mut self.state, State::Answering) {
            State::Session(waiting) => {
                self.responded(200);
                let from = out.len();
                let relay = waiting.begin(out);
                self.advertise(from, out);
                relay
            }
            state => {
                self.state = state;
                None
            }
        }
    }
}
