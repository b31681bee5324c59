//! Whole pages out of made-up shards.

use super::*;
use crate::control::proxy::MeterSnapshot;
use crate::control::redis::{Fault, PubSub};
use ringcast_runtime::metrics::{LoopMetrics, ShardSnapshot};
use ringcast_state::ShardId;
use ringcast_state::metrics::{Action, FrameType, Histogram, Metrics, Program, Traffic};
use std::collections::BTreeSet;

/// One shard that counted this.
pub fn scrape(metrics: &Metrics) -> Scrape {
    Scrape { shards: vec![shard(0, metrics)], ..Scrape::default() }
}

fn shard(number: u16, metrics: &Metrics) -> Option<Box<ShardSnapshot>> {
    let state = Snapshot { metrics: metrics.clone(), ..Snapshot::default() };
    let (shard, runtime) = (ShardId(number), LoopMetrics::default());
    Some(Box::new(ShardSnapshot { shard, at: ringcast_state::Time(0), state, runtime, sockets: 0, queued: 0 }))
}

fn busy() -> Metrics {
    let mut metrics = Metrics::default();
    metrics.transports[0].sent[FrameType::PushPublication as usize] = Traffic { messages: 3, bytes: 90 };
    metrics.actions[Action::AddClient as usize] = 2;
    metrics.transports[0].connections[0] = 1;
    metrics.transports[0].connections_accepted = [2, 1, 0, 0];
    metrics.disconnects.count(3008);
    metrics.commands[FrameType::Publish as usize].record(240);
    metrics.commands[FrameType::Publish as usize].record(7_000);
    metrics.api_errors.count(("publish", Some(102), "http"));
    metrics.publish_to_write.record_n(40, 3);
    metrics
}

fn page(scrape: &Scrape, options: &PrometheusOptions) -> String {
    let families = Exposition::new(options, &Windows::default()).families(scrape);
    String::from_utf8(Format::Text.encode(&families)).expect("text")
}

#[track_caller]
fn check(page: &str, lines: &[&str]) {
    let have: BTreeSet<&str> = page.lines().collect();
    for line in lines {
        assert!(have.contains(line), "{line}\nnot in\n{page}");
    }
}

#[test]
fn page_shows_what_the_shards_counted_together() {
    let mut scrape = scrape(&busy());
    scrape.shards.push(shard(1, &busy()));
    scrape.refused = 5;
    check(
        &page(&scrape, &PrometheusOptions { version: "1.2".into(), ..PrometheusOptions::default() }),
        &[
            "centrifugo_transport_messages_sent{channel_namespace=\"\",frame_type=\"push_publication\",transport=\"websocket\"} 6",
            "centrifugo_transport_messages_sent_size{channel_namespace=\"\",frame_type=\"push_publication\",transport=\"websocket\"} 180",
            "centrifugo_node_action_count{action=\"add_client\",channel_namespace=\"\"} 4",
            "centrifugo_node_num_clients 2",
            "centrifugo_node_build{version=\"1.2\"} 1",
            "centrifugo_node_client_connection_limit 5",
            "centrifugo_client_connections_inflight{accept_protocol=\"\",client_name=\"unregistered\",client_version=\"unversioned\",transport=\"websocket\"} 0",
            "centrifugo_client_num_server_disconnects{code=\"3008\"} 2",
            "centrifugo_client_command_duration_seconds_histogram_bucket{channel_namespace=\"\",method=\"publish\",le=\"0.00025\"} 2",
            "centrifugo_client_command_duration_seconds_histogram_bucket{channel_namespace=\"\",method=\"publish\",le=\"0.005\"} 2",
            "centrifugo_client_command_duration_seconds_histogram_bucket{channel_namespace=\"\",method=\"publish\",le=\"0.01\"} 4",
            "centrifugo_client_command_duration_seconds{channel_namespace=\"\",method=\"publish\",quantile=\"0.5\"} 0.00024",
            "centrifugo_client_command_duration_seconds{channel_namespace=\"\",method=\"connect\",quantile=\"0.5\"} NaN",
            "centrifugo_client_command_duration_seconds_sum{channel_namespace=\"\",method=\"publish\"} 0.01448",
            "centrifugo_api_command_errors_total{error=\"102\",method=\"publish\",protocol=\"http\"} 2",
            "ringcast_shard_up{shard=\"1\"} 1",
            "ringcast_slow_clients_total{shard=\"0\"} 1",
            "ringcast_publish_to_write_seconds_count{shard=\"1\"} 3",
            "ringcast_publish_to_write_seconds_bucket{shard=\"1\",le=\"1e-05\"} 0",
            "ringcast_publish_to_write_seconds_bucket{shard=\"1\",le=\"5e-05\"} 3",
        ],
    );
}

