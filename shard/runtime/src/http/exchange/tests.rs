//! One request after the other, as a connection brings them.

use std::sync::Arc;

use bytes::Bytes;
use ringcast_state::{ApiCallId, ConnectionId};

use super::*;
use crate::listen::Listen;
use crate::options::{Asset, Endpoints, ListenerOptions, Options};
use crate::sockjs::Told;

/// Lets everybody in.
const OPEN: Gate<'static> = Gate { may_try: &|| true, has_room: &|| true, may_guess: &|| true };

fn site() -> Site {
    let mut options = Options { allowed_origins: vec!["http://ok".into()], ..Options::default() };
    options.http_api.key = "k".into();
    options.http_api.body_size_limit = 20;
    let endpoints = Endpoints::ALL;
    let listen = Listen { address: String::new(), port: 0 };
    options.listeners.push(ListenerOptions { listen, endpoints, tls: None, h2c: false, http3: None });
    options.assets.push(Asset {
        path: "/".into(),
        content_type: "text/html".into(),
        bytes: Bytes::from_static(b"page"),
    });
    Site::new(Arc::new(options))
}

/// What a connection does with `input` when it comes in pieces: status of each response, calls as
/// `method(body)`, `upgrade`, `close`. Calls are answered with 200 at once.
fn serve(input: &[u8], piece: usize) -> Vec<String> {
    let (site, mut exchange, mut seen) = (site(), Exchange::new(0, None), Vec::new());
    let mut waiting = Vec::new();
    for bytes in input.chunks(piece) {
        waiting.extend_from_slice(bytes);
        loop {
            let mut out = Vec::new();
            let (used, step) = exchange.step(&site, &waiting, &mut out, OPEN);
            let end = match step {
                Step::Wait => None,
                Step::Next => Some(false),
                Step::Close => Some(true),
                Step::Upgrade(upgrade) => {
                    seen.push(format!("upgrade {:?}", upgrade.transport.encoding));
                    return seen;
                }
                Step::Stream(opening) => {
                    let first = String::from_utf8_lossy(&opening.first);
                    seen.push(format!("{} {:?}({first})", opening.transport.kind.as_str(), opening.transport.framing));
                    return seen;
                }
                Step::Emulate { request, cors, .. } => {
                    seen.push(format!("emulate({})", String::from_utf8_lossy(&request.data)));
                    Some(matches!(exchange.answer_emulation(Ok(()), &cors, &mut out), Step::Close))
                }
                Step::Session { session, ask } => {
                    seen.push(format!("{session} {ask:?}"));
                    Some(!exchange.answer_session(&Told::Status(204), &mut out))
                }
                Step::Page(Wanted::Page { page, accept }) => {
                    seen.push(format!("{page:?}({accept})"));
                    let answer = PageAnswer { status: 200, content_type: "text/plain", body: b"page".to_vec() };
                    Some(!exchange.answer_page(&answer, &mut out))
                }
                Step::Page(Wanted::TooManyGuesses) => {
                    Some(!exchange.answer_page(&PageAnswer::too_many_guesses(), &mut out))
                }
                Step::Call { method, body, transport_errors } => {
                    let method = method.map_or("bare", |method| method.as_str());
                    let mode = if transport_errors { "!" } else { "" };
                    seen.push(format!("{method}{mode}({})", String::from_utf8_lossy(&body)));
                    let connection = ConnectionId { slot: 0, generation: 0 };
                    let call = ApiCallId { connection, sequence: 0 };
                    let answer = ApiAnswer { call, status: 200, is_json: true, body: b"{}".to_vec() };
                    Some(!exchange.answer(&answer, &mut out))
                }
            };
            waiting.drain(..used);
            seen.extend(statuses(&out));
            match end {
                None => break,
                Some(true) => {
                    seen.push("close".into());
                    return seen;
                }
                Some(false) => {}
            }
        }
    }
    seen
}

fn statuses(out: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(out);
    let lines = text.split("\r\n").filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    lines.filter(|line| !line.starts_with("200") && !line.starts_with("101")).map(|line| line[..3].into()).collect()
}

#[track_caller]
fn check(input: &str, want: &[&str]) {
    let input = input.replace('|', "\r\n");
    assert_eq!(serve(input.as_bytes(), input.len().max(1)), want, "{input:?}");
    assert_eq!(serve(input.as_bytes(), 1), want, "byte by byte: {input:?}");
}

