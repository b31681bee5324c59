//! Connections to a backend: kept open between requests, over TLS or not.

use super::backend::BackendError;
use crate::tls::{ClientTls, nobody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;

/// Connections that wait for the next request, for each host; as in the reference.
const IDLE_MAX: usize = 255;

/// How long they wait.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Silence after which a connection of GRPC is asked whether it is still there, while requests wait.
const PING_PERIOD: Duration = Duration::from_secs(10);

/// Most bytes of an answer; a body that goes on is given up.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Makes requests with bodies of one kind.
pub struct Client<B = Full<Bytes>>(legacy::Client<HttpsConnector<HttpConnector>, B>);

impl Client {
    /// Without TLS options, for cleartext only.
    pub fn new(tls: Option<&ClientTls>, is_grpc: bool) -> Self {
        Self(builder(is_grpc).build(connector(tls, is_grpc)))
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static> Client<B> {
    /// For streams of GRPC, with so many bytes of a stream and of a connection on their way here.
    pub fn for_streams(tls: Option<&ClientTls>, stream_window: u32, connection_window: u32) -> Self {
        let mut client = builder(true);
        client.http2_initial_stream_window_size(stream_window).http2_initial_connection_window_size(connection_window);
        Self(client.build(connector(tls, true)))
    }

    /// Sends a request; its answer has begun.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, BackendError> {
        self.0.request(request).await.map_err(|error| BackendError::Exchange(Box::new(error)))
    }
}

fn builder(is_grpc: bool) -> legacy::Builder {
    let mut client = legacy::Client::builder(TokioExecutor::new());
    client.pool_max_idle_per_host(IDLE_MAX).pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
    client.timer(TokioTimer::new());
    if is_grpc {
        client.http2_only(true).http2_keep_alive_interval(PING_PERIOD);
    }
    client
}

fn connector(tls: Option<&ClientTls>, is_grpc: bool) -> HttpsConnector<HttpConnector> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new();
    let config = tls.map_or_else(nobody, |tls| tls.config.clone());
    let mut builder = builder.with_tls_config(config).https_or_http();
    let name = tls.and_then(|tls| tls.server_name.clone().try_into().ok());
    if let Some(name) = name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    match is_grpc {
        true => builder.enable_http2().wrap_connector(connector),
        false => builder.enable_http1().wrap_connector(connector),
    }
}

/// The whole of a body, up to a limit, and what follows it.
pub async fn read(mut body: Incoming) -> Result<(Bytes, HeaderMap), BackendError> {
    let (mut whole, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BackendError::Exchange(Box::new(error)))?;
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > RESPONSE_BYTES_MAX => {
                return Err(BackendError::TooLong(RESPONSE_BYTES_MAX));
            }
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((whole.freeze(), trailers))
}
