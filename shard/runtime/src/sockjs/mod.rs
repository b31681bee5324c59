//! Sessions of SockJS, whose requests may reach any shard.
//!
//! A hash of its name gives a session a home, which keeps the client and makes the frames. The shard that took a request asks the
//! home by a message and writes what it is told; nothing else of the session is there. Handing the socket over instead, as
//! `balance` does with new ones, would take the state of TLS along, and would move a connection with each request where a proxy
//! shares it among clients.
//!
//! Messages go by the shards' control queues. They need no bound of their own: a request asks once and is answered once, and
//! of a response that goes on one piece is on its way, until its connection has taken it.

mod session;
mod sessions;

use std::sync::Arc;

use ringcast_proto::sockjs::Form;
use ringcast_state::{ApiCallId, ShardId, Visitor};

use crate::pool::{Control, Line};

pub(crate) use sessions::Sessions;

/// Name of a session, which its client made up.
pub(crate) type Name = Arc<str>;

/// A request, and where it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    shard: ShardId,
    call: ApiCallId,
}

/// What is asked of a session.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Its frames. Opens a session that there is not.
    Receive {
        /// What they are put into.
        form: Form,
        /// Who asks.
        visitor: Visitor,
    },
    /// Messages of the client, one a line.
    Send(Vec<u8>),
}

/// What shards tell each other about sessions.
pub(crate) enum Parcel {
    /// To the home: a request.
    Ask(Name, Address, Ask),
    /// To the home: what it told last has been written.
    Written(Name, Address),
    /// To the home: that request has no reader any more, and did not get its end.
    Gone(Name, Address),
    /// From the home, for a request.
    Told(ApiCallId, Told),
}

/// What a request is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The status of a response without content: 204, 404 or 503.
    Status(u16),
    /// Content, which goes on.
    More(Vec<u8>),
    /// Content to the end.
    Last(Vec<u8>),
}

/// One shard's way to the sessions of all.
#[derive(Clone)]
pub(crate) struct Desk {
    own: ShardId,
    line: Line,
}

impl Desk {
    pub fn new(own: ShardId, line: Line) -> Self {
        Self { own, line }
    }

    /// Asks a session, whose home the caller knows.
    pub fn ask(&self, home: ShardId, session: Name, call: ApiCallId, ask: Ask) -> Attachment {
        let address = Address { shard: self.own, call };
        let is_over = matches!(ask, Ask::Send(_));
        self.tell(home, Parcel::Ask(session.clone(), address, ask));
        Attachment { desk: self.clone(), home, session, address, is_over }
    }

    fn answer(&self, to: Address, told: Told) {
        self.tell(to.shard, Parcel::Told(to.call, told));
    }

    fn tell(&self, shard: ShardId, parcel: Parcel) {
        self.line.tell(shard, Control::SockJs(parcel));
    }
}

/// A request that a session knows of. Dropped before its end, it tells the session, whose client is gone then.
pub(crate) struct Attachment {
    desk: Desk,
    home: ShardId,
    session: Name,
    address: Address,
    is_over: bool,
}

impl Attachment {
    /// Its connection has taken what came: more may follow.
    pub fn written(&self) {
        self.desk.tell(self.home, Parcel::Written(self.session.clone(), self.address));
    }

    /// It got its end.
    pub fn finish(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.is_over {
            self.desk.tell(self.home, Parcel::Gone(self.session.clone(), self.address));
        }
    }
}
