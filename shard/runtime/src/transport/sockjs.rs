//! `/connection/sockjs`: what stands below, who may ask for it, and the heads of responses that carry frames. Sessions are in
//! `sockjs`. Source: the public SockJS protocol 0.3.3, protocol §16.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use ringcast_proto::http::{self, Query, Version};
use ringcast_proto::sockjs::{self, Call, Form, InvalidCallback, decode_messages};
use ringcast_state::Framing;

use super::websocket::{upgrade_sockjs, visitor};
use crate::http::Site;
use crate::http::body::Purpose;
use crate::http::exchange::{Begun, Gate, Step};
use crate::http::origin::Cors;
use crate::http::reply::{NO_SNIFF, Reply};
use crate::sockjs::{Ask, Attachment, Name, Told};

/// Bytes of a request to send; more is answered with 413.
const SEND_BYTES_MAX: usize = 65_536;

const YEAR: &str = "31536000";

const PLAIN: (&str, &str) = ("Content-Type", "text/plain; charset=UTF-8");

const NO_CACHE: (&str, &str) = ("Cache-Control", "no-store, no-cache, no-transform, must-revalidate, max-age=0");

/// For caches that know no `max-age`.
const EXPIRES: (&str, &str) = ("Expires", "Thu, 31 Dec 2037 23:55:55 GMT");

/// Where a path below the prefix leads.
#[derive(Clone, Debug)]
pub enum Place {
    Greeting,
    Info,
    Iframe,
    RawWebSocket,
    Session { name: Name, call: Call },
}

impl Place {
    /// `behind` the prefix. None: 404.
    pub fn find(behind: &str) -> Option<Self> {
        Some(match sockjs::parse_path(behind)? {
            sockjs::Endpoint::Greeting => Place::Greeting,
            sockjs::Endpoint::Info => Place::Info,
            sockjs::Endpoint::Iframe => Place::Iframe,
            sockjs::Endpoint::RawWebSocket => Place::RawWebSocket,
            sockjs::Endpoint::Session { name, call } => Place::Session { name: name.into(), call },
        })
    }

    fn is_served(&self, method: &str) -> bool {
        match self {
            Place::Info => matches!(method, "GET" | "OPTIONS"),
            Place::Greeting | Place::Iframe | Place::RawWebSocket => method == "GET",
            Place::Session { call, .. } => match call {
                Call::Xhr | Call::XhrStreaming | Call::XhrSend => matches!(method, "POST" | "OPTIONS"),
                Call::JsonpSend => method == "POST",
                Call::WebSocket | Call::EventSource | Call::HtmlFile | Call::Jsonp => method == "GET",
            },
        }
    }
}

/// The page for pages of other origins; the same for all who ask.
pub struct IframePage {
    page: String,
    etag: String,
}

impl IframePage {
    /// `url`: where it loads the client from.
    pub fn new(url: &str) -> Self {
        let page = sockjs::iframe_page(url);
        let mut hasher = DefaultHasher::new();
        page.hash(&mut hasher);
        Self { etag: format!("\"{:016x}\"", hasher.finish()), page }
    }

    fn serve(&self, reply: &mut Reply<'_, '_>) -> Step<'static> {
        let mut headers = vec![("Cache-Control", "public, max-age=31536000"), EXPIRES, ("ETag", &*self.etag)];
        if reply.head.header("If-None-Match") == Some(self.etag.as_bytes()) {
            return reply.respond(304, &headers, b"");
        }
        headers.push(("Content-Type", "text/html; charset=UTF-8"));
        reply.respond(200, &headers, self.page.as_bytes())
    }
}

/// A request to send, without its body.
pub struct SendRequest {
    session: Name,
    by_form: bool,
    is_encoded: bool,
    cors: Cors,
}

impl SendRequest {
    /// For the response.
    pub fn cors(&self) -> &Cors {
        &self.cors
    }
}

/// A request that its session answers.
pub struct Waiting {
    cors: Cors,
    answer: Answer,
    is_chunked: bool,
    attachment: Option<Attachment>,
}

