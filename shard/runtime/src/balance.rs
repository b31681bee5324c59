//! Evens out the connections of the shards. SO_REUSEPORT deals them out by a hash: of 8 connections on 8 shards one shard gets 2
//! to 4 and others none, of 100 one gets half as many again as it should (measured), and what closes leaves gaps. So a shard
//! that has more than its share hands a connection that it has just accepted, before it reads the first byte, to the one
//! with the fewest.
//!
//! A connection counts for the shard that has it or that it is on its way to, per listener, so that connections of an internal port
//! are spread for themselves.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ring::Doorbell;
use crate::uring::{SocketId, Sockets};

/// Connections on their way to one shard. Full: a shard keeps what it has accepted. Seen in [`Loads::handed_over`].
const ADOPTIONS_MAX: usize = 1024;

/// A shard may have this fraction more than its share before it hands over: where there are thousands the hash alone is that
/// even, and a storm of connects costs no hops.
const SLACK: usize = 16;

/// Config group `shard_balance`, ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct BalanceOptions {
    /// Key `shard_balance.disabled`: every connection stays with the shard that the kernel chose. Default false.
    pub disabled: bool,
}

/// Connections of all shards; written when one comes or goes.
pub(crate) struct Loads {
    /// Per listener, of each shard.
    connections: Vec<Vec<AtomicUsize>>,
    /// Connections handed over so far.
    pub handed_over: AtomicU64,
}

impl Loads {
    /// Of each shard.
    #[cfg(test)]
    pub fn of(&self, listener: usize) -> Vec<usize> {
        self.connections[listener].iter().map(|load| load.load(Ordering::Relaxed)).collect()
    }
}

/// A connection on its way to a shard. Dropped, as when that shard has ended, it closes.
struct Adoption {
    listener: usize,
    socket: OwnedFd,
}

/// The way to a shard.
type Door = (Sender<Adoption>, Doorbell);

/// One shard's part in it.
pub(crate) struct Balance {
    shard: usize,
    /// None when it is switched off or there is one shard.
    shards: Option<Arc<[Door]>>,
    adoptions: Receiver<Adoption>,
    loads: Arc<Loads>,
    /// By slot: the listener that the socket counts for.
    listener_of: Vec<u8>,
}

impl Balance {
    /// One for each shard, by their bells.
    pub fn for_shards(options: BalanceOptions, listeners: usize, bells: &[Doorbell]) -> (Vec<Self>, Arc<Loads>) {
        let counts = || (0..bells.len()).map(|_| AtomicUsize::new(0)).collect();
        let connections = (0..listeners).map(|_| counts()).collect();
        let loads = Arc::new(Loads { connections, handed_over: AtomicU64::new(0) });
        let (senders, receivers): (Vec<_>, Vec<_>) = bells.iter().map(|_| bounded(ADOPTIONS_MAX)).unzip();
        let shards: Arc<[_]> = senders.into_iter().zip(bells.iter().cloned()).collect();
        let takes_part = !options.disabled && bells.len() > 1;
        let balance = |(shard, adoptions)| Self {
            shard,
            shards: takes_part.then(|| shards.clone()),
            adoptions,
            loads: loads.clone(),
            listener_of: Vec::new(),
        };
        (receivers.into_iter().enumerate().map(balance).collect(), loads)
    }

    /// A connection was accepted here. None: it went to another shard. Else it stays, under the id that is returned.
    pub fn settle(&mut self, sockets: &mut Sockets, listener: usize, socket: SocketId) -> Option<SocketId> {
        let kept = match self.target(listener) {
            Some(target) => self.hand_over(sockets, listener, socket, target)?,
            None => socket,
        };
        self.loads.connections[listener][self.shard].fetch_add(1, Ordering::Relaxed);
        self.note(kept, listener);
        Some(kept)
    }

    fn target(&self, listener: usize) -> Option<usize> {
        self.shards.as_ref()?;
        let load = |shard: usize| self.loads.connections[listener][shard].load(Ordering::Relaxed);
        choose(self.shard, self.loads.connections[listener].len(), load)
    }

    /// Gives it back where there is no room, or the shard has ended.
    fn hand_over(&self, sockets: &mut Sockets, listener: usize, socket: SocketId, target: usize) -> Option<SocketId> {
        let (sender, bell) = &self.shards.as_ref().expect("a target is one of several")[target];
        let released = sockets.release(socket).expect("nothing was started on what was just accepted");
        let load = &self.loads.connections[listener][target];
        // Before it is sent, so that others do not all choose the same shard.
        load.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = sender.try_send(Adoption { listener, socket: released }) {
            load.fetch_sub(1, Ordering::Relaxed);
            return Some(sockets.adopt(error.into_inner().socket));
        }
        self.loads.handed_over.fetch_add(1, Ordering::Relaxed);
        bell.ring();
        None
    }

