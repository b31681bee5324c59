//! What a shard gives up when the memory of the process runs short, the cheapest for its users first.

use crate::shard::Shard;
use crate::{ConnectionId, Now};
use ringcast_proto::codes::Disconnect;

/// Clients with less than this before their socket are not slow: they were caught between two writes.
const QUEUE_MIN: usize = 16 << 10;

impl Shard {
    /// Closes clients with 3008, those with the longest queues first, until half of what waits for slow clients is gone. Called
    /// again as long as memory is short, it leaves nothing behind. Frames that clients share are freed with the last of them.
    pub fn shed_queues(&mut self, now: Now) {
        let waiting = self.clients.iter().filter(|client| !client.is_closed());
        let waiting = waiting.map(|client| (client.queued_bytes(), client.connection));
        let mut slow: Vec<(usize, ConnectionId)> = waiting.filter(|(bytes, _)| *bytes >= QUEUE_MIN).collect();
        slow.sort_unstable_by_key(|(bytes, connection)| (usize::MAX - bytes, connection.slot));
        let all: usize = slow.iter().map(|(bytes, _)| bytes).sum();
        let mut freed = 0;
        for (bytes, connection) in slow {
            if freed >= all.div_ceil(2) {
                break;
            }
            freed += bytes;
            self.metrics.shed_clients += 1;
            self.close(connection, Disconnect::SLOW);
        }
        self.handle_local(now);
    }

    /// Forgets the older half of every history that this shard keeps. Offsets and epochs stay, so that who comes back for what is
    /// gone is told so.
    pub fn shed_histories(&mut self) {
        self.metrics.shed_publications += self.homes.forget_older_half(&mut self.wheel, &self.options.limits);
    }
}