enum Answer {
    /// Frames, in content of this type.
    Frames(&'static str),
    /// Nothing: messages were sent.
    Nothing,
    /// A word, for the page that a form of HTML shows: messages were sent.
    Word,
}

/// A response that goes on.
pub struct Relay {
    pub attachment: Attachment,
    is_chunked: bool,
}

/// What a request leads to.
pub fn begin(site: &Site, place: Place, reply: &mut Reply<'_, '_>, gate: Gate<'_>) -> Begun {
    let head = reply.head;
    match place {
        Place::RawWebSocket => return Begun::Step(upgrade_sockjs(site, reply, gate, Framing::WebSocket)),
        Place::Session { call: Call::WebSocket, .. } => {
            return Begun::Step(upgrade_sockjs(site, reply, gate, Framing::SockJs));
        }
        _ => {}
    }
    if !place.is_served(head.method()) {
        return Begun::Step(reply.empty(405));
    }
    if head.method() == "OPTIONS" {
        return Begun::Step(preflight(site, &place, reply));
    }
    let Some(cors) = site.admit(head) else {
        let origin = String::from_utf8_lossy(head.header("Origin").unwrap_or_default());
        tracing::info!(%origin, "request Origin is not authorized");
        return Begun::Step(reply.empty(403));
    };
    let cors = cors.or_any();
    match place {
        Place::Greeting => Begun::Step(reply.respond(200, &[PLAIN], b"Welcome to SockJS!\n")),
        Place::Iframe => Begun::Step(site.iframe.serve(reply)),
        Place::Info => Begun::Step(info(&cors, reply)),
        Place::Session { name, call: call @ (Call::XhrSend | Call::JsonpSend) } => {
            let content_type = head.header("Content-Type").unwrap_or_default();
            let request = SendRequest {
                session: name,
                by_form: call == Call::JsonpSend,
                is_encoded: call == Call::JsonpSend && content_type.starts_with(b"application/x-www-form-urlencoded"),
                cors,
            };
            Begun::Body(Purpose::SockJs(request), SEND_BYTES_MAX)
        }
        Place::Session { name, call } => receive(site, name, call, cors, reply),
        Place::RawWebSocket => unreachable!("answered above"),
    }
}

/// What a browser asks before a request to another origin.
fn preflight(site: &Site, place: &Place, reply: &mut Reply<'_, '_>) -> Step<'static> {
    let cors = match site.origins.allow(reply.head.header("Origin")) {
        true => Cors::new(reply.head).or_any(),
        false => Cors::default(),
    };
    let methods = if matches!(place, Place::Info) { "OPTIONS, GET" } else { "OPTIONS, POST" };
    let mut headers = cors.headers();
    headers.extend([
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Max-Age", YEAR),
        ("Cache-Control", "public, max-age=31536000"),
        EXPIRES,
    ]);
    reply.respond(204, &headers, b"")
}

/// What the server can do, and a random number, for clients that cannot make one.
fn info(cors: &Cors, reply: &mut Reply<'_, '_>) -> Step<'static> {
    // Its keys are of the system's randomness, and each asks for new ones.
    let entropy = RandomState::new().build_hasher().finish() as u32;
    let body = format!(r#"{{"websocket":true,"cookie_needed":false,"origins":["*:*"],"entropy":{entropy}}}"#);
    let mut headers = cors.headers();
    headers.extend([("Content-Type", "application/json; charset=UTF-8"), NO_CACHE]);
    reply.respond(200, &headers, body.as_bytes())
}

fn receive(site: &Site, session: Name, call: Call, cors: Cors, reply: &mut Reply<'_, '_>) -> Begun {
    let head = reply.head;
    let form = match form(call, head.query()) {
        Ok(form) => form,
        Err(refusal) => {
            let is_old = call == Call::Jsonp && refusal.is_missing;
            let text: &[u8] = match refusal.is_missing {
                true => b"\"callback\" parameter required\n",
                false => b"invalid \"callback\" parameter\n",
            };
            // The two statuses are those of the library that the reference used.
            let status = if is_old { 500 } else { 400 };
            return Begun::Step(reply.respond(status, &[PLAIN, NO_SNIFF, NO_CACHE], text));
        }
    };
    let waiting = Waiting {
        cors,
        answer: Answer::Frames(form.content_type()),
        is_chunked: head.version() == Version::Http11,
        attachment: None,
    };
    let ask = Ask::Receive { form, visitor: visitor(site, head) };
    Begun::Session(session, ask, Box::new(waiting))
}

fn form(call: Call, query: Query<'_>) -> Result<Form, InvalidCallback> {
    let callback = || query.get("c").or_else(|| query.get("callback")).unwrap_or_default();
    match call {
        Call::Xhr => Ok(Form::Xhr),
        Call::XhrStreaming => Ok(Form::XhrStreaming),
        Call::EventSource => Ok(Form::EventSource),
        Call::HtmlFile => Form::html_file(&callback()),
        Call::Jsonp | Call::JsonpSend | Call::XhrSend | Call::WebSocket => Form::jsonp(&callback()),
    }
}

