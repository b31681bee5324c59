//! One QUIC connection that speaks HTTP/3: what each of its streams is, and what serves it. Source: RFC 9114.

use super::exchange::{self, Outcome};
use super::peer::{GivenUp, Peer};
use super::request::Request;
use super::wire::{self, ReadError, code, kind};
use super::{Site, webtransport};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// A connection without a request ends after this time, as one of TCP does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait for the head of a request on its stream.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A broken rule, for which the connection ends.
pub struct Fault {
    code: VarInt,
    reason: &'static str,
}

impl Fault {
    /// With what the peer is told.
    pub const fn new(code: VarInt, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// Serves a connection until it ends.
pub async fn serve(connection: Connection, site: Arc<Site>) {
    // Stays open as long as the connection.
    let Ok(mut control) = connection.open_uni().await else { return };
    if control.write_all(&wire::control_stream(site.options.webtransport.is_some())).await.is_err() {
        return;
    }
    let peer = Arc::new(Peer::new(connection.remote_address().ip(), site.options.body_size_limit));
    let mut given_up = GivenUp::new(Instant::now());
    let (mut requests, mut others) = (JoinSet::new(), JoinSet::new());
    let fault = loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((output, input)) => {
                    requests.spawn(serve_stream(output, input, peer.clone(), site.clone()));
                }
                Err(_) => return,
            },
            stream = connection.accept_uni() => match stream {
                Ok(input) => {
                    others.spawn(read_stream(input));
                }
                Err(_) => return,
            },
            // A task that panicked has told so, and concerns its own stream only.
            Some(ended) = requests.join_next() => match ended {
                Ok(Outcome::Fault(fault)) => break fault,
                Ok(Outcome::Given) if !given_up.count(Instant::now()) => {
                    break Fault::new(code::EXCESSIVE_LOAD, "too many requests given up");
                }
                Ok(Outcome::Served | Outcome::Given) | Err(_) => {}
            },
            Some(ended) = others.join_next() => if let Some(fault) = fault_of(ended) {
                break fault;
            },
            () = sleep(IDLE_TIMEOUT), if requests.is_empty() => break Fault::new(code::NO_ERROR, "idle"),
        }
    };
    connection.close(fault.code, fault.reason.as_bytes());
}

/// A task that panicked has told so, and concerns its own stream only.
fn fault_of(ended: Result<Result<(), Fault>, JoinError>) -> Option<Fault> {
    ended.ok()?.err()
}

/// A bidirectional stream: a request, or the stream of a session.
async fn serve_stream(output: SendStream, mut input: RecvStream, peer: Arc<Peer>, site: Arc<Site>) -> Outcome {
    match timeout(HEAD_TIMEOUT, read_head(&mut input, &peer)).await {
        Ok(Ok(Head::Session(session))) => peer.lobby.offer(session, (output, input)),
        Ok(Ok(Head::Request(request))) => return serve_request(request, output, input, &peer, &site).await,
        Ok(Ok(Head::Malformed)) => refuse(output, input, code::MESSAGE_ERROR),
        Ok(Err(Unread::TooLong)) => answer(output, input, 431).await,
        Ok(Err(Unread::Fault(fault))) => return Outcome::Fault(fault),
        Ok(Err(Unread::Ended)) | Err(_) => {
            refuse(output, input, code::REQUEST_REJECTED);
            return Outcome::Given;
        }
    }
    Outcome::Served
}

/// How a bidirectional stream begins.
enum Head {
    Request(Request),
    Malformed,
    /// It belongs to the session with this id.
    Session(u64),
}

/// Why there is no head.
enum Unread {
    Ended,
    TooLong,
    Fault(Fault),
}

async fn read_head(input: &mut RecvStream, peer: &Peer) -> Result<Head, Unread> {
    loop {
        match wire::read_number(input).await? {
            kind::WEBTRANSPORT_STREAM => return Ok(Head::Session(wire::read_number(input).await?)),
            kind::HEADERS => {
                let fields = wire::read_fields(input, &peer.heads).await?;
                return Ok(Request::new(fields).map_or(Head::Malformed, Head::Request));
            }
            kind if kind == kind::DATA || wire::is_unexpected(kind) => {
                return Err(Unread::Fault(Fault::new(code::FRAME_UNEXPECTED, "a request begins with its headers")));
            }
            // Frames that mean nothing, to keep us used to them.
            _ => wire::skip_frame(input).await?,
        }
    }
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Ended => Unread::Ended,
            ReadError::TooLong => Unread::TooLong,
            ReadError::Broken => Unread::Fault(Fault::new(code::DECOMPRESSION_FAILED, "bad header fields")),
        }
    }
}

async fn serve_request(request: Request, output: SendStream, input: RecvStream, peer: &Peer, site: &Site) -> Outcome {
    match (&request.protocol, &site.options.webtransport) {
        (None, _) => return exchange::serve(request, (output, input), peer, site).await,
        (Some(_), Some(options)) if request.is_webtransport() => {
            webtransport::serve(&request, (output, input), &peer.lobby, options, site).await;
        }
        // Source: RFC 9220 section 3.
        (Some(_), _) => answer(output, input, 501).await,
    }
    Outcome::Served
}

/// Answers a request with a status, and wants nothing more of it.
pub async fn answer(mut output: SendStream, mut input: RecvStream, status: u16) {
    // Fails only for a stream that is gone already.
    let _ = input.stop(code::NO_ERROR);
    if output.write_all(&wire::response(status, [("content-length", &b"0"[..])])).await.is_ok() {
        let _ = output.finish();
    }
}

fn refuse(mut output: SendStream, mut input: RecvStream, code: VarInt) {
    let _ = output.reset(code);
    let _ = input.stop(code);
}

/// A unidirectional stream: nothing that a client says on one is of use here.
async fn read_stream(mut input: RecvStream) -> Result<(), Fault> {
    let Ok(kind) = wire::read_number(&mut input).await else { return Ok(()) };
    if kind == kind::CONTROL_STREAM {
        if let Ok(first) = wire::read_number(&mut input).await
            && first != kind::SETTINGS
        {
            return Err(Fault::new(code::MISSING_SETTINGS, "a control stream begins with settings"));
        }
    } else if !kind::QPACK_STREAMS.contains(&kind) {
        let _ = input.stop(code::STREAM_CREATION_ERROR);
        return Ok(());
    }
    wire::discard(&mut input).await;
    Err(Fault::new(code::CLOSED_CRITICAL_STREAM, "a stream that has to stay has ended"))
}
