//! Queues from shard to shard: one single-producer, single-consumer ring per ordered pair, and the bells that
//! wake a sleeping receiver.
//!
//! A ring keeps the order in which its sender pushed. Pushing never waits: a full ring hands the message back,
//! and the caller keeps it in its own bounded overflow.

mod doorbell;

use rtrb::{Consumer, Producer, RingBuffer};

pub use doorbell::{Doorbell, Wake};

use crate::uring::WakeHandle;

/// Bound of the memory of all rings of a process, 64 MiB: 64 shards have 4032 of them.
const MESH_BYTES_MAX: usize = 64 << 20;

/// Messages that one ring holds at least, so that a batch still fits however many shards there are.
const RING_MESSAGES_MIN: usize = 64;

/// Messages that one ring holds at most: about what a shard handles in a few milliseconds.
const RING_MESSAGES_MAX: usize = 4096;

/// Messages that one ring of `shards` shards holds: from 64 to 4096, so that the
/// rings of up to 128 shards stay below 64 MiB together.
pub fn ring_messages(shards: usize, message_bytes: usize) -> usize {
    let rings = (shards * shards.saturating_sub(1)).max(1);
    let fair = MESH_BYTES_MAX / rings / message_bytes.max(1);
    fair.clamp(RING_MESSAGES_MIN, RING_MESSAGES_MAX)
}

/// All rings of a process; it only makes the endpoints.
pub struct Mesh;

impl Mesh {
    /// One endpoint per bell, in the same order. Hand each to its shard.
    pub fn endpoints<T, W: Wake>(bells: &[Doorbell<W>]) -> Vec<Endpoint<T, W>> {
        let shards = bells.len();
        let mut endpoints: Vec<_> = (0..shards).map(|shard| Endpoint::new(shard, bells)).collect();
        for from in 0..shards {
            for to in (0..shards).filter(|to| *to != from) {
                let (producer, consumer) = RingBuffer::new(ring_messages(shards, size_of::<T>()));
                endpoints[from].to[to].ring = Some(producer);
                endpoints[to].from[from] = Some(consumer);
            }
        }
        endpoints
    }
}

/// The ends of all rings that one shard holds.
pub struct Endpoint<T, W = WakeHandle> {
    to: Vec<Destination<T, W>>,
    from: Vec<Option<Consumer<T>>>,
    bell: Doorbell<W>,
    /// Whose ring is drained first; moves on, so that nobody is always last.
    first: usize,
}

struct Destination<T, W> {
    /// None for the shard itself.
    ring: Option<Producer<T>>,
    bell: Doorbell<W>,
    /// Something was pushed since the last `flush_wakes`.
    pushed: bool,
}

impl<T, W: Wake> Endpoint<T, W> {
    fn new(shard: usize, bells: &[Doorbell<W>]) -> Self {
        let destination = |bell: &Doorbell<W>| Destination { ring: None, bell: bell.clone(), pushed: false };
        Self {
            to: bells.iter().map(destination).collect(),
            from: bells.iter().map(|_| None).collect(),
            bell: bells[shard].clone(),
            first: 0,
        }
    }

    /// Queues a message for another shard; a full ring gives it back. Nobody is woken before `flush_wakes`.
    ///
    /// A shard has no ring to itself: the message comes back.
    pub fn push(&mut self, to: usize, message: T) -> Result<(), T> {
        let destination = &mut self.to[to];
        let Some(ring) = &mut destination.ring else {
            return Err(message);
        };
        ring.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        destination.pushed = true;
        Ok(())
    }

    /// Wakes the sleepers among the shards pushed to since the last call.
    pub fn flush_wakes(&mut self) {
        for destination in &mut self.to {
            if std::mem::take(&mut destination.pushed) {
                destination.bell.ring();
            }
        }
    }

    /// Takes at most `max` messages of each ring. Returns how many in all.
    pub fn drain(&mut self, max: usize, mut on: impl FnMut(usize, T)) -> usize {
        let shards = self.from.len();
        let mut taken = 0;
        for offset in 0..shards {
            let from = (self.first + offset) % shards;
            let Some(ring) = &mut self.from[from] else {
                continue;
            };
            let batch = ring.slots().min(max);
            if batch > 0 {
                let chunk = ring.read_chunk(batch).expect("a ring only grows behind its reader's back");
                chunk.into_iter().for_each(|message| on(from, message));
                taken += batch;
            }
        }
        self.first = (self.first + 1) % shards;
        taken
    }

    /// Messages that wait to be drained.
    pub fn len(&self) -> usize {
        self.from.iter().flatten().map(Consumer::slots).sum()
    }

    /// Nothing waits to be drained.
    pub fn is_empty(&self) -> bool {
        self.from.iter().flatten().all(Consumer::is_empty)
    }

