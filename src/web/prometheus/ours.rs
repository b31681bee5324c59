//! Families of our own, one value per shard.

use super::super::Scrape;
use super::centrifugo::FINE;
use super::model::{Families, Kind, Labels, Unit};
use ringcast_proto::codes::Disconnect;
use ringcast_runtime::metrics::ShardSnapshot;
use ringcast_state::metrics::Histogram;

/// A counter or gauge: name without prefix, help, kind, and where it is.
type Number = (&'static str, &'static str, Kind, fn(&ShardSnapshot) -> u64);

const NUMBERS: &[Number] = &[
    ("shard_connections", "Connected clients.", Kind::Gauge, |shard| shard.state.metrics.num_clients()),
    ("shard_subscriptions", "Live subscriptions.", Kind::Gauge, |shard| shard.state.metrics.subscriptions.iter().sum()),
    ("shard_subscriptions_accepted_total", "Subscriptions that became live.", Kind::Counter, |shard| {
        shard.state.metrics.subscriptions_accepted.iter().sum()
    }),
    ("shard_channels", "Channels with subscribers whose home the shard is.", Kind::Gauge, |shard| {
        shard.state.channels as u64
    }),
    ("shard_sockets", "Sockets that are open or closing.", Kind::Gauge, |shard| shard.sockets as u64),
    ("shard_sleeps_total", "Sleeps of the shard, having nothing to do.", Kind::Counter, |shard| shard.runtime.sleeps),
    ("shard_wakes_total", "Wakes by other threads.", Kind::Counter, |shard| shard.runtime.ring.wakes),
    ("io_uring_enters_total", "System calls of the shard's io_uring.", Kind::Counter, |shard| {
        shard.runtime.ring.enters
    }),
    ("writes_total", "Writes to sockets, each of one or more messages.", Kind::Counter, |shard| {
        shard.runtime.ring.sends
    }),
    ("write_bytes_total", "Bytes written to sockets.", Kind::Counter, |shard| shard.runtime.ring.sent_bytes),
    ("writes_blocked_total", "Writes that found the socket full.", Kind::Counter, |shard| shard.runtime.ring.blocked),
    ("slow_clients_total", "Clients closed with 3008 because they did not keep up.", Kind::Counter, |shard| {
        shard.state.metrics.disconnects.get(&Disconnect::SLOW.code)
    }),
    ("memory_shed_clients_total", "Clients closed with 3008 because memory was short.", Kind::Counter, |shard| {
        shard.state.metrics.shed_clients
    }),
    (
        "memory_shed_publications_total",
        "Publications of histories that were forgotten because memory was short.",
        Kind::Counter,
        |shard| shard.state.metrics.shed_publications,
    ),
    ("cross_shard_messages_total", "Messages that other shards sent.", Kind::Counter, |shard| shard.runtime.messages),
    ("cross_shard_queue_depth", "Messages that wait in the rings from other shards.", Kind::Gauge, |shard| {
        shard.queued as u64
    }),
    ("outbox_bytes", "Bytes of messages that wait for room in the rings to other shards.", Kind::Gauge, |shard| {
        shard.state.outbox_bytes as u64
    }),
    (
        "outbox_shed_total",
        "Deliveries, joins and leaves given up because a shard did not keep up; its subscribers recover.",
        Kind::Counter,
        |shard| shard.state.shed,
    ),
];

/// Durations of a shard: name without prefix, help, and where they are.
type Duration = (&'static str, &'static str, fn(&ShardSnapshot) -> &Histogram);

const DURATIONS: &[Duration] = &[
    (
        "publish_to_write_seconds",
        "From the turn that accepted a publication to the write of its deliveries, one value per delivery.",
        |shard| &shard.state.metrics.publish_to_write,
    ),
    ("shard_turn_duration_seconds", "Length of turns.", |shard| &shard.runtime.turns),
    ("shard_timer_lag_seconds", "How late timers were.", |shard| &shard.runtime.timer_lag),
];

/// A part of the way of a publication: label `hop`, and where its durations are.
type Hop = (&'static str, fn(&ShardSnapshot) -> &Histogram);

const HOPS: &[Hop] = &[
    ("accept_to_home", |shard| &shard.state.metrics.accept_to_home),
    ("home_to_shard", |shard| &shard.state.metrics.home_to_shard),
    ("shard_to_socket", |shard| &shard.state.metrics.shard_to_socket),
];

/// Adds them all.
pub fn add(families: &mut Families, scrape: &Scrape) {
    let up = scrape.shards.iter().enumerate();
    let up = up.map(|(number, shard)| (of_shard(number), f64::from(u8::from(shard.is_some()))));
    families.gauge("ringcast_shard_up", "Whether the shard has answered this scrape.", up);
    let shards = || scrape.shards.iter().flatten();
    for (name, help, kind, number) in NUMBERS {
        let values = shards().map(|shard| (of_shard(shard.shard.index()), number(shard) as f64));
        families.numbers(&format!("ringcast_{name}"), help, *kind, values);
    }
    for (name, help, durations) in DURATIONS {
        let values = shards().map(|shard| (of_shard(shard.shard.index()), durations(shard)));
        families.histogram(&format!("ringcast_{name}"), help, Unit::Time, FINE, values);
    }
    let hops = HOPS.iter().flat_map(|(hop, durations)| {
        shards().map(move |shard| {
            let mut labels = of_shard(shard.shard.index());
            labels.insert(0, ("hop", (*hop).to_owned()));
            (labels, durations(shard))
        })
    });
    let help = "Parts of the way of a publication, one value per publication and shard.";
    families.histogram("ringcast_publish_hop_seconds", help, Unit::Time, FINE, hops);
    let trips = shards().flat_map(|shard| {
        let brokers = scrape.brokers.iter().zip(&shard.state.delivery);
        brokers.filter_map(|(broker, trip)| {
            let mut labels = of_shard(shard.shard.index());
            labels.insert(0, ("broker", broker.clone()));
            Some((labels, shard.at - trip.sent_at?, trip.took))
        })
    });
    let trips: Vec<_> = trips.collect();
    let ages = trips.iter().map(|(labels, age, _)| (labels.clone(), age.as_secs_f64()));
    let help = "Since the publication of the last of the delivery check that came back.";
    families.gauge("ringcast_delivery_check_age_seconds", help, ages);
    let spans = trips.iter().map(|(labels, _, took)| (labels.clone(), took.as_secs_f64()));
    let help = "How long the last publication of the delivery check that came back was under way.";
    families.gauge("ringcast_delivery_check_latency_seconds", help, spans);
    let help = "Log lines dropped because the output was too slow.";
    families.count("ringcast_log_lines_dropped_total", help, scrape.dropped_lines);
}

fn of_shard(number: usize) -> Labels {
    vec![("shard", number.to_string())]
}
