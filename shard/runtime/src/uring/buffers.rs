//! Receive buffers that the kernel picks from when bytes have come: an idle connection holds none.
//!
//! The kernel goes round the ring, so every buffer in it is touched before the first is used again. A shard therefore
//! begins with a few, which stay in the cache (128 of 2 KiB, where 2048 are 4 MiB of memory that is never warm), and puts
//! more in only when a turn has used half of them.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::queue::Queue;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 1;

/// Anonymous memory, page aligned as the kernel demands of a buffer ring.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap gives no mapping at address 0");
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new`, and no slice of it can outlive `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Buffers in the ring at first.
const ROTATING_MIN: u16 = 128;

/// The provided-buffer ring: `count` buffers, each either the kernel's or, between a completion and
/// `give_back`, ours, or not in use yet.
pub(super) struct Buffers {
    memory: Mapping,
    entries: Mapping,
    count: u16,
    /// The first so many go round.
    rotating: u16,
    /// Buffers received since `adapt`.
    used: u16,
    buffer_bytes: u32,
    tail: u16,
}

impl Buffers {
    /// `count` must be a power of two of at most 32768; `buffer_bytes` at least 1.
    pub fn register(queue: &Queue, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && buffer_bytes > 0);
        let memory = Mapping::new(usize::from(count) * buffer_bytes as usize)?;
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        // SAFETY: the mapping holds `count` entries; `Uring` keeps it until the ring is gone.
        unsafe { queue.register_buffers(entries.start.as_ptr() as u64, count, GROUP)? };
        let mut buffers = Self { memory, entries, count, rotating: 0, used: 0, buffer_bytes, tail: 0 };
        buffers.rotate(ROTATING_MIN.min(count));
        Ok(buffers)
    }

    /// Buffers that go round.
    pub fn rotating(&self) -> usize {
        usize::from(self.rotating)
    }

    /// Call once per turn: lets more go round if this turn came near to running out.
    pub fn adapt(&mut self) {
        let used = std::mem::take(&mut self.used);
        if used > self.rotating / 2 && self.rotating < self.count {
            self.rotate((self.rotating * 2).min(self.count));
        }
    }

    fn rotate(&mut self, rotating: u16) {
        for id in self.rotating..rotating {
            self.give_back(id);
        }
        self.rotating = rotating;
    }

    fn start_of(&self, id: u16) -> *mut u8 {
        assert!(id < self.count, "the kernel names only buffers it was given");
        // SAFETY: `id` is below `count`, so the offset lies inside the mapping.
        unsafe { self.memory.start.as_ptr().add(usize::from(id) * self.buffer_bytes as usize) }
    }

    /// The first `bytes` of a buffer named by a completion and not given back yet.
    pub fn received(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        assert!(bytes <= self.buffer_bytes as usize);
        self.used = self.used.saturating_add(1);
        // SAFETY: inside the mapping, always initialised (anonymous memory), and since the completion until
        // `give_back`, which needs `&mut self` again, the kernel does not touch it.
        unsafe { std::slice::from_raw_parts_mut(self.start_of(id), bytes) }
    }

    /// Hands a buffer to the kernel (again).
    pub fn give_back(&mut self, id: u16) {
        let address = self.start_of(id) as u64;
        let ring: *mut BufRingEntry = self.entries.start.as_ptr().cast();
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below `count`. The kernel reads an entry only once the tail has passed it. The tail lies in the
        // first entry, where the kernel only reads it, and this reference is gone before it is written below.
        let entry = unsafe { &mut *ring.add(index) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies inside the first entry, is aligned, and is shared with the kernel by atomic
        // accesses only.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
