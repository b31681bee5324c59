//! Bytes on their way to one connection: encoded once, shared by all receivers, bounded per connection.

use std::rc::Rc;

/// Transport-ready bytes, headers of the transport included.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The same bytes go to several connections of this shard; the count is not atomic.
    Shared(Rc<[u8]>),
    /// For one connection alone; may hold several messages.
    Owned(Vec<u8>),
}

impl Frame {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Frame::Shared(bytes) => bytes,
            Frame::Owned(bytes) => bytes,
        }
    }
}

/// What one flush hands to the socket.
#[derive(Debug)]
pub enum Frames {
    /// A single frame: write it from where it lies.
    One(Frame),
    /// Several, in order: join them into one write. Give the emptied vector back with
    /// [`Shard::recycle`](crate::Shard::recycle).
    Many(Vec<Frame>),
}

/// Encoded frames waiting for one socket.
///
/// Bound: `client.queue_max_size`, bytes, those handed to the socket but not yet accepted by it included. Full: the
/// client is closed with `Disconnect::SLOW`. Seen in `centrifugo_client_num_server_disconnects`.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    waiting: Waiting,
    waiting_bytes: u32,
    unflushed_bytes: u32,
}

#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nothing,
    One(Frame),
    Many(Vec<Frame>),
}

impl SendQueue {
    /// Bytes that the socket has not accepted yet.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting_bytes as usize + self.unflushed_bytes as usize
    }

    /// Nothing to hand out.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.waiting, Waiting::Nothing)
    }

    /// Appends a frame that others get too. `spare` gives vectors that earlier flushes emptied.
    pub(crate) fn push_shared(&mut self, bytes: &Rc<[u8]>, spare: &mut Vec<Vec<Frame>>) {
        self.waiting_bytes += bytes.len() as u32;
        self.push(Frame::Shared(Rc::clone(bytes)), spare);
    }

    /// Appends bytes of this connection alone, to the frame before when that is its own as well.
    pub(crate) fn push_owned(&mut self, pieces: [&[u8]; 3], spare: &mut Vec<Vec<Frame>>) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.waiting_bytes += length as u32;
        let last = match &mut self.waiting {
            Waiting::Nothing => None,
            Waiting::One(frame) => Some(frame),
            Waiting::Many(frames) => frames.last_mut(),
        };
        if let Some(Frame::Owned(bytes)) = last {
            pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
            return;
        }
        let mut bytes = Vec::with_capacity(length);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        self.push(Frame::Owned(bytes), spare);
    }

    fn push(&mut self, frame: Frame, spare: &mut Vec<Vec<Frame>>) {
        self.waiting = match std::mem::take(&mut self.waiting) {
            Waiting::Nothing => Waiting::One(frame),
            Waiting::One(first) => {
                let mut frames = spare.pop().unwrap_or_default();
                frames.push(first);
                frames.push(frame);
                Waiting::Many(frames)
            }
            Waiting::Many(mut frames) => {
                frames.push(frame);
                Waiting::Many(frames)
            }
        };
    }

    /// Hands everything out; it counts until [`flushed`](Self::flushed).
    pub(crate) fn take(&mut self) -> Option<Frames> {
        self.unflushed_bytes += std::mem::take(&mut self.waiting_bytes);
        match std::mem::take(&mut self.waiting) {
            Waiting::Nothing => None,
            Waiting::One(frame) => Some(Frames::One(frame)),
            Waiting::Many(frames) => Some(Frames::Many(frames)),
        }
    }

    /// The socket has accepted all that was taken.
    pub(crate) fn flushed(&mut self) {
        self.unflushed_bytes = 0;
    }

    /// Drops what was not handed out.
    pub(crate) fn clear(&mut self) {
        self.waiting = Waiting::Nothing;
        self.waiting_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &mut SendQueue) -> Vec<u8> {
        match queue.take() {
            None => Vec::new(),
            Some(Frames::One(frame)) => frame.bytes().to_vec(),
            Some(Frames::Many(frames)) => frames.iter().flat_map(|frame| frame.bytes()).copied().collect(),
        }
    }

    /// Pushes frames, `=` before those that others get too, and wants them out in order and counted.
    #[track_caller]
    fn check(push: &str, frames: usize) {
        let (mut queue, mut spare) = (SendQueue::default(), Vec::new());
        for frame in push.split(' ') {
            match frame.strip_prefix('=') {
                Some(shared) => queue.push_shared(&Rc::from(shared.as_bytes()), &mut spare),
                None => queue.push_owned([&frame.as_bytes()[..1], &frame.as_bytes()[1..], b""], &mut spare),
            }
        }
        let want = push.replace([' ', '='], "");
        assert_eq!(queue.bytes(), want.len(), "{push}");
        let count = match &queue.waiting {
            Waiting::Nothing => 0,
            Waiting::One(_) => 1,
            Waiting::Many(frames) => frames.len(),
        };
        assert_eq!(count, frames, "{push}");
        assert_eq!(taken(&mut queue), want.as_bytes(), "{push}");
        assert!(queue.is_empty());
    }

    #[test]
    fn frames_leave_in_the_order_in_which_they_came() {
        check("=ab", 1);
        check("=ab =cd =ef", 3);
        check("ab =cd ef", 3);
    }

    #[test]
    fn frames_of_one_connection_alone_are_joined() {
        check("ab cd ef", 1);
        check("=ab cd ef =gh", 3);
    }

    #[test]
    fn bytes_count_until_the_socket_has_accepted_them() {
        let (mut queue, mut spare) = (SendQueue::default(), Vec::new());
        queue.push_owned([b"ab", b"c", b"d"], &mut spare);
        taken(&mut queue);
        assert_eq!(queue.bytes(), 4);
        queue.push_owned([b"e", b"f", b""], &mut spare);
        assert_eq!(queue.bytes(), 6);
        queue.flushed();
        assert_eq!(queue.bytes(), 2);
        assert!(!queue.is_empty());
    }

    #[test]
    fn cleared_queue_keeps_counting_what_the_socket_holds() {
        let (mut queue, mut spare) = (SendQueue::default(), Vec::new());
        queue.push_owned([b"ab", b"", b""], &mut spare);
        taken(&mut queue);
        queue.push_owned([b"cde", b"", b""], &mut spare);
        queue.clear();
        assert_eq!(queue.bytes(), 2);
        assert!(queue.take().is_none());
    }

    #[test]
    fn emptied_vectors_are_used_again() {
        let (mut queue, mut spare) = (SendQueue::default(), vec![Vec::with_capacity(64)]);
        let frame = Rc::from(&b"a"[..]);
        queue.push_shared(&frame, &mut spare);
        queue.push_shared(&frame, &mut spare);
        assert!(spare.is_empty());
        let Some(Frames::Many(frames)) = queue.take() else { panic!("two frames") };
        assert!(frames.capacity() >= 64);
    }
}
