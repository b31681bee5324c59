//! The families of Centrifugo: names, help, labels and buckets are its own, for its dashboards. Those of features that there
//! are none of are left out, but for the few that it shows at zero.

use super::super::Scrape;
use super::PrometheusOptions;
use super::model::{Families, Labels, Unit};
use super::window::Recent;
use crate::control::proxy::MeterSnapshot;
use crate::control::redis::PubSub;
use ringcast_proto::api::Method;
use ringcast_runtime::metrics::Request;
use ringcast_state::TransportKind;
use ringcast_state::metrics::{
    Action, ApiProtocol, BrokerMessage, FrameType, Histogram, Metrics, Program, Snapshot, Suppressed, Tally, Traffic,
    TransportMetrics,
};

/// Buckets of surveys, microseconds; B1 of the specification.
const SURVEY: &[u64] =
    &[1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// Buckets of the lag between node and broker; B2.
const LAG: &[u64] =
    &[1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000];

/// Buckets with microseconds; B3.
pub const FINE: &[u64] = &[
    1, 5, 10, 50, 100, 250, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Buckets of commands and pings; B4.
const COMMAND: &[u64] = &[
    100, 250, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Buckets of numbers of publications; B5.
const PUBLICATIONS: &[u64] = &[0, 1, 2, 3, 5, 10, 20, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000];

/// Buckets of the server API and of proxies; B9, the default of client_golang.
const CALL: &[u64] =
    &[5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// Adds them all. `recent` is what quantiles are made of.
pub fn add(families: &mut Families, options: &PrometheusOptions, scrape: &Scrape, node: &Snapshot, recent: &Recent) {
    let has_summaries = !options.native_histograms;
    add_node(families, options, scrape, node);
    add_broker(families, &node.metrics);
    add_redis(families, scrape.redis.as_ref());
    add_clients(families, options, &node.metrics);
    add_commands(families, &node.metrics, recent, has_summaries);
    add_transport(families, scrape, &node.metrics);
    add_api(families, &node.metrics, recent, has_summaries);
    add_proxies(families, &scrape.proxies, recent, has_summaries);
}

fn add_node(families: &mut Families, options: &PrometheusOptions, scrape: &Scrape, node: &Snapshot) {
    let metrics = &node.metrics;
    families.gauge("centrifugo_node_build", "Node build info.", [(label("version", &options.version), 1.0)]);
    let clients = metrics.num_clients();
    families.level("centrifugo_node_num_clients", "Number of clients connected.", clients as f64);
    families.level("centrifugo_node_num_users", "Number of unique users connected.", node.num_users() as f64);
    let subscriptions = metrics.subscriptions.iter().sum::<u64>();
    families.level("centrifugo_node_num_subscriptions", "Number of subscriptions.", subscriptions as f64);
    let channels = "Number of channels with one or more subscribers.";
    families.level("centrifugo_node_num_channels", channels, node.channels as f64);
    families.level("centrifugo_node_num_nodes", "Number of nodes in the cluster.", 1.0);
    let refused = "Number of refused requests due to node client connection limit.";
    families.count("centrifugo_node_client_connection_limit", refused, scrape.refused);
    let actions =
        Action::ALL.iter().map(|action| (in_namespace("action", action.as_str()), count_of(metrics, *action)));
    families.counter("centrifugo_node_action_count", "Number of various actions called.", happened(actions));
    let surveys = "Survey duration histogram. Use for histogram_quantile() and OpenTelemetry export.";
    let of_channels = some(&metrics.surveys, || label("op", "channels"));
    families.histogram("centrifugo_node_survey_duration_seconds_histogram", surveys, Unit::Time, SURVEY, of_channels);
    let requests = requests(scrape);
    let requests = requests.iter().map(|((path, method, status), count)| {
        (labels(&[("method", method), ("path", path), ("status", &status.to_string())]), count)
    });
    families.counter("centrifugo_node_incoming_http_requests_total", "Number of incoming HTTP requests", requests);
    // There at zero in a node without these, too.
    families.level("centrifugo_shared_poll_num_channels", "Number of active shared poll channels.", 0.0);
    families.level("centrifugo_shared_poll_num_keys", "Total number of tracked keys.", 0.0);
}

fn count_of(metrics: &Metrics, action: Action) -> u64 {
    metrics.actions[action as usize]
}

fn requests(scrape: &Scrape) -> Tally<Request> {
    let mut requests = Tally::default();
    scrape.shards.iter().flatten().for_each(|shard| requests.add(&shard.runtime.requests));
    requests
}

fn add_broker(families: &mut Families, metrics: &Metrics) {
    let messages = |counts: &[u64; BrokerMessage::COUNT]| {
        let kinds = BrokerMessage::ALL.iter();
        kinds.map(|kind| (in_namespace("type", kind.as_str()), counts[*kind as usize])).collect::<Vec<_>>()
    };
    let sent = "Number of messages sent by node to broker.";
    families.counter("centrifugo_node_messages_sent_count", sent, messages(&metrics.broker_sent));
    let received = "Number of messages received from broker.";
    families.counter("centrifugo_node_messages_received_count", received, messages(&metrics.broker_received));
    let suppressed = Suppressed::ALL.iter();
    let suppressed =
        suppressed.map(|reason| (in_namespace("reason", reason.as_str()), metrics.suppressed[*reason as usize]));
    let help = "Number of suppressed publish operations.";
    families.counter("centrifugo_broker_publish_suppressed_count", help, happened(suppressed));
    let everywhere = || label("channel_namespace", "");
    let lag = some(&metrics.home_to_shard, everywhere);
    families.histogram("centrifugo_node_pub_sub_lag_seconds", "Pub sub lag in seconds", Unit::Time, LAG, lag);
    let broadcasts = some(&metrics.shard_to_socket, || in_namespace("type", "publication"));
    let help = "Broadcast duration in seconds";
    families.histogram("centrifugo_node_broadcast_duration_seconds", help, Unit::Time, FINE, broadcasts);
    let filtered = happened([(everywhere(), metrics.filtered)]);
    let help = "Number of publications dropped due to tags filtering.";
    families.counter("centrifugo_node_tags_filter_dropped_publications", help, filtered);
}

/// Messages for clients go to the shards as they come: none of them is dropped or waits.
fn add_redis(families: &mut Families, redis: Option<&PubSub>) {
    // There at zero in a node without Redis, too.
    let help = "Number of dropped messages on application level in Redis PUB/SUB.";
    let dropped = |kind, count| (labels(&[("broker_name", ""), ("channel_type", kind)]), count);
    let counts = [dropped("client", 0), dropped("control", redis.map_or(0, |redis| redis.dropped))];
    families.counter("centrifugo_broker_redis_pub_sub_dropped_messages", help, counts);
    families.counter("centrifugo_map_broker_redis_pub_sub_dropped_messages", help, [dropped("client", 0)]);
    let Some(redis) = redis else { return };
    let faults = redis.faults.iter();
    let faults = faults.map(|(fault, count)| (labels(&[("broker_name", ""), ("error", fault.as_str())]), *count));
    let help = "Number of times there was an error in Redis PUB/SUB connection.";
    families.counter("centrifugo_broker_redis_pub_sub_errors", help, happened(faults));
    let help = "Number of messages buffered in Redis PUB/SUB.";
    let waiting = [("client", 0.0), ("control", redis.waiting as f64)].map(|(kind, count)| {
        (labels(&[("broker_name", ""), ("channel_type", kind), ("pub_sub_processor", "0")]), count)
    });
    families.gauge("centrifugo_broker_redis_pub_sub_buffered_messages", help, waiting);
}

fn add_clients(families: &mut Families, options: &PrometheusOptions, metrics: &Metrics) {
    let programs = || {
        let known = TransportKind::ALL.into_iter().flat_map(|kind| {
            let transport = metrics.of(kind);
            let counts = transport.connections_accepted.iter().zip(&transport.connections);
            Program::ALL.iter().zip(counts).map(move |(program, counts)| (kind, program, counts))
        });
        known.filter(|(_, _, (accepted, _))| **accepted > 0).map(|(kind, program, (accepted, inflight))| {
            let named = [
                ("accept_protocol", ""),
                ("client_name", name(program.is_named)),
                ("client_version", if program.is_versioned { "unregistered" } else { "unversioned" }),
                ("transport", kind.as_str()),
            ];
            (labels(&named), *accepted, *inflight as f64)
        })
    };
    let accepted = programs().map(|(labels, accepted, _)| (labels, accepted));
    families.counter("centrifugo_client_connections_accepted", "Count of accepted transports.", accepted);
    let inflight = programs().map(|(labels, _, inflight)| (labels, inflight));
    families.gauge("centrifugo_client_connections_inflight", "Number of inflight client connections.", inflight);
    // The reference has a family of those accepted, too, and never counts in it, so that it is not there.
    let known = [false, true].into_iter().zip(metrics.subscriptions_accepted).zip(metrics.subscriptions);
    let inflight = known.filter(|((_, accepted), _)| *accepted > 0);
    let inflight =
        inflight.map(|((is_named, _), inflight)| (in_namespace("client_name", name(is_named)), inflight as f64));
    families.gauge("centrifugo_client_subscriptions_inflight", "Number of inflight client subscriptions.", inflight);

    let disconnects = metrics.disconnects.iter().map(|(code, count)| (label("code", &code.to_string()), count));
    let help = "Number of server initiated disconnects.";
    families.counter("centrifugo_client_num_server_disconnects", help, disconnects);
    let unsubscribes = metrics.unsubscribes.iter();
    let unsubscribes = unsubscribes.map(|(code, count)| (in_namespace("code", &code.to_string()), count));
    let help = "Number of server initiated unsubscribes.";
    families.counter("centrifugo_client_num_server_unsubscribes", help, unsubscribes);

    let recoveries = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(recovered, brought): (usize, usize)| {
        let yes_no = ["no", "yes"];
        let named = [
            ("channel_namespace", ""),
            ("has_recovered_publications", yes_no[brought]),
            ("recovered", yes_no[recovered]),
        ];
        (labels(&named), metrics.recoveries[recovered][brought])
    });
    let help = "Count of recover operations with success/fail resolution.";
    families.counter("centrifugo_client_recover", help, happened(recoveries));
    if options.recovered_publications_histogram {
        let brought = some(&metrics.recovered_publications, || label("channel_namespace", ""));
        let help = "Number of publications recovered during subscription recovery.";
        families.histogram("centrifugo_client_recovered_publications", help, Unit::Number, PUBLICATIONS, brought);
    }
    let pongs = TransportKind::ALL.into_iter().map(|kind| (kind, &metrics.of(kind).ping_pong));
    let pongs = pongs.filter(|(_, pongs)| pongs.count() > 0);
    let pongs = pongs.map(|(kind, pongs)| (label("transport", kind.as_str()), pongs));
    let help = "Ping/Pong duration in seconds";
    families.histogram("centrifugo_client_ping_pong_duration_seconds", help, Unit::Time, COMMAND, pongs);
}

fn add_commands(families: &mut Families, metrics: &Metrics, recent: &Recent, has_summaries: bool) {
    let methods = || FrameType::METHODS.iter().map(|frame| (in_namespace("method", frame.as_str()), *frame as usize));
    let durations = methods().map(|(labels, place)| (labels, &metrics.commands[place]));
    let help = "Client command duration histogram. Use for histogram_quantile() and OpenTelemetry export.";
    families.histogram("centrifugo_client_command_duration_seconds_histogram", help, Unit::Time, COMMAND, durations);
    if has_summaries {
        let durations = methods().map(|(labels, place)| (labels, &metrics.commands[place], &recent.commands[place]));
        let help = "DEPRECATED — use command_duration_seconds_histogram. Will be removed in future releases. Client command duration summary.";
        families.summary("centrifugo_client_command_duration_seconds", help, durations);
        let surveys = some(&metrics.surveys, || label("op", "channels"));
        let surveys = surveys.map(|(labels, surveys)| (labels, surveys, &recent.surveys));
        let help = "DEPRECATED — use survey_duration_seconds_histogram. Will be removed in future releases. Survey duration summary.";
        families.summary("centrifugo_node_survey_duration_seconds", help, surveys);
    }
    let errors = metrics.reply_errors.iter().map(|((frame, code), count)| {
        let named = [("channel_namespace", ""), ("code", &code.to_string()), ("method", frame.as_str())];
        (labels(&named), count)
    });
    let help = "Number of errors in replies sent to clients.";
    families.counter("centrifugo_client_num_reply_errors", help, errors);
}

fn add_transport(families: &mut Families, scrape: &Scrape, metrics: &Metrics) {
    type Part = fn(&Traffic) -> u64;
    type Way = fn(&TransportMetrics) -> &[Traffic];
    let (messages, bytes): (Part, Part) = (|traffic| traffic.messages, |traffic| traffic.bytes);
    let (sent, received): (Way, Way) = (|transport| &transport.sent, |transport| &transport.received);
    for (name, help, way, part) in [
        ("sent", "Number of messages sent to client connections over specific transport.", sent, messages),
        (
            "sent_size",
            "MaxSize in bytes of messages sent to client connections over specific transport (uncompressed and does not include framing overhead).",
            sent,
            bytes,
        ),
        (
            "received",
            "Number of messages received from client connections over specific transport.",
            received,
            messages,
        ),
        (
            "received_size",
            "MaxSize in bytes of messages received from client connections over specific transport (uncompressed and does not include framing overhead).",
            received,
            bytes,
        ),
    ] {
        let all = TransportKind::ALL.into_iter().flat_map(|kind| {
            FrameType::ALL.iter().zip(way(metrics.of(kind))).map(move |(frame, traffic)| (kind, frame, traffic))
        });
        let frames = all.filter(|(_, _, traffic)| traffic.messages > 0).map(|(kind, frame, traffic)| {
            let named = [("channel_namespace", ""), ("frame_type", frame.as_str()), ("transport", kind.as_str())];
            (labels(&named), part(traffic))
        });
        families.counter(&format!("centrifugo_transport_messages_{name}"), help, frames);
    }
    let mut closes = Tally::default();
    scrape.shards.iter().flatten().for_each(|shard| closes.add(&shard.runtime.closes));
    let closes = closes
        .iter()
        .map(|((kind, code), count)| (labels(&[("code", &code.to_string()), ("transport", kind.as_str())]), count));
    let help = "Number of close frames sent to clients, by transport and code.";
    families.counter("centrifugo_transport_outgoing_close_count", help, closes);
}

fn add_api(families: &mut Families, metrics: &Metrics, recent: &Recent, has_summaries: bool) {
    let called = || {
        let of = |protocol: &'static ApiProtocol| Method::ALL.iter().map(move |method| (*protocol, *method));
        let places = ApiProtocol::ALL.iter().flat_map(of);
        let places = places.map(|(protocol, method)| (protocol, method, Metrics::call(protocol, method)));
        let called = places.filter(|(.., place)| metrics.api_calls[*place].count() > 0);
        called.map(|(protocol, method, place)| {
            (labels(&[("method", method.as_str()), ("protocol", protocol.as_str())]), place)
        })
    };
    let durations = called().map(|(labels, place)| (labels, &metrics.api_calls[place]));
    let help = "Histogram of duration of API per command.";
    families.histogram("centrifugo_api_command_duration_seconds_histogram", help, Unit::Time, CALL, durations);
    if has_summaries {
        let durations = called().map(|(labels, place)| (labels, &metrics.api_calls[place], &recent.api_calls[place]));
        let help = "DEPRECATED — use centrifugo_api_command_duration_seconds_histogram. Will be removed in Centrifugo v7. Duration of API per command.";
        families.summary("centrifugo_api_command_duration_seconds", help, durations);
    }
    let errors = metrics.api_errors.iter().map(|((method, code, protocol), count)| {
        let error = code.map_or_else(|| "unmarshal".to_owned(), |code| code.to_string());
        (labels(&[("error", &error), ("method", method), ("protocol", protocol)]), count)
    });
    families.counter("centrifugo_api_command_errors_total", "Total errors in API commands.", errors);
}

/// Of those that were asked.
fn add_proxies(families: &mut Families, proxies: &[MeterSnapshot], recent: &Recent, has_summaries: bool) {
    let named = || {
        proxies.iter().map(|meter| {
            let (protocol, kind, name) = &meter.name;
            (labels(&[("name", name), ("protocol", protocol), ("type", kind)]), meter)
        })
    };
    let durations = named().map(|(labels, meter)| (labels, &meter.durations));
    let help = "Histogram of duration of proxy call.";
    families.histogram("centrifugo_proxy_duration_seconds_histogram", help, Unit::Time, CALL, durations);
    if has_summaries {
        let durations =
            named().zip(&recent.proxies).map(|((labels, meter), recent)| (labels, &meter.durations, recent));
        let help = "DEPRECATED — use centrifugo_proxy_duration_seconds_histogram. Will be removed in Centrifugo v7. Duration of proxy call.";
        families.summary("centrifugo_proxy_duration_seconds", help, durations);
    }
    let errors = named().map(|(labels, meter)| (labels, meter.errors));
    families.counter("centrifugo_proxy_errors", "Proxy call error count.", errors);
    let inflight = named().map(|(labels, meter)| (labels, meter.inflight as f64));
    families.gauge("centrifugo_proxy_inflight_requests", "Number of inflight proxy requests.", inflight);
}

/// As there is no list of known programs.
fn name(is_named: bool) -> &'static str {
    if is_named { "unregistered" } else { "unnamed" }
}

fn labels(named: &[(&'static str, &str)]) -> Labels {
    named.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn label(name: &'static str, value: &str) -> Labels {
    labels(&[(name, value)])
}

/// A label beside that of the namespace, which is always empty in the open edition.
fn in_namespace(name: &'static str, value: &str) -> Labels {
    let mut both = labels(&[("channel_namespace", ""), (name, value)]);
    both.sort_unstable();
    both
}

/// Counters that moved: the others are not there, as in the reference.
fn happened(counters: impl IntoIterator<Item = (Labels, u64)>) -> impl Iterator<Item = (Labels, u64)> {
    counters.into_iter().filter(|(_, count)| *count > 0)
}

/// A histogram that holds something.
fn some(histogram: &Histogram, labels: impl FnOnce() -> Labels) -> std::option::IntoIter<(Labels, &Histogram)> {
    (histogram.count() > 0).then(|| (labels(), histogram)).into_iter()
}