    /// The next connection that another shard handed over, and its listener. `is_stopping`: it closes instead.
    pub fn adopt(&mut self, sockets: &mut Sockets, is_stopping: bool) -> Option<(usize, SocketId)> {
        while let Ok(Adoption { listener, socket }) = self.adoptions.try_recv() {
            if !is_stopping {
                let socket = sockets.adopt(socket);
                self.note(socket, listener);
                return Some((listener, socket));
            }
            self.loads.connections[listener][self.shard].fetch_sub(1, Ordering::Relaxed);
        }
        None
    }

    /// Takes in a connection that another process has accepted.
    pub fn take_in(&mut self, sockets: &mut Sockets, listener: usize, socket: OwnedFd) -> SocketId {
        let socket = sockets.adopt(socket);
        self.loads.connections[listener][self.shard].fetch_add(1, Ordering::Relaxed);
        self.note(socket, listener);
        socket
    }

    /// Connections that wait for `adopt`.
    pub fn waiting(&self) -> usize {
        self.adoptions.len()
    }

    /// A connection of this shard is gone.
    pub fn closed(&mut self, socket: SocketId) {
        let listener = usize::from(self.listener_of[socket.slot as usize]);
        self.loads.connections[listener][self.shard].fetch_sub(1, Ordering::Relaxed);
    }

    fn note(&mut self, socket: SocketId, listener: usize) {
        let slot = socket.slot as usize;
        if slot >= self.listener_of.len() {
            self.listener_of.resize(slot + 1, 0);
        }
        self.listener_of[slot] = u8::try_from(listener).expect("a handful of listeners");
    }
}

/// Where a connection that shard `own` of `shards` has just accepted belongs, by the number of those that each has; None to keep
/// it. Of shards with equally few the next one after `own`,
/// so that not all choose the same.
pub fn choose(own: usize, shards: usize, load: impl Fn(usize) -> usize) -> Option<usize> {
    let others = (1..shards).map(|distance| (own + distance) % shards);
    let (mut total, mut fewest) = (load(own) + 1, (load(own), own));
    for shard in others {
        let connections = load(shard);
        total += connections;
        if connections < fewest.0 {
            fewest = (connections, shard);
        }
    }
    let share = total.div_ceil(shards);
    (load(own) >= share + share / SLACK && fewest.1 != own).then_some(fewest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(loads: &[usize], own: usize, want: Option<usize>) {
        assert_eq!(choose(own, loads.len(), |shard| loads[shard]), want, "{loads:?} on {own}");
    }

    #[test]
    fn shard_within_its_share_keeps_what_it_accepts() {
        check(&[0], 0, None);
        check(&[5], 0, None);
        check(&[0, 0, 0, 0], 2, None);
        check(&[2, 2, 2, 1], 3, None);
        check(&[2, 2, 2, 2], 1, None);
        check(&[10, 0, 0, 0], 1, None);
    }

    #[test]
    fn shard_over_its_share_hands_over_to_the_one_with_the_fewest() {
        check(&[1, 0, 0, 0], 0, Some(1));
        check(&[1, 1, 1, 0], 0, Some(3));
        check(&[3, 3, 2, 1], 1, Some(3));
        check(&[0, 9, 4, 3], 1, Some(0));
    }

    #[test]
    fn of_equally_few_the_next_one_gets_it() {
        check(&[0, 2, 0, 0], 1, Some(2));
        check(&[0, 0, 0, 2], 3, Some(0));
    }

    #[test]
    fn many_may_be_a_little_uneven() {
        check(&[1040, 1000, 1000, 1000], 0, None);
        check(&[1100, 1000, 1000, 1000], 0, Some(1));
    }

    /// Whatever the hash does, nobody gets more than the share and a sixteenth; and what closed is filled up again.
    #[test]
    fn no_shard_gets_more_than_its_share_and_the_slack() {
        for (shards, connections) in [(4_usize, 8_usize), (4, 40), (8, 100), (64, 1000), (4, 10_000)] {
            let mut loads = vec![0_usize; shards];
            let mut hash: u64 = 7;
            let connect = |loads: &mut Vec<usize>, hash: &mut u64| {
                *hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Half of all connections come from an address that the kernel sends to shard 0.
                let own = if *hash >> 63 == 0 { 0 } else { (*hash >> 33) as usize % shards };
                let chosen = choose(own, shards, |shard| loads[shard]).unwrap_or(own);
                loads[chosen] += 1;
            };
            for _ in 0..connections {
                connect(&mut loads, &mut hash);
            }
            let share = connections.div_ceil(shards);
            let bound = share + share / SLACK;
            assert_eq!(loads.iter().sum::<usize>(), connections);
            assert!(loads.iter().all(|load| *load <= bound), "{loads:?}");
            let lost = std::mem::take(&mut loads[shards - 1]);
            for _ in 0..lost {
                connect(&mut loads, &mut hash);
            }
            assert!(loads.iter().all(|load| *load <= bound), "{loads:?} again");
        }
    }
}
