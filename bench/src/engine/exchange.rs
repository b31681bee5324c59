//! One request after the other on a connection that is kept.

use std::borrow::Cow;
use std::io;

use mio::event::Event as Readiness;
use ringcast_proto::http::{ChunkedDecoder, HttpError, Limits, parse_response};

use super::socket::Socket;

/// Largest response that is taken from the server.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection and the request that is under way on it.
pub struct Exchange {
    socket: Socket,
    phase: Phase,
    /// A response or the start of one. Bound: [`RESPONSE_BYTES_MAX`].
    response: Vec<u8>,
}

enum Phase {
    /// A request may be made at once; it is sent when the socket has arrived.
    Idle,
    /// The server closed the connection between two requests, as it may: the next one needs another.
    Retired,
    /// So many bytes of the request are sent.
    Waiting {
        sent: usize,
    },
    Broken,
}

impl Exchange {
    /// A connection whose socket is on its way.
    pub fn new(socket: Socket) -> Self {
        Self { socket, phase: Phase::Idle, response: Vec::new() }
    }

    /// Whether the next request needs another socket, see [`Self::replace`].
    pub fn is_retired(&self) -> bool {
        matches!(self.phase, Phase::Retired)
    }

    /// Whether a request may be made.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Goes on with another connection.
    pub fn replace(&mut self, socket: Socket) {
        self.socket = socket;
        self.phase = Phase::Idle;
    }

    /// Sends a request, where none is under way; it is to be given again to [`Self::handle_ready`] until it is answered.
    pub fn send(&mut self, request: &[u8]) {
        self.response.clear();
        self.phase = Phase::Waiting { sent: 0 };
        self.write(request);
    }

    /// The last response, as it came.
    pub fn response(&self) -> &[u8] {
        &self.response
    }

    /// Writes and reads what the socket is ready for. The response, when it is whole; an error ends the exchange.
    pub fn handle_ready(
        &mut self,
        readiness: &Readiness,
        request: &[u8],
        buffer: &mut [u8],
    ) -> Result<Option<Response<'_>>, String> {
        if matches!(self.phase, Phase::Broken | Phase::Retired) {
            return Ok(None);
        }
        if readiness.is_writable() {
            self.write(request);
        }
        if !readiness.is_readable() && !readiness.is_read_closed() {
            return Ok(None);
        }
        match self.read(buffer) {
            Ok(()) if self.is_idle() => Ok(None),
            Ok(()) => self.whole(),
            Err(_) if self.is_idle() => {
                self.phase = Phase::Retired;
                Ok(None)
            }
            Err(reason) => Err(self.broken(reason)),
        }
    }

    /// No request follows one that failed.
    pub fn broken(&mut self, reason: String) -> String {
        self.phase = Phase::Broken;
        reason
    }

    /// Writes what is left of the request. An error shows at the next read.
    fn write(&mut self, request: &[u8]) {
        let flushed = self.socket.flush();
        let Phase::Waiting { sent } = &mut self.phase else {
            return;
        };
        while flushed.is_ok() && *sent < request.len() {
            match self.socket.write(&request[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        loop {
            match self.socket.read(buffer) {
                // The answer may be all there: a server can close right behind it.
                Ok(0) if !self.response.is_empty() && !self.is_idle() => return Ok(()),
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => self.response.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("connection: {error}")),
            }
            if self.response.len() > RESPONSE_BYTES_MAX {
                return Err("endless response".to_owned());
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Response<'_>>, String> {
        match Response::split_off(&self.response) {
            Ok(Some(response)) => {
                self.phase = Phase::Idle;
                Ok(Some(response))
            }
            Ok(None) => Ok(None),
            Err(reason) => {
                self.phase = Phase::Broken;
                Err(reason)
            }
        }
    }
}

/// A whole response.
pub struct Response<'a> {
    pub status: u16,
    pub body: Cow<'a, [u8]>,
}

impl<'a> Response<'a> {
    /// The response in `bytes`, once it is whole.
    fn split_off(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let told = |error: HttpError| format!("response: {}", error.reason);
        let Some((head, length)) = parse_response(bytes, &Limits::default()).map_err(told)? else {
            return Ok(None);
        };
        let status = head.status();
        let rest = &bytes[length..];
        let length = if status == 204 { Some(0) } else { head.content_length() };
        if let Some(length) = length {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = rest.get(..length).map(Cow::Borrowed);
            return Ok(body.map(|body| Self { status, body }));
        }
        let mut decoder = ChunkedDecoder::new(RESPONSE_BYTES_MAX);
        let mut body = Vec::new();
        decoder.decode(rest, &mut body).map_err(told)?;
        let body = decoder.is_done().then_some(Cow::Owned(body));
        Ok(body.map(|body| Self { status, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(response: &str, want: Result<Option<(u16, &str)>, ()>) {
        let got = Response::split_off(response.as_bytes()).map_err(drop);
        let got = got.map(|some| some.map(|got| (got.status, got.body.into_owned())));
        let want = want.map(|some| some.map(|(status, body)| (status, body.as_bytes().to_vec())));
        assert_eq!(got, want, "{response}");
    }

    #[test]
    fn body_ends_where_its_length_or_its_last_chunk_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok(Some((200, "{}"))));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(Some((204, ""))));
        check("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Ok(Some((401, ""))));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            Ok(Some((200, "{}"))),
        );
    }

    #[test]
    fn unfinished_response_is_awaited() {
        for response in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ] {
            check(response, Ok(None));
        }
    }

    #[test]
    fn other_bytes_are_an_error() {
        check("nonsense\r\n\r\n", Err(()));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(()));
    }
}