#[test]
fn api_calls_are_taken_apart_however_they_arrive() {
    check("POST /api/publish HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 4||body", &["publish(body)"]);
    check("POST /api HTTP/1.1|Host: h|X-API-Key: k||", &["bare()"]);
    check("POST /api/info HTTP/1.1|Host: h|X-API-Key: k|Transfer-Encoding: chunked||2|ab|3|cde|0||", &["info(abcde)"]);
    check(
        "POST /api/info HTTP/1.1|Host: h|X-API-Key: k|X-Centrifugo-Error-Mode: transport|Content-Length: 2||{}",
        &["info!({})"],
    );
}

#[test]
fn pipelined_requests_are_served_one_after_the_other() {
    let call = "POST /api/publish HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 1||";
    check(
        &format!("{call}a{call}bGET /nothing HTTP/1.1|Host: h||{call}c"),
        &["publish(a)", "publish(b)", "404", "publish(c)"],
    );
}

#[test]
fn requests_of_sessions_are_taken_apart_however_they_arrive() {
    let send = "POST /connection/sockjs/0/s/xhr_send HTTP/1.1|Host: h|Content-Length: 5||[\"a\"]";
    let poll = "POST /connection/sockjs/0/s/xhr HTTP/1.1|Host: h||";
    check(
        &format!("{send}{poll}GET /nothing HTTP/1.1|Host: h||"),
        &[
            "s Send([97])",
            "204",
            "s Receive { form: Xhr, visitor: Visitor { user: None, headers: None } }",
            "204",
            "404",
        ],
    );
    check(&send.replace("[\"a\"]", "[\"a\","), &["400"]);
}

#[test]
fn connection_ends_when_either_side_wants() {
    let call = "POST /api/publish HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 1|Connection: close||a";
    check(&format!("{call}{call}"), &["publish(a)", "close"]);
    check("GET /health HTTP/1.0||", &["close"]);
    check("GET /health HTTP/1.0|Connection: keep-alive||GET /nothing HTTP/1.0||", &["404", "close"]);
}

