//! Scenario `grpc`: publications over the GRPC API, many under way on one connection, to a channel that nobody listens to.
//!
//! The client writes the frames of HTTP/2 itself: metadata is indexed after the first request, as that of real clients is.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use clap::Args;

use crate::failure::Failure;
use crate::measure::{Meter, Used, micros_each, report_cores};
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::spread::Spread;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/centrifugal.centrifugo.api.CentrifugoApi/Publish";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const FRAME_HEAD: usize = 9;
/// What either side may send on a connection before it is told that it may send more.
const FIRST_WINDOW: u64 = 65_535;
/// What the server may send altogether; an answer has some 20 bytes.
const WINDOW: u32 = 0x7fff_0000 - FIRST_WINDOW as u32;
/// Prefix of a GRPC message.
const PREFIX: usize = 5;
/// First byte of an answer that holds a result.
const RESULT: u8 = 0x12;

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Port of the GRPC API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10000")]
    grpc: SocketAddr,
    /// Its key.
    #[arg(long, default_value = "")]
    grpc_key: String,
    /// Publications, all windows together.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    publications: u64,
    /// Requests that are under way at a time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    outstanding: u64,
    /// Channel that is published to.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Windows that the publications are divided into.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    windows: u64,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let meter = Meter::new(common)?;
    let mut client = Client::connect(common, options)?;
    let each = options.publications / options.windows;
    client.publish(each.min(10_000), options.outstanding)?;
    let windows: Vec<Used> = (0..options.windows)
        .map(|_| {
            let before = meter.read()?;
            client.publish(each, options.outstanding)?;
            Ok(meter.used_since(before)?)
        })
        .collect::<Result<_, Failure>>()?;
    let mut report = Report::new("grpc");
    report.count("outstanding", "requests under way", options.outstanding);
    report.count("publications", "publications, every answer checked", each * options.windows);
    let rates = windows.iter().map(|used| each as f64 / used.wall.as_secs_f64());
    report.spread("publications_per_second", "publications per second", Spread::of(rates), "");
    if meter.server.is_some() {
        let costs = windows.iter().map(|used| micros_each(used.server, each));
        report.spread("server_cpu_per_publication_us", "server CPU per publication", Spread::of(costs), "µs");
    }
    report_cores(&mut report, &windows, meter.server.is_some());
    report.problems(&client.problems);
    Ok(report)
}

/// One connection.
struct Client {
    socket: TcpStream,
    /// Frames of a request, of which the stream is not named yet.
    request: Request,
    next_stream: u32,
    /// Bytes of messages that may be sent.
    window: u64,
    received: Vec<u8>,
    out: Vec<u8>,
    answered: u64,
    problems: Problems,
}

/// The request that is made again and again.
struct Request {
    /// Metadata, for the first request and for the others.
    metadata: [Vec<u8>; 2],
    message: Vec<u8>,
}

