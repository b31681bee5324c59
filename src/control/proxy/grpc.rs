//! Asks a backend over GRPC: one message there, one back. Source: GRPC over HTTP/2.

use super::backend::{BackendError, GrpcBackend};
use super::client::{Client, RESPONSE_BYTES_MAX, read};
use super::forward::replace;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use ringcast_proto::DecodeError;
use ringcast_proto::proxy::{ProxyReply, ProxyRequest, decode_protobuf_reply};
use std::io::Read as _;

/// Bytes before a message: whether it is compressed, and its length.
pub const PREFIX_BYTES: usize = 5;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// What the backend says.
pub async fn ask(
    client: &Client,
    options: &GrpcBackend,
    request: &ProxyRequest,
    forwarded: &HeaderMap,
) -> Result<ProxyReply, BackendError> {
    let mut message = Vec::new();
    request.encode_protobuf(&mut message);
    let mut call = Request::new(Full::new(frame(message, options.compression)?));
    *call.method_mut() = Method::POST;
    *call.uri_mut() = address(&options.endpoint, request.event().grpc_path());
    *call.headers_mut() = headers(options, forwarded);
    let response = client.send(call).await?;
    if response.status() != StatusCode::OK {
        return Err(BackendError::Status(response.status().as_u16()));
    }
    // An answer without a message has its status here.
    check_status(response.headers(), false)?;
    let (body, trailers) = read(response.into_body()).await?;
    check_status(&trailers, true)?;
    let message = unframe(&body)?;
    decode_protobuf_reply(request.event(), &message).map_err(BackendError::Decode)
}

/// Where a method is.
pub fn address(endpoint: &Uri, path: &'static str) -> Uri {
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
    Uri::from_parts(parts).expect("an address with another path")
}

/// What goes with a call.
pub fn headers(options: &GrpcBackend, forwarded: &HeaderMap) -> HeaderMap {
    let mut headers = options.static_metadata.clone();
    replace(&mut headers, forwarded);
    // Ours, whatever a client says.
    if let Some((name, value)) = &options.credentials {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("gzip"));
    if options.compression {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    headers
}

/// The message with what goes before it.
pub fn frame(mut message: Vec<u8>, is_compressed: bool) -> Result<Bytes, BackendError> {
    if is_compressed {
        let mut deflated = Vec::new();
        GzEncoder::new(&*message, Compression::fast())
            .read_to_end(&mut deflated)
            .map_err(|error| BackendError::Exchange(Box::new(error)))?;
        message = deflated;
    }
    let length = u32::try_from(message.len()).map_err(|_| BackendError::TooLong(u32::MAX as usize))?;
    let mut framed = Vec::with_capacity(PREFIX_BYTES + message.len());
    framed.push(u8::from(is_compressed));
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    Ok(framed.into())
}

/// The message of an answer.
fn unframe(body: &Bytes) -> Result<Bytes, BackendError> {
    let broken = || BackendError::Decode(DecodeError { reason: "not one message of GRPC", position: 0 });
    let (prefix, message) = body.split_at_checked(PREFIX_BYTES).ok_or_else(broken)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if usize::try_from(length) != Ok(message.len()) {
        return Err(broken());
    }
    match prefix[0] {
        0 => Ok(body.slice(PREFIX_BYTES..)),
        1 => inflate(message, RESPONSE_BYTES_MAX),
        _ => Err(broken()),
    }
}

/// The message that is compressed here; fails when it is longer than `bytes_max`.
pub fn inflate(message: &[u8], bytes_max: usize) -> Result<Bytes, BackendError> {
    let mut inflated = Vec::new();
    let read = MultiGzDecoder::new(message).take(bytes_max as u64 + 1).read_to_end(&mut inflated);
    read.map_err(|error| BackendError::Exchange(Box::new(error)))?;
    if inflated.len() > bytes_max {
        return Err(BackendError::TooLong(bytes_max));
    }
    Ok(inflated.into())
}

/// Fails unless the status is OK, or is to come.
pub fn check_status(headers: &HeaderMap, is_last: bool) -> Result<(), BackendError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match (text(STATUS), is_last) {
        (Some("0"), _) | (None, false) => Ok(()),
        (status, _) => {
            let code = status.and_then(|status| status.parse().ok()).unwrap_or(2);
            Err(BackendError::Grpc { code, message: text(MESSAGE).unwrap_or("no status").to_owned() })
        }
    }
}
