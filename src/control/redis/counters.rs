//! What went wrong on PUB/SUB connections, for the metrics page. Source: metrics §1, rows 35 to 37.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that went wrong; the names are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection was lost.
    Connection,
    /// A connection was given up because it did not tell what was published.
    ProbeTimeout,
    /// A probe could not be published.
    ProbePublish,
    /// Redis refused to subscribe.
    SubscribeChannel,
    /// A message for subscribers that is none.
    ClientMessage,
    /// A message of another node that is none.
    ControlMessage,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 6] = [
        Fault::Connection,
        Fault::ProbeTimeout,
        Fault::ProbePublish,
        Fault::SubscribeChannel,
        Fault::ClientMessage,
        Fault::ControlMessage,
    ];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Connection => "connection",
            Fault::ProbeTimeout => "probe_timeout",
            Fault::ProbePublish => "probe_publish",
            Fault::SubscribeChannel => "subscribe_channel",
            Fault::ClientMessage => "handle_client_message",
            Fault::ControlMessage => "handle_control_message",
        }
    }
}

/// How PUB/SUB does.
pub struct PubSub {
    /// How often what went wrong.
    pub faults: Vec<(Fault, u64)>,
    /// Control messages that came faster than they were worked off.
    pub dropped: u64,
    /// Control messages that wait to be worked off.
    pub waiting: usize,
}

/// Counted by the connections, read by the page.
#[derive(Default)]
pub struct Counters {
    faults: [AtomicU64; Fault::ALL.len()],
    dropped: AtomicU64,
}

impl Counters {
    /// Counts one.
    pub fn count(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a control message that came faster than they are worked off.
    pub fn drop_control(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// All counts.
    pub fn read(&self) -> PubSub {
        let count = |fault| (fault, self.faults[fault as usize].load(Ordering::Relaxed));
        let faults = Fault::ALL.into_iter().map(count).collect();
        PubSub { faults, dropped: self.dropped.load(Ordering::Relaxed), waiting: 0 }
    }
}
