//! The process that lets clients in without understanding them: whatever they say, it answers with fixed bytes, the upgrade first,
//! then each command. It may ping them, many at a time, and takes leave of who says goodbye.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::libc::MSG_MORE;
use ringcast_proto::websocket::Opcode;
use serde_json::json;
use slab::Slab;
use socket2::SockRef;

use super::writer::{read_block, write_all};

/// What it has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// To the upgrade request and to each command, in their order.
    pub answers: Vec<Vec<u8>>,
    /// Frame that answers a goodbye.
    pub goodbye: Vec<u8>,
    /// None for clients that only come and go.
    pub pings: Option<Pings>,
}

/// How clients are pinged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pings {
    /// What a ping looks like.
    pub frame: Vec<u8>,
    /// The first pings are sent when so many clients are in.
    pub clients: usize,
    /// Sent without a pause.
    pub together: usize,
    /// From one ping of a client to its next.
    pub interval: Duration,
}

impl Setup {
    /// As the block that starts the process.
    pub fn to_block(&self) -> Vec<u8> {
        let Self { answers, goodbye, pings } = self;
        let pings = pings.as_ref().map(|Pings { frame, clients, together, interval }| {
            (frame, clients, together, interval.as_micros() as u64)
        });
        json!((answers, goodbye, pings)).to_string().into_bytes()
    }

    /// `None` for other blocks.
    fn of_block(block: &[u8]) -> Option<Self> {
        type Fields = (Vec<Vec<u8>>, Vec<u8>, Option<(Vec<u8>, usize, usize, u64)>);
        let (answers, goodbye, pings): Fields = serde_json::from_slice(block).ok()?;
        let pings = pings.map(|(frame, clients, together, interval_us)| {
            let interval = Duration::from_micros(interval_us);
            Pings { frame, clients, together, interval }
        });
        Some(Self { answers, goodbye, pings })
    }
}

const LISTENER: Token = Token(usize::MAX >> 1);
const INPUT: Token = Token(usize::MAX >> 2);

/// More than a client says at once: a shorter read leaves nothing behind.
const READ_BYTES: usize = 16 * 1024;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Reads its setup from standard input, prints the port and serves until standard input ends.
pub fn serve() -> io::Result<()> {
    let mut block = Vec::new();
    let setup = if read_block(&mut io::stdin().lock(), &mut block)? { Setup::of_block(&block) } else { None };
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = SockRef::from(&listener);
    socket.listen(BACKLOG)?;
    // What it accepts inherits this.
    socket.set_tcp_nodelay(true)?;
    listener.set_nonblocking(true)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&io::stdin().as_raw_fd()), INPUT, Interest::READABLE)?;
    let greeter = Greeter {
        poll,
        setup: setup.ok_or(ErrorKind::InvalidData)?,
        listener,
        clients: Slab::new(),
        buffer: vec![0; READ_BYTES],
        greeted: 0,
        round: None,
    };
    greeter.run()
}

struct Greeter {
    poll: Poll,
    setup: Setup,
    listener: TcpListener,
    clients: Slab<Client>,
    buffer: Vec<u8>,
    /// Clients that got all answers.
    greeted: usize,
    /// Runs once all clients are in.
    round: Option<Round>,
}

struct Client {
    socket: TcpStream,
    /// How many of its words were answered.
    answered: usize,
    /// Start of what it is saying. Bound: grows with what this tool itself sends.
    unfinished: Vec<u8>,
}

/// Where the pings are.
struct Round {
    due: Instant,
    next: usize,
}