/// A request to send whose body is whole, or the text of its refusal with 400 and the headers that go with it.
pub fn complete(request: SendRequest, body: &[u8]) -> Result<(Name, Ask, Box<Waiting>), (&'static str, Cors)> {
    let SendRequest { session, by_form, is_encoded, cors } = request;
    let field = match is_encoded {
        true => {
            std::str::from_utf8(body).ok().and_then(|body| Query::new(body).get("d")).map(|value| value.into_owned())
        }
        false => None,
    };
    let messages = match (&field, is_encoded) {
        (Some(field), _) => field.as_bytes(),
        (None, true) => b"",
        (None, false) => body,
    };
    if messages.is_empty() {
        return Err(("Payload expected.", cors));
    }
    match decode_messages(messages) {
        Ok(lines) => {
            let answer = if by_form { Answer::Word } else { Answer::Nothing };
            let waiting = Waiting { cors, answer, is_chunked: false, attachment: None };
            Ok((session, Ask::Send(lines), Box::new(waiting)))
        }
        Err(error) => {
            tracing::debug!(%error, "bad messages");
            Err(("Broken JSON encoding.", cors))
        }
    }
}

/// Writes a refusal of `complete`.
pub fn refuse(text: &str, cors: &Cors, out: &mut Vec<u8>, keep_alive: bool) {
    let mut headers = cors.headers();
    headers.extend([PLAIN, NO_SNIFF]);
    http::write_response(out, 400, &headers, text.as_bytes(), keep_alive);
}

impl Waiting {
    /// The session knows of it.
    pub fn attach(&mut self, attachment: Attachment) {
        self.attachment = Some(attachment);
    }

    /// It reads frames: without a reader there is nothing to answer.
    pub fn is_reading(&self) -> bool {
        matches!(self.answer, Answer::Frames(_))
    }

    /// Writes the whole response; gives its status.
    pub fn answer(&mut self, told: &Told, out: &mut Vec<u8>, keep_alive: bool) -> u16 {
        if let Some(attachment) = &mut self.attachment {
            attachment.finish();
        }
        let (status, body): (u16, &[u8]) = match (told, &self.answer) {
            (Told::Status(204), Answer::Word) => (200, b"ok"),
            (Told::Status(status), _) => (*status, b""),
            (Told::More(body) | Told::Last(body), _) => (200, body),
        };
        http::write_response(out, status, &self.headers(), body, keep_alive);
        status
    }

    /// Writes the head of a response that goes on.
    pub fn begin(mut self, out: &mut Vec<u8>) -> Option<Relay> {
        let attachment = self.attachment.take()?;
        let mut headers = self.headers();
        match self.is_chunked {
            true => headers.push(("Transfer-Encoding", "chunked")),
            false => headers.push(("Connection", "close")),
        }
        http::write_response_head(out, 200, &headers);
        Some(Relay { attachment, is_chunked: self.is_chunked })
    }

    fn headers(&self) -> Vec<(&'static str, &str)> {
        let content_type = match self.answer {
            Answer::Frames(content_type) => ("Content-Type", content_type),
            Answer::Nothing | Answer::Word => PLAIN,
        };
        let mut headers = self.cors.headers();
        headers.extend([content_type, NO_CACHE, NO_SNIFF, ("X-Accel-Buffering", "no")]);
        headers
    }
}

impl Relay {
    /// Writes a piece.
    pub fn more(&self, piece: &[u8], out: &mut Vec<u8>) {
        match self.is_chunked {
            true => http::write_chunk(out, piece),
            false => out.extend_from_slice(piece),
        }
    }

