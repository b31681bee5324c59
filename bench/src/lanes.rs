//! Who publishes next: one lane per publisher, each with its own sequence.

/// All lanes of a run.
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Publications per request.
    batch: u32,
    /// Deliveries that a lane may still await when it publishes again.
    backlog: u64,
}

struct Lane {
    /// Next number of the sequence.
    next: u32,
    /// Everything below is acknowledged by the server.
    acknowledged: u32,
    /// Deliveries of this lane's publications that have not come yet.
    awaited: u64,
    /// A request is not yet answered.
    asking: bool,
}

impl Lanes {
    /// `count` lanes with `batch` publications per request. An answered lane is free again while it awaits at most `backlog`
    /// deliveries: 0 where everything must have been received, [`u64::MAX`] where the answer is enough.
    pub fn new(count: usize, batch: u32, backlog: u64) -> Self {
        let lane = || Lane { next: 0, acknowledged: 0, awaited: 0, asking: false };
        Self { lanes: std::iter::repeat_with(lane).take(count).collect(), batch, backlog }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Publications per request.
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Whether the lane may publish in a closed loop.
    pub fn is_free(&self, lane: usize) -> bool {
        let Lane { asking, awaited, .. } = self.lanes[lane];
        !asking && awaited <= self.backlog
    }

    /// Whether the lane has no request under way.
    pub fn is_answered(&self, lane: usize) -> bool {
        !self.lanes[lane].asking
    }

    /// Notes a request to `receivers` subscribers and returns the first number in it.
    pub fn start(&mut self, lane: usize, receivers: u64) -> u32 {
        let batch = self.batch;
        let lane = &mut self.lanes[lane];
        let first = lane.next;
        lane.next += batch;
        lane.awaited += u64::from(batch) * receivers;
        lane.asking = true;
        first
    }

    /// Notes the answer to a request.
    pub fn handle_answer(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.asking = false;
        lane.acknowledged = lane.next;
    }

    /// Notes a delivery to a subscriber that stays. One of a lane that does not exist is none.
    pub fn handle_delivery(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.awaited = lane.awaited.saturating_sub(1);
        }
    }

    /// Whether everything is answered and received.
    pub fn are_quiet(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.asking && lane.awaited == 0)
    }

    /// Publications that the server has acknowledged, all lanes together.
    pub fn answered(&self) -> u64 {
        self.acknowledged().map(u64::from).sum()
    }

    /// First number of a lane that was not yet handed to the socket.
    pub fn unsent(&self, lane: usize) -> u32 {
        self.lanes[lane].next
    }

    /// Per lane, the end of what was sent.
    pub fn sent(&self) -> impl Iterator<Item = u32> {
        self.lanes.iter().map(|lane| lane.next)
    }

    /// Per lane, the end of what the server has acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = u32> {
        self.lanes.iter().map(|lane| lane.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets lane 0 send one request to two subscribers, then applies `steps`: `a` an answer, `d` a delivery.
    #[track_caller]
    fn check(batch: u32, backlog: u64, steps: &str, free: bool, quiet: bool) {
        let mut lanes = Lanes::new(2, batch, backlog);
        assert_eq!(lanes.start(0, 2), 0);
        for step in steps.chars() {
            match step {
                'a' => lanes.handle_answer(0),
                _ => lanes.handle_delivery(0),
            }
        }
        assert_eq!((lanes.is_free(0), lanes.are_quiet()), (free, quiet), "{steps}");
        assert!(lanes.is_free(1));
    }

    #[test]
    fn lane_is_free_when_answered_and_received_by_all() {
        check(1, 0, "", false, false);
        check(1, 0, "a", false, false);
        check(1, 0, "ad", false, false);
        check(1, 0, "dd", false, false);
        check(1, 0, "dda", true, true);
        check(2, 0, "add", false, false);
        check(2, 0, "adddd", true, true);
    }

    #[test]
    fn answer_is_enough_where_that_is_asked() {
        check(1, u64::MAX, "a", true, false);
        check(1, u64::MAX, "dd", false, false);
        check(1, u64::MAX, "add", true, true);
    }

    #[test]
    fn backlog_bounds_what_is_awaited() {
        check(2, 3, "a", false, false);
        check(2, 3, "ad", true, false);
        check(2, 3, "d", false, false);
    }

    #[test]
    fn deliveries_too_many_or_of_nobody_are_borne() {
        check(1, 0, "adddd", true, true);
        Lanes::new(1, 1, 0).handle_delivery(1);
    }

    #[test]
    fn sequence_advances_by_whole_batches() {
        let mut lanes = Lanes::new(1, 16, 0);
        lanes.start(0, 1);
        assert_eq!(lanes.acknowledged().next(), Some(0));
        lanes.handle_answer(0);
        assert_eq!(lanes.acknowledged().next(), Some(16));
        assert_eq!(lanes.start(0, 1), 16);
        assert_eq!((lanes.unsent(0), lanes.sent().next()), (32, Some(32)));
    }
}