impl Greeter {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    INPUT => return Ok(()),
                    LISTENER => self.accept()?,
                    Token(client) => self.handle_readable(client)?,
                }
            }
            self.ping()?;
        }
    }

    /// How long to wait for what clients say. Between pings not at all: it sleeps until the next are due and then finds all pongs
    /// of the last, without having been woken for any.
    fn patience(&self) -> Option<Duration> {
        let round = self.round.as_ref()?;
        std::thread::sleep(round.due.saturating_duration_since(Instant::now()));
        Some(Duration::ZERO)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let entry = self.clients.vacant_entry();
            self.poll.registry().register(&mut socket, Token(entry.key()), Interest::READABLE)?;
            entry.insert(Client { socket, answered: 0, unfinished: Vec::new() });
        }
    }

    fn handle_readable(&mut self, index: usize) -> io::Result<()> {
        let Self { setup, clients, buffer, .. } = self;
        let Some(client) = clients.get_mut(index) else { return Ok(()) };
        let count = match client.socket.read(buffer) {
            Ok(count) if count > 0 => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Gone, with or without a word.
            _ => {
                clients.remove(index);
                return Ok(());
            }
        };
        match client.hear(&buffer[..count]) {
            Said::Part => {}
            Said::Word => {
                // Behind the last command come pongs.
                let Some(answer) = setup.answers.get(client.answered) else { return Ok(()) };
                write_all(&mut client.socket, answer)?;
                client.answered += 1;
                self.greeted += usize::from(client.answered == setup.answers.len());
            }
            Said::Goodbye => {
                // The end of the stream leaves with it, in one packet. Who is gone already needs none.
                let _ = SockRef::from(&client.socket).send_with_flags(&setup.goodbye, MSG_MORE);
                clients.remove(index);
            }
        }
        Ok(())
    }

    /// Pings the next few clients when they are due.
    fn ping(&mut self) -> io::Result<()> {
        let Some(pings) = self.setup.pings.as_ref().filter(|pings| self.greeted >= pings.clients) else {
            return Ok(());
        };
        let now = Instant::now();
        let round = self.round.get_or_insert(Round { due: now, next: 0 });
        if now < round.due {
            return Ok(());
        }
        for _ in 0..pings.together {
            if let Some(client) = self.clients.get_mut(round.next) {
                write_all(&mut client.socket, &pings.frame)?;
            }
            round.next = (round.next + 1) % pings.clients;
        }
        round.due += pings.interval.mul_f64(pings.together as f64 / pings.clients as f64);
        Ok(())
    }
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Not yet whole.
    Part,
    /// The upgrade, a command or a pong.
    Word,
    Goodbye,
}

impl Client {
    fn hear(&mut self, bytes: &[u8]) -> Said {
        let joined;
        let bytes = if self.unfinished.is_empty() {
            bytes
        } else {
            joined = [&std::mem::take(&mut self.unfinished), bytes].concat();
            &joined
        };
        let said = if self.answered == 0 { upgrade(bytes) } else { frames(bytes) };
        if said == Said::Part {
            self.unfinished.extend_from_slice(bytes);
        }
        said
    }
}

fn upgrade(bytes: &[u8]) -> Said {
    if bytes.ends_with(b"\r\n\r\n") { Said::Word } else { Said::Part }
}

/// What the last of some frames is. This tool sends none that would need eight bytes for its length.
fn frames(mut bytes: &[u8]) -> Said {
    const MASK_BYTES: usize = 4;
    loop {
        let (first, length, rest) = match bytes {
            [first, second, high, low, rest @ ..] if second & 0x7f == 126 => {
                (first, usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            [first, second, rest @ ..] if second & 0x7f < 126 => (first, usize::from(second & 0x7f), rest),
            _ => return Said::Part,
        };
        match rest.get(MASK_BYTES + length..) {
            None => return Said::Part,
            Some([]) if first & 0x0f == Opcode::Close as u8 => return Said::Goodbye,
            Some([]) => return Said::Word,
            Some(more) => bytes = more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_proto::websocket::{encode_masked_close, encode_masked_frame};

    #[test]
    fn setup_passes_to_the_process_as_it_is() {
        let pings = Pings { frame: vec![0x81, 2], clients: 7, together: 3, interval: Duration::from_millis(25) };
        for pings in [Some(pings), None] {
            let setup = Setup { answers: vec![b"HTTP/1.1 101\xff".to_vec(), vec![1]], goodbye: vec![0x88, 0], pings };
            assert_eq!(Setup::of_block(&setup.to_block()), Some(setup));
        }
        assert_eq!(Setup::of_block(b"{}"), None);
    }

    #[test]
    fn frames_are_whole_when_their_last_byte_is_there() {
        for length in [0, 1, 125, 126, 60_000] {
            let mut frame = Vec::new();
            encode_masked_frame(&mut frame, Opcode::Text, &vec![b'a'; length], [1, 2, 3, 4]);
            assert_eq!(frames(&frame), Said::Word, "{length}");
            assert_eq!(frames(&frame[..frame.len() - 1]), Said::Part, "{length}");
            encode_masked_close(&mut frame, 1000, "", [1, 2, 3, 4]);
            assert_eq!(frames(&frame), Said::Goodbye, "{length}");
        }
        assert_eq!(
            (frames(b""), upgrade(b"GET / HTTP/1.1\r\n"), upgrade(b"GET / HTTP/1.1\r\n\r\n")),
            (Said::Part, Said::Part, Said::Word)
        );
    }
}