    /// Writes the end behind the last piece.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.attachment.finish();
        if self.is_chunked {
            out.extend_from_slice(http::LAST_CHUNK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringcast_proto::http::{Limits, parse_head};

    use super::*;
    use crate::options::Options;

    /// Status, head and body of the response to a request that needs no session.
    fn respond(place: Place, request: &str) -> String {
        let site = Site::new(Arc::new(Options { allowed_origins: vec!["http://ok".into()], ..Options::default() }));
        let request = format!("{request}\r\nHost: h\r\n\r\n");
        let (head, _) = parse_head(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        let mut out = Vec::new();
        let mut reply = Reply { head: &head, keep_alive: true, out: &mut out, status: 0 };
        let gate = Gate { may_try: &|| true, has_room: &|| true, may_guess: &|| true };
        assert!(matches!(begin(&site, place, &mut reply, gate), Begun::Step(Step::Next)));
        String::from_utf8(out).unwrap()
    }

    fn session(call: Call) -> Place {
        Place::Session { name: "s".into(), call }
    }

    /// T18
    #[test]
    fn info_has_new_entropy_each_time_and_is_not_cached() {
        let [one, two] = [(); 2].map(|()| respond(Place::Info, "GET / HTTP/1.1"));
        assert!(one.starts_with("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"), "{one}");
        assert!(one.contains("no-store") && one.contains(r#"{"websocket":true,"cookie_needed":false,"#), "{one}");
        assert_ne!(one, two);
    }

    /// T18
    #[test]
    fn iframe_page_is_cached_until_it_changes() {
        let page = respond(Place::Iframe, "GET / HTTP/1.1");
        let etag = page.split("ETag: ").nth(1).unwrap().lines().next().unwrap();
        let again = respond(Place::Iframe, &format!("GET / HTTP/1.1\r\nIf-None-Match: {etag}"));
        assert!(again.starts_with("HTTP/1.1 304 ") && !again.contains("Content-Type"), "{again}");
        assert!(respond(Place::Iframe, "GET / HTTP/1.1\r\nIf-None-Match: \"0\"").starts_with("HTTP/1.1 200 "));
        assert_ne!(IframePage::new("a").etag, IframePage::new("b").etag);
    }

    #[test]
    fn method_comes_before_origin_and_origin_before_the_rest() {
        for (place, request, status) in [
            (Place::Info, "POST / HTTP/1.1\r\nOrigin: http://no", 405),
            (Place::Info, "GET / HTTP/1.1\r\nOrigin: http://no", 403),
            (session(Call::Xhr), "GET / HTTP/1.1\r\nOrigin: http://no", 405),
            (session(Call::Xhr), "POST / HTTP/1.1\r\nOrigin: http://no", 403),
            (session(Call::XhrSend), "POST / HTTP/1.1\r\nOrigin: http://no", 403),
            (session(Call::EventSource), "GET / HTTP/1.1\r\nOrigin: http://no", 403),
            (session(Call::HtmlFile), "GET / HTTP/1.1", 400),
            (session(Call::HtmlFile), "GET /?c=%20 HTTP/1.1", 400),
            (session(Call::Jsonp), "GET / HTTP/1.1\r\nOrigin: http://no", 403),
            (session(Call::Jsonp), "GET / HTTP/1.1", 500),
            (session(Call::Jsonp), "GET /?c=a(b HTTP/1.1", 400),
            (session(Call::JsonpSend), "OPTIONS / HTTP/1.1", 405),
        ] {
            let response = respond(place, request);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
        }
    }

    #[test]
    fn browsers_may_ask_beforehand_once_a_year() {
        let response = respond(session(Call::XhrSend), "OPTIONS / HTTP/1.1\r\nOrigin: http://ok");
        assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
        for header in [
            "Access-Control-Allow-Origin: http://ok",
            "Access-Control-Allow-Methods: OPTIONS, POST",
            "Access-Control-Max-Age: 31536000",
            "Cache-Control: public, max-age=31536000",
        ] {
            assert!(response.contains(header), "{response}");
        }
        assert!(!respond(Place::Info, "OPTIONS / HTTP/1.1\r\nOrigin: http://no").contains("Allow-Origin"));
    }

    /// Lines that a body holds, or the text of its refusal.
    #[track_caller]
    fn check(by_form: bool, is_encoded: bool, body: &str, want: Result<&str, &str>) {
        let request = SendRequest { session: "s".into(), by_form, is_encoded, cors: Cors::default() };
        let got = complete(request, body.as_bytes());
        let got = got.map(|(_, ask, _)| match ask {
            Ask::Send(lines) => String::from_utf8(lines).unwrap(),
            ask => panic!("{ask:?}"),
        });
        assert_eq!(got.as_deref().map_err(|(text, _)| *text), want, "{body}");
    }

    #[test]
    fn messages_come_as_they_are_or_in_a_form() {
        check(false, false, r#"["a","b"]"#, Ok("a\nb"));
        check(true, false, r#"["a"]"#, Ok("a"));
        check(true, true, "d=%5B%22a+%2B%22%5D", Ok("a +"));
        check(false, false, "", Err("Payload expected."));
        check(true, true, "", Err("Payload expected."));
        check(true, true, "d=", Err("Payload expected."));
        check(true, true, "e=%5B%22a%22%5D", Err("Payload expected."));
        check(false, false, r#"["a"#, Err("Broken JSON encoding."));
        check(true, true, "d=p%5B", Err("Broken JSON encoding."));
    }
}
