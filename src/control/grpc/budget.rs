//! How much memory the requests of all clients may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tonic::Status;

/// What all requests may take.
const BYTES_MAX: usize = 256 << 20;

/// What a request takes beside its message: its stream of HTTP/2, metadata, and a place in a shard.
const REQUEST_BYTES: usize = 4 << 10;

/// Bytes of the requests in work: that still arrive, wait for a shard, or whose answer the client has not made room for.
///
/// Bound: 256 MiB. Full: further requests are refused with RESOURCE_EXHAUSTED, which clients see.
#[derive(Clone, Default)]
pub struct Budget(Arc<AtomicUsize>);

/// What one request takes; given back when dropped.
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Begins a request.
    pub fn share(&self) -> Result<Share, Status> {
        let mut share = Share { budget: self.clone(), bytes: 0 };
        share.grow(REQUEST_BYTES)?;
        Ok(share)
    }
}

impl Share {
    /// Takes so much more, if it is left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        self.grow_anyway(bytes);
        match self.budget.0.load(Ordering::Relaxed) > BYTES_MAX {
            true => Err(Status::resource_exhausted("the server has too many requests in work")),
            false => Ok(()),
        }
    }

    /// Takes so much more, at the cost of the requests that come next: what was carried out must be answered.
    pub fn grow_anyway(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_refused_while_others_take_everything() {
        let budget = Budget::default();
        let mut large = budget.share().expect("room");
        large.grow(BYTES_MAX - 2 * REQUEST_BYTES).expect("room");
        let last = budget.share().expect("room");
        assert_eq!(budget.share().err().expect("no room").code(), tonic::Code::ResourceExhausted);
        drop(last);
        assert!(large.grow(REQUEST_BYTES + 1).is_err());
        drop(large);
        assert!(budget.share().is_ok());
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn answers_take_what_is_not_left() {
        let budget = Budget::default();
        let mut share = budget.share().expect("room");
        share.grow_anyway(BYTES_MAX);
        assert!(budget.share().is_err());
        drop(share);
        assert!(budget.share().is_ok());
    }
}
