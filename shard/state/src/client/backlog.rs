//! Frames of a connection that wait until the commands before them are answered.

use super::command::MALFORMED;
use ringcast_proto::client::{Command, Encoding, decode_commands};
use std::collections::VecDeque;

/// What a waiting frame costs beside its bytes, roughly.
const FRAME_WEIGHT: usize = 64;

/// Waiting frames, the first perhaps begun. They wait as they came: decoded, a frame of tiny commands takes fifty times its
/// size.
///
/// Bound: `Limits::backlog_max_size`, bytes, beyond which receiving is paused; what was received by then still comes
/// in. At half of it receiving goes on.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    frames: VecDeque<Rest>,
    bytes: usize,
    is_paused: bool,
}

/// What is left of a frame.
#[derive(Debug)]
struct Rest {
    frame: Box<[u8]>,
    /// Bytes of it that were served.
    served: usize,
}

impl Backlog {
    /// Puts a frame, or the rest of one, behind the others. True when receiving must pause now.
    pub(super) fn push(&mut self, frame: &[u8], bytes_max: usize) -> bool {
        self.bytes += FRAME_WEIGHT + frame.len();
        self.frames.push_back(Rest { frame: frame.into(), served: 0 });
        let must_pause = self.bytes > bytes_max && !self.is_paused;
        self.is_paused |= must_pause;
        must_pause
    }

    /// The command whose turn it is, and its size.
    pub(super) fn next(&mut self, encoding: Encoding) -> Option<(Command, usize)> {
        let first = self.frames.front_mut()?;
        let waiting = &first.frame[first.served..];
        let mut commands = decode_commands(encoding, waiting);
        let command = commands.next()?.unwrap_or(MALFORMED);
        let (size, rest) = (commands.size(), commands.rest().map_or(0, <[u8]>::len));
        let served = waiting.len() - rest;
        self.bytes -= served;
        first.served += served;
        if rest == 0 {
            self.frames.pop_front();
            self.bytes -= FRAME_WEIGHT;
        }
        Some((command, size))
    }

    /// True when receiving was paused and may go on.
    pub(super) fn resume(&mut self, bytes_max: usize) -> bool {
        let may_resume = self.is_paused && self.bytes <= bytes_max / 2;
        self.is_paused &= !may_resume;
        may_resume
    }

    /// More waits than may.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(backlog: &mut Backlog, count: usize) -> Vec<u32> {
        (0..count).map_while(|_| backlog.next(Encoding::Json)).map(|(command, _)| command.id).collect()
    }

    #[test]
    fn commands_come_out_in_their_order_and_leave_no_weight() {
        let mut backlog = Backlog::default();
        backlog.push(b"{\"id\":2}\n{\"id\":3}\n", 1000);
        backlog.push(b"{\"id\":4}", 1000);
        assert_eq!(ids(&mut backlog, 9), [2, 3, 4]);
        assert!(backlog.is_empty());
        assert_eq!(backlog.bytes, 0);
    }

    #[test]
    fn frame_that_is_broken_or_empty_ends_with_the_marker() {
        for broken in [&b""[..], b"x", b"{\"id\":1}\n\n{\"id\":2}"] {
            let mut backlog = Backlog::default();
            backlog.push(broken, 1000);
            let got: Vec<Command> = std::iter::from_fn(|| Some(backlog.next(Encoding::Json)?.0)).collect();
            assert_eq!(got.last(), Some(&MALFORMED), "{broken:?}");
            assert!(backlog.is_empty() && backlog.bytes == 0, "{broken:?}");
        }
    }

    #[test]
    fn receiving_pauses_above_the_bound_and_goes_on_at_half_of_it() {
        let mut backlog = Backlog::default();
        let bound = 2 * (FRAME_WEIGHT + 2);
        assert!(!backlog.push(b"{}", bound));
        assert!(!backlog.push(b"{}", bound));
        assert!(backlog.push(b"{}", bound));
        assert!(!backlog.push(b"{}", bound), "paused already");
        let resumed = [(); 4].map(|()| {
            backlog.next(Encoding::Json);
            backlog.resume(bound)
        });
        assert_eq!(resumed, [false, false, true, false]);
    }
}