impl Client {
    fn connect(common: &Common, options: &Options) -> Result<Self, Failure> {
        let socket = TcpStream::connect(options.grpc).map_err(Failure::dialing)?;
        let ready = socket.set_nodelay(true).and_then(|()| {
            socket
                .set_read_timeout(Some(common.patience))
                .and_then(|()| socket.set_write_timeout(Some(common.patience)))
        });
        ready.map_err(Failure::system("setting up the connection"))?;
        let mut out = PREFACE.to_vec();
        put_frame(&mut out, SETTINGS, 0, 0, &[]);
        put_frame(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        let request = Request::new(options, common.payload);
        let problems = Problems::default();
        let (received, window) = (Vec::new(), FIRST_WINDOW);
        Ok(Self { socket, request, next_stream: 1, window, received, out, answered: 0, problems })
    }

    /// Publishes so often, and waits for the answers.
    fn publish(&mut self, count: u64, outstanding: u64) -> Result<(), Failure> {
        let end = self.answered + count;
        let mut sent = self.answered;
        while self.answered < end {
            while sent < end.min(self.answered + outstanding) && self.window >= self.request.message.len() as u64 {
                self.put_request();
                sent += 1;
            }
            self.write()?;
            self.read()?;
        }
        Ok(())
    }

    fn put_request(&mut self) {
        let metadata = &self.request.metadata[usize::from(self.next_stream > 1)];
        put_frame(&mut self.out, HEADERS, END_HEADERS, self.next_stream, metadata);
        put_frame(&mut self.out, DATA, END_STREAM, self.next_stream, &self.request.message);
        self.window -= self.request.message.len() as u64;
        self.next_stream += 2;
    }

    fn write(&mut self) -> Result<(), Failure> {
        self.socket.write_all(&self.out).map_err(Failure::system("writing requests"))?;
        self.out.clear();
        Ok(())
    }

    /// Takes what has come; waits for something.
    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 64 << 10];
        let length = match self.socket.read(&mut buffer) {
            Ok(0) => return Err(Failure::Api("the server closed the connection".to_owned())),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Failure::Stalled { waiting_for: "waiting for answers".to_owned() });
            }
            Err(error) => return Err(Failure::System { doing: "reading answers", source: error }),
        };
        self.received.extend_from_slice(&buffer[..length]);
        let mut received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        while let Some((frame, others)) = Frame::split(rest) {
            self.handle(&frame)?;
            rest = others;
        }
        let taken = received.len() - rest.len();
        received.drain(..taken);
        self.received = received;
        Ok(())
    }

    fn handle(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        match frame.kind {
            DATA if frame.payload.get(PREFIX) != Some(&RESULT) => {
                self.problems.note(format!("an answer without a result: {:02x?}", frame.payload));
            }
            HEADERS if frame.flags & END_STREAM != 0 => self.answered += 1,
            RST_STREAM | GOAWAY => {
                let text = String::from_utf8_lossy(frame.payload);
                return Err(Failure::Api(format!("the server ends a stream or all of them: {text:?}")));
            }
            SETTINGS if frame.flags & ACK == 0 => put_frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => put_frame(&mut self.out, PING, ACK, 0, frame.payload),
            WINDOW_UPDATE if frame.stream == 0 => {
                let more = frame.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.window += u64::from(more);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Request {
    fn new(options: &Options, payload: usize) -> Self {
        let mut first = vec![METHOD_POST, SCHEME_HTTP];
        put_literal(&mut first, &[0x44], PATH);
        put_literal(&mut first, &[0x41], &options.grpc.to_string());
        put_literal(&mut first, &[0x5f], "application/grpc");
        put_literal(&mut first, b"\x40\x02te", "trailers");
        put_literal(&mut first, &[0x57], &format!("apikey {}", options.grpc_key));
        // The newest entry of the table is 62.
        let others = vec![METHOD_POST, SCHEME_HTTP, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
        let mut content = Vec::new();
        put_field(&mut content, 1, options.channel.as_bytes());
        let data = format!("\"{}\"", "x".repeat(payload.saturating_sub(2)));
        put_field(&mut content, 2, data.as_bytes());
        let length = u32::try_from(content.len()).expect("payloads are short");
        Self { metadata: [first, others], message: [&[0], &length.to_be_bytes()[..], &content].concat() }
    }
}

/// Entries of HPACK's static table.
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;

/// A field that is indexed from now on. Source: RFC 7541 §6.2.1.
fn put_literal(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    match value.len() {
        short @ 0..127 => out.push(short as u8),
        long => {
            out.push(127);
            put_varint(out, long - 127);
        }
    }
    out.extend_from_slice(value.as_bytes());
}

/// A field of Protobuf that holds bytes.
fn put_field(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag << 3 | 2);
    put_varint(out, content.len());
    out.extend_from_slice(content);
}

fn put_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Source: RFC 9113 §4.1.
fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first of these bytes, if it is there as a whole.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
        let [a, b, c, kind, flags, stream @ ..] = *head.first_chunk::<FRAME_HEAD>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        Some((Self { kind, flags, stream: u32::from_be_bytes(stream), payload }, rest))
    }
}
