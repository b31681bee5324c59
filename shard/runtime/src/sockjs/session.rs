//! One session: what waits for its client, the request that reads it, and when either is given up.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringcast_proto::sockjs::{self, Form};
use ringcast_state::{ConnectionId, Time};

use super::{Address, Told};

/// A session lives so long without a request that reads it. Source: protocol §16.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// A response that goes on ends behind so many bytes, for browsers keep all of it. Source: protocol §16.
const RESPONSE_BYTES_MAX: usize = 131_072;

/// For a second reader.
const STILL_OPEN: (u32, &str) = (2010, "Another connection still open");

/// For who comes back after a reader went away.
pub const INTERRUPTED: (u32, &str) = (1002, "Connection interrupted!");

/// What the client machine has said, until a reader takes it.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages, one a line. Bound: what one write carries, and what is left at the end; the rest waits in the client's queue.
    pub lines: Vec<u8>,
    /// No further commands are wanted.
    pub is_paused: bool,
    /// The close frame.
    pub end: Option<Vec<u8>>,
}

/// A session at its home.
pub struct Session {
    /// The client.
    pub connection: ConnectionId,
    /// Shared with the client's carrier.
    pub output: Rc<RefCell<Output>>,
    /// A request to send, answered at the end of the turn or once commands are wanted again.
    pub held: Option<Address>,
    /// Its entry among the timeouts.
    pub entry_at: Time,
    reader: Option<Reader>,
    /// The reader that came last. When it goes away before its end, frames are lost.
    latest: Option<Address>,
    /// The reader, or its being away, since the last frame or since it came or went.
    since: Time,
    is_open_told: bool,
    /// Lines were taken, and the client machine waits to hear that they are written.
    is_taken: bool,
}

/// The request that reads.
struct Reader {
    address: Address,
    form: Form,
    has_begun: bool,
    sent_bytes: usize,
    /// What it got last is not written yet.
    is_writing: bool,
}

/// What is to be done for a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Advance {
    /// For the reader.
    pub told: Option<(Address, Told)>,
    /// What the client machine said last is on its way: it may say more.
    pub is_written: bool,
}

impl Session {
    pub fn new(connection: ConnectionId, output: Rc<RefCell<Output>>, now: Time) -> Self {
        Self {
            connection,
            output,
            held: None,
            entry_at: now,
            reader: None,
            latest: None,
            since: now,
            is_open_told: false,
            is_taken: false,
        }
    }

    /// The client is gone; only its close frame is told.
    pub fn has_ended(&self) -> bool {
        self.output.borrow().end.is_some()
    }

    /// A request wants the frames. `Some`: it cannot have them, and is told so.
    pub fn attach(&mut self, now: Time, address: Address, form: Form) -> Option<Told> {
        if self.reader.is_some() {
            let (mut frame, mut body) = (Vec::new(), Vec::new());
            sockjs::encode_close(STILL_OPEN.0, STILL_OPEN.1, &mut frame);
            form.begin(&mut body);
            form.wrap(&frame, &mut body);
            return Some(Told::Last(body));
        }
        self.reader = Some(Reader { address, form, has_begun: false, sent_bytes: 0, is_writing: false });
        self.latest = Some(address);
        self.since = now;
        None
    }

    /// The reader's connection has taken what it got.
    pub fn written(&mut self, address: Address) -> Advance {
        match self.reader.as_mut().filter(|reader| reader.address == address) {
            Some(reader) => {
                reader.is_writing = false;
                Advance { told: None, is_written: std::mem::take(&mut self.is_taken) }
            }
            None => Advance::default(),
        }
    }

    /// A reader is gone. True if frames went with it.
    pub fn detach(&mut self, now: Time, address: Address) -> bool {
        if self.latest != Some(address) {
            return false;
        }
        self.reader.take_if(|reader| reader.address == address);
        self.since = now;
        true
    }

    /// Gives the reader what there is.
    pub fn advance(&mut self, now: Time) -> Advance {
        self.serve(now, false)
    }

