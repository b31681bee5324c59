//! Commands that a backend decides about: they wait for its answer, in their turn as any other. Source: behaviour §9.

use super::command::{Outcome, Served, Serving};
use crate::client::publish::Publishing;
use crate::proxy::{Asked, ProxyAnswer, ProxyAsker, ProxyEvent, ProxyId, ProxyQuestion, PublishAnswer, Subject};
use crate::shard::Shard;
use crate::{ConnectionId, Now, RequestId};
use bytes::Bytes;
use ringcast_proto::client::{ReplyResult, RpcRequest, RpcResult};
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
        self.settle(now, asked, answer);
        self.handle_local(now);
    }

    /// Ends waits that took too long.
    pub(crate) fn give_up_proxies(&mut self, now: Now) {
        while let Some(asked) = self.proxies.take_overdue(now.at) {
            self.settle(now, asked, ProxyAnswer::Failed);
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
        Ok(self.ask_backend(now, proxy, event, Asked { connection, serving, subject: Subject::Rpc }))
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
        self.ask_backend(now, proxy, event, Asked { connection, serving, subject })
    }

    fn ask_backend(&mut self, now: Now, proxy: ProxyId, event: ProxyEvent, asked: Asked) -> Served {
        let Some(client) = self.clients.get(asked.connection) else { return Served::Done };
        let asker = ProxyAsker {
            client: client.id,
            transport: client.shape.kind,
            encoding: client.encoding,
            user: client.user.clone(),
            background: client.background.clone(),
        };
        let deadline = now.at + self.options.proxy.give_up_after;
        self.proxies.ask((self.options.proxy.list, proxy), asker, event, asked, deadline);
        Served::Later
    }

    fn settle(&mut self, now: Now, asked: Asked, answer: ProxyAnswer) {
        let Asked { connection, serving, subject } = asked;
        // Who has left wants nothing any more, not even what the backend allows.
        if !self.clients.get(connection).is_some_and(|client| client.is_live()) {
            return self.finish_command(now, connection, serving);
        }
        match (answer, subject) {
            (ProxyAnswer::Publish(answer), Subject::Publish { channel, data }) => {
                return self.publish_as_told(now, connection, serving, (&channel, data), answer);
            }
            (ProxyAnswer::Rpc(data), Subject::Rpc) => {
                self.write_result(connection, serving.id, ReplyResult::Rpc(RpcResult { data }));
            }
            (ProxyAnswer::Disconnect(disconnect), _) => self.close(connection, disconnect),
            (ProxyAnswer::Error(error), _) => self.write_error(connection, serving, error),
            // An answer to another question is none.
            (ProxyAnswer::Failed | ProxyAnswer::Publish(_) | ProxyAnswer::Rpc(_), _) => {
                self.write_error(connection, serving, ReplyError::INTERNAL);
            }
        }
        self.finish_command(now, connection, serving);
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
