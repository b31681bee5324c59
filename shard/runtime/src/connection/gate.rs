//! What an exchange asks the node: whether there is room for a client, and whether a wrong key was one too many.

use std::net::IpAddr;

use ringcast_state::ConnectionId;
use socket2::SockRef;

use super::read::has_room;
use super::{Connections, Io};
use crate::guesses::Verdict;
use crate::http::Site;
use crate::http::exchange::Gate;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(super) enum Peer {
    /// From the other end of a socket. Asked for when it matters: no connection keeps it.
    Socket(ConnectionId),
    /// Whoever carries it has said so.
    Told(Option<IpAddr>),
}

impl Connections {
    pub(super) fn with_gate<T>(&self, io: &Io<'_>, peer: Peer, act: impl FnOnce(&Site, Gate<'_>) -> T) -> T {
        let options = &self.site.options;
        let gate = Gate {
            may_try: &|| self.counters.tries.take(io.now.at, options.connection_rate_limit),
            has_room: &|| has_room(&self.counters, options.connection_limit),
            may_guess: &|| self.may_guess(io, peer),
        };
        act(&self.site, gate)
    }

    fn may_guess(&self, io: &Io<'_>, peer: Peer) -> bool {
        let peer = match peer {
            Peer::Socket(id) => address(io, id),
            Peer::Told(address) => address,
        };
        let verdict = self.counters.guesses.count(io.now.at, self.site.options.http_api.wrong_key_limit, peer);
        if verdict == (Verdict::TooMany { is_first: true }) {
            tracing::warn!(
                peer = peer.map(tracing::field::display),
                "too many wrong API keys, further ones get 429 for a minute"
            );
        }
        verdict == Verdict::Wrong
    }
}

fn address(io: &Io<'_>, id: ConnectionId) -> Option<IpAddr> {
    let socket = io.sockets.borrow(id.into())?;
    Some(SockRef::from(&socket).peer_addr().ok()?.as_socket()?.ip())
}
