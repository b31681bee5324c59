//! Buffers of finished sends, kept for the next ones.

use super::SendBytes;

/// Bound of the capacity kept, 4 MiB: a turn's worth of concatenated frames. More is freed.
const POOLED_BYTES_MAX: usize = 4 << 20;

#[derive(Default)]
pub(super) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
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
        pool.give_back(vec![1; POOLED_BYTES_MAX]);
        pool.give_back(vec![2; 1]);
        assert_eq!(pool.buffers.len(), 1);
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() >= POOLED_BYTES_MAX);
        assert_eq!(pool.bytes, 0);
    }
}