#[test]
fn page_shows_what_was_asked_of_backends() {
    let mut scrape = scrape(&Metrics::default());
    let mut durations = Histogram::default();
    durations.record(7_000);
    let name = ("http", "rpc", "default".to_owned());
    scrape.proxies = vec![MeterSnapshot { name, durations, errors: 1, inflight: 2 }];
    let labels = r#"name="default",protocol="http",type="rpc""#;
    check(
        &page(&scrape, &PrometheusOptions::default()),
        &[
            &format!("centrifugo_proxy_duration_seconds_histogram_bucket{{{labels},le=\"0.005\"}} 0"),
            &format!("centrifugo_proxy_duration_seconds_histogram_bucket{{{labels},le=\"0.01\"}} 1"),
            &format!("centrifugo_proxy_duration_seconds{{{labels},quantile=\"0.5\"}} 0.007"),
            &format!("centrifugo_proxy_errors{{{labels}}} 1"),
            &format!("centrifugo_proxy_inflight_requests{{{labels}}} 2"),
        ],
    );
}

#[test]
fn shard_that_did_not_answer_is_down_and_left_out() {
    let mut scrape = scrape(&busy());
    scrape.shards.push(None);
    let page = page(&scrape, &PrometheusOptions::default());
    check(&page, &["ringcast_shard_up{shard=\"0\"} 1", "ringcast_shard_up{shard=\"1\"} 0"]);
    assert!(!page.contains("ringcast_shard_connections{shard=\"1\"}"));
}

#[test]
fn native_histograms_have_no_buckets_and_there_are_no_summaries() {
    let options = PrometheusOptions { native_histograms: true, ..PrometheusOptions::default() };
    let page = page(&scrape(&busy()), &options);
    let buckets: Vec<&str> = page.lines().filter(|line| line.contains("_bucket{")).collect();
    assert!(!buckets.is_empty() && buckets.iter().all(|line| line.contains("le=\"+Inf\"")), "{buckets:?}");
    assert!(!page.contains(" summary\n"));
}

#[test]
fn recovered_publications_are_shown_when_asked_for() {
    let mut metrics = busy();
    metrics.recovered_publications.record(4);
    let name = "centrifugo_client_recovered_publications_bucket{channel_namespace=\"\",le=\"5\"} 1";
    assert!(!page(&scrape(&metrics), &PrometheusOptions::default()).contains(name));
    let options = PrometheusOptions { recovered_publications_histogram: true, ..PrometheusOptions::default() };
    check(&page(&scrape(&metrics), &options), &[name]);
}

/// What promtool and the parsers of Prometheus want: each family once and in one piece, each sample once, labels and names
/// legal, buckets ascending.
#[test]
fn page_is_well_formed() {
    let mut metrics = busy();
    Program::ALL.iter().zip(&mut metrics.transports[0].connections_accepted).for_each(|(_, accepted)| *accepted = 1);
    for frame in FrameType::ALL {
        metrics.transports[0].sent[*frame as usize] = Traffic { messages: 1, bytes: 1 };
        metrics.commands[*frame as usize].record(1 << (*frame as u64));
    }
    let mut scrape = scrape(&metrics);
    scrape.shards.push(shard(1, &metrics));
    let page = page(&scrape, &PrometheusOptions::default());
    let (mut families, mut samples, mut family, mut last) = (Vec::new(), BTreeSet::new(), "", 0.0);
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().expect("a name");
            families.push(family);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind.starts_with(&format!("{family} ")), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.replace("+Inf", "inf").parse().expect(line);
        assert!(name.starts_with(family) && samples.insert(name), "{line}");
        if name.contains("_bucket{") {
            assert!(value >= last || name.contains("le=\"1e-06\"") || last > 0.0 && is_first(name), "{line}");
            last = value;
        } else {
            last = 0.0;
        }
    }
    let mut sorted = families.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(families, sorted);
}

/// First bucket of a histogram.
fn is_first(sample: &str) -> bool {
    ["1e-06", "0.0001", "0.001", "0.005"].iter().any(|bound| sample.ends_with(&format!("le=\"{bound}\"}}")))
}

/// E02
#[test]
fn page_shows_what_went_wrong_between_node_and_redis() {
    let mut scrape = scrape(&busy());
    let faults = vec![(Fault::ProbeTimeout, 0), (Fault::Connection, 2)];
    scrape.redis = Some(PubSub { faults, dropped: 3, waiting: 4 });
    let page = page(&scrape, &PrometheusOptions::default());
    check(
        &page,
        &[
            "centrifugo_broker_redis_pub_sub_errors{broker_name=\"\",error=\"connection\"} 2",
            "centrifugo_broker_redis_pub_sub_dropped_messages{broker_name=\"\",channel_type=\"control\"} 3",
            "centrifugo_broker_redis_pub_sub_dropped_messages{broker_name=\"\",channel_type=\"client\"} 0",
            "centrifugo_broker_redis_pub_sub_buffered_messages{broker_name=\"\",channel_type=\"control\",pub_sub_processor=\"0\"} 4",
            "centrifugo_broker_redis_pub_sub_buffered_messages{broker_name=\"\",channel_type=\"client\",pub_sub_processor=\"0\"} 0",
        ],
    );
    assert!(!page.contains("probe_timeout"), "{page}");
}
