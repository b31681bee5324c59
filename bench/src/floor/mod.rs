//! Scenario `floor`: what the kernel asks for writing the same bytes to as many loopback sockets, with nothing else around.
//!
//! A writer process of its own, pinned like the server, is handed the bytes through a pipe and writes them to each socket with a plain
//! nonblocking send. The receivers are the same engine that measures the server, so both pay the same for waking it.

mod answerer;
mod backend;
mod child;
mod greeted;
mod greeter;
mod requests;
mod writer;

use std::net::SocketAddr;

use clap::Args;
use ringcast_proto::client::{Encoding, Publication, encode_publication, encode_publication_push};
use ringcast_proto::websocket;

use crate::crowd::{self, TURN};
use crate::engine::{Engine, Event, Peer, Session};
use crate::failure::Failure;
use crate::histogram::{Latency, Percentiles};
use crate::ledger::{Ledger, Tally};
use crate::measure::{Meter, Used, micros_each, report_cores};
use crate::options::Common;
use crate::payload::{self, Stamp};
use crate::process::Process;
use crate::report::Report;
use crate::sequence::Sequence;
use crate::spread::Spread;
use crate::watch::Watch;
pub use backend::DATA as BACKEND_DATA;
pub use child::Backend;
use child::Child;
pub use greeted::{Greeting, Pinging};
pub use requests::RequestFloor;

/// Writes before the first window.
const WARM_UP_WRITES: u64 = 200;

/// Options of the scenarios that can be compared with their floor.
#[derive(Args, Clone)]
pub struct FloorOptions {
    /// Alternate windows of the server with windows of the kernel's floor and tell their ratio.
    #[arg(long)]
    pub floor: bool,
    /// Core of the floor's process; by default the one the server is pinned to.
    #[arg(long, value_name = "CPU", requires = "floor")]
    floor_pin: Option<usize>,
}

impl FloorOptions {
    /// Where the floor's process runs, beside a server that is measured so.
    pub fn core(&self, meter: &Meter) -> Option<usize> {
        self.floor_pin.or_else(|| meter.server.as_ref().and_then(|server| server.pinned_to()))
    }
}

/// Options of this scenario.
#[derive(Args)]
pub struct Options {
    /// Sockets that are written to.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    /// Publications joined in one write.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    frames: u64,
    /// Channel name in the frames.
    #[arg(long, default_value = "bench")]
    channel: String,
    /// Rounds (one write to each socket) per window.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Windows, each with a figure of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
    /// Core of the writer.
    #[arg(long, value_name = "CPU")]
    writer_pin: Option<usize>,
    /// Be the process that answers requests without reading them. Started by this tool itself.
    #[arg(long, hide = true)]
    answer: bool,
    /// Be the backend that proxies ask, at this address. Started by this tool itself.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    back: Option<SocketAddr>,
    /// Be the process that lets clients in. Started by this tool itself.
    #[arg(long, hide = true)]
    greet: bool,
    /// Be the writer: listens, prints the port, writes what comes on standard input. Started by this tool itself.
    #[arg(long, hide = true)]
    serve: bool,
}

/// Carries the scenario out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let subscribers = options.subscribers as usize;
    if options.answer {
        answerer::serve().map_err(Failure::system("answering"))?;
        return Ok(Report::new("floor"));
    }
    if let Some(address) = options.back {
        backend::serve(address).map_err(Failure::system("serving as a backend"))?;
        return Ok(Report::new("floor"));
    }
    if options.greet {
        greeter::serve().map_err(Failure::system("letting clients in"))?;
        return Ok(Report::new("floor"));
    }
    if options.serve {
        writer::serve(subscribers).map_err(Failure::system("writing"))?;
        return Ok(Report::new("floor"));
    }
    let mut floor = Floor::start(common, subscribers, &options.channel, options.writer_pin)?;
    let mut windows = Vec::new();
    for _ in 0..options.windows {
        let publications = options.rounds * options.frames;
        windows.push(floor.window(publications, options.frames as usize)?);
    }
    Ok(report(&floor, options, &windows))
}

