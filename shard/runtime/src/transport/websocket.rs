//! `/connection/websocket`: who may upgrade, and to which encoding.

use ringcast_proto::client::Encoding;
use ringcast_proto::http::Head;
use ringcast_proto::websocket::{self, Accepted, Decoder, Role};
use ringcast_state::{Framing, Pings, Transport, TransportKind};

use crate::http::Site;
use crate::http::exchange::{Reply, Step};

/// Sub-protocols we speak, and the encoding each means.
const SUBPROTOCOLS: [(&str, Encoding); 2] =
    [("centrifuge-json", Encoding::Json), ("centrifuge-protobuf", Encoding::Protobuf)];

/// An accepted upgrade.
pub struct Upgrade {
    /// Takes the frames that follow.
    pub decoder: Decoder,
    /// For the client machine.
    pub transport: Transport,
}

/// Writes the answer to an upgrade request, whatever it is.
pub fn upgrade(
    site: &Site,
    head: &Head<'_>,
    reply: &mut Reply<'_, '_>,
    has_room: impl FnOnce() -> bool,
) -> Step<'static> {
    let accepted = match websocket::accept(head) {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(reason = error.reason, "bad WebSocket upgrade");
            websocket::write_refusal(reply.out, &error);
            return Step::Close;
        }
    };
    reply.keep_alive = false;
    let origin = head.header("Origin");
    if !site.origins.allow(origin) {
        let origin = String::from_utf8_lossy(origin.unwrap_or_default());
        tracing::info!(%origin, "request Origin is not authorized");
        return reply.plain(403, "Forbidden\n");
    }
    if !has_room() {
        return reply.empty(503);
    }
    let (subprotocol, encoding) = choose(&accepted, head);
    websocket::write_response(reply.out, &accepted.accept_key, subprotocol);
    let decoder = Decoder::new(Role::Server, site.options.websocket.message_size_limit);
    let transport = Transport {
        encoding,
        framing: Framing::WebSocket,
        kind: TransportKind::WebSocket,
        pings: pings(head),
        user: user(site, head),
    };
    Step::Upgrade(Upgrade { decoder, transport })
}

/// Native ping frames, if the client asks for them.
fn pings(head: &Head<'_>) -> Pings {
    let native = head.query().get("cf_ws_frame_ping_pong").is_some_and(|value| value == "true");
    if native { Pings::Frames } else { Pings::Messages }
}

/// The user that the reverse proxy vouches for.
fn user(site: &Site, head: &Head<'_>) -> Option<String> {
    let name = Some(&site.options.user_id_http_header).filter(|name| !name.is_empty())?;
    let value = std::str::from_utf8(head.header(name)?).ok()?;
    Some(value.to_owned()).filter(|user| !user.is_empty())
}

/// The first sub-protocol of the client's list that we speak; Protobuf also by query.
fn choose(accepted: &Accepted, head: &Head<'_>) -> (Option<&'static str>, Encoding) {
    let known = |offered: &String| SUBPROTOCOLS.iter().find(|(name, _)| name == offered);
    let spoken = accepted.subprotocols.iter().find_map(known);
    let protobuf = |name| head.query().get(name).is_some_and(|value| value == "protobuf");
    let encoding = match spoken {
        Some((_, Encoding::Protobuf)) => Encoding::Protobuf,
        Some(_) | None if protobuf("format") || protobuf("cf_protocol") => Encoding::Protobuf,
        Some(_) | None => Encoding::Json,
    };
    (spoken.map(|(name, _)| *name), encoding)
}
