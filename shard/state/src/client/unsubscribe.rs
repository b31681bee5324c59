//! The end of a subscription.

use super::Refusal;
use super::command::Serving;
use super::subscription::{State, Subscription};
use crate::hub::HubIndex;
use crate::message::{self, Message};
use crate::proxy::Matter;
use crate::shard::{Shard, Waiting};
use crate::{ConnectionId, Now};
use ringcast_proto::client::{self as wire, PushBody};
use ringcast_proto::codes::{Disconnect, ReplyError, Unsubscribe};

impl Shard {
    /// The client's own wish; succeeds also when it was not subscribed.
    pub(super) fn unsubscribe(&mut self, now: Now, connection: ConnectionId, channel: &str) -> Result<(), Refusal> {
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let is_ended = self.hub.find(channel).is_some_and(|index| self.end_subscription(connection, index));
        // A subscribe command may be on its way only where several are served at a time.
        if !is_ended && self.clients.get(connection).is_some_and(|client| client.in_flight > 1) {
            self.withdraw_subscribe(now, connection, channel);
        }
        Ok(())
    }

    /// Has nothing come of a subscribe command that waits for a backend or for the home; it fails.
    fn withdraw_subscribe(&mut self, now: Now, connection: ConnectionId, channel: &str) {
        let Some(serving) =
            self.withdraw_from_home(connection, channel).or_else(|| self.withdraw_from_backend(connection, channel))
        else {
            return;
        };
        self.write_error(connection, serving, ReplyError::INTERNAL);
        self.unwritten.command(&mut self.metrics, serving.frame, serving.began_at, now.at);
        // Whoever serves the command that wants this goes on with those behind it.
        if let Some(client) = self.clients.get_mut(connection) {
            client.in_flight -= 1;
        }
    }

    fn withdraw_from_home(&mut self, connection: ConnectionId, channel: &str) -> Option<Serving> {
        let index = self.hub.find(channel)?;
        let client = self.clients.get_mut(connection)?;
        let State::Subscribing(request) = client.subscriptions.get(index)?.state else { return None };
        let Waiting::Subscribe(subscribing) = self.pending.get_mut(request)? else { return None };
        let serving = subscribing.command()?;
        let subscription = client.subscriptions.remove(index)?;
        self.pending.take(request);
        self.give_up(&subscription);
        Some(serving)
    }

    fn withdraw_from_backend(&mut self, connection: ConnectionId, channel: &str) -> Option<Serving> {
        let asked = self.proxies.withdraw(connection, channel)?;
        if let Some(stream) = asked.stream() {
            self.streams.close(stream);
        }
        match asked.matter {
            Matter::Command(serving, _) => Some(serving),
            Matter::Refresh | Matter::SubRefresh(_) => None,
        }
    }

    /// Ends a live subscription. False when there is none.
    pub(crate) fn end_subscription(&mut self, connection: ConnectionId, index: HubIndex) -> bool {
        let Some(client) = self.clients.get_mut(connection) else { return false };
        if !client.subscriptions.get(index).is_some_and(|s| matches!(s.state, State::Live(_))) {
            return false;
        }
        // Closes the client, too, if that is too much for it.
        self.flush_batch(index);
        let client = self.clients.get_mut(connection);
        let Some(subscription) = client.and_then(|client| client.subscriptions.remove(index)) else { return false };
        self.give_up(&subscription);
        true
    }

    /// Ends a subscription for a reason of the server: the client is told and may come again, but where it cannot, because
    /// the subscription is the server's, the connection is closed.
    pub(crate) fn end_or_close(
        &mut self,
        connection: ConnectionId,
        index: HubIndex,
        unsubscribe: Unsubscribe,
        disconnect: Disconnect,
    ) {
        let Some(subscription) = self.clients.get(connection).and_then(|client| client.subscriptions.get(index)) else {
            return;
        };
        if subscription.is_server_side {
            return self.close(connection, disconnect);
        }
        self.end_with_push(connection, index, unsubscribe);
    }

    /// Ends a live subscription and tells the client.
    pub(crate) fn end_with_push(&mut self, connection: ConnectionId, index: HubIndex, why: Unsubscribe) {
        let channel = self.hub.name(index).clone();
        if self.end_subscription(connection, index) {
            self.push_unsubscribe(connection, &channel, why);
        }
    }

    /// Tells a client that it is subscribed no more.
    pub(super) fn push_unsubscribe(&mut self, connection: ConnectionId, channel: &str, why: Unsubscribe) {
        self.metrics.unsubscribes.count(why.code);
        let push = wire::Unsubscribe { code: why.code, reason: why.reason.into_owned() };
        self.write_push(connection, channel, PushBody::Unsubscribe(push));
    }

    /// Takes a subscription that the client no longer holds out of the hub, and has the home forget it.
    pub(super) fn give_up(&mut self, subscription: &Subscription) {
        let index = subscription.channel;
        if let State::Live(place) = subscription.state {
            self.metrics.unsubscribed(subscription.is_named);
            if let Some(moved) = self.hub.leave(index, place) {
                let moved = self.clients.at_mut(moved).subscriptions.get_mut(index);
                moved.expect("a subscriber in the hub has the subscription").state = State::Live(place);
            }
        }
        if let Some(stream) = subscription.stream() {
            self.streams.close(stream);
        }
        if let Some(filter) = subscription.filter() {
            self.filters.exit(filter);
        }
        let channel = self.hub.name(index).clone();
        let home = self.home(&channel);
        let (variant, member) = (subscription.variant, subscription.member().cloned());
        let positioned = subscription.is_positioned;
        let unsubscribe = message::Unsubscribe { channel, variant, positioned, member };
        self.post.send(home, Message::Unsubscribe(Box::new(unsubscribe)));
        if self.hub.exit(index) {
            self.batches.forget(index);
        }
    }
}
