//! Real sockets on loopback; the peers are ordinary blocking sockets of the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;

/// Far beyond what a loaded machine needs; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq)]
enum Seen {
    Accepted(SocketId),
    AcceptFailed,
    Received(SocketId, Vec<u8>),
    Ended(SocketId, bool),
    Flushed(SocketId),
    Blocked(SocketId),
    SendFailed(SocketId),
    Closed(SocketId),
}

struct Rig {
    uring: Uring,
    listener: TcpListener,
    seen: Vec<Seen>,
}

impl Rig {
    fn new() -> Self {
        Self::with(UringOptions { receive_buffers: 16, receive_buffer_bytes: 256 })
    }

    fn with(options: UringOptions) -> Self {
        let mut uring = Uring::new(options, WakeHandle::new().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
        uring.add_listener(listener.try_clone().unwrap().into());
        Self { uring, listener, seen: Vec::new() }
    }

    fn turn(&mut self) -> usize {
        let seen = &mut self.seen;
        self.uring.submit_and_collect(|_, event| {
            seen.push(match event {
                Event::Accepted { socket, .. } => Seen::Accepted(socket),
                Event::AcceptFailed { .. } => Seen::AcceptFailed,
                Event::Received { socket, bytes } => Seen::Received(socket, bytes.to_vec()),
                Event::Ended { socket, error } => Seen::Ended(socket, error.is_some()),
                Event::Flushed { socket } => Seen::Flushed(socket),
                Event::Blocked { socket } => Seen::Blocked(socket),
                Event::SendFailed { socket, .. } => Seen::SendFailed(socket),
                Event::Closed { socket } => Seen::Closed(socket),
            });
        })
    }

    /// Turns until `done` says so.
    #[track_caller]
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "did not happen; seen {:?}", self.seen);
            self.turn();
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn until_seen(&mut self, event: Seen) {
        self.until(|rig| rig.seen.contains(&event));
    }

    #[track_caller]
    fn connect(&mut self) -> (TcpStream, SocketId) {
        let (peer, socket) = self.accept();
        self.uring.start_receive(socket);
        (peer, socket)
    }

    /// A connection of which nothing is received yet.
    #[track_caller]
    fn accept(&mut self) -> (TcpStream, SocketId) {
        let before = self.seen.len();
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let accepted = |seen: &Seen| {
            if let Seen::Accepted(socket) = seen { Some(*socket) } else { None }
        };
        self.until(|rig| rig.seen[before..].iter().any(|seen| accepted(seen).is_some()));
        let socket = self.seen[before..].iter().find_map(accepted).unwrap();
        (peer, socket)
    }

    fn received(&self, socket: SocketId) -> Vec<u8> {
        let bytes = |seen: &Seen| match seen {
            Seen::Received(from, bytes) if *from == socket => bytes.clone(),
            _ => Vec::new(),
        };
        self.seen.iter().flat_map(bytes).collect()
    }
}

/// Turns while the peer reads, until its end or `bytes` of them.
#[track_caller]
fn read_in_turns(rig: &mut Rig, peer: &mut TcpStream, bytes: usize) -> Result<Vec<u8>, ErrorKind> {
    peer.set_nonblocking(true).unwrap();
    let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
    let start = Instant::now();
    while got.len() < bytes {
        assert!(start.elapsed() < PATIENCE, "got {} of {bytes}", got.len());
        rig.turn();
        match peer.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => got.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(got)
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

fn soon() -> Closing {
    Closing::Graceful { give_up_at: Instant::now() + PATIENCE }
}

#[test]
fn bytes_arrive_in_order_over_many_buffers() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    let sent = pattern(100_000);
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        peer.write_all(&copy).unwrap();
        peer
    });
    rig.until(|rig| rig.received(socket).len() >= sent.len());
    assert!(rig.received(socket) == sent);
    drop(writer.join().unwrap());
    rig.until_seen(Seen::Ended(socket, false));
}

#[test]
fn accepted_socket_has_nodelay() {
    let mut rig = Rig::new();
    let (_peer, socket) = rig.connect();
    assert!(SockRef::from(&rig.uring.borrow(socket).unwrap()).tcp_nodelay().unwrap());
}

