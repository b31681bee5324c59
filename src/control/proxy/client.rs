//! Connections to a backend: kept open between requests, over TLS or not.

use super::backend::BackendError;
use crate::tls::{ClientTls, nobody};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

/// Connections that wait for the next request, for each host; as in the reference.
const IDLE_MAX: usize = 255;

/// How long they wait.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Silence after which a connection of GRPC is asked whether it is still there, while requests wait.
const PING_PERIOD: Duration = Duration::from_secs(10);

/// Most bytes of an answer; a body that goes on is given up.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// Makes requests.
pub struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// Without TLS options, for cleartext only.
    pub fn new(tls: Option<&ClientTls>, is_grpc: bool) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let mut client = legacy::Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(IDLE_MAX).pool_idle_timeout(IDLE_TIMEOUT).pool_timer(TokioTimer::new());
        client.timer(TokioTimer::new());
        if is_grpc {
            client.http2_only(true).http2_keep_alive_interval(PING_PERIOD);
        }
        Self(client.build(wrap(connector, tls, is_grpc)))
    }

    /// Sends a request; its answer has begun.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, BackendError> {
        self.0.request(request).await.map_err(|error| BackendError::Exchange(Box::new(error)))
    }
}

fn wrap(connector: HttpConnector, tls: Option<&ClientTls>, is_grpc: bool) -> HttpsConnector<HttpConnector> {
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
