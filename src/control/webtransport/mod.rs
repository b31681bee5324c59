//! WebTransport: a session and its one stream, carried between a client and the shard that serves it. Experimental, as in the
//! reference. Source: draft-ietf-webtrans-http3.

mod messages;
mod session;

use super::http3::{Lobby, Request, Seat, Site, Streams, answer, close_session, discard, response};
use quinn::{RecvStream, SendStream};
use ringcast_proto::client::Encoding;
use ringcast_proto::codes::Disconnect;
use ringcast_proto::http::Query;
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};
use session::{Conversation, End};
use std::borrow::Cow;
use std::time::Duration;
use tokio::time::timeout;
use tracing::info;

/// A session without a stream ends after this time.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end may take to reach the client.
const FAREWELL: Duration = Duration::from_secs(1);

/// Config group `webtransport`.
#[derive(Clone, Debug)]
pub struct WebTransportOptions {
    /// Key `webtransport.handler_prefix`. Default `/connection/webtransport`.
    pub handler_prefix: String,
    /// Key `webtransport.message_size_limit`: bytes of a command; a longer one ends the session. Default 65536.
    pub message_size_limit: usize,
}

/// Answers a request for a session, and carries it until its end.
pub async fn serve(
    request: &Request,
    (mut output, mut input): Streams,
    lobby: &Lobby,
    options: &WebTransportOptions,
    site: &Site,
) {
    let session = u64::from(output.id());
    let mut seat = match admit(request, session, lobby, options, site) {
        Ok(seat) => seat,
        Err(status) => return answer(output, input, status).await,
    };
    let _open = site.open();
    let transport = transport(request, site);
    let messages = messages::Messages::new(transport.encoding, options.message_size_limit);
    let mut conversation = Conversation::open(&site.line, transport, messages);
    if !conversation.is_let_in().await {
        return answer(output, input, 503).await;
    }
    // What browsers of draft 2 look for; nobody else minds.
    let draft = [("sec-webtransport-http3-draft", &b"draft02"[..])];
    if output.write_all(&response(200, draft)).await.is_err() {
        return;
    }
    let end = tokio::select! {
        end = converse(&mut conversation, &mut seat) => end,
        () = discard(&mut input) => End::Gone,
    };
    drop(conversation);
    say_goodbye(end, output, input).await;
}

/// Whether there may be a session, or the status that says why not.
fn admit(
    request: &Request,
    session: u64,
    lobby: &Lobby,
    options: &WebTransportOptions,
    site: &Site,
) -> Result<Seat, u16> {
    if request.path() != options.handler_prefix {
        return Err(404);
    }
    let origin = request.header("origin");
    if !site.origins.allow(origin) {
        let origin = String::from_utf8_lossy(origin.unwrap_or_default());
        info!(%origin, "request Origin is not authorized");
        return Err(403);
    }
    lobby.enter(session).ok_or(429)
}

fn transport(request: &Request, site: &Site) -> Transport {
    let is_protobuf = Query::new(request.query()).get("cf_protocol").is_some_and(|value| value == "protobuf");
    let header = &site.options.user_id_http_header;
    let user = request.header(header).and_then(|user| str::from_utf8(user).ok());
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    Transport {
        encoding: if is_protobuf { Encoding::Protobuf } else { Encoding::Json },
        framing: Framing::Lines,
        kind: TransportKind::WebTransport,
        pings: Pings::Messages,
        visitor: Visitor { user, headers: site.options.forwarded_headers.pick(request.header_lines()) },
        farewell: Farewell::Push,
    }
}

/// Waits for the stream, and carries what goes over it.
async fn converse(conversation: &mut Conversation, seat: &mut Seat) -> End {
    let streams = tokio::select! {
        streams = timeout(STREAM_TIMEOUT, seat.stream()) => streams.ok().flatten(),
        end = conversation.end() => return end,
    };
    match streams {
        Some(streams) => conversation.carry(streams).await,
        None => End::NoStream,
    }
}

/// Ends the session with a code and a reason. The client has the push that says the same, or need not be told.
async fn say_goodbye(end: End, mut output: SendStream, mut input: RecvStream) {
    let (code, reason): (u32, Cow<'static, str>) = match end {
        End::Told(disconnect) => {
            // Who has read the push ends the session itself.
            let _ = timeout(FAREWELL, discard(&mut input)).await;
            (disconnect.code, disconnect.reason)
        }
        End::Gone => (Disconnect::CONNECTION_CLOSED.code, Disconnect::CONNECTION_CLOSED.reason),
        End::NoStream => (0, Cow::Borrowed("no stream in time")),
    };
    let farewell = async {
        if output.write_all(&close_session(code, &reason)).await.is_ok() && output.finish().is_ok() {
            let _ = output.stopped().await;
        }
    };
    let _ = timeout(FAREWELL, farewell).await;
}
