//! What requests and responses of GRPC have in common, whatever is asked for. Source: GRPC over HTTP/2.

use super::budget::Share;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};

/// A request, of which the metadata has come.
pub type Request = http::Request<Incoming>;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Time for the message of a request.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: &str = "grpc-status";
const ENCODING: &str = "grpc-encoding";

/// What a request of something that is not GRPC is answered with; none for GRPC.
pub fn refuse<B>(request: &http::Request<B>) -> Option<Response<Body>> {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let status = match (request.method(), kind.starts_with(GRPC.as_bytes())) {
        (&Method::POST, true) => return None,
        (&Method::POST, false) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Some(response)
}

/// Reads the one message of a request, of `limit` bytes at most, compressed or not. What it takes is taken from `share`.
pub async fn read(request: Request, limit: usize, share: &mut Share) -> Result<Bytes, Status> {
    let is_gzip = match request.headers().get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip") => true,
        Some(_) => return Err(unknown_encoding()),
    };
    let Ok(read) = timeout(MESSAGE_TIMEOUT, read_body(request.into_body(), limit, share)).await else {
        return Err(Status::deadline_exceeded("the message did not come in time"));
    };
    match read? {
        (false, message) => Ok(message),
        (true, message) if is_gzip => inflate(&message, limit, share),
        (true, _) => Err(Status::internal("the message is compressed, but grpc-encoding does not say how")),
    }
}

/// Reads to the end. Returns whether the message is compressed, and the message.
async fn read_body(mut body: Incoming, limit: usize, share: &mut Share) -> Result<(bool, Bytes), Status> {
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::cancelled(format!("the request did not end: {error}")))?;
        if let Ok(data) = frame.into_data() {
            share.grow(data.len())?;
            pieces.add(data, limit)?;
        }
    }
    pieces.finish()
}