#[test]
fn shared_and_owned_bytes_are_sent_whole() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    let shared: Rc<[u8]> = b"shared".as_slice().into();
    rig.uring.send(socket, SendBytes::Shared(shared.clone()));
    rig.until_seen(Seen::Flushed(socket));
    assert_eq!(Rc::strong_count(&shared), 1, "released once it is in the kernel");
    let mut owned = rig.uring.take_buffer();
    owned.extend_from_slice(b" owned");
    let memory = owned.as_ptr();
    rig.uring.send(socket, SendBytes::Owned(owned));
    assert_eq!(read_in_turns(&mut rig, &mut peer, 12).unwrap(), b"shared owned");
    rig.until(|rig| rig.uring.unsent_bytes(socket) == 0);
    let again = rig.uring.take_buffer();
    assert_eq!(again.as_ptr(), memory, "the buffer is reused");
}

#[test]
fn short_write_is_continued_when_the_peer_reads() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    SockRef::from(&rig.uring.borrow(socket).unwrap()).set_send_buffer_size(4096).unwrap();
    let sent = pattern(1 << 20);
    rig.uring.send(socket, SendBytes::Owned(sent.clone()));
    rig.until(|rig| rig.uring.unsent_bytes(socket) < sent.len());
    assert!(rig.uring.unsent_bytes(socket) > 0 && !rig.seen.contains(&Seen::Flushed(socket)));
    assert!(read_in_turns(&mut rig, &mut peer, sent.len()).unwrap() == sent);
    rig.until_seen(Seen::Flushed(socket));
    let blocked = rig.seen.iter().filter(|seen| **seen == Seen::Blocked(socket));
    assert_eq!(blocked.count(), 1);
}

#[test]
fn reset_with_a_send_in_flight_fails_the_send_and_ends_the_receive() {
    let mut rig = Rig::new();
    let (peer, socket) = rig.connect();
    rig.uring.send(socket, SendBytes::Owned(pattern(16 << 20)));
    rig.until(|rig| rig.uring.unsent_bytes(socket) < 16 << 20);
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    rig.until(|rig| rig.seen.contains(&Seen::SendFailed(socket)) && rig.seen.contains(&Seen::Ended(socket, true)));
    rig.uring.close(socket, soon());
    rig.until_seen(Seen::Closed(socket));
    assert!(rig.uring.is_empty());
}

#[test]
fn flooder_does_not_starve_the_others_of_buffers() {
    let mut rig = Rig::with(UringOptions { receive_buffers: 2, receive_buffer_bytes: 64 });
    let peers: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    let flood = pattern(50_000);
    let writers: Vec<_> = peers
        .into_iter()
        .map(|(mut peer, socket)| {
            let flood = flood.clone();
            (std::thread::spawn(move || peer.write_all(&flood).map(|()| peer)), socket)
        })
        .collect();
    rig.until(|rig| writers.iter().all(|(_, socket)| rig.received(*socket).len() == flood.len()));
    for (writer, socket) in writers {
        writer.join().unwrap().unwrap();
        assert!(rig.received(socket) == flood);
    }
}

#[test]
fn crowd_gets_more_buffers_than_a_shard_begins_with() {
    let mut rig = Rig::with(UringOptions { receive_buffers: 1024, receive_buffer_bytes: 64 });
    let rotating = |rig: &Rig| rig.uring.buffers.as_ref().unwrap().rotating();
    let mut peers: Vec<_> = (0..300).map(|_| rig.connect()).collect();
    let before = rotating(&rig);
    for (number, (peer, _)) in peers.iter_mut().enumerate() {
        peer.write_all(&pattern(number + 1)).unwrap();
    }
    rig.until(|rig| peers.iter().enumerate().all(|(number, (_, socket))| rig.received(*socket).len() > number));
    assert!(before < 300 && rotating(&rig) > before, "{before}, then {}", rotating(&rig));
    assert!(peers.iter().enumerate().all(|(number, (_, socket))| rig.received(*socket) == pattern(number + 1)));
}

#[test]
fn paused_socket_receives_nothing_until_resumed() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    peer.write_all(b"one").unwrap();
    rig.until(|rig| rig.received(socket) == b"one");
    rig.uring.pause_receive(socket);
    // The cancel has been answered once a second socket's traffic, submitted after it, has come through.
    let (mut other, other_socket) = rig.connect();
    other.write_all(b"x").unwrap();
    rig.until(|rig| !rig.received(other_socket).is_empty());
    peer.write_all(b"two").unwrap();
    other.write_all(b"y").unwrap();
    rig.until(|rig| rig.received(other_socket) == b"xy");
    assert_eq!(rig.received(socket), b"one");
    rig.uring.start_receive(socket);
    rig.until(|rig| rig.received(socket) == b"onetwo");
}

