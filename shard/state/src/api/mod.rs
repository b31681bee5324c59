//! The server API: a backend's calls, carried out by asking the homes and shards concerned and gathering their answers.
//! Source: server API §1 to §3.

mod batch;
mod broadcast;
mod call;
mod channel;
mod publish;
mod survey;
mod users;

pub(crate) use batch::Batch;
pub(crate) use broadcast::Broadcast;
pub(crate) use call::{Calls, Origin};
pub(crate) use survey::Gathering;
pub(crate) use users::Acting;

use crate::Now;
use crate::metrics::ApiProtocol;
use crate::shard::Shard;
use call::{Http, Shape, Typed};
use ringcast_proto::api::{
    ApiResult, BatchRequest, Method, Request, decode_legacy_commands, decode_request, decode_shared_request,
};
use ringcast_proto::codes::{ApiError, ReplyError};
use std::borrow::Cow;

use crate::shard::{ApiAnswer, ApiCallId};

pub(crate) type ApiOutcome = Result<ApiResult, ApiError>;

impl Shard {
    /// A call as it came over HTTP.
    pub(crate) fn receive_api(
        &mut self,
        now: Now,
        call: ApiCallId,
        path: Option<&str>,
        body: Cow<'_, [u8]>,
        transport_errors: bool,
    ) {
        let Some(path) = path else { return self.receive_legacy(now, call, body) };
        let Some(method) = Method::from_path(path) else {
            return self.answers.push_back(ApiAnswer::empty(call, 404));
        };
        let request = match body {
            Cow::Borrowed(body) => decode_request(method, body),
            Cow::Owned(body) => decode_shared_request(method, &body.into()),
        };
        match request {
            Err(_) => {
                self.metrics.api_errors.count((method.as_str(), None, ApiProtocol::Http.as_str()));
                self.answers.push_back(ApiAnswer::text(call, 400, "Bad Request\n"));
            }
            Ok(request) => {
                let shape = if transport_errors { Shape::TransportErrors } else { Shape::Plain };
                let origin = Origin::Http(Box::new(Http { call, method, shape, began_at: now.at }));
                self.begin(now, origin, request);
            }
        }
    }

    /// A call that came decoded.
    pub(crate) fn receive_request(&mut self, now: Now, number: usize, protocol: ApiProtocol, request: Request) {
        let typed = Typed { number, protocol, method: request.method(), began_at: now.at };
        self.begin(now, Origin::Typed(Box::new(typed)), request);
    }

    /// The bare prefix: several commands with ids, answered in order.
    fn receive_legacy(&mut self, now: Now, call: ApiCallId, body: Cow<'_, [u8]>) {
        let Ok(commands) = decode_legacy_commands(&body.into_owned().into()) else {
            return self.answers.push_back(ApiAnswer::text(call, 400, "Bad Request\n"));
        };
        let ids = commands.iter().map(|command| command.id).collect();
        let commands = commands.into_iter().map(|command| command.request.map(Box::new)).collect();
        let shape = Shape::Legacy { ids };
        let origin = Origin::Http(Box::new(Http { call, method: Method::Batch, shape, began_at: now.at }));
        self.begin(now, origin, Request::Batch(BatchRequest { commands, parallel: false }));
    }

    /// Starts a request; `complete` is called with its outcome, maybe at once.
    pub(crate) fn begin(&mut self, now: Now, origin: Origin, request: Request) {
        self.is_changing = true;
        self.note_begin(now, &origin, request.method());
        let started = match request {
            Request::Publish(request) => self.api_publish(now, &origin, request),
            Request::Broadcast(request) => self.api_broadcast(now, &origin, request),
            Request::Subscribe(request) => self.api_subscribe(now, &origin, *request),
            Request::Unsubscribe(request) => self.api_unsubscribe(now, &origin, *request),
            Request::Disconnect(request) => self.api_disconnect(now, &origin, *request),
            Request::Refresh(request) => self.api_refresh(now, &origin, *request),
            Request::Presence(request) => self.api_presence(now, &origin, &request.channel, false),
            Request::PresenceStats(request) => self.api_presence(now, &origin, &request.channel, true),
            Request::History(request) => self.api_history(now, &origin, request),
            Request::HistoryRemove(request) => self.api_history_remove(now, &origin, &request.channel),
            Request::Channels(request) => self.api_channels(now, &origin, request.pattern),
            Request::Info => self.api_info(now, &origin),
            Request::Rpc(request) if request.method.is_empty() => Err(ApiError::BAD_REQUEST),
            // The server has no methods of its own here; extensions may bring some.
            Request::Rpc(_) => Err(ApiError::NOT_FOUND),
            Request::Batch(request) => return self.api_batch(now, origin, request),
        };
        if let Err(error) = started {
            self.complete(now, &origin, Err(error));
        }
    }
}

/// What a home refused, in the words of the server API.
fn api_error(error: ReplyError) -> ApiError {
    match error.code {
        102 => ApiError::UNKNOWN_CHANNEL,
        107 => ApiError::BAD_REQUEST,
        108 => ApiError::NOT_AVAILABLE,
        112 => ApiError::UNRECOVERABLE_POSITION,
        _ => ApiError::INTERNAL,
    }
}
