//! Questions on their way to the control plane, and who waits for the answers.

use super::{ProxyAsker, ProxyEvent, ProxyId, ProxyListId, ProxyQuestion, StreamId};
use crate::client::Serving;
use crate::hub::HubIndex;
use crate::pending::Pending;
use crate::sparse::GiveBack;
use crate::{ConnectionId, RequestId, Time};
use bytes::Bytes;
use ringcast_proto::client::{ConnectRequest, SubscribeRequest};
use std::collections::VecDeque;
use std::sync::Arc;

/// Who waits for a backend.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) connection: ConnectionId,
    pub(crate) matter: Matter,
}

/// Why the backend was asked.
#[derive(Debug)]
pub(crate) enum Matter {
    /// A command.
    Command(Serving, Subject),
    /// The time of the connection is over.
    Refresh,
    /// The time of a subscription is over. The hub may have given its index to another channel; the subscription names the request.
    SubRefresh(HubIndex),
}

/// Which command.
#[derive(Debug)]
pub(crate) enum Subject {
    /// To connect.
    Connect(Box<ConnectRequest>),
    /// To subscribe.
    Subscribe(Box<SubscribeRequest>),
    /// A publish command: where, and the data unless the backend has other.
    Publish { channel: Arc<str>, data: Bytes },
    /// An RPC command.
    Rpc,
    /// To subscribe, with a stream of the backend's.
    Stream { request: Box<SubscribeRequest>, stream: StreamId },
    /// A publish command whose data goes up a stream.
    Upwards,
}

impl Asked {
    /// The channel of a subscribe command.
    fn channel(&self) -> Option<&str> {
        match &self.matter {
            Matter::Command(_, Subject::Subscribe(request) | Subject::Stream { request, .. }) => Some(&request.channel),
            Matter::Command(..) | Matter::Refresh | Matter::SubRefresh(_) => None,
        }
    }

    /// The stream that would feed the subscription.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self.matter {
            Matter::Command(_, Subject::Stream { stream, .. }) => Some(stream),
            Matter::Command(..) | Matter::Refresh | Matter::SubRefresh(_) => None,
        }
    }
}

/// Questions to backends.
///
/// Bound: `client.concurrency` of each connection, at least one, and one for itself and for each subscription; each lives for `ProxyOptions::give_up_after` at most. Those that
/// were given up before they were taken out are never asked.
#[derive(Debug)]
pub(crate) struct Proxies {
    waiting: Pending<Asked>,
    questions: VecDeque<ProxyQuestion>,
}

impl Proxies {
    pub(crate) fn new() -> Self {
        Self { waiting: Pending::new(), questions: VecDeque::new() }
    }

    pub(crate) fn ask(
        &mut self,
        proxy: (ProxyListId, ProxyId),
        asker: ProxyAsker,
        event: ProxyEvent,
        asked: Asked,
        deadline: Time,
    ) -> RequestId {
        let question = self.ask_apart(proxy, asker, event, asked, deadline);
        let request = question.request;
        self.questions.push_back(question);
        request
    }

    /// A question that the caller sends on its way.
    pub(crate) fn ask_apart(
        &mut self,
        proxy: (ProxyListId, ProxyId),
        asker: ProxyAsker,
        event: ProxyEvent,
        asked: Asked,
        deadline: Time,
    ) -> ProxyQuestion {
        ProxyQuestion { request: self.wait(asked, deadline), proxy, asker, event }
    }

    /// Waits for an answer to something that is no question.
    pub(crate) fn wait(&mut self, asked: Asked, deadline: Time) -> RequestId {
        self.waiting.insert(asked, deadline)
    }

    /// The oldest question that somebody still waits for.
    pub(crate) fn take_question(&mut self) -> Option<ProxyQuestion> {
        while let Some(question) = self.questions.pop_front() {
            if self.waiting.get_mut(question.request).is_some() {
                return Some(question);
            }
        }
        self.questions.give_back();
        None
    }

    /// Ends the wait of a client's subscribe command for a channel.
    pub(crate) fn withdraw(&mut self, connection: ConnectionId, channel: &str) -> Option<Asked> {
        let is_it = |asked: &Asked| asked.connection == connection && asked.channel() == Some(channel);
        let request = self.waiting.find(is_it)?;
        self.waiting.take(request)
    }

    /// Ends the wait; `None` when it was over already.
    pub(crate) fn take_asked(&mut self, request: RequestId) -> Option<Asked> {
        self.waiting.take(request)
    }

    pub(crate) fn take_overdue(&mut self, now: Time) -> Option<(RequestId, Asked)> {
        self.waiting.take_overdue(now)
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.waiting.next_timeout()
    }
}