#[test]
fn pause_and_resume_at_once_loses_nothing() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    for round in 0..100u8 {
        rig.uring.pause_receive(socket);
        rig.uring.start_receive(socket);
        peer.write_all(&[round]).unwrap();
        rig.turn();
    }
    rig.until(|rig| rig.received(socket).len() == 100);
    assert_eq!(rig.received(socket), (0..100).collect::<Vec<u8>>());
}

#[test]
fn graceful_close_delivers_the_last_bytes_then_fin_although_input_is_unread() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    peer.write_all(&pattern(5000)).unwrap();
    let last = pattern(1 << 20);
    rig.uring.send(socket, SendBytes::Owned(last.clone()));
    rig.uring.close(socket, soon());
    let got = read_in_turns(&mut rig, &mut peer, usize::MAX).expect("FIN and not RST");
    assert!(got == last);
    assert!(!rig.seen.contains(&Seen::Closed(socket)), "waits for the peer's FIN");
    drop(peer);
    rig.until_seen(Seen::Closed(socket));
    assert!(!rig.seen.iter().any(|seen| matches!(seen, Seen::Flushed(_) | Seen::Ended(..))), "{:?}", rig.seen);
}

#[test]
fn peer_that_never_answers_a_close_is_given_up() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    let now = Instant::now();
    rig.uring.close(socket, Closing::Graceful { give_up_at: now });
    assert_eq!(read_in_turns(&mut rig, &mut peer, usize::MAX).unwrap(), b"");
    assert_eq!(rig.uring.next_closing_deadline(), Some(now));
    rig.uring.expire_closing(now);
    rig.until_seen(Seen::Closed(socket));
}

#[test]
fn deaf_peer_with_a_full_socket_is_given_up() {
    let mut rig = Rig::new();
    let (_peer, socket) = rig.connect();
    rig.uring.send(socket, SendBytes::Owned(pattern(16 << 20)));
    rig.uring.close(socket, Closing::Graceful { give_up_at: Instant::now() });
    rig.until(|rig| rig.uring.unsent_bytes(socket) < 16 << 20);
    rig.uring.expire_closing(Instant::now());
    rig.until_seen(Seen::Closed(socket));
    assert!(rig.uring.is_empty());
}

#[test]
fn abort_resets_the_peer() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    rig.uring.close(socket, Closing::Abort);
    rig.until_seen(Seen::Closed(socket));
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn half_closed_peer_is_answered() {
    let mut rig = Rig::new();
    let (mut peer, socket) = rig.connect();
    peer.shutdown(Shutdown::Write).unwrap();
    rig.until_seen(Seen::Ended(socket, false));
    rig.uring.send(socket, SendBytes::Owned(b"bye".to_vec()));
    rig.uring.close(socket, soon());
    assert_eq!(read_in_turns(&mut rig, &mut peer, usize::MAX).unwrap(), b"bye");
    rig.until_seen(Seen::Closed(socket));
}

#[test]
fn reused_slot_ignores_what_was_meant_for_its_former_socket() {
    let mut rig = Rig::new();
    let (_peer, old) = rig.connect();
    rig.uring.close(old, Closing::Abort);
    rig.until_seen(Seen::Closed(old));
    let (mut peer, new) = rig.connect();
    assert_eq!((old.slot, old.generation + 1), (new.slot, new.generation));
    rig.uring.send(old, SendBytes::Owned(b"stale".to_vec()));
    rig.uring.pause_receive(old);
    rig.uring.close(old, Closing::Abort);
    rig.uring.send(new, SendBytes::Owned(b"fresh".to_vec()));
    assert_eq!(read_in_turns(&mut rig, &mut peer, 5).unwrap(), b"fresh");
}

#[test]
fn stale_completions_are_dropped() {
    let mut rig = Rig::new();
    let (_peer, socket) = rig.connect();
    rig.turn();
    rig.seen.clear();
    let stale = SocketId { generation: socket.generation.wrapping_sub(1), ..socket };
    let nobody = SocketId { slot: 999, generation: 0 };
    for target in [stale, nobody] {
        let kinds = [Kind::Receive, Kind::Send, Kind::Poll, Kind::CancelReceive, Kind::CancelPoll, Kind::Close];
        for kind in kinds {
            for result in [-libc::ECANCELED, -libc::ECONNRESET, 0, 1] {
                let done = Completion { user_data: user_data(kind, target), result, flags: 0 };
                rig.uring.dispatch(done, &mut |_, event| panic!("{event:?}"));
            }
        }
    }
    assert_eq!(rig.uring.len(), 1);
}

