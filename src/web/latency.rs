//! The latency page: for each shard and for all, every histogram with its percentiles, and whole in HdrHistogram's format.

use super::{Scrape, hdr};
use ringcast_proto::api::Method;
use ringcast_runtime::metrics::ShardSnapshot;
use ringcast_state::TransportKind;
use ringcast_state::metrics::{ApiProtocol, FrameType, Histogram, Metrics};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SHARES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// JSON. Values are microseconds with three significant digits; histograms without values are left out.
pub fn page(scrape: &Scrape) -> Vec<u8> {
    let mut all = BTreeMap::<String, Histogram>::new();
    let mut shards = Vec::new();
    for shard in scrape.shards.iter().flatten() {
        let histograms = histograms(shard);
        for (name, histogram) in &histograms {
            all.entry(name.clone()).or_default().add(histogram);
        }
        let shown = histograms.iter().map(|(name, histogram)| (name, *histogram));
        shards.push(json!({ "shard": shard.shard.index(), "histograms": show(shown) }));
    }
    let silent: Vec<usize> = (0..scrape.shards.len()).filter(|shard| scrape.shards[*shard].is_none()).collect();
    let page = json!({ "unit": "microseconds", "all": show(all.iter()), "shards": shards, "silent_shards": silent });
    page.to_string().into_bytes()
}

fn histograms(shard: &ShardSnapshot) -> BTreeMap<String, &Histogram> {
    let metrics = &shard.state.metrics;
    let named = [
        ("publish_to_write", &metrics.publish_to_write),
        ("accept_to_home", &metrics.accept_to_home),
        ("home_to_shard", &metrics.home_to_shard),
        ("shard_to_socket", &metrics.shard_to_socket),
        ("turn", &shard.runtime.turns),
        ("timer_lag", &shard.runtime.timer_lag),
    ];
    let named = named.map(|(name, histogram)| (name.to_owned(), histogram));
    let commands = FrameType::METHODS.iter();
    let commands = commands.map(|frame| (format!("command.{}", frame.as_str()), &metrics.commands[*frame as usize]));
    let pongs = TransportKind::ALL.into_iter();
    let pongs = pongs.map(|kind| (format!("ping_pong.{}", kind.as_str()), &metrics.of(kind).ping_pong));
    let calls = Method::ALL.iter().map(|method| {
        let call = |protocol| &metrics.api_calls[Metrics::call(protocol, *method)];
        [
            (format!("api.{}", method.as_str()), call(ApiProtocol::Http)),
            (format!("grpc_api.{}", method.as_str()), call(ApiProtocol::Grpc)),
        ]
    });
    let calls = calls.flatten();
    named.into_iter().chain(commands).chain(pongs).chain(calls).filter(|(_, histogram)| histogram.count() > 0).collect()
}

fn show<'a>(histograms: impl Iterator<Item = (&'a String, &'a Histogram)>) -> Map<String, Value> {
    histograms.map(|(name, histogram)| (name.clone(), show_one(histogram))).collect()
}

fn show_one(histogram: &Histogram) -> Value {
    let mut shown = Map::new();
    shown.insert("count".to_owned(), histogram.count().into());
    shown.insert("mean".to_owned(), (histogram.sum() as f64 / histogram.count().max(1) as f64).into());
    for (name, share) in SHARES {
        shown.insert(name.to_owned(), histogram.quantile(share).into());
    }
    shown.insert("max".to_owned(), histogram.max().into());
    shown.insert("hdr".to_owned(), hdr::encode(histogram).into());
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_runtime::metrics::LoopMetrics;
    use ringcast_state::ShardId;
    use ringcast_state::metrics::Snapshot;

    #[test]
    fn every_shard_has_its_percentiles_and_all_have_theirs() {
        let shard = |number: u16, values: std::ops::RangeInclusive<u64>| {
            let mut state = Snapshot::default();
            values.for_each(|value| state.metrics.publish_to_write.record(value));
            let (shard, runtime) = (ShardId(number), LoopMetrics::default());
            Some(Box::new(ShardSnapshot { shard, at: ringcast_state::Time(0), state, runtime, sockets: 0, queued: 0 }))
        };
        let shards = vec![shard(0, 1..=100), None, shard(2, 101..=1000)];
        let page = page(&Scrape { shards, ..Scrape::default() });
        let page: Value = serde_json::from_slice(&page).expect("JSON");
        let all = &page["all"]["publish_to_write"];
        let numbers = ["count", "p50", "p99", "p99.99", "max"].map(|name| all[name].as_u64().unwrap_or(0));
        assert_eq!((numbers, all["mean"].as_f64()), ([1000, 500, 990, 1000, 1000], Some(500.5)));
        assert_eq!(page["shards"][0]["histograms"]["publish_to_write"]["p50"], 50);
        assert_eq!(page["shards"][1]["shard"], 2);
        assert_eq!(page["silent_shards"], json!([1]));
        assert_eq!(page["all"].as_object().map(Map::len), Some(1), "empty ones are left out");
    }
}
