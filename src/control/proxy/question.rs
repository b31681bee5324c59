//! The shards' questions and answers, and the messages of backends.

use ringcast_proto::client::Encoding;
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_proto::proxy::{self as wire, ProxyReply, ProxyRequest, ProxyResult};
use ringcast_state::proxy::{ProxyAnswer, ProxyEvent, ProxyQuestion, PublishAnswer};

/// The message for the backend.
pub fn encode(question: ProxyQuestion, include_meta: bool) -> ProxyRequest {
    let asker = question.asker;
    let (client, transport) = (asker.client.to_string(), asker.transport.as_str().to_owned());
    let protocol = match asker.encoding {
        Encoding::Json => "json",
        Encoding::Protobuf => "protobuf",
    };
    let (protocol, user) = (protocol.to_owned(), (*asker.user).to_owned());
    let meta = asker.background.filter(|_| include_meta).map(|background| background.meta.clone()).unwrap_or_default();
    match question.event {
        ProxyEvent::Publish { channel, data } => {
            let channel = (*channel).to_owned();
            let rest = wire::PublishRequest::default();
            ProxyRequest::Publish(wire::PublishRequest {
                client,
                transport,
                protocol,
                user,
                channel,
                data,
                meta,
                ..rest
            })
        }
        ProxyEvent::Rpc { method, data } => {
            let rest = wire::RpcRequest::default();
            ProxyRequest::Rpc(wire::RpcRequest { client, transport, protocol, user, method, data, meta, ..rest })
        }
    }
}

/// What the backend's reply means to the shard.
pub fn answer(reply: ProxyReply) -> ProxyAnswer {
    match reply {
        ProxyReply::Disconnect(disconnect) => {
            ProxyAnswer::Disconnect(Disconnect { code: disconnect.code, reason: disconnect.reason.into() })
        }
        ProxyReply::Error(error) => {
            let wire::Error { code, message, temporary } = error;
            ProxyAnswer::Error(ReplyError { code, message: message.into(), temporary })
        }
        ProxyReply::Result(ProxyResult::Publish(result)) => {
            ProxyAnswer::Publish(result.map(|result| publish(*result)).unwrap_or_default())
        }
        ProxyReply::Result(ProxyResult::Rpc(result)) => {
            ProxyAnswer::Rpc(result.map(|result| result.data).unwrap_or_default())
        }
        // Of a question that no shard asks.
        ProxyReply::Result(_) => ProxyAnswer::Failed,
    }
}

fn publish(result: wire::PublishResult) -> PublishAnswer {
    PublishAnswer {
        data: (!result.data.is_empty()).then_some(result.data),
        skip_history: result.skip_history,
        tags: result.tags,
        idempotency_key: result.idempotency_key,
        delta: result.delta,
        version: result.version,
        version_epoch: result.version_epoch,
    }
}