#[test]
fn pages_are_asked_for_and_answered_in_turn() {
    check(
        "GET /metrics HTTP/1.1|Host: h|Accept: a/b||GET /metrics/latency HTTP/1.1|Host: h||GET /nothing HTTP/1.1|Host: h||",
        &["Metrics(a/b)", "Latency()", "404"],
    );
    check("GET /metrics HTTP/1.0||", &["Metrics()", "close"]);
    let (site, mut exchange, mut out) = (site(), Exchange::new(0, None), Vec::new());
    exchange.step(&site, b"HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n", &mut out, OPEN);
    assert_eq!(exchange.awaiting(), Awaiting::Page);
    exchange.answer_page(&PageAnswer { status: 200, content_type: "a", body: b"page".to_vec() }, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

/// Endpoint, method and status of each request that was counted.
#[track_caller]
fn check_counted(request: &str, want: Option<(&str, &str, u16)>) {
    let mut options = (*site().options).clone();
    options.prometheus.instrument_http_handlers = true;
    let (site, mut exchange, mut out) = (Site::new(Arc::new(options)), Exchange::new(0, None), Vec::new());
    let text = request.replace('|', "\r\n");
    let (_, step) = exchange.step(&site, text.as_bytes(), &mut out, OPEN);
    if matches!(step, Step::Call { .. }) {
        assert_eq!(exchange.take_counted(), None, "not answered yet");
        let call = ApiCallId { connection: ConnectionId { slot: 0, generation: 0 }, sequence: 0 };
        exchange.answer(&ApiAnswer { call, status: 200, is_json: true, body: Vec::new() }, &mut out);
    }
    let counted = exchange.take_counted();
    assert_eq!(counted.as_ref().map(|(path, method, status)| (&**path, *method, *status)), want, "{request}");
    assert_eq!(exchange.take_counted(), None, "once");
}

#[test]
fn answered_requests_are_counted_by_endpoint_method_and_status() {
    check_counted("GET /health HTTP/1.1|Host: h||", Some(("/health", "GET", 200)));
    check_counted("POST /api/info HTTP/1.1|Host: h|X-API-Key: k||", Some(("/api/info", "POST", 200)));
    check_counted("POST /api/info HTTP/1.1|Host: h||", Some(("/api/info", "POST", 401)));
    check_counted("GET /connection/websocket HTTP/1.1|Host: h||", Some(("/connection/websocket", "GET", 400)));
    check_counted("POST /api HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 21||", Some(("/api", "POST", 413)));
    let sockjs = "/connection/sockjs";
    check_counted("GET /connection/sockjs/info HTTP/1.1|Host: h||", Some((sockjs, "GET", 200)));
    check_counted("GET /connection/sockjs/0/s/jsonp HTTP/1.1|Host: h||", Some((sockjs, "GET", 500)));
    check_counted("GET /nothing HTTP/1.1|Host: h||", None);
}

#[track_caller]
fn check_clean(path: &str, want: Option<&str>) {
    assert_eq!(clean(path).as_deref(), want, "{path}");
}

#[test]
fn path_without_odd_parts_is_clean() {
    for path in ["/", "/api", "/api/", "/a/b.c/...", "*", ""] {
        check_clean(path, None);
    }
    check_clean("//", Some("/"));
    check_clean("//api", Some("/api"));
    check_clean("/api//publish", Some("/api/publish"));
    check_clean("/api//", Some("/api/"));
    check_clean("/api/./info/", Some("/api/info/"));
    check_clean("/a/../../api/publish", Some("/api/publish"));
    check_clean("/api/..", Some("/"));
    check_clean("/api/.", Some("/api"));
}

#[test]
fn client_is_sent_to_the_clean_path() {
    let (site, mut out) = (site(), Vec::new());
    let request = b"POST //api/%20?a=b HTTP/1.1\r\nHost: h\r\n\r\n";
    Exchange::new(0, None).step(&site, request, &mut out, OPEN);
    let text = String::from_utf8(out).unwrap();
    let want = "HTTP/1.1 307 Temporary Redirect\r\nLocation: /api/%20?a=b\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(text, want);
    check("GET /a/../x?a&b HTTP/1.1|Host: h||", &["307"]);
}

#[test]
fn path_may_be_written_with_escapes() {
    check("POST /api/%70ublish HTTP/1.1|Host: h|X-API-Key: k||", &["publish()"]);
    check("GET /%zz HTTP/1.1|Host: h||", &["400"]);
}

/// U22
#[test]
fn answer_that_is_no_upgrade_may_be_read_by_pages_of_allowed_origins() {
    for (origin, want) in [
        ("", "Access-Control-Allow-Origin: \r\nAccess-Control-Allow-Credentials: true\r\n"),
        (
            "Origin: http://ok\r\n",
            "Access-Control-Allow-Origin: http://ok\r\nAccess-Control-Allow-Credentials: true\r\n",
        ),
        ("Origin: http://bad\r\n", "HTTP/1.1 400 Bad Request\r\nSec-Websocket-Version: 13\r\n"),
    ] {
        let (site, mut out) = (site(), Vec::new());
        let request = format!("GET /connection/websocket HTTP/1.1\r\nHost: h\r\n{origin}\r\n");
        Exchange::new(0, None).step(&site, request.as_bytes(), &mut out, OPEN);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(want), "{text}");
    }
}

#[test]
fn refusals_have_their_status() {
    check("GET /api/publish HTTP/1.1|Host: h||", &["405"]);
    check("POST /api/publish HTTP/1.1|Host: h||", &["401"]);
    check("POST /api/publish HTTP/1.1|Host: h|Content-Length: 3||abc", &["401", "close"]);
    check("POST /api/nothing HTTP/1.1|Host: h||", &["404"]);
    check("POST / HTTP/1.1|Host: h||", &["405"]);
    check("POST /api/info HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 21||", &["413", "close"]);
    check(
        "POST /api/info HTTP/1.1|Host: h|X-API-Key: k|Transfer-Encoding: chunked||15|aaaaaaaaaaaaaaaaaaaaa|0||",
        &["413", "close"],
    );
    check("POST /api/info HTTP/1.1|Host: h|X-API-Key: k|Transfer-Encoding: chunked||x|", &["400", "close"]);
    check("GET /health HTTP/1.1||", &["400", "close"]);
    check("\u{16}\u{3}\u{1}||", &["400", "close"]);
    check("||GET /nothing HTTP/1.1|Host: h||", &["404"]);
    check(&"|".repeat(100), &["400", "close"]);
    check("GET /health HTTP/1.1|Host: h|Content-Length: 1|Transfer-Encoding: chunked||", &["400", "close"]);
}

#[test]
fn head_is_answered_without_a_body() {
    let (site, mut exchange, mut out) = (site(), Exchange::new(0, None), Vec::new());
    exchange.step(&site, b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", &mut out, OPEN);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn body_is_waited_for_after_100_continue() {
    let head = "POST /api/info HTTP/1.1|Host: h|X-API-Key: k|Content-Length: 1|Expect: 100-continue||";
    let input = format!("{head}a").replace('|', "\r\n");
    assert_eq!(serve(input.as_bytes(), input.len() - 1), ["100", "info(a)"]);
    assert_eq!(serve(input.as_bytes(), input.len()), ["info(a)"], "the body is there already");
}

#[test]
fn upgrades_follow_subprotocol_query_and_origin() {
    let upgrade = |target: &str, headers: &str| {
        format!(
            "GET {target} HTTP/1.1|Host: h|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|{headers}|"
        )
    };
    let path = "/connection/websocket";
    check(&upgrade(path, ""), &["upgrade Json"]);
    check(&upgrade(path, "Sec-WebSocket-Protocol: x, centrifuge-json, centrifuge-protobuf|"), &["upgrade Json"]);
    check(&upgrade(path, "Sec-WebSocket-Protocol: centrifuge-protobuf|"), &["upgrade Protobuf"]);
    check(&upgrade(&format!("{path}?format=protobuf"), ""), &["upgrade Protobuf"]);
    check(&upgrade(&format!("{path}?a=b&cf_protocol=protobuf"), ""), &["upgrade Protobuf"]);
    check(&upgrade(path, "Origin: http://OK|"), &["upgrade Json"]);
    check(&upgrade(path, "Origin: http://h|"), &["403", "close"]);
    check(&upgrade("/health", ""), &[]);
    check(&format!("GET {path} HTTP/1.1|Host: h||"), &["400", "close"]);
}

#[test]
fn full_server_refuses_upgrades_with_503() {
    let (site, mut exchange, mut out) = (site(), Exchange::new(0, None), Vec::new());
    let request = b"GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(matches!(exchange.step(&site, request, &mut out, Gate { has_room: &|| false, ..OPEN }), (_, Step::Close)));
    assert_eq!(statuses(&out), ["503"]);
}

#[test]
fn too_many_wrong_keys_are_told_so_and_the_right_one_passes() {
    let spent = Gate { may_guess: &|| false, ..OPEN };
    for (key, want) in [("wrong", Some("429")), ("k", None)] {
        let (site, mut exchange, mut out) = (site(), Exchange::new(0, None), Vec::new());
        let request = format!("POST /api/info HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\nContent-Length: 0\r\n\r\n");
        let (_, step) = exchange.step(&site, request.as_bytes(), &mut out, spent);
        assert_eq!(matches!(step, Step::Page(Wanted::TooManyGuesses)), want.is_some(), "{key}");
        if want.is_some() {
            assert!(
                !exchange.answer_page(&PageAnswer::too_many_guesses(), &mut out),
                "another guess takes another connection"
            );
        }
        assert_eq!(statuses(&out), want.into_iter().collect::<Vec<_>>(), "{key}");
    }
}

#[test]
fn head_that_comes_byte_by_byte_is_not_read_from_its_start_each_time() {
    let (site, mut exchange, mut out) = (site(), Exchange::new(0, None), Vec::new());
    let mut input = b"GET /health HTTP/1.1\r\nHost: ".to_vec();
    exchange.step(&site, &input, &mut out, OPEN);
    input.extend_from_slice(b"\0");
    let (used, step) = exchange.step(&site, &input, &mut out, OPEN);
    assert!(used == 0 && matches!(step, Step::Wait), "a bad byte waits for the end of its line");
    input.extend_from_slice(b"\r\n");
    assert!(matches!(exchange.step(&site, &input, &mut out, OPEN), (_, Step::Close)));
}

/// T12
#[test]
fn every_response_says_where_http3_is_once() {
    let site = site();
    let input = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\nHEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\n\r\n";
    let (mut exchange, mut out, mut used) = (Exchange::new(0, Some("h3".into())), Vec::new(), 0);
    while used < input.len() {
        used += exchange.step(&site, &input[used..], &mut out, OPEN).0;
    }
    let text = String::from_utf8(out).unwrap();
    let heads: Vec<_> = text.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(heads.len(), 3, "{text}");
    assert!(heads.iter().all(|head| head.matches("\r\nAlt-Svc: h3\r\n").count() == 1), "{text}");
}

#[test]
fn interim_responses_do_not_say_where_http3_is() {
    let site = site();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let upgrade = format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n"
    );
    let expect = "POST /emulation HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    for (request, want) in [(&*upgrade, "HTTP/1.1 101"), (expect, "HTTP/1.1 100")] {
        let (mut exchange, mut out) = (Exchange::new(0, Some("h3".into())), Vec::new());
        exchange.step(&site, request.as_bytes(), &mut out, OPEN);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(want) && !text.contains("Alt-Svc"), "{text}");
    }
}
