//! Unidirectional streams: a client asks once, and gets pushes until either side ends. Source: protocol §15.

use super::budget::Budget;
use super::message::{Request, read, refuse, response};
use super::port::PortOptions;
use super::stream::stream;
use ringcast_proto::client::{Encoding, decode_connect_request};
use ringcast_runtime::{AllowedOrigins, CarryLine, ForwardedHeaders};
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};
use tonic::Status;
use tonic::body::Body;
use tracing::info;

const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";

/// Config group `uni_grpc`.
pub struct UniGrpcOptions {
    /// Where, how securely, and how much.
    pub port: PortOptions,
    /// Key `client.allowed_origins`: pages from elsewhere are refused.
    pub allowed_origins: Vec<String>,
    /// Keys `grpc_metadata` of the proxies.
    pub forwarded_metadata: ForwardedHeaders,
}

/// The service.
pub struct Uni {
    message_size_limit: usize,
    origins: AllowedOrigins,
    forwarded_metadata: ForwardedHeaders,
    budget: Budget,
    line: CarryLine,
}

impl Uni {
    /// Opens its clients over `line`.
    pub fn new(options: &UniGrpcOptions, budget: Budget, line: CarryLine) -> Self {
        let origins = AllowedOrigins::new(&options.allowed_origins);
        let forwarded_metadata = options.forwarded_metadata.clone();
        Self { message_size_limit: options.port.message_size_limit(), origins, forwarded_metadata, budget, line }
    }

    /// Answers a request.
    pub async fn serve(&self, request: Request) -> http::Response<Body> {
        match refuse(&request) {
            Some(refusal) => refusal,
            None => self.consume(request).await.unwrap_or_else(Status::into_http),
        }
    }

    async fn consume(&self, request: Request) -> Result<http::Response<Body>, Status> {
        if request.uri().path() != CONSUME {
            return Err(Status::unimplemented("unknown service or method"));
        }
        let origin = request.headers().get("origin").map(|origin| origin.as_bytes());
        if !self.origins.allow(origin) {
            let origin = String::from_utf8_lossy(origin.unwrap_or_default());
            info!(%origin, "request Origin is not authorized");
            return Err(Status::permission_denied("request Origin is not authorized"));
        }
        let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let visitor = Visitor { user: None, headers: self.forwarded_metadata.pick(lines) };
        let transport = Transport { visitor, ..TRANSPORT };
        let mut share = self.budget.share()?;
        let message = read(request, self.message_size_limit, &mut share).await?;
        if decode_connect_request(Encoding::Protobuf, &message).is_err() {
            return Err(Status::internal("the request cannot be decoded"));
        }
        let stream = stream(|outlet| self.line.open(transport, Some(message.into()), outlet));
        Ok(response(stream))
    }
}

const TRANSPORT: Transport = Transport {
    encoding: Encoding::Protobuf,
    framing: Framing::Grpc,
    kind: TransportKind::UniGrpc,
    pings: Pings::Fixed,
    visitor: Visitor::UNKNOWN,
    farewell: Farewell::Push,
};