/// The writer and its receivers.
pub struct Floor {
    engine: Engine,
    child: Child,
    meter: Meter,
    encoding: Encoding,
    channel: String,
    payload_bytes: usize,
    receivers: usize,
    next: u32,
    books: Books,
}

struct Books {
    ledger: Ledger,
    latency: Latency,
    cut: Option<String>,
}

/// What a window cost.
pub struct Window {
    /// What the writer used (as the server), and this tool.
    pub used: Used,
    pub writes: u64,
    pub deliveries: u64,
    /// Publications per write.
    pub frames: usize,
}

impl Floor {
    /// Starts a writer on `core`, connects the receivers and warms up.
    pub fn start(common: &Common, receivers: usize, channel: &str, core: Option<usize>) -> Result<Self, Failure> {
        let child = Child::writer(receivers, core).map_err(Failure::system("starting the writer"))?;
        let encoding = common.protocol.encoding();
        let session = Session::bare(common)?;
        let mut engine = Engine::new(session, common).map_err(Failure::system("starting the loop"))?;
        let clients = crowd::gather(&mut engine, &Peer::plain(child.address()), receivers, |_| None)?;
        let mut ledger = Ledger::new(1, common.patience);
        for client in clients {
            ledger.open(client, |_| Sequence::starting_at(0));
        }
        let mut floor = Self {
            engine,
            meter: Meter::of(Process::open(child.pid())?)?,
            child,
            encoding,
            channel: channel.to_owned(),
            payload_bytes: common.payload,
            receivers,
            next: 0,
            books: Books { ledger, latency: Latency::new(), cut: None },
        };
        floor.child.await_ready().map_err(Failure::system("waiting for the writer"))?;
        floor.window(WARM_UP_WRITES, 1)?;
        floor.books.latency = Latency::new();
        Ok(floor)
    }

    /// Writes `publications` to all, `frames` at a time, each time when all have received the ones before.
    pub fn window(&mut self, publications: u64, frames: usize) -> Result<Window, Failure> {
        let mut round = Round::new(self.encoding, &self.channel, self.payload_bytes, frames);
        let rounds = publications.div_ceil(frames as u64).max(1);
        let before = self.meter.read()?;
        for _ in 0..rounds {
            let sent_ns = self.engine.now_ns();
            let first = self.next;
            self.next += frames as u32;
            round.stamp(|index| Stamp { publisher: 0, sequence: first + index as u32, sent_ns });
            self.child.write(&round.bytes).map_err(Failure::system("handing bytes to the writer"))?;
            self.receive(frames)?;
        }
        let writes = rounds * self.receivers as u64;
        let used = self.meter.used_since(before)?;
        Ok(Window { used, writes, deliveries: writes * frames as u64, frames })
    }

    /// The accounts of the receivers.
    pub fn tally(&self) -> Tally {
        self.books.ledger.tally()
    }

    /// From handed to the writer to received.
    pub fn latencies(&self) -> Percentiles {
        self.books.latency.percentiles()
    }

    fn receive(&mut self, frames: usize) -> Result<(), Failure> {
        let want = self.tally().delivered + (self.receivers * frames) as u64;
        let mut watch = Watch::new(&self.engine);
        while self.tally().delivered < want {
            let books = &mut self.books;
            self.engine.turn(TURN, &mut |event| books.handle(event)).map_err(Failure::system("waiting for events"))?;
            if self.books.cut.is_some() || watch.is_over(&self.engine, self.tally().delivered) {
                let waiting_for = "the writer's bytes had not all arrived".to_owned();
                return Err(Failure::Stalled { waiting_for });
            }
        }
        Ok(())
    }
}

