//! `/connection/websocket`, `/connection/uni_websocket` and the WebSockets of SockJS: who may upgrade, and to which encoding.

use ringcast_proto::client::Encoding;
use ringcast_proto::http::{Head, Version};
use ringcast_proto::websocket::{self, Accepted, Decoder, Role};
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind, Visitor};

use crate::http::Site;
use crate::http::exchange::{Gate, Step};
use crate::http::origin::Cors;
use crate::http::reply::Reply;
use crate::options::WebSocketOptions;

/// Sub-protocols we speak, and the encoding each means.
const SUBPROTOCOLS: [(&str, Encoding); 2] =
    [("centrifuge-json", Encoding::Json), ("centrifuge-protobuf", Encoding::Protobuf)];

/// An accepted upgrade.
pub struct Upgrade {
    /// Takes the frames that follow.
    pub decoder: Decoder,
    /// For the client machine.
    pub transport: Transport,
    /// A message that came with the request.
    pub first: Option<Vec<u8>>,
}

/// Writes the answer to an upgrade request, whatever it is.
pub fn upgrade(site: &Site, reply: &mut Reply<'_, '_>, gate: Gate<'_>) -> Step<'static> {
    let head = reply.head;
    accept(site, reply, gate, |accepted| {
        let (subprotocol, encoding) = choose(accepted, head);
        let transport = Transport {
            encoding,
            framing: Framing::WebSocket,
            kind: TransportKind::WebSocket,
            pings: pings(head),
            visitor: visitor(site, head),
            farewell: Farewell::Push,
        };
        (subprotocol, &site.options.websocket, transport)
    })
}

/// The same for SockJS, whose own frames travel in the messages or not.
pub fn upgrade_sockjs(site: &Site, reply: &mut Reply<'_, '_>, gate: Gate<'_>, framing: Framing) -> Step<'static> {
    let head = reply.head;
    accept(site, reply, gate, |_| {
        let transport = Transport {
            encoding: Encoding::Json,
            framing,
            kind: TransportKind::SockJs,
            pings: Pings::Messages,
            visitor: visitor(site, head),
            farewell: Farewell::Push,
        };
        (None, &site.options.websocket, transport)
    })
}

/// The same for a stream of pushes, whose connect request is in the query or in the first message.
pub fn upgrade_uni(site: &Site, reply: &mut Reply<'_, '_>, gate: Gate<'_>) -> Step<'static> {
    let (head, options) = (reply.head, &site.options.uni_websocket);
    let step = accept(site, reply, gate, |_| {
        let transport = Transport {
            encoding: Encoding::Json,
            framing: Framing::WebSocket,
            kind: TransportKind::UniWebSocket,
            pings: Pings::Both,
            visitor: visitor(site, head),
            farewell: if options.disable_disconnect_push { Farewell::None } else { Farewell::Push },
        };
        (None, &options.websocket, transport)
    });
    let first = head.query().get("cf_connect").filter(|first| !first.is_empty());
    match step {
        Step::Upgrade(upgrade) => {
            Step::Upgrade(Upgrade { first: first.map(|first| first.into_owned().into_bytes()), ..upgrade })
        }
        step => step,
    }
}

/// `choose` says which of the sub-protocols is spoken, what holds for the endpoint, and what the client machine is told.
fn accept<'s>(
    site: &'s Site,
    reply: &mut Reply<'_, '_>,
    gate: Gate<'_>,
    choose: impl FnOnce(&Accepted) -> (Option<&'static str>, &'s WebSocketOptions, Transport),
) -> Step<'static> {
    if !(gate.may_try)() {
        return reply.empty(503);
    }
    let origin = reply.head.header("Origin");
    let is_allowed = site.origins.allow(origin);
    let accepted = match websocket::accept(reply.head, site.options.websocket.strictness()) {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(reason = error.reason, "bad WebSocket upgrade");
            let cors = if is_allowed { Cors::new(reply.head) } else { Cors::default() };
            reply.status = error.status;
            websocket::write_refusal(reply.out, error.status, &cors.headers());
            return Step::Close;
        }
    };
    reply.keep_alive = false;
    if !is_allowed {
        let origin = String::from_utf8_lossy(origin.unwrap_or_default());
        tracing::info!(%origin, "request Origin is not authorized");
        reply.status = 403;
        websocket::write_refusal(reply.out, 403, &[]);
        return Step::Close;
    }
    if !(gate.has_room)() {
        return reply.empty(503);
    }
    let (subprotocol, options, mut transport) = choose(&accepted);
    let deflate = accepted.deflate.filter(|_| options.compression);
    if reply.head.version() == Version::Http2 {
        websocket::write_connected(reply.out, subprotocol, deflate);
    } else {
        websocket::write_response(reply.out, &accepted.accept_key, subprotocol, deflate);
    }
    let mut decoder = Decoder::new(Role::Server, options.message_size_limit);
    if let Some(deflate) = deflate {
        decoder = decoder.with_deflate(options.decompressed_bytes_max());
        if options.decompressed_message_size_limit == 0 {
            decoder = decoder.with_proportion();
        }
        // Frames of SockJS stay as they are, so that all its clients share them.
        if deflate.inflates_ours() && transport.framing == Framing::WebSocket {
            transport.framing = Framing::WebSocketDeflated;
        }
    }
    Step::Upgrade(Upgrade { decoder, transport, first: None })
}

