//! Buffers of finished sends, kept for the next ones.

use super::SendBytes;

/// Bound of the capacity kept, 4 MiB: a turn's worth of concatenated frames. More is freed.
const POOLED_BYTES_MAX: usize = 4 << 20;

/// Keeps no more buffers than were taken at the same time. More come back than were taken, for the replies of a client are sent in buffers
/// of their own; kept, they filled the pool with one for each client that ever came, and handshakes of TLS made them a kilobyte each.
#[derive(Default)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    /// Capacity of all that are here.
    bytes: usize,
    /// Taken, and not yet made up for by one that came back.
    lent: usize,
}

impl BufferPool {
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        self.lent += 1;
        buffer
    }

    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        let Some(lent) = self.lent.checked_sub(1) else {
            return;
        };
        self.lent = lent;
        let capacity = buffer.capacity();
        if capacity > 0 && self.bytes + capacity <= POOLED_BYTES_MAX {
            buffer.clear();
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }

    pub fn give_back_sent(&mut self, bytes: SendBytes) {
        match bytes {
            SendBytes::Owned(buffer) => self.give_back(buffer),
            SendBytes::Shared(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_reuses_buffers_and_keeps_at_most_its_bound() {
        let mut pool = BufferPool::default();
        assert!(pool.take().is_empty() && pool.take().is_empty());
        pool.give_back(vec![1; POOLED_BYTES_MAX]);
        pool.give_back(vec![2; 1]);
        assert_eq!(pool.buffers.len(), 1);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() >= POOLED_BYTES_MAX);
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn pool_keeps_no_more_buffers_than_were_taken_at_once() {
        let mut pool = BufferPool::default();
        for _ in 0..10 {
            let taken = [pool.take(), pool.take()];
            taken.into_iter().chain([vec![3; 100]]).for_each(|mut buffer| {
                buffer.push(1);
                pool.give_back(buffer);
            });
        }
        assert_eq!(pool.buffers.len(), 2);
        assert_eq!(pool.bytes, pool.buffers.iter().map(Vec::capacity).sum::<usize>());
    }
}