impl Books {
    fn handle(&mut self, event: Event) {
        match event {
            Event::Delivery { client, stamp, at_ns } => {
                self.ledger.observe(client, stamp, at_ns);
                self.latency.record_ns(at_ns.saturating_sub(stamp.sent_ns));
            }
            Event::Corrupt => self.ledger.observe_corrupt(),
            Event::Closed { why, .. } => self.cut = Some(why.to_string()),
            _ => {}
        }
    }
}

/// The bytes of one write: WebSocket frames as a server sends them.
struct Round {
    bytes: Vec<u8>,
    /// Where the payloads stand.
    payloads: Vec<usize>,
    payload_bytes: usize,
}

impl Round {
    fn new(encoding: Encoding, channel: &str, payload_bytes: usize, frames: usize) -> Self {
        let frame = frame(encoding, channel, payload_bytes);
        let bytes = frame.repeat(frames);
        let payload = payload::template(payload_bytes);
        let payloads = memchr::memmem::find_iter(&bytes, &payload).collect();
        Self { bytes, payloads, payload_bytes }
    }

    fn stamp(&mut self, stamp: impl Fn(usize) -> Stamp) {
        for (index, at) in self.payloads.iter().enumerate() {
            payload::stamp(&mut self.bytes[*at..*at + self.payload_bytes], stamp(index));
        }
    }
}

/// One publication in the push and the frame of the protocol.
fn frame(encoding: Encoding, channel: &str, payload_bytes: usize) -> Vec<u8> {
    let publication = Publication { data: payload::template(payload_bytes).into(), ..Publication::default() };
    let body = encode_publication(encoding, &publication).expect("the payload is JSON");
    let mut push = Vec::new();
    encode_publication_push(encoding, channel, &body, &mut push);
    framed(encoding, &push)
}

/// A message as a server sends it.
fn framed(encoding: Encoding, message: &[u8]) -> Vec<u8> {
    let opcode = match encoding {
        Encoding::Json => websocket::Opcode::Text,
        Encoding::Protobuf => websocket::Opcode::Binary,
    };
    let mut frame = Vec::new();
    websocket::encode_frame(&mut frame, opcode, message);
    frame
}

fn report(floor: &Floor, options: &Options, windows: &[Window]) -> Report {
    let mut report = Report::new("floor");
    report.count("subscribers", "sockets", u64::from(options.subscribers));
    report.count("frames", "publications per write", options.frames);
    report.count("windows", "windows", windows.len() as u64);
    report.count("writes", "writes", windows.iter().map(|w| w.writes).sum());
    let per_write = windows.iter().map(|w| micros_each(w.used.server, w.writes));
    report.spread("cpu_per_write_us", "writer CPU per write", Spread::of(per_write), "µs");
    let per_delivery = windows.iter().map(|w| micros_each(w.used.server, w.deliveries));
    report.spread("cpu_per_delivery_us", "writer CPU per delivery", Spread::of(per_delivery), "µs");
    let used: Vec<Used> = windows.iter().map(|w| w.used).collect();
    report_cores(&mut report, &used, false);
    report.latency("latency", "delivery latency", floor.latencies());
    report.tally(floor.tally());
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Found, Reader};

    #[track_caller]
    fn check(encoding: Encoding, frames: usize) {
        let mut round = Round::new(encoding, "bench", 128, frames);
        round.stamp(|index| Stamp { publisher: 0, sequence: index as u32, sent_ns: 5 });
        assert_eq!(round.payloads.len(), frames);
        let length = round.bytes.len() / frames;
        for (index, frame) in round.bytes.chunks(length).enumerate() {
            let want = Stamp { publisher: 0, sequence: index as u32, sent_ns: 5 };
            assert_eq!(Reader::new(128).read(frame), Found::Stamp(want));
        }
    }

    #[test]
    fn every_frame_of_a_write_carries_its_own_stamp() {
        check(Encoding::Json, 1);
        check(Encoding::Json, 16);
        check(Encoding::Protobuf, 1);
        check(Encoding::Protobuf, 3);
    }
}