#[test]
fn many_sockets_come_and_go_and_every_slot_is_free_in_the_end() {
    let mut rig = Rig::new();
    for round in 0..20 {
        let mut peers: Vec<_> = (0..20).map(|_| rig.connect()).collect();
        for (index, (peer, socket)) in peers.iter_mut().enumerate() {
            rig.uring.send(*socket, SendBytes::Owned(pattern(1 + index * 10_000)));
            let _ = peer.write_all(&pattern(index * 100));
            let how = if (index + round) % 2 == 0 { Closing::Abort } else { soon() };
            rig.uring.close(*socket, how);
        }
        drop(peers);
        rig.until(|rig| rig.uring.is_empty());
    }
    let closed = rig.seen.iter().filter(|seen| matches!(seen, Seen::Closed(_))).count();
    assert_eq!(closed, 400);
}

#[test]
fn closed_listener_accepts_no_more() {
    let mut rig = Rig::new();
    let address = rig.listener.local_addr().unwrap();
    let (_peer, _socket) = rig.connect();
    rig.listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.uring.close_listener(0);
    rig.until(|rig| rig.uring.listener(0).is_none());
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(rig.uring.len(), 1);
}

#[test]
fn rings_that_share_a_listener_take_turns() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut rings: Vec<_> =
        (0..3).map(|_| Uring::new(UringOptions::default(), WakeHandle::new().unwrap()).unwrap()).collect();
    for ring in &mut rings {
        ring.add_shared_listener(listener.try_clone().unwrap().into());
    }
    let mut accepted = [0; 3];
    let mut turn = |accepted: &mut [usize; 3]| {
        for (ring, accepted) in rings.iter_mut().zip(accepted) {
            ring.submit_and_collect(|_, event| *accepted += usize::from(matches!(event, Event::Accepted { .. })));
        }
    };
    let mut peers = Vec::new();
    for connected in 1..=24 {
        // Every ring waits, as a shard without work does.
        turn(&mut accepted);
        peers.push(TcpStream::connect(address).unwrap());
        while accepted.iter().sum::<usize>() < connected {
            turn(&mut accepted);
        }
    }
    assert_eq!(accepted, [8; 3]);
}

#[test]
fn sleep_ends_with_a_completion_a_wake_and_its_timeout() {
    let wake = WakeHandle::new().unwrap();
    let mut uring = Uring::new(UringOptions::default(), wake.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    uring.add_listener(listener.into());
    while uring.submit_and_collect(|_, _| {}) > 0 {}

    let connecting = std::thread::spawn(move || TcpStream::connect(address).unwrap());
    let mut accepted = false;
    uring.sleep(PATIENCE);
    uring.submit_and_collect(|_, event| accepted |= matches!(event, Event::Accepted { .. }));
    assert!(accepted);
    drop(connecting.join().unwrap());

    for _ in 0..3 {
        let waker = wake.clone();
        let waking = std::thread::spawn(move || waker.wake());
        let start = Instant::now();
        uring.sleep(PATIENCE);
        assert!(start.elapsed() < PATIENCE, "a wake ends the sleep");
        assert!(uring.submit_and_collect(|_, _| {}) > 0);
        waking.join().unwrap();
    }
    wake.wake();
    uring.sleep(PATIENCE);
    assert!(uring.submit_and_collect(|_, _| {}) > 0, "a wake before the sleep counts");
    uring.sleep(Duration::from_millis(1));
    assert_eq!(uring.submit_and_collect(|_, _| {}), 0);
}

#[test]
fn untouched_socket_is_given_up_and_goes_on_in_another_ring() {
    let (mut from, mut to) = (Rig::new(), Rig::new());
    let (mut peer, socket) = from.accept();
    let released = from.uring.release(socket).unwrap();
    assert!(from.uring.is_empty() && from.uring.release(socket).is_none(), "it is gone here");

    let adopted = to.uring.adopt(released);
    to.uring.start_receive(adopted);
    peer.write_all(b"hello").unwrap();
    to.until_seen(Seen::Received(adopted, b"hello".to_vec()));
    assert!(to.uring.release(adopted).is_none(), "a receive is armed");
    drop(from);
    to.uring.send(adopted, SendBytes::Owned(b"there".to_vec()));
    to.turn();
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"there");
}

#[test]
fn dropping_the_ring_closes_every_socket() {
    let mut rig = Rig::new();
    let (mut idle, _) = rig.connect();
    let (mut full, socket) = rig.connect();
    rig.uring.send(socket, SendBytes::Owned(pattern(16 << 20)));
    rig.turn();
    let (mut closing, socket) = rig.connect();
    rig.uring.close(socket, soon());
    drop(rig);
    for peer in [&mut idle, &mut full, &mut closing] {
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
    }
}
