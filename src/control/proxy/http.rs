//! Asks a backend over HTTP: a POST with JSON, and JSON back. Redirects are not followed: a status other than 200 is no answer.

use super::backend::{BackendError, HttpBackend};
use super::client::{Client, read};
use super::forward::replace;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use ringcast_proto::proxy::{ProxyReply, ProxyRequest, decode_json_reply};

/// What the backend says.
pub async fn ask(
    client: &Client,
    options: &HttpBackend,
    request: &ProxyRequest,
    forwarded: &HeaderMap,
) -> Result<ProxyReply, BackendError> {
    let mut body = Vec::new();
    request.encode_json(&mut body).map_err(|_| BackendError::PayloadIsNotJson)?;
    let mut call = Request::new(Full::new(body.into()));
    *call.method_mut() = Method::POST;
    *call.uri_mut() = options.endpoint.clone();
    *call.headers_mut() = options.static_headers.clone();
    replace(call.headers_mut(), forwarded);
    let response = client.send(call).await?;
    if response.status() != StatusCode::OK {
        return transform(options, response.status().as_u16());
    }
    let (body, _) = read(response.into_body()).await?;
    decode_json_reply(request.event(), &body).map_err(BackendError::Decode)
}

/// What the options make of a status.
fn transform(options: &HttpBackend, status: u16) -> Result<ProxyReply, BackendError> {
    let mut matching = options.status_to_code_transforms.iter().filter(|one| one.status_code == i64::from(status));
    let reply = matching.find_map(|transform| {
        let error = transform.to_error.clone().map(ProxyReply::Error);
        error.or_else(|| transform.to_disconnect.clone().map(ProxyReply::Disconnect))
    });
    reply.ok_or(BackendError::Status(status))
}
