//! Subscriptions that a backend feeds, and publications that go up to it. Source: behaviour §9.

use super::command::{Served, Serving};
use crate::proxy::{Asked, Fed, Matter, ProxyEvent, ProxyId, StreamAct, StreamId, StreamNews, Subject};
use crate::shard::Shard;
use crate::{ConnectionId, Now};
use bytes::Bytes;
use ringcast_proto::client::{Publication, PushBody, ReplyResult, SubscribeRequest};
use ringcast_proto::codes::{ReplyError, Unsubscribe};

impl Shard {
    /// What is to be done about streams; take them out, in this order, until there is none.
    pub fn take_stream_act(&mut self) -> Option<StreamAct> {
        self.streams.take_act()
    }

    /// What a backend said on a stream. Nothing comes of it when the subscription has ended.
    pub fn handle_stream(&mut self, now: Now, stream: StreamId, news: StreamNews) {
        let Some(Fed { connection, channel }) = self.streams.find(stream) else { return };
        let bytes = news.cost();
        match news {
            StreamNews::Publication { data, tags } => {
                let name = self.hub.name(channel).clone();
                let publication = Publication { data, tags, ..Publication::default() };
                // Before, so that nothing is left of it when the client cannot take it and is closed.
                self.streams.said(connection, stream, bytes);
                self.write_push(connection, &name, PushBody::Pub(publication));
            }
            StreamNews::Complete => self.end_with_push(connection, channel, Unsubscribe::SERVER),
            StreamNews::Failed => self.end_with_push(connection, channel, Unsubscribe::INSUFFICIENT_STATE),
        }
        self.handle_local(now);
    }

    /// Asks whether a client may subscribe, with a stream that feeds the subscription then.
    pub(super) fn open_stream(
        &mut self,
        now: Now,
        (proxy, is_bidirectional): (ProxyId, bool),
        connection: ConnectionId,
        serving: Serving,
        request: SubscribeRequest,
    ) -> Served {
        let Some(asker) = self.asker(connection) else { return Served::Done };
        let event = ProxyEvent::Subscribe { channel: (&*request.channel).into(), data: request.data.clone() };
        let stream = self.streams.next();
        let subject = Subject::Stream { request: Box::new(request), stream };
        let asked = Asked { connection, matter: Matter::Command(serving, subject) };
        let deadline = now.at + self.options.proxy.give_up_after;
        let proxy = (self.options.proxy.list, proxy);
        let question = self.proxies.ask_apart(proxy, asker, event, asked, deadline);
        self.streams.open(stream, question, is_bidirectional);
        Served::Later
    }

    /// Sends a publication up the stream of the client's subscription.
    pub(super) fn publish_upwards(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        (channel, data): (&str, Bytes),
    ) -> Result<Served, ReplyError> {
        let client = self.clients.get(connection).ok_or(ReplyError::NOT_AVAILABLE)?;
        let subscription = self.hub.find(channel).and_then(|index| client.subscriptions.get(index));
        let stream = subscription.and_then(|subscription| subscription.stream()).ok_or(ReplyError::NOT_AVAILABLE)?;
        let asked = Asked { connection, matter: Matter::Command(serving, Subject::Upwards) };
        let request = self.proxies.wait(asked, now.at + self.options.proxy.give_up_after);
        self.streams.publish(stream, request, data);
        Ok(Served::Later)
    }

    /// The publication is on its way.
    pub(super) fn sent_upwards(&mut self, connection: ConnectionId, serving: Serving) -> Served {
        self.write_result(connection, serving.id, ReplyResult::Publish);
        Served::Done
    }
}