    /// Call at `next_timeout`. `None`: nobody reads, the session is over.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Advance> {
        let reader = self.reader.as_ref()?;
        if reader.is_writing {
            self.since = now;
            return Some(Advance::default());
        }
        Some(self.serve(now, true))
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self, heartbeat_delay: Duration) -> Time {
        self.since + if self.reader.is_some() { heartbeat_delay } else { ABANDONED_TIMEOUT }
    }

    fn serve(&mut self, now: Time, is_silent: bool) -> Advance {
        let Some(reader) = self.reader.as_mut().filter(|reader| !reader.is_writing) else {
            return Advance::default();
        };
        let mut output = self.output.borrow_mut();
        let (mut body, mut is_last, mut is_silent) = (Vec::new(), false, is_silent);
        if !std::mem::replace(&mut reader.has_begun, true) {
            reader.form.begin(&mut body);
        }
        while !is_last {
            let mut frame = Vec::new();
            if !std::mem::replace(&mut self.is_open_told, true) {
                frame.extend_from_slice(sockjs::OPEN);
            } else if !output.lines.is_empty() {
                sockjs::encode_lines(&output.lines, &mut frame);
                output.lines = Vec::new();
                self.is_taken = true;
            } else if let Some(end) = &output.end {
                frame.extend_from_slice(end);
                is_last = true;
            } else if std::mem::take(&mut is_silent) {
                frame.extend_from_slice(sockjs::HEARTBEAT);
            } else {
                break;
            }
            is_silent = false;
            reader.form.wrap(&frame, &mut body);
            is_last |= reader.form.is_poll() || reader.sent_bytes + body.len() >= RESPONSE_BYTES_MAX;
        }
        if body.is_empty() {
            return Advance::default();
        }
        self.since = now;
        let address = reader.address;
        if is_last {
            // Its own connection answers for it from now on.
            self.reader = None;
            return Advance { told: Some((address, Told::Last(body))), is_written: std::mem::take(&mut self.is_taken) };
        }
        reader.sent_bytes += body.len();
        reader.is_writing = true;
        Advance { told: Some((address, Told::More(body))), is_written: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_state::{ApiCallId, ShardId};

    const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };
    const HEARTBEAT_DELAY: Duration = Duration::from_secs(25);

    fn address(sequence: u32) -> Address {
        Address { shard: ShardId(0), call: ApiCallId { connection: CONNECTION, sequence } }
    }

    fn session() -> Session {
        Session::new(CONNECTION, Rc::default(), Time(0))
    }

    fn say(session: &Session, lines: &str) {
        session.output.borrow_mut().lines.extend_from_slice(lines.as_bytes());
    }

    fn last(body: &str) -> Option<Told> {
        Some(Told::Last(body.into()))
    }

    fn more(body: &str) -> Option<Told> {
        Some(Told::More(body.into()))
    }

    /// Attaches and gives what the reader is told at once.
    fn read(session: &mut Session, sequence: u32, form: Form) -> Option<Told> {
        let told = session.attach(Time(0), address(sequence), form);
        told.or_else(|| session.advance(Time(0)).told.map(|(_, told)| told))
    }

    #[test]
    fn poll_gets_one_frame() {
        let mut session = session();
        assert_eq!(read(&mut session, 1, Form::Xhr), last("o\n"));
        say(&session, "{}\n1\n");
        session.attach(Time(0), address(2), Form::Xhr);
        let advance = session.advance(Time(0));
        assert_eq!(advance.told, Some((address(2), Told::Last(b"a[\"{}\",\"1\"]\n".to_vec()))));
        assert!(advance.is_written);
        assert_eq!(read(&mut session, 3, Form::Xhr), None);
        say(&session, "2\n");
        assert_eq!(session.advance(Time(0)).told, Some((address(3), Told::Last(b"a[\"2\"]\n".to_vec()))));
    }

    #[test]
    fn stream_gets_the_next_piece_when_the_last_one_is_written() {
        let mut session = session();
        assert_eq!(read(&mut session, 1, Form::EventSource), more("\r\ndata: o\r\n\r\n"));
        say(&session, "1\n");
        assert_eq!(session.advance(Time(0)), Advance::default());
        assert_eq!(session.written(address(2)), Advance::default());
        assert!(!session.written(address(1)).is_written);
        let advance = session.advance(Time(0));
        assert_eq!(advance.told, Some((address(1), Told::More(b"data: a[\"1\"]\r\n\r\n".to_vec()))));
        assert!(!advance.is_written);
        assert!(session.written(address(1)).is_written);
    }

    #[test]
    fn long_response_ends() {
        let mut session = session();
        session.is_open_told = true;
        say(&session, &"1".repeat(RESPONSE_BYTES_MAX));
        let told = read(&mut session, 1, Form::XhrStreaming);
        assert!(matches!(told, Some(Told::Last(body)) if body.len() > RESPONSE_BYTES_MAX));
        assert_eq!(session.next_timeout(HEARTBEAT_DELAY), Time(0) + ABANDONED_TIMEOUT);
    }

    #[test]
    fn second_reader_is_told_of_the_first_and_does_not_disturb_it() {
        let mut session = session();
        read(&mut session, 1, Form::EventSource);
        assert_eq!(read(&mut session, 2, Form::Xhr), last("c[2010,\"Another connection still open\"]\n"));
        assert!(!session.detach(Time(0), address(2)));
        assert!(session.detach(Time(0), address(1)));
    }

    #[test]
    fn end_is_told_again_and_again() {
        let mut session = session();
        assert_eq!(read(&mut session, 1, Form::Xhr), last("o\n"));
        say(&session, "1\n");
        session.output.borrow_mut().end = Some(b"c[3001,\"x\"]".to_vec());
        assert_eq!(read(&mut session, 2, Form::Xhr), last("a[\"1\"]\n"));
        for reader in 3..5 {
            assert_eq!(read(&mut session, reader, Form::Xhr), last("c[3001,\"x\"]\n"));
        }
        assert!(matches!(read(&mut session, 5, Form::XhrStreaming), Some(Told::Last(_))));
    }

    #[test]
    fn reader_that_went_before_its_answer_came_has_taken_frames_along() {
        let mut session = session();
        assert_eq!(read(&mut session, 1, Form::Xhr), last("o\n"));
        assert!(session.detach(Time(0), address(1)));
    }

    #[test]
    fn silence_is_broken_by_a_heartbeat_and_ended_when_nobody_reads() {
        let mut session = session();
        assert_eq!(session.next_timeout(HEARTBEAT_DELAY), Time(5_000_000));
        read(&mut session, 1, Form::EventSource);
        assert_eq!(session.next_timeout(HEARTBEAT_DELAY), Time(25_000_000));
        let at = Time(25_000_000);
        assert_eq!(session.handle_timeout(at), Some(Advance::default()), "it has not taken the last piece");
        session.written(address(1));
        let told = session.handle_timeout(at).unwrap().told;
        assert_eq!(told, Some((address(1), Told::More(b"data: h\r\n\r\n".to_vec()))));
        assert_eq!(session.next_timeout(HEARTBEAT_DELAY), Time(50_000_000));
        assert!(session.detach(at, address(1)));
        assert_eq!(session.next_timeout(HEARTBEAT_DELAY), Time(30_000_000));
        assert_eq!(session.handle_timeout(Time(30_000_000)), None);
    }
}
