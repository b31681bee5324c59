//! Handing what the home sent to the subscribers on this shard: encoded once per encoding, queued for each.

use super::write::Scratch;
use crate::channel::{Encoded, Publication};
use crate::hub::{HubIndex, Subscriber};
use crate::shard::Shard;
use crate::{ConnectionId, Framing, Now};
use ringcast_proto::client::{self as wire, ClientInfo, Encoding, InvalidJson, Push, PushBody, Reply};
use ringcast_proto::codes::{Disconnect, Unsubscribe};
use std::rc::Rc;

/// One message for many, built when the first subscriber needs it.
#[derive(Default)]
struct Shared {
    json: Option<Option<Rc<[u8]>>>,
    protobuf: Option<Option<Rc<[u8]>>>,
}

impl Shared {
    /// The frame for a subscriber; `None` when its encoding cannot carry the message.
    #[inline]
    fn get(&mut self, encoding: Encoding, build: impl FnOnce() -> Option<Rc<[u8]>>) -> Option<&Rc<[u8]>> {
        let slot = match encoding {
            Encoding::Json => &mut self.json,
            Encoding::Protobuf => &mut self.protobuf,
        };
        slot.get_or_insert_with(build).as_ref()
    }
}

impl Shard {
    /// A publication came from the home.
    pub(crate) fn deliver(&mut self, now: Now, channel: &str, publication: &Publication) {
        let Some(index) = self.hub.find(channel) else { return };
        if !self.hub.advance(index, publication) {
            self.end_insufficient(now, index, |subscriber| subscriber.positioned);
            // The last subscription may have taken the channel with it.
            if self.hub.find(channel) != Some(index) {
                return;
            }
        }
        self.send_to_subscribers(
            now,
            index,
            |_| true,
            |scratch, encoding| {
                scratch.share(Framing::WebSocket, encoding, |out| encode(encoding, channel, publication, out))
            },
        );
    }

    /// Somebody joined or left.
    pub(crate) fn deliver_membership(&mut self, now: Now, channel: &str, info: &ClientInfo, joined: bool) {
        let Some(index) = self.hub.find(channel) else { return };
        let info = Some(info.clone());
        let body = if joined { PushBody::Join(wire::Join { info }) } else { PushBody::Leave(wire::Leave { info }) };
        let push = Reply::Push(Push { channel: channel.to_owned(), body, id: 0 });
        self.send_to_subscribers(
            now,
            index,
            |subscriber| subscriber.join_leave,
            |scratch, encoding| {
                scratch.share(Framing::WebSocket, encoding, |out| wire::encode_reply(encoding, &push, out))
            },
        );
    }

    /// Deliveries were lost on the way here: everybody must come again and recover.
    pub(crate) fn deliver_insufficient(&mut self, now: Now, channel: &str) {
        if let Some(index) = self.hub.find(channel) {
            self.end_insufficient(now, index, |_| true);
        }
    }

    /// One queue operation per subscriber and nothing more.
    fn send_to_subscribers(
        &mut self,
        now: Now,
        index: HubIndex,
        wants: impl Fn(&Subscriber) -> bool,
        build: impl Fn(&mut Scratch, Encoding) -> Option<Rc<[u8]>>,
    ) {
        let mut shared = Shared::default();
        let bytes_max = self.options.client.queue_max_size;
        let mut failed: Vec<(u32, Disconnect)> = Vec::new();
        for subscriber in self.hub.subscribers(index).iter().filter(|subscriber| wants(subscriber)) {
            let encoding = subscriber.encoding;
            let Some(frame) = shared.get(encoding, || build(&mut self.scratch, encoding)) else {
                failed.push((subscriber.slot, Disconnect::INAPPROPRIATE_PROTOCOL));
                continue;
            };
            if !self.clients.push_shared(subscriber.slot, frame, bytes_max) {
                failed.push((subscriber.slot, Disconnect::SLOW));
            }
        }
        for (slot, disconnect) in failed {
            let connection = self.clients.at(slot).connection;
            self.close(now, connection, disconnect);
        }
    }

    /// Ends subscriptions whose state cannot be level any more.
    pub(super) fn end_insufficient(&mut self, now: Now, index: HubIndex, concerns: impl Fn(&Subscriber) -> bool) {
        let concerned = self.hub.subscribers(index).iter().filter(|subscriber| concerns(subscriber));
        let connections: Vec<ConnectionId> = concerned.map(|s| self.clients.at(s.slot).connection).collect();
        for connection in connections {
            self.end_or_close(now, connection, index, Unsubscribe::INSUFFICIENT_STATE, Disconnect::INSUFFICIENT_STATE);
        }
    }
}

/// The push of a publication. The first of a stream names the epoch, for subscribers that began without one.
fn encode(encoding: Encoding, channel: &str, publication: &Publication, out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    if publication.offset == 1 {
        let mut content = publication.content().clone();
        content.epoch = publication.epoch.to_string();
        let push = Push { channel: channel.to_owned(), body: PushBody::Pub(content), id: 0 };
        return wire::encode_reply(encoding, &Reply::Push(push), out);
    }
    match publication.encoded(encoding) {
        Encoded::Body(body) => {
            wire::encode_publication_push(encoding, channel, body, out);
            Ok(())
        }
        Encoded::Absent => {
            debug_assert!(false, "the home counts subscribers before it delivers to them");
            let push = Push { channel: channel.to_owned(), body: PushBody::Pub(publication.content().clone()), id: 0 };
            wire::encode_reply(encoding, &Reply::Push(push), out)
        }
        Encoded::Impossible => Err(InvalidJson),
    }
}
