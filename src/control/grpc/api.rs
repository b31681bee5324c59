//! The server API over GRPC: who may call, what is called, and how the outcome looks. Source: server API §1 to §3.

use super::budget::Budget;
use super::calls::Calls;
use super::connection::Peer;
use super::message::{Answer, Request, read, refuse, response};
use super::port::PortOptions;
use super::reflection::Reflection;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use prost::Message as _;
use ringcast_proto::api::{Error, Method, decode_protobuf_request, encode_protobuf_response, is_key};
use ringcast_proto::codes::ApiError;
use ringcast_runtime::{GUESS_PAUSE, Guesses, Verdict};
use ringcast_state::Time;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::warn;

const SERVICE: &str = "centrifugal.centrifugo.api.CentrifugoApi";

/// Metadata that asks for errors as statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// Config group `grpc_api`.
pub struct GrpcApiOptions {
    /// Where, how securely, and how much.
    pub port: PortOptions,
    /// Key `grpc_api.key`: callers send `authorization: apikey KEY`. Empty, the default, lets everybody call.
    pub key: String,
    /// Key `grpc_api.error_mode`: `transport` makes an error of a call the status of its response. Default false.
    pub transport_errors: bool,
    /// Key `grpc_api.reflection`: tells clients what can be called. Default false.
    pub reflection: bool,
    /// Key `grpc_api.wrong_key_limit`, ours: wrong keys that an address may send in a minute; for more it gets `RESOURCE_EXHAUSTED`.
    /// 0, of a negative number in the key, is no limit. Default 10.
    pub wrong_key_limit: usize,
}

/// The service.
pub struct Api {
    options: GrpcApiOptions,
    message_size_limit: usize,
    budget: Budget,
    reflection: Option<Reflection>,
    guesses: Guesses,
    started: Instant,
}

impl Api {
    /// Its requests share `budget` with others.
    pub fn new(options: GrpcApiOptions, budget: Budget) -> Self {
        let reflection = options.reflection.then(Reflection::new);
        Self {
            message_size_limit: options.port.message_size_limit(),
            options,
            budget,
            reflection,
            guesses: Guesses::default(),
            started: Instant::now(),
        }
    }

    /// Answers a request, on the thread that makes `calls`.
    pub async fn serve(&self, request: Request, calls: &Arc<Calls>) -> http::Response<Body> {
        if let Some(refusal) = refuse(&request) {
            return refusal;
        }
        if let Some(answer) = self.reflection.as_ref().and_then(|reflection| reflection.route(&request)) {
            return answer.serve(request).await;
        }
        self.call(request, calls).await.unwrap_or_else(Status::into_http)
    }

    async fn call(&self, request: Request, calls: &Arc<Calls>) -> Result<http::Response<Body>, Status> {
        let method = method(request.uri().path()).ok_or_else(|| Status::unimplemented("unknown service or method"))?;
        if !self.is_authorized(request.headers()) {
            let refusal = self.refuse_key(request.extensions().get::<Peer>().and_then(|Peer(address)| *address));
            if refusal.code() == Code::ResourceExhausted {
                sleep(GUESS_PAUSE).await;
            }
            return Err(refusal);
        }
        let transport_errors = self.options.transport_errors
            || request.headers().get(ERROR_MODE).is_some_and(|mode| mode.as_bytes() == b"transport");
        let mut share = self.budget.share()?;
        let message = read(request, self.message_size_limit, &mut share).await?;
        let request = decode_protobuf_request(method, message)
            .map_err(|error| Status::internal(format!("the request cannot be decoded: {error}")))?;
        match calls.call(request).await {
            None => Err(Status::unavailable("the server stops")),
            Some(Err(error)) if transport_errors => Err(status(&error)),
            Some(outcome) => Ok(response(Answer::new(share, |out| encode_protobuf_response(&outcome, out)))),
        }
    }

    fn is_authorized(&self, metadata: &HeaderMap) -> bool {
        let given = metadata.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let key = given.strip_prefix(b"apikey ").unwrap_or_default();
        self.options.key.is_empty() || is_key(&self.options.key, key)
    }

    /// What a wrong key is answered with.
    fn refuse_key(&self, peer: Option<IpAddr>) -> Status {
        let now = Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        let verdict = self.guesses.count(now, self.options.wrong_key_limit, peer);
        if verdict == (Verdict::TooMany { is_first: true }) {
            warn!(
                peer = peer.map(tracing::field::display),
                "too many wrong keys of the GRPC API, further ones get RESOURCE_EXHAUSTED for a minute"
            );
        }
        match verdict {
            Verdict::Wrong => Status::unauthenticated("unauthenticated"),
            Verdict::TooMany { .. } => Status::resource_exhausted("too many wrong keys"),
        }
    }
}

/// The method of a path `/SERVICE/METHOD`.
fn method(path: &str) -> Option<Method> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    Method::ALL.into_iter().find(|method| service == SERVICE && method.as_rpc() == name)
}

/// An error as the status of a response, in transport error mode.
fn status(error: &ApiError) -> Status {
    let code = error.grpc_status();
    let details = Details {
        code,
        message: error.message.to_string(),
        details: vec![Detail {
            type_url: "type.googleapis.com/centrifugal.centrifugo.api.Error".to_owned(),
            value: Error::from(error).encode_to_vec().into(),
        }],
    };
    Status::with_details(Code::from(code), details.message.clone(), details.encode_to_vec().into())
}

/// What is sent behind a status. Source: `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Details {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// Some message. Source: `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_service_and_a_method() {
        for (path, want) in [
            ("/centrifugal.centrifugo.api.CentrifugoApi/Publish", Some(Method::Publish)),
            ("/centrifugal.centrifugo.api.CentrifugoApi/PresenceStats", Some(Method::PresenceStats)),
            ("/centrifugal.centrifugo.api.CentrifugoApi/RPC", Some(Method::Rpc)),
            ("/centrifugal.centrifugo.api.CentrifugoApi/publish", None),
            ("/centrifugal.centrifugo.api.CentrifugoApi/", None),
            ("/centrifugal.centrifugo.api.CentrifugoApi", None),
            ("/other.Service/Publish", None),
            ("", None),
        ] {
            assert_eq!(method(path), want, "{path}");
        }
    }

    #[test]
    fn statuses_carry_the_error() {
        let status = status(&ApiError::UNKNOWN_CHANNEL);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown channel"));
        let details = Details::decode(status.details()).expect("details");
        assert_eq!((details.code, &*details.message), (5, "unknown channel"));
        let error = Error::decode(&*details.details[0].value).expect("an error");
        assert_eq!((error.code, &*error.message), (102, "unknown channel"));
    }
}
