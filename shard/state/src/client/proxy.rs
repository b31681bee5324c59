//! Commands that a backend decides about: they wait for its answer, in their turn as any other. Source: behaviour §9.

use super::Phase;
use super::command::{Outcome, Served, Serving};
use super::subscribe::Basis;
use crate::client::publish::Publishing;
use crate::proxy::{
    Asked, Matter, ProxyAnswer, ProxyAsker, ProxyEvent, ProxyId, ProxyQuestion, PublishAnswer, Subject,
};
use crate::shard::Shard;
use crate::{ConnectionId, Now, RequestId};
use bytes::Bytes;
use ringcast_proto::client::{ConnectRequest, ReplyResult, RpcRequest, RpcResult, SubscribeRequest};
use ringcast_proto::codes::ReplyError;
use std::sync::Arc;

impl Shard {
    /// A question for a backend; take them out until there are none. `handle_proxy_answer` awaits the answer.
    pub fn take_proxy_question(&mut self) -> Option<ProxyQuestion> {
        self.proxies.take_question()
    }

    /// What a backend answered. Nothing comes of it when it is late, or the client has left.
    pub fn handle_proxy_answer(&mut self, now: Now, request: RequestId, answer: ProxyAnswer) {
        let Some(asked) = self.proxies.take_asked(request) else { return };
        self.settle(now, request, asked, answer);
        self.handle_local(now);
    }

    /// Ends waits that took too long.
    pub(crate) fn give_up_proxies(&mut self, now: Now) {
        while let Some((request, asked)) = self.proxies.take_overdue(now.at) {
            self.settle(now, request, asked, ProxyAnswer::Failed);
        }
    }

    /// RPC methods are served by backends; the built-in ping needs none.
    pub(super) fn rpc(&mut self, now: Now, connection: ConnectionId, serving: Serving, request: RpcRequest) -> Outcome {
        let ping = self.options.rpc_ping_method.as_deref();
        if ping == Some(&*request.method) {
            self.write_result(connection, serving.id, ReplyResult::Rpc(RpcResult::default()));
            return Ok(Served::Done);
        }
        let rpc = &self.options.proxy.rpc;
        if !rpc.is_served() {
            let is_known = ping.is_some();
            return Err(if is_known { ReplyError::METHOD_NOT_FOUND } else { ReplyError::NOT_AVAILABLE }.into());
        }
        let proxy = rpc.resolve(&request.method)?;
        let event = ProxyEvent::Rpc { method: request.method, data: request.data };
        Ok(self.ask_for(now, proxy, event, connection, (serving, Subject::Rpc)))
    }

    /// Asks whether, and what, a client may publish.
    pub(super) fn ask_to_publish(
        &mut self,
        now: Now,
        proxy: ProxyId,
        connection: ConnectionId,
        serving: Serving,
        (channel, data): (String, Bytes),
    ) -> Served {
        let channel: Arc<str> = channel.into();
        let event = ProxyEvent::Publish { channel: channel.clone(), data: data.clone() };
        let subject = Subject::Publish { channel, data };
        self.ask_for(now, proxy, event, connection, (serving, subject))
    }

    /// Asks who connects.
    pub(super) fn ask_to_connect(
        &mut self,
        now: Now,
        proxy: ProxyId,
        connection: ConnectionId,
        serving: Serving,
        request: ConnectRequest,
    ) -> Served {
        let event = ProxyEvent::Connect {
            data: request.data.clone(),
            name: request.name.clone(),
            version: request.version.clone(),
            channels: request.subs.keys().cloned().collect(),
        };
        self.ask_for(now, proxy, event, connection, (serving, Subject::Connect(Box::new(request))))
    }

    /// Asks whether, and on which terms, a client may subscribe.
    pub(super) fn ask_to_subscribe(
        &mut self,
        now: Now,
        proxy: ProxyId,
        connection: ConnectionId,
        serving: Serving,
        request: SubscribeRequest,
    ) -> Served {
        let event = ProxyEvent::Subscribe { channel: (&*request.channel).into(), data: request.data.clone() };
        self.ask_for(now, proxy, event, connection, (serving, Subject::Subscribe(Box::new(request))))
    }