/// Native ping frames, if the client asks for them.
fn pings(head: &Head<'_>) -> Pings {
    let native = head.query().get("cf_ws_frame_ping_pong").is_some_and(|value| value == "true");
    if native { Pings::Frames } else { Pings::Messages }
}

/// What a request tells of the client.
pub fn visitor(site: &Site, head: &Head<'_>) -> Visitor {
    Visitor { user: user(site, head), headers: site.options.forwarded_headers.pick(head.header_lines()) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use ringcast_proto::http::{Limits, parse_head};
    use std::sync::Arc;

    /// What a request with this query and these header lines gets: sub-protocol, encoding and pings.
    #[track_caller]
    fn check_negotiation(query: &str, lines: &str, want: (Option<&str>, Encoding, Pings)) {
        let request = format!(
            "GET /{query} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        let (subprotocol, encoding) = choose(&websocket::accept(&head, websocket::Strictness::Strict).unwrap(), &head);
        assert_eq!((subprotocol, encoding, pings(&head)), want, "{request}");
    }

    /// T02, T03, T04: what the reference answered to the same requests.
    #[test]
    fn encoding_and_pings_are_negotiated_as_the_reference_does() {
        use {Encoding::*, Pings::*};
        let line = |names: &str| format!("Sec-WebSocket-Protocol: {names}\r\n");
        for (query, names, want) in [
            ("", "centrifuge-json", (Some("centrifuge-json"), Json, Messages)),
            ("", "centrifuge-protobuf", (Some("centrifuge-protobuf"), Protobuf, Messages)),
            ("", "other, a b,, centrifuge-json", (Some("centrifuge-json"), Json, Messages)),
            ("", "centrifuge-protobuf, centrifuge-json", (Some("centrifuge-protobuf"), Protobuf, Messages)),
            ("", "Centrifuge-Protobuf", (None, Json, Messages)),
            ("", "centrifuge-protobuf;x", (None, Json, Messages)),
            ("?format=protobuf", "centrifuge-json", (Some("centrifuge-json"), Protobuf, Messages)),
            ("?format=json", "centrifuge-protobuf", (Some("centrifuge-protobuf"), Protobuf, Messages)),
        ] {
            check_negotiation(query, &line(names), want);
        }
        for (query, encoding, pings) in [
            ("?format=protobuf", Protobuf, Messages),
            ("?cf_protocol=protobuf", Protobuf, Messages),
            ("?cf_protocol=protobuf&cf_protocol=json", Protobuf, Messages),
            ("?format=json&format=protobuf", Json, Messages),
            ("?format=Protobuf", Json, Messages),
            ("?cf_ws_frame_ping_pong=true&format=protobuf", Protobuf, Frames),
            ("?cf_ws_frame_ping_pong=1", Json, Messages),
            ("?cf_ws_frame_ping_pong=TRUE", Json, Messages),
        ] {
            check_negotiation(query, "", (None, encoding, pings));
        }
        // A list may come on several lines; the reference reads the first alone.
        check_negotiation("", &(line("other") + &line("centrifuge-json")), (Some("centrifuge-json"), Json, Messages));
    }

    /// The user of a request with this header line.
    #[track_caller]
    fn check_user(configured: &str, line: &str, want: Option<&str>) {
        let site = Site::new(Arc::new(Options { user_id_http_header: configured.into(), ..Options::default() }));
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n");
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(user(&site, &head).as_deref(), want, "{configured} {line}");
    }

    /// U12
    #[test]
    fn user_comes_from_the_header_that_is_configured() {
        check_user("X-User", "x-user: ann", Some("ann"));
        check_user("X-User", "X-User:", None);
        check_user("X-User", "X-Other: ann", None);
        check_user("", "X-User: ann", None);
    }
}
