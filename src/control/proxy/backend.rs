//! One backend: its options, the requests that it is busy with, and what an operator hears of its failures.

use super::client::Client;
use super::forward::Forwarding;
use super::meter::{Call, Meter, Meters};
use super::stream::StreamPool;
use super::{grpc, http, question};
use crate::tls::ClientTls;
use ::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ringcast_proto::DecodeError;
use ringcast_proto::proxy::{Disconnect, Error, ProxyReply, ProxyRequest};
use ringcast_state::proxy::ProxyQuestion;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

/// Requests of one thread that a backend is busy with. Full: the next ones fail at once, with the temporary error 100 for the
/// client. Seen in the log.
const IN_FLIGHT_MAX: usize = 16_384;

/// One warning of a backend in this time.
const WARNING_PERIOD: Duration = Duration::from_secs(10);

/// A proxy object of the configuration. Source: config §4.3.
#[derive(Clone, Debug)]
pub struct BackendOptions {
    /// `default`, or key `name` of one of `proxies`.
    pub name: String,
    /// Key `timeout`: limit of a whole exchange. Default 1 s.
    pub timeout: Duration,
    /// Key `binary_encoding`: payloads travel in base64. Default false.
    pub binary_encoding: bool,
    /// Key `include_connection_meta`: the request holds the meta of the connection. Default false.
    pub include_connection_meta: bool,
    /// Headers that go along.
    pub forwarding: Forwarding,
    /// Where `endpoint` begins with `http://` or `https://`.
    pub http: Option<HttpBackend>,
    /// Any other `endpoint`.
    pub grpc: Option<GrpcBackend>,
}

/// A backend that speaks HTTP.
#[derive(Clone, Debug)]
pub struct HttpBackend {
    /// Key `endpoint`.
    pub endpoint: Uri,
    /// Group `http.tls`, or the system's authorities; none for `http://`.
    pub tls: Option<ClientTls>,
    /// Key `http.static_headers`, and the content type.
    pub static_headers: HeaderMap,
    /// Key `http.status_to_code_transforms`: the first that matches counts.
    pub status_to_code_transforms: Vec<StatusTransform>,
}

/// A backend that speaks GRPC.
#[derive(Clone, Debug)]
pub struct GrpcBackend {
    /// Key `endpoint`, with the scheme of HTTP.
    pub endpoint: Uri,
    /// Group `grpc.tls`; none is cleartext.
    pub tls: Option<ClientTls>,
    /// Key `grpc.static_metadata`, values in the form of the wire.
    pub static_metadata: HeaderMap,
    /// Keys `grpc.credentials_key` and `grpc.credentials_value`, the value in the form of the wire.
    pub credentials: Option<(HeaderName, HeaderValue)>,
    /// Key `grpc.compression`: requests are sent with gzip. Default false.
    pub compression: bool,
}

/// What a status of HTTP means to the client.
#[derive(Clone, Debug)]
pub struct StatusTransform {
    /// Key `status_code`.
    pub status_code: i64,
    /// Key `to_error`, which wins.
    pub to_error: Option<Error>,
    /// Key `to_disconnect`.
    pub to_disconnect: Option<Disconnect>,
}

/// Why a backend gave no answer.
#[derive(Debug)]
pub enum BackendError {
    /// It took too long.
    Timeout(Duration),
    /// The connection failed.
    Exchange(Box<dyn std::error::Error + Send + Sync>),
    /// HTTP: not 200.
    Status(u16),
    /// GRPC: not OK.
    Grpc { code: i32, message: String },
    /// More than this many bytes.
    TooLong(usize),
    /// Something else than an answer.
    Decode(DecodeError),
    /// A payload in the answer is not base64. An answer all the same, as far as metrics go.
    NotBase64,
    /// The client's payload is not JSON.
    PayloadIsNotJson,
    /// The backend has as many requests or streams as it may.
    Busy(usize),
    /// A stream is wanted of a backend that speaks HTTP.
    NotGrpc,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(limit) => write!(f, "no answer within {limit:?}, see key timeout"),
            Self::Exchange(error) => {
                error.fmt(f)?;
                let mut cause = error.source();
                while let Some(inner) = cause {
                    write!(f, ": {inner}")?;
                    cause = inner.source();
                }
                Ok(())
            }
            Self::Status(status) => write!(f, "unexpected HTTP status code: {status}, expected 200"),
            Self::Grpc { code, message } => write!(f, "GRPC status {code}: {message}"),
            Self::TooLong(limit) => write!(f, "the answer is longer than {limit} bytes"),
            Self::Decode(error) => write!(f, "the answer cannot be read: {error}"),
            Self::NotBase64 => f.write_str("b64info or b64data of the answer is not base64"),
            Self::PayloadIsNotJson => f.write_str("the client's payload is not JSON: such need key binary_encoding"),
            Self::Busy(limit) => write!(f, "{limit} requests or streams are its already"),
            Self::NotGrpc => f.write_str("streams need a backend that speaks GRPC, see key endpoint"),
        }
    }
}

