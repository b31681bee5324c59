//! The shards' questions and answers, and the messages of backends.

use bytes::Bytes;
use ringcast_proto::api::SubscribeOptionOverride;
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::{Disconnect, ReplyError};
use ringcast_proto::proxy::{self as wire, ProxyReply, ProxyRequest, ProxyResult};
use ringcast_state::proxy::{
    ConnectAnswer, Overrides, ProxyAnswer, ProxyEvent, ProxyQuestion, PublishAnswer, RefreshAnswer, SubscribeAnswer,
};

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
        ProxyEvent::Connect { data, name, version, channels } => {
            let rest = wire::ConnectRequest::default();
            let request = wire::ConnectRequest { client, transport, protocol, data, name, version, channels, ..rest };
            ProxyRequest::Connect(request)
        }
        ProxyEvent::Refresh => {
            let rest = wire::RefreshRequest::default();
            ProxyRequest::Refresh(wire::RefreshRequest { client, transport, protocol, user, meta, ..rest })
        }
        ProxyEvent::Subscribe { channel, data } => {
            let channel = (*channel).to_owned();
            let rest = wire::SubscribeRequest::default();
            let request = wire::SubscribeRequest { client, transport, protocol, user, channel, data, meta, ..rest };
            ProxyRequest::Subscribe(request)
        }
        ProxyEvent::SubRefresh { channel } => {
            let channel = (*channel).to_owned();
            let rest = wire::SubRefreshRequest::default();
            ProxyRequest::SubRefresh(wire::SubRefreshRequest {
                client,
                transport,
                protocol,
                user,
                channel,
                meta,
                ..rest
            })
        }
        ProxyEvent::Publish { channel, data } => {
            let channel = (*channel).to_owned();
            let rest = wire::PublishRequest::default();
            let request = wire::PublishRequest { client, transport, protocol, user, channel, data, meta, ..rest };
            ProxyRequest::Publish(request)
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
        ProxyReply::NotBase64 => ProxyAnswer::NotBase64,
        ProxyReply::Disconnect(disconnect) => {
            ProxyAnswer::Disconnect(Disconnect { code: disconnect.code, reason: disconnect.reason.into() })
        }
        ProxyReply::Error(error) => {
            let wire::Error { code, message, temporary } = error;
            ProxyAnswer::Error(ReplyError { code, message: message.into(), temporary })
        }
        ProxyReply::Result(ProxyResult::Connect(result)) => {
            ProxyAnswer::Connect(result.map(|result| Box::new(connect(*result))))
        }
        ProxyReply::Result(ProxyResult::Refresh(result)) => {
            let going_on = |result: wire::RefreshResult| {
                let wire::RefreshResult { expired, expire_at, info, meta, .. } = result;
                RefreshAnswer { expired, expire_at, info, meta }
            };
            ProxyAnswer::Refresh(result.map_or_else(over, going_on))
        }
        ProxyReply::Result(ProxyResult::Subscribe(result)) => {
            let terms = result.map(|result| terms(result.expire_at, result.info, result.data, result.r#override));
            ProxyAnswer::Subscribe(Box::new(terms.unwrap_or_default()))
        }
        ProxyReply::Result(ProxyResult::Publish(result)) => {
            ProxyAnswer::Publish(result.map(|result| publish(*result)).unwrap_or_default())
        }
        ProxyReply::Result(ProxyResult::Rpc(result)) => {
            ProxyAnswer::Rpc(result.map(|result| result.data).unwrap_or_default())
        }
        ProxyReply::Result(ProxyResult::SubRefresh(result)) => {
            let going_on = |result: wire::SubRefreshResult| {
                let wire::SubRefreshResult { expired, expire_at, info, .. } = result;
                RefreshAnswer { expired, expire_at, info, ..RefreshAnswer::default() }
            };
            ProxyAnswer::Refresh(result.map_or_else(over, going_on))
        }
    }
}

/// What has no result does not go on.
fn over() -> RefreshAnswer {
    RefreshAnswer { expired: true, ..RefreshAnswer::default() }
}

fn connect(result: wire::ConnectResult) -> ConnectAnswer {
    let subs = result.subs.into_iter().map(|(channel, options)| {
        let terms = terms(options.expire_at, options.info, options.data, options.r#override);
        (channel, SubscribeAnswer { cache_recover: options.cache_recover, ..terms })
    });
    ConnectAnswer {
        user: result.user,
        expire_at: result.expire_at,
        info: result.info,
        data: result.data,
        meta: result.meta,
        channels: result.channels,
        subs: subs.collect(),
    }
}

fn terms(expire_at: i64, info: Bytes, data: Bytes, overrides: Option<SubscribeOptionOverride>) -> SubscribeAnswer {
    let overrides = overrides.as_ref().map(Overrides::from).unwrap_or_default();
    SubscribeAnswer { expire_at, info, data, overrides, cache_recover: false }
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
