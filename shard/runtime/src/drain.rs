//! Clients that are sent away one after the other.

use std::time::Instant;

use ringcast_state::ConnectionId;

/// Those that are left, and when each goes.
///
/// Bound: the clients of the shard at its beginning; who comes later stays until the stop.
pub(crate) struct Drain {
    left: Vec<ConnectionId>,
    count: usize,
    began: Instant,
    until: Instant,
}

impl Drain {
    pub fn new(clients: Vec<ConnectionId>, began: Instant, until: Instant) -> Self {
        Self { count: clients.len(), left: clients, began, until }
    }

    /// Those whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<ConnectionId> {
        let gone = self.count - self.left.len();
        let due = (gone..self.count).take_while(|number| self.time_of(*number) <= now).count();
        self.left.split_off(self.left.len() - due)
    }

    pub fn next_due(&self) -> Option<Instant> {
        (!self.left.is_empty()).then(|| self.time_of(self.count - self.left.len()))
    }

    /// When the client of this number, from 0, goes: the last one at the end.
    fn time_of(&self, number: usize) -> Instant {
        let share = (number + 1) as f64 / self.count as f64;
        self.began + self.until.saturating_duration_since(self.began).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_go_evenly_and_the_last_at_the_end() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let clients = (0..10).map(|slot| ConnectionId { slot, generation: 0 }).collect();
        let mut drain = Drain::new(clients, began, at(20));
        let gone: Vec<usize> = [0, 1, 2, 7, 19, 20, 30].map(|second| drain.due(at(second)).len()).into();
        assert_eq!(gone, [0, 0, 1, 2, 6, 1, 0]);
        assert_eq!(drain.next_due(), None);
    }

    #[test]
    fn without_clients_nothing_is_due() {
        let now = Instant::now();
        let mut drain = Drain::new(Vec::new(), now, now);
        assert!(drain.due(now).is_empty() && drain.next_due().is_none());
    }
}
