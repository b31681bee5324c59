//! Deadlines of a connection: stale, ping and pong, expiry of the connection and of its subscriptions.

use super::Client;
use super::keep_alive::{Due, KeepAliveOptions};
use super::subscription::State;
use super::write::{Scratch, SharedFrame};
use crate::hub::HubIndex;
use crate::message::{Message, Renew};
use crate::metrics::FrameType;
use crate::options::ClientOptions;
use crate::shard::Shard;
use crate::transport::Shape;
use crate::wheel::Timer;
use crate::{ConnectionId, Now, Options, Pings, Time};
use ringcast_proto::client::{self as wire, Encoding, Reply};
use ringcast_proto::codes::Disconnect;
use ringcast_proto::websocket::{Opcode, encode_frame};
use std::time::Duration;

/// Interval of pings that the configuration does not set. Source: protocol §14 and §15.
pub(super) const FIXED_PING_INTERVAL: Duration = Duration::from_secs(25);

/// Wait for the pong of a native ping of WebSocket. Source: protocol §14.
const FRAME_PONG_TIMEOUT: Duration = Duration::from_secs(10);

/// Pings, each the same bytes for all connections of its shape, made when the first of them is pinged.
#[derive(Debug, Default)]
pub(crate) struct PingFrames(Vec<((Pings, Shape, Encoding), SharedFrame)>);

impl PingFrames {
    fn get(
        &mut self,
        pings: Pings,
        shape: Shape,
        encoding: Encoding,
        options: &Options,
        scratch: &mut Scratch,
    ) -> SharedFrame {
        let key = (pings, shape, encoding);
        if let Some((_, frame)) = self.0.iter().find(|(known, _)| *known == key) {
            return frame.clone();
        }
        let frame = ping_frame(pings, shape, encoding, options, scratch);
        self.0.push((key, frame.clone()));
        frame
    }
}

fn ping_frame(pings: Pings, shape: Shape, encoding: Encoding, options: &Options, scratch: &mut Scratch) -> SharedFrame {
    let encode = |out: &mut Vec<u8>| match shape.kind.is_unidirectional() {
        true => wire::encode_uni_push(encoding, None, out),
        false => wire::encode_reply(encoding, &Reply::Ping, out),
    };
    let message = scratch.share(options, shape, encoding, encode).expect("a ping has no payload");
    let mut native = Vec::new();
    encode_frame(&mut native, Opcode::Ping, &[]);
    match pings {
        Pings::Messages | Pings::Fixed => message,
        Pings::Frames => SharedFrame { bytes: native.into(), message_len: 0 },
        Pings::Both => {
            native.extend_from_slice(&message.bytes);
            SharedFrame { bytes: native.into(), ..message }
        }
    }
}

impl Client {
    /// Native pings of WebSocket have intervals of their own. Source: protocol §14.
    pub(super) fn keep_alive_options(&self, options: &ClientOptions) -> KeepAliveOptions {
        let (ping_interval, pong_timeout) = match self.pings {
            Pings::Messages if self.is_unidirectional() => (options.ping_interval, Duration::ZERO),
            Pings::Messages => (options.ping_interval, options.pong_timeout),
            Pings::Fixed => (FIXED_PING_INTERVAL, Duration::ZERO),
            Pings::Both if !options.ping_interval.is_zero() => (options.ping_interval, FRAME_PONG_TIMEOUT),
            Pings::Both | Pings::Frames => (FIXED_PING_INTERVAL, FRAME_PONG_TIMEOUT),
        };
        KeepAliveOptions { ping_interval, pong_timeout }
    }

    fn next_timeout(&self, options: &ClientOptions) -> Option<Time> {
        let keep_alive = self.keep_alive.next_timeout(&self.keep_alive_options(options));
        let subscriptions = self.subscriptions.next_timeout();
        [self.close_at, keep_alive, subscriptions].into_iter().flatten().min()
    }
}

impl Shard {
    /// Makes the wheel ask at the next deadline. An entry that asks earlier is left: it arms again.
    pub(crate) fn arm(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        if client.is_closed() {
            return;
        }
        let Some(due) = client.next_timeout(&self.options.client) else { return };
        if client.timer_at.is_none_or(|armed| due < armed) {
            client.timer_at = Some(due);
            self.wheel.insert(due, Timer::Client(connection));
        }
    }

    /// An empty frame of WebSocket that answers a ping, or is sent unasked, which WebSocket allows.
    pub(crate) fn receive_pong(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        if client.pings != Pings::Messages {
            let options = client.keep_alive_options(&self.options.client);
            client.keep_alive.handle_pong(&options);
            // The next ping may be due before the pong was.
            self.arm(connection);
        }
    }

    /// The wheel asks.
    pub(crate) fn client_timeout(&mut self, now: Now, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection).filter(|client| !client.is_closed()) else { return };
        if client.timer_at.is_none_or(|armed| armed > now.at) {
            // An entry that a sooner one has replaced; that one arms again.
            return;
        }
        client.timer_at = None;
        if client.close_at.is_some_and(|close_at| close_at <= now.at) {
            self.end_or_refresh(now, connection);
        }
        let Some(client) = self.clients.get_mut(connection).filter(|client| !client.is_closed()) else { return };
        let options = client.keep_alive_options(&self.options.client);
        match client.keep_alive.handle_timeout(now.at, &options) {
            None => {}
            Some(Due::GiveUp) => return self.close(connection, Disconnect::NO_PONG),
            Some(Due::SendPing) => self.ping(connection),
        }
        for index in self.expired_subscriptions(now, connection) {
            self.expire_or_refresh(now, connection, index);
        }
        self.renew_presence(now, connection);
        self.arm(connection);
    }

    fn expired_subscriptions(&self, now: Now, connection: ConnectionId) -> Vec<HubIndex> {
        let Some(client) = self.clients.get(connection) else { return Vec::new() };
        let expired = client.subscriptions.iter().filter(|s| s.expire_at().is_some_and(|at| at <= now.at));
        expired.map(|subscription| subscription.channel).collect()
    }

    /// Tells the homes what a refresh has changed.
    fn renew_presence(&mut self, now: Now, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        let details = client.subscriptions.iter_mut().filter(|s| matches!(s.state, State::Live(_)));
        let details = details.filter_map(|s| Some((s.channel, s.detail.as_deref_mut()?)));
        let due = details.filter(|(_, detail)| detail.renew_at.is_some_and(|at| at <= now.at));
        let due = due.filter_map(|(index, detail)| {
            detail.renew_at = None;
            Some((index, detail.member.clone()?))
        });
        for (index, member) in due.collect::<Vec<_>>() {
            let channel = self.hub.name(index).clone();
            let home = self.home(&channel);
            self.post.send(home, Message::Renew(Box::new(Renew { channel, member })));
        }
    }

    /// An empty message; the same bytes for all connections of its shape.
    fn ping(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get(connection) else { return };
        self.pings_sent += 1;
        let (pings, shape) = (client.pings, client.shape);
        let frame = self.pings.get(pings, shape, client.encoding, &self.options, &mut self.scratch);
        if !self.clients.push_shared(connection.slot, &frame.bytes, self.options.client.queue_max_size) {
            return self.close(connection, Disconnect::SLOW);
        }
        if pings != Pings::Frames {
            self.metrics.sent(shape.kind, FrameType::ServerPing, 1, frame.message_len);
        }
        // The pong is awaited from now on, and the process may be put to sleep.
        self.clients.hurry(connection);
    }
}
