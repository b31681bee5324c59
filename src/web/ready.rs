//! `/ready`: whether what is published arrives on every shard through every broker. Source: the publications of the delivery check.

use super::Scrape;
use ringcast_runtime::PageAnswer;
use ringcast_runtime::metrics::ShardSnapshot;
use std::fmt::Write as _;
use std::time::Duration;

/// A delivery that is older proves nothing. They are sent once a second.
const AGE_MAX: Duration = Duration::from_secs(3);

/// 200, or 503 with a line for each shard and broker that is not proved to deliver.
pub fn page(scrape: &Scrape) -> PageAnswer {
    let mut troubles = String::new();
    for (number, shard) in scrape.shards.iter().enumerate() {
        match shard {
            None => drop(writeln!(troubles, "shard {number} does not answer")),
            Some(shard) => look_at(shard, &scrape.brokers, &mut troubles),
        }
    }
    match troubles.is_empty() {
        true => PageAnswer { status: 200, content_type: "application/json", body: b"{}".to_vec() },
        false => PageAnswer { status: 503, content_type: "text/plain; charset=utf-8", body: troubles.into_bytes() },
    }
}

fn look_at(shard: &ShardSnapshot, brokers: &[String], troubles: &mut String) {
    let number = shard.shard.index();
    for (broker, trip) in brokers.iter().zip(&shard.state.delivery) {
        // Writing to a string does not fail.
        let _ = match trip.sent_at.map(|at| shard.at - at) {
            None => writeln!(troubles, "shard {number}: nothing has come back through {broker} yet"),
            Some(age) if age > AGE_MAX => {
                writeln!(
                    troubles,
                    "shard {number}: nothing has come back through {broker} for {:.1} s",
                    age.as_secs_f64()
                )
            }
            Some(_) => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_runtime::metrics::LoopMetrics;
    use ringcast_state::metrics::{Snapshot, Trip};
    use ringcast_state::{ShardId, Time};

    fn shard(number: u16, ages: &[Option<u64>]) -> Option<Box<ShardSnapshot>> {
        let at = Time(1_000_000_000);
        let trip = |age: &Option<u64>| Trip { sent_at: age.map(|ms| Time(at.0 - ms * 1000)), took: Duration::ZERO };
        let state = Snapshot { delivery: ages.iter().map(trip).collect(), ..Snapshot::default() };
        let runtime = LoopMetrics::default();
        Some(Box::new(ShardSnapshot { shard: ShardId(number), at, state, runtime, sockets: 0, queued: 0 }))
    }

    #[track_caller]
    fn check(shards: Vec<Option<Box<ShardSnapshot>>>, status: u16, body: &str) {
        let brokers = vec!["a".to_owned(), "b".to_owned()];
        let answer = page(&Scrape { shards, brokers, ..Scrape::default() });
        assert_eq!((answer.status, &*String::from_utf8_lossy(&answer.body)), (status, body));
    }

    /// B03
    #[test]
    fn every_shard_must_have_heard_every_broker_lately() {
        check(vec![shard(0, &[Some(10), Some(3000)]), shard(1, &[Some(0), Some(0)])], 200, "{}");
        check(
            vec![shard(0, &[Some(3001), None]), None],
            503,
            "shard 0: nothing has come back through a for 3.0 s\n\
             shard 0: nothing has come back through b yet\n\
             shard 1 does not answer\n",
        );
    }
}
