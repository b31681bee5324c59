//! Frames between the process that goes and the one that comes, and descriptors beside them, over a pair of sockets.
//!
//! A frame is a kind, whether a descriptor comes with it, the length of what follows, and that. This much never changes, so
//! that processes of different versions can at least hand over sockets.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Bytes of a frame. One larger is no frame of ours.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

const HEAD_BYTES: usize = 6;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// From the old process, first: the version in which it writes channels.
    Hello = 1,
    /// From the old process, with a descriptor: what it is.
    Socket = 2,
    /// There are no more of them.
    SocketsEnd = 3,
    /// From the new process: it has started, and would take over. The version in which it reads channels.
    Ready = 4,
    /// From the old process: channels.
    Channels = 5,
    /// From the old process: serve from now on.
    Commit = 6,
    /// From the new process: it does. From here on the old one cannot go back.
    Serving = 7,
    /// From the new process: why it does not, as text.
    Failed = 8,
    /// From the old process, with a descriptor: a connection that waits to be served.
    Connection = 9,
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    /// None for what a newer version says.
    pub kind: Option<Kind>,
    /// What follows.
    pub body: Vec<u8>,
    /// What came beside it.
    pub descriptor: Option<OwnedFd>,
}

/// One end.
pub struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
    /// Descriptors of frames that are not whole yet.
    descriptors: VecDeque<OwnedFd>,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        const ALL: [Kind; 9] = [
            Kind::Hello,
            Kind::Socket,
            Kind::SocketsEnd,
            Kind::Ready,
            Kind::Channels,
            Kind::Commit,
            Kind::Serving,
            Kind::Failed,
            Kind::Connection,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl Wire {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), descriptors: VecDeque::new() }
    }

    /// How long the other process may let us wait, for a frame or for room.
    pub fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(patience)?;
        self.stream.set_write_timeout(patience)
    }

    pub fn send(&self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let head = head(kind, false, body)?;
        (&self.stream).write_all(&head)?;
        (&self.stream).write_all(body)
    }

    pub fn send_with(&self, kind: Kind, body: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let head = head(kind, true, body)?;
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let has_room = beside.push(SendAncillaryMessage::ScmRights(&descriptors));
        debug_assert!(has_room);
        let sent = sendmsg(&self.stream, &[IoSlice::new(&head)], &mut beside, SendFlags::NOSIGNAL)?;
        // The descriptor goes with the first byte.
        (&self.stream).write_all(&head[sent..])?;
        (&self.stream).write_all(body)
    }

    /// The next frame; None when the other process has ended, or closed its end, behind a whole one.
    pub fn receive(&mut self) -> io::Result<Option<Frame>> {
        if !self.fill(HEAD_BYTES)? {
            return Ok(None);
        }
        let head: Vec<u8> = self.read.drain(..HEAD_BYTES).collect();
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if !self.fill(length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = self.read.split_off(length);
        let body = std::mem::replace(&mut self.read, rest);
        let descriptor = match head[1] {
            0 => None,
            _ => Some(self.descriptors.pop_front().ok_or_else(|| io::Error::other("a descriptor did not come"))?),
        };
        Ok(Some(Frame { kind: Kind::of(head[0]), body, descriptor }))
    }

    /// Reads until there are `length` bytes. False at the end before the first of them.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        let had = self.read.len();
        while self.read.len() < length {
            let start = self.read.len();
            self.read.resize(start + READ_BYTES.max(length - start), 0);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let into = &mut [IoSliceMut::new(&mut self.read[start..])];
            let received = recvmsg(&self.stream, into, &mut beside, RecvFlags::CMSG_CLOEXEC);
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            let bytes = match &received {
                Ok(received) => received.bytes,
                Err(_) => 0,
            };
            self.read.truncate(start + bytes);
            match received {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if bytes == 0 && start == 0 && had == 0 => return Ok(false),
                Ok(_) if bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
            }
        }
        Ok(true)
    }
}

fn head(kind: Kind, has_descriptor: bool, body: &[u8]) -> io::Result<[u8; HEAD_BYTES]> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("too large to be handed over"))?.to_le_bytes();
    Ok([kind as u8, u8::from(has_descriptor), length[0], length[1], length[2], length[3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().expect("a pair of sockets");
        (Wire::new(one), Wire::new(other))
    }

    #[test]
    fn frames_and_descriptors_arrive_in_order() {
        let (old, mut new) = pair();
        let sockets: Vec<_> = (0..10).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        old.send(Kind::Hello, b"first").expect("room");
        for (number, socket) in sockets.iter().enumerate() {
            old.send_with(Kind::Socket, &[number as u8; 3], socket.as_fd()).expect("room");
            old.send(Kind::SocketsEnd, &[]).expect("room");
        }
        drop(old);
        let first = new.receive().expect("a frame").expect("a frame");
        assert_eq!((first.kind, first.body.as_slice()), (Some(Kind::Hello), b"first".as_slice()));
        for (number, socket) in sockets.iter().enumerate() {
            let frame = new.receive().expect("a frame").expect("a frame");
            assert_eq!(frame.body, [number as u8; 3]);
            let came = TcpListener::from(frame.descriptor.expect("a descriptor"));
            assert_eq!(came.local_addr().ok(), socket.local_addr().ok());
            let end = new.receive().expect("a frame").expect("a frame");
            assert!(end.descriptor.is_none() && end.kind == Some(Kind::SocketsEnd));
        }
        assert!(new.receive().expect("the end").is_none());
    }

    #[test]
    fn large_frames_arrive_whole_and_too_large_ones_are_refused() {
        let (old, mut new) = pair();
        let body: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
        let sent = body.clone();
        let sender = std::thread::spawn(move || old.send(Kind::Channels, &sent));
        assert_eq!(new.receive().expect("a frame").expect("a frame").body, body);
        sender.join().expect("no panic").expect("room");

        let (old, mut new) = pair();
        (&old.stream).write_all(&[5, 0, 255, 255, 255, 255]).expect("room");
        assert!(new.receive().is_err());
    }

    #[test]
    fn what_a_newer_version_says_is_no_error_and_half_a_frame_is() {
        let (old, mut new) = pair();
        (&old.stream).write_all(&[200, 0, 1, 0, 0, 0, 7]).expect("room");
        let frame = new.receive().expect("a frame").expect("a frame");
        assert_eq!((frame.kind, frame.body), (None, vec![7]));
        (&old.stream).write_all(&[5, 0, 9, 0, 0, 0, 7]).expect("room");
        drop(old);
        assert!(new.receive().is_err());
    }
}