/// What has come of a message. Mostly it comes at once, and is not copied.
#[derive(Default)]
enum Pieces {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Pieces {
    fn add(&mut self, data: Bytes, limit: usize) -> Result<(), Status> {
        if data.is_empty() {
            // Some clients end their request with it.
            return Ok(());
        }
        *self = match std::mem::take(self) {
            Self::None => Self::One(data),
            Self::One(first) => Self::Many([first, data].into_iter().flatten().collect()),
            Self::Many(mut bytes) => {
                bytes.extend_from_slice(&data);
                Self::Many(bytes)
            }
        };
        match self.bytes().first_chunk().map(length) {
            Some(length) if length > limit => {
                Err(Status::resource_exhausted(format!("the message has {length} bytes, more than {limit}")))
            }
            Some(length) if self.bytes().len() > PREFIX_BYTES + length => {
                Err(Status::internal("the request has more than one message"))
            }
            _ => Ok(()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes,
        }
    }

    fn finish(self) -> Result<(bool, Bytes), Status> {
        let mut bytes = match self {
            Self::None => return Err(Status::internal("the request has no message")),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        };
        match bytes.first_chunk() {
            Some(prefix) if length(prefix) == bytes.len() - PREFIX_BYTES => {
                let is_compressed = prefix[0] != 0;
                bytes.advance(PREFIX_BYTES);
                Ok((is_compressed, bytes))
            }
            _ => Err(Status::internal("the message is cut short")),
        }
    }
}

/// What a prefix says.
fn length(prefix: &[u8; PREFIX_BYTES]) -> usize {
    let [_, length @ ..] = *prefix;
    u32::from_be_bytes(length) as usize
}

fn inflate(message: &[u8], limit: usize, share: &mut Share) -> Result<Bytes, Status> {
    let mut out = Vec::new();
    let more_than_allowed = limit as u64 + 1;
    let inflated = MultiGzDecoder::new(message).take(more_than_allowed).read_to_end(&mut out);
    inflated.map_err(|error| Status::internal(format!("the message cannot be decompressed: {error}")))?;
    share.grow(out.len())?;
    match out.len() > limit {
        true => Err(Status::resource_exhausted(format!("the message has more than {limit} bytes"))),
        false => Ok(out.into()),
    }
}

fn unknown_encoding() -> Status {
    let mut status = Status::unimplemented("messages may be compressed with gzip only");
    status.metadata_mut().insert("grpc-accept-encoding", "identity,gzip".parse().expect("is ASCII"));
    status
}

/// A response with this body, which ends with trailers of its own.
pub fn response<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + 'static,
{
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The body of a response of one message.
pub struct Answer {
    bytes: Bytes,
    has_ended: bool,
    /// Counts the request until the client has made room for all of this.
    _share: Share,
}

impl Answer {
    /// The answer to the request that has this share.
    pub fn new(mut share: Share, encode: impl FnOnce(&mut BytesMut)) -> Self {
        let mut bytes = BytesMut::zeroed(PREFIX_BYTES);
        encode(&mut bytes);
        let length = u32::try_from(bytes.len() - PREFIX_BYTES).expect("a response has less than 4 GiB");
        (&mut bytes[1..PREFIX_BYTES]).put_u32(length);
        share.grow_anyway(bytes.len());
        Self { bytes: bytes.freeze(), has_ended: false, _share: share }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    /// Asked only while HTTP/2 has room for more.
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match take_piece(&mut self.bytes) {
            Some(piece) => Frame::data(piece),
            None if self.has_ended => return Poll::Ready(None),
            None => {
                self.has_ended = true;
                Frame::trailers(trailers(&Status::ok("")))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }
}

/// Bytes that go into HTTP/2 at a time, which may have to keep them.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// The next piece of a response.
pub fn take_piece(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.len().min(PIECE_BYTES_MAX);
    (length > 0).then(|| bytes.split_to(length))
}

/// How a response ends.
pub fn trailers(status: &Status) -> HeaderMap {
    if status.code() == Code::Ok {
        return HeaderMap::from_iter([(STATUS.parse().expect("is a name"), HeaderValue::from_static("0"))]);
    }
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).expect("messages are ASCII");
    trailers
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    const LIMIT: usize = 10;

    #[test]
    fn what_is_not_grpc_gets_a_status_of_http() {
        for (method, kind, want) in [
            ("POST", "application/grpc", None),
            ("POST", "application/grpc+proto", None),
            ("POST", "application/json", Some(415)),
            ("GET", "application/grpc", Some(405)),
        ] {
            let request =
                http::Request::builder().method(method).header(CONTENT_TYPE, kind).body(()).expect("a request");
            assert_eq!(refuse(&request).map(|response| response.status().as_u16()), want, "{method} {kind}");
        }
    }

    /// Reads pieces of a message: the message, and whether it is compressed, or why it is none.
    #[track_caller]
    fn check(pieces: &[&'static [u8]], want: Result<(bool, &[u8]), &str>) {
        let mut read = Pieces::default();
        let added = pieces.iter().try_for_each(|piece| read.add(Bytes::from_static(piece), LIMIT));
        let got = added.and_then(|()| read.finish());
        let got = got.as_ref().map(|(is_compressed, message)| (*is_compressed, &**message)).map_err(Status::message);
        assert_eq!(got, want, "{pieces:?}");
    }

    #[test]
    fn messages_come_in_any_pieces() {
        check(&[b"\0\0\0\0\x02ab"], Ok((false, b"ab")));
        check(&[b"\x01\0\0\0\x02", b"", b"ab"], Ok((true, b"ab")));
        check(&[b"\0\0", b"\0\0", b"\x03a", b"b", b"c"], Ok((false, b"abc")));
        check(&[b"\0\0\0\0\0"], Ok((false, b"")));
    }

    #[test]
    fn what_is_no_message_or_too_long_is_refused() {
        check(&[], Err("the request has no message"));
        check(&[b""], Err("the request has no message"));
        check(&[b"\0\0\0"], Err("the message is cut short"));
        check(&[b"\0\0\0\0\x03ab"], Err("the message is cut short"));
        check(&[b"\0\0\0\0\x02abc"], Err("the request has more than one message"));
        check(&[b"\0\0\0\0\x0b"], Err("the message has 11 bytes, more than 10"));
        check(&[b"\0\xff", b"\xff\xff\xff"], Err("the message has 4294967295 bytes, more than 10"));
    }

    #[test]
    fn compressed_messages_have_their_limit_when_decompressed() {
        let gzip = |message: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(message).expect("compressed");
            encoder.finish().expect("compressed")
        };
        let mut share = Budget::default().share().expect("room");
        let mut inflate = |bytes: &[u8]| super::inflate(bytes, LIMIT, &mut share).map_err(|status| status.code());
        assert_eq!(inflate(&gzip(&[7; 10])).expect("the message"), [7; 10].as_slice());
        assert_eq!(inflate(&gzip(&[7; 11])), Err(Code::ResourceExhausted));
        assert_eq!(inflate(&gzip(&[7; 10])[..12]), Err(Code::Internal));
        assert_eq!(inflate(b"no gzip"), Err(Code::Internal));
    }

    #[test]
    fn answers_go_in_pieces_and_end_with_a_status() {
        let share = Budget::default().share().expect("room");
        let mut answer = Answer::new(share, |out| out.put_bytes(7, PIECE_BYTES_MAX));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut frame = || match http_body::Body::poll_frame(Pin::new(&mut answer), &mut context) {
            Poll::Ready(frame) => frame.transpose().expect("no error"),
            Poll::Pending => panic!("an answer is there"),
        };
        let data = |frame: Option<Frame<Bytes>>| frame.and_then(|frame| frame.into_data().ok()).expect("data");
        let first = data(frame());
        assert_eq!((first.len(), &first[..6]), (PIECE_BYTES_MAX, &[0, 0, 0, 0x40, 0, 7][..]));
        assert_eq!(data(frame()).len(), PREFIX_BYTES);
        let trailers = frame().and_then(|frame| frame.into_trailers().ok()).expect("trailers");
        assert_eq!(trailers[STATUS], "0");
        assert!(frame().is_none());
    }
}
