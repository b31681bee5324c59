//! Coalescing: several frames become one write. Measured, a write costs 5 µs and a frame in it 0.3.

use std::collections::VecDeque;

use ringcast_proto::websocket::merge_frames;
use ringcast_state::Frame;

use crate::uring::SendBytes;

/// Bytes joined into one write. More gains nothing, and frames that wait for a slow client stay shared with the
/// others' instead of being copied.
pub const WRITE_BYTES_MAX: usize = 64 << 10;

/// Joins all frames, if they fit into one write. With `messages_max` above 1 they are WebSocket frames, and so many
/// messages share one.
pub fn join(frames: &mut Vec<Frame>, messages_max: usize, buffer: impl FnOnce() -> Vec<u8>) -> Option<SendBytes> {
    let total: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
    if total > WRITE_BYTES_MAX {
        return None;
    }
    let mut joined = buffer();
    joined.reserve(total);
    if messages_max == 1 {
        frames.iter().for_each(|frame| joined.extend_from_slice(frame.bytes()));
    } else {
        merge_frames(frames.iter().map(Frame::bytes), messages_max, &mut joined);
    }
    frames.clear();
    Some(SendBytes::Owned(joined))
}

/// Takes as many of the oldest frames as fit into one write, but at least one. None without frames.
pub fn next(frames: &mut VecDeque<Frame>, buffer: impl FnOnce() -> Vec<u8>) -> Option<SendBytes> {
    let mut total = 0;
    let fits = |frame: &&Frame| {
        total += frame.bytes().len();
        total <= WRITE_BYTES_MAX
    };
    let count = frames.iter().take_while(fits).count();
    if count <= 1 {
        return frames.pop_front().map(SendBytes::from);
    }
    let mut joined = buffer();
    for frame in frames.drain(..count) {
        joined.extend_from_slice(frame.bytes());
    }
    Some(SendBytes::Owned(joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(lengths: &[usize]) -> VecDeque<Frame> {
        let frame = |(index, length): (usize, &usize)| match index % 2 {
            0 => Frame::Owned(vec![index as u8; *length]),
            _ => Frame::Shared(vec![index as u8; *length].into()),
        };
        lengths.iter().enumerate().map(frame).collect()
    }

    #[track_caller]
    fn check(lengths: &[usize], want: &[usize]) {
        let mut waiting = frames(lengths);
        let all: Vec<u8> = waiting.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
        let (mut writes, mut written) = (Vec::new(), Vec::new());
        while let Some(write) = next(&mut waiting, Vec::new) {
            writes.push(write.len());
            written.extend_from_slice(match &write {
                SendBytes::Shared(bytes) => bytes,
                SendBytes::Owned(bytes) => bytes,
            });
        }
        assert_eq!(writes, want);
        assert!(written == all);
    }

    #[test]
    fn frames_are_joined_in_order_up_to_the_bound() {
        check(&[], &[]);
        check(&[10], &[10]);
        check(&[10, 20, 30], &[60]);
        check(&[WRITE_BYTES_MAX - 1, 1, 1], &[WRITE_BYTES_MAX, 1]);
        check(&[1, WRITE_BYTES_MAX, 1], &[1, WRITE_BYTES_MAX, 1]);
        check(&[WRITE_BYTES_MAX + 1, 1, 2], &[WRITE_BYTES_MAX + 1, 3]);
    }

    #[test]
    fn single_shared_frame_is_sent_from_its_own_memory() {
        let bytes: std::rc::Rc<[u8]> = vec![1, 2, 3].into();
        let mut waiting = VecDeque::from([Frame::Shared(bytes.clone())]);
        let write = next(&mut waiting, || unreachable!("no copy is made"));
        assert!(matches!(write, Some(SendBytes::Shared(sent)) if std::rc::Rc::ptr_eq(&sent, &bytes)));
    }

    #[test]
    fn too_much_for_one_write_is_left_alone() {
        let mut small = Vec::from(frames(&[1, 2]));
        assert_eq!(join(&mut small, 1, Vec::new).map(|write| write.len()), Some(3));
        assert!(small.is_empty());
        let mut large = Vec::from(frames(&[WRITE_BYTES_MAX, 1]));
        assert!(join(&mut large, 1, Vec::new).is_none());
        assert_eq!(large.len(), 2);
    }
}