    fn ask_for(
        &mut self,
        now: Now,
        proxy: ProxyId,
        event: ProxyEvent,
        connection: ConnectionId,
        (serving, subject): (Serving, Subject),
    ) -> Served {
        let asked = Asked { connection, matter: Matter::Command(serving, subject) };
        match self.ask_backend(now, proxy, event, asked) {
            Some(_) => Served::Later,
            None => Served::Done,
        }
    }

    /// None when the client is gone.
    pub(super) fn ask_backend(
        &mut self,
        now: Now,
        proxy: ProxyId,
        event: ProxyEvent,
        asked: Asked,
    ) -> Option<RequestId> {
        let asker = self.asker(asked.connection)?;
        let deadline = now.at + self.options.proxy.give_up_after;
        Some(self.proxies.ask((self.options.proxy.list, proxy), asker, event, asked, deadline))
    }

    /// None when the client is gone.
    pub(super) fn asker(&self, connection: ConnectionId) -> Option<ProxyAsker> {
        let client = self.clients.get(connection)?;
        Some(ProxyAsker {
            client: client.id,
            transport: client.shape.kind,
            encoding: client.encoding,
            // Before connect it is what the transport says, and the backend is asked.
            user: if client.is_live() { client.user.clone() } else { "".into() },
            background: client.background.clone(),
        })
    }

    fn settle(&mut self, now: Now, request: RequestId, asked: Asked, answer: ProxyAnswer) {
        let connection = asked.connection;
        let client = self.clients.get(connection);
        // Who has left wants nothing any more, not even what the backend allows.
        let is_there = client.is_some_and(|client| client.is_live() || matches!(client.phase, Phase::Fresh));
        if let Some(stream) = asked.stream().filter(|_| !is_there) {
            self.streams.close(stream);
        }
        match asked.matter {
            Matter::Command(serving, _) if !is_there => self.finish_command(now, connection, serving),
            Matter::Command(serving, subject) => {
                let outcome = self.as_told(now, connection, serving, subject, answer);
                self.conclude(now, connection, serving, outcome);
                self.serve_waiting(now, connection);
            }
            Matter::Refresh | Matter::SubRefresh(_) if !is_there => {}
            Matter::Refresh => self.refresh_as_told(now, connection, answer),
            Matter::SubRefresh(index) => self.sub_refresh_as_told(now, connection, (index, request), answer),
        }
    }

    fn as_told(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        subject: Subject,
        answer: ProxyAnswer,
    ) -> Outcome {
        match (answer, subject) {
            (ProxyAnswer::Connect(answer), Subject::Connect(request)) => {
                self.connect_as_told(now, connection, serving, &request, answer.map(|answer| *answer))
            }
            (ProxyAnswer::Subscribe(answer), Subject::Subscribe(request)) => {
                self.subscribe(now, connection, serving, *request, Basis::Told(*answer))
            }
            (ProxyAnswer::Publish(answer), Subject::Publish { channel, data }) => {
                self.publish_as_told(now, connection, serving, (&channel, data), answer);
                Ok(Served::Later)
            }
            (answer, Subject::Stream { request, stream }) => {
                let outcome = match answer {
                    ProxyAnswer::Subscribe(answer) => {
                        self.subscribe(now, connection, serving, *request, Basis::Fed(*answer, stream))
                    }
                    ProxyAnswer::Disconnect(disconnect) => Err(disconnect.into()),
                    ProxyAnswer::Error(error) => Err(error.into()),
                    _ => Err(ReplyError::INTERNAL.into()),
                };
                if self.streams.find(stream).is_none() {
                    self.streams.close(stream);
                }
                outcome
            }
            (ProxyAnswer::Sent, Subject::Upwards) => Ok(self.sent_upwards(connection, serving)),
            (ProxyAnswer::Rpc(data), Subject::Rpc) => {
                self.write_result(connection, serving.id, ReplyResult::Rpc(RpcResult { data }));
                Ok(Served::Done)
            }
            (ProxyAnswer::Disconnect(disconnect), _) => Err(disconnect.into()),
            (ProxyAnswer::Error(error), _) => Err(error.into()),
            // An answer to another question is none.
            _ => Err(ReplyError::INTERNAL.into()),
        }
    }

    fn publish_as_told(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        (channel, data): (&str, Bytes),
        mut answer: PublishAnswer,
    ) {
        let data = answer.data.take().unwrap_or(data);
        self.send_publication(now, Publishing { connection, serving, data, answer }, channel.to_owned());
    }
}