    /// This shard's own bell.
    pub fn bell(&self) -> &Doorbell<W> {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Counted(std::sync::Arc<AtomicUsize>);

    impl Wake for Counted {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn mesh(shards: usize) -> (Vec<Endpoint<u64, Counted>>, Vec<std::sync::Arc<AtomicUsize>>) {
        let counts: Vec<_> = (0..shards).map(|_| std::sync::Arc::default()).collect();
        let bells: Vec<_> = counts.iter().map(|count| Doorbell::new(Counted(std::sync::Arc::clone(count)))).collect();
        (Mesh::endpoints(&bells), counts)
    }

    fn taken(endpoint: &mut Endpoint<u64, Counted>, max: usize) -> Vec<(usize, u64)> {
        let mut taken = Vec::new();
        endpoint.drain(max, |from, message| taken.push((from, message)));
        taken
    }

    #[test]
    fn messages_of_a_sender_keep_their_order_and_their_sender() {
        let (mut shards, _) = mesh(3);
        for message in 0..4 {
            shards[0].push(2, message).unwrap();
        }
        shards[1].push(2, 10).unwrap();
        assert_eq!(taken(&mut shards[2], 3), [(0, 0), (0, 1), (0, 2), (1, 10)]);
        assert!(!shards[2].is_empty());
        assert_eq!(taken(&mut shards[2], 3), [(0, 3)]);
        assert!(shards.iter().all(Endpoint::is_empty));
    }

    #[test]
    fn full_ring_gives_the_message_back() {
        let (mut shards, _) = mesh(2);
        let capacity = ring_messages(2, size_of::<u64>()) as u64;
        for message in 0..capacity {
            shards[0].push(1, message).unwrap();
        }
        assert_eq!(shards[0].push(1, 99), Err(99));
        assert_eq!(taken(&mut shards[1], 1), [(0, 0)]);
        assert_eq!(shards[0].push(1, 99), Ok(()));
        assert_eq!(shards[0].push(0, 7), Err(7), "no ring to itself");
    }

    #[test]
    fn only_a_sleeper_is_woken_and_once_per_sleep() {
        let (mut shards, wakes) = mesh(2);
        let check = |shards: &mut Vec<Endpoint<u64, Counted>>, want: usize| {
            shards[0].push(1, 0).unwrap();
            shards[0].flush_wakes();
            shards[0].flush_wakes();
            assert_eq!(wakes[1].load(Ordering::Relaxed), want);
        };
        check(&mut shards, 0);
        shards[1].bell().prepare_sleep();
        check(&mut shards, 1);
        check(&mut shards, 1);
        shards[1].bell().prepare_sleep();
        check(&mut shards, 2);
        shards[1].bell().prepare_sleep();
        shards[1].bell().awake();
        check(&mut shards, 2);
    }

    #[test]
    fn memory_of_all_rings_is_bounded() {
        for shards in [1, 2, 4, 8, 16, 32, 64, 256] {
            let messages = ring_messages(shards, 128);
            assert!((RING_MESSAGES_MIN..=RING_MESSAGES_MAX).contains(&messages));
            let floor = shards * shards * RING_MESSAGES_MIN * 128;
            assert!(messages * shards * (shards - 1) * 128 <= MESH_BYTES_MAX.max(floor), "{shards}");
        }
    }

    /// Two threads answer each other, asleep between any two messages, and nothing else would wake them.
    #[test]
    fn no_wake_is_lost_without_a_periodic_tick() {
        // Miri is some thousand times slower.
        const ROUNDS: u64 = if cfg!(miri) { 100 } else { 20_000 };
        let wakes: Vec<_> = (0..2).map(|_| WakeHandle::new().unwrap()).collect();
        let bells: Vec<_> = wakes.iter().cloned().map(Doorbell::new).collect();
        let (done, finished) = mpsc::channel();
        for (me, (mut shard, wake)) in Mesh::endpoints::<u64, _>(&bells).into_iter().zip(wakes).enumerate() {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut eventfd = std::fs::File::from(wake.as_fd().try_clone_to_owned().unwrap());
                let mut next = me as u64;
                if me == 0 {
                    shard.push(1, 1).unwrap();
                    shard.flush_wakes();
                    next = 2;
                }
                while next <= ROUNDS {
                    let mut got = None;
                    if shard.drain(8, |_, message| got = Some(message)) == 0 {
                        shard.bell().prepare_sleep();
                        if shard.is_empty() {
                            eventfd.read_exact(&mut [0; 8]).unwrap();
                        }
                        shard.bell().awake();
                    } else {
                        assert_eq!(got, Some(next));
                        shard.push(1 - me, next + 1).unwrap();
                        shard.flush_wakes();
                        next += 2;
                    }
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            finished.recv_timeout(Duration::from_secs(60)).expect("a wake was lost");
        }
    }
}
