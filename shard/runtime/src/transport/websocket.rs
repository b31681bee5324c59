//! `/connection/websocket`: who may upgrade, and to which encoding.

use ringcast_proto::client::Encoding;
use ringcast_proto::http::Head;
use ringcast_proto::websocket::{self, Accepted, Decoder, Role};
use ringcast_state::{Farewell, Framing, Pings, Transport, TransportKind};

use crate::http::Site;
use crate::http::exchange::{Gate, Reply, Step};

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
pub fn upgrade(site: &Site, head: &Head<'_>, reply: &mut Reply<'_, '_>, gate: Gate<'_>) -> Step<'static> {
    if !(gate.may_try)() {
        return reply.empty(503);
    }
    let origin = head.header("Origin");
    let is_allowed = site.origins.allow(origin);
    let accepted = match websocket::accept(head) {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::debug!(reason = error.reason, "bad WebSocket upgrade");
            let headers = if is_allowed { cors(head) } else { Vec::new() };
            reply.status = error.status;
            websocket::write_refusal(reply.out, error.status, &headers);
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
    let (subprotocol, encoding) = choose(&accepted, head);
    websocket::write_response(reply.out, &accepted.accept_key, subprotocol);
    let decoder = Decoder::new(Role::Server, site.options.websocket.message_size_limit);
    let transport = Transport {
        encoding,
        framing: Framing::WebSocket,
        kind: TransportKind::WebSocket,
        pings: pings(head),
        user: user(site, head),
        farewell: Farewell::Push,
    };
    Step::Upgrade(Upgrade { decoder, transport })
}

/// What lets a page of an allowed origin read the answer.
fn cors<'h>(head: &Head<'h>) -> Vec<(&'static str, &'h str)> {
    let text = |name| head.header(name).map(|value| str::from_utf8(value).unwrap_or_default());
    let origin = text("Origin").unwrap_or_default();
    let mut headers = vec![("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")];
    headers.extend(text("Access-Control-Request-Headers").map(|wanted| ("Access-Control-Allow-Headers", wanted)));
    headers
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use ringcast_proto::http::{Limits, parse_head};
    use std::sync::Arc;

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