/// A backend that can be asked.
pub struct Backend {
    options: BackendOptions,
    client: Client,
    places: Arc<Semaphore>,
    warnings: Mutex<Warnings>,
    streams: StreamPool,
    meters: Arc<Meters>,
    /// Those of `meters` that were used, by event.
    used: Mutex<BTreeMap<&'static str, Arc<Meter>>>,
}

impl Backend {
    pub fn new(options: BackendOptions, meters: Arc<Meters>) -> Self {
        let tls = options
            .http
            .as_ref()
            .map_or_else(|| options.grpc.as_ref().and_then(|grpc| grpc.tls.as_ref()), |http| http.tls.as_ref());
        let client = Client::new(tls, options.grpc.is_some());
        let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let (warnings, streams, used) = Default::default();
        Self { options, client, places, warnings, streams, meters, used }
    }

    /// Key `timeout`.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Where it speaks GRPC.
    pub fn grpc(&self) -> Option<&GrpcBackend> {
        self.options.grpc.as_ref()
    }

    /// Its connections for streams.
    pub fn streams(&self) -> &StreamPool {
        &self.streams
    }

    /// Counts a call about an event from now on.
    pub fn begin_call(&self, event: &'static str) -> Call {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = used.entry(event).or_insert_with(|| {
            let protocol = if self.options.grpc.is_some() { "grpc" } else { "http" };
            self.meters.get((protocol, event, self.options.name.clone()))
        });
        Call::begin(meter.clone())
    }

    /// Room for one more request.
    pub fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.failed(&BackendError::Busy(IN_FLIGHT_MAX));
        }
        place
    }

    /// What the backend says; none, and a warning, where it says nothing of use.
    pub async fn ask(&self, question: ProxyQuestion) -> Option<ProxyReply> {
        let (request, forwarded) = self.request(question);
        let limit = self.options.timeout;
        let call = self.begin_call(request.event().as_str());
        let reply = match timeout(limit, self.exchange(&request, &forwarded)).await {
            Ok(reply) => reply,
            Err(_) => Err(BackendError::Timeout(limit)),
        };
        call.end(reply.is_err());
        self.tell_of_failure(reply.as_ref());
        reply.ok()
    }

    /// Has an operator hear of an answer that is of no use.
    pub fn tell_of_failure(&self, reply: Result<&ProxyReply, &BackendError>) {
        match reply {
            Ok(ProxyReply::NotBase64) => self.failed(&BackendError::NotBase64),
            Ok(_) => {}
            Err(error) => self.failed(error),
        }
    }

    /// The message for the backend, and the headers that go along.
    pub fn request(&self, question: ProxyQuestion) -> (ProxyRequest, HeaderMap) {
        let forwarded = self.options.forwarding.headers(&question.asker, self.options.grpc.is_some());
        let mut request = question::encode(question, self.options.include_connection_meta);
        request.finish(self.options.binary_encoding);
        (request, forwarded)
    }

    async fn exchange(&self, request: &ProxyRequest, forwarded: &HeaderMap) -> Result<ProxyReply, BackendError> {
        match (&self.options.http, &self.options.grpc) {
            (Some(options), _) => http::ask(&self.client, options, request, forwarded).await,
            (None, Some(options)) => grpc::ask(&self.client, options, request, forwarded).await,
            (None, None) => unreachable!("a backend speaks one of them"),
        }
    }

    /// Has an operator hear of a failure.
    pub fn failed(&self, error: &BackendError) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(silent) = warnings.tell(Instant::now()) else { return };
        let proxy = &self.options.name;
        let endpoint = self.options.http.as_ref().map(|http| http.endpoint.to_string());
        let endpoint = endpoint.or_else(|| self.options.grpc.as_ref().map(|grpc| grpc.endpoint.to_string()));
        let endpoint = crate::jwks::without_secrets(&endpoint.unwrap_or_default());
        warn!(proxy, endpoint, %error, failures_before = silent, "error proxying: clients get error 100");
    }
}

/// Tells an operator of failures without filling the log.
#[derive(Default)]
struct Warnings {
    last: Option<Instant>,
    /// Failures not told of.
    silent: u64,
}

impl Warnings {
    /// Whether to tell of one more failure, and how many were not told of before it.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < WARNING_PERIOD) {
            self.silent += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}
