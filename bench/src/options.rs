//! The command line: what all scenarios share. Their own options stand beside them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringcast_proto::client::Encoding;

use crate::endpoint::{Endpoint, EndpointError};
use crate::engine::Transport;
use crate::payload::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use crate::sources::{self, Sources};
use crate::{compare, connect, cuts, fanout, floor, grpc, idle, latency, mixed, proxied, publish, recover, requests};

/// Load client for ringcast and every server of its protocol.
#[derive(Parser)]
#[command(name = "ringcast-bench", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub scenario: Option<Scenario>,
    /// Print two reports that --json wrote side by side, with the ratios of their figures.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    pub compare: Option<Vec<PathBuf>>,
    #[command(flatten)]
    pub common: Common,
}

/// What is measured.
#[derive(Subcommand)]
pub enum Scenario {
    /// Publish over HTTP to many subscribers of one channel; cost and latency of a delivery.
    Fanout(fanout::Options),
    /// Publish over HTTP to channels that nobody listens to; cost and latency of a request to the API.
    Api(requests::Options),
    /// Publish over HTTP to channels of one subscriber each; cost and latency of a publication.
    Channels(requests::Options),
    /// Publish over one connection of the GRPC API; cost of a publication.
    Grpc(grpc::Options),
    /// Publish over HTTP at a given rate; the distribution of delivery latencies, or the rate at which a server saturates.
    Latency(latency::Options),
    /// Many silent connections, each subscribed to its own channel; memory of each, cost of a ping.
    Idle(idle::Options),
    /// Connections that come and go; cost of upgrade, connect and subscribe.
    Connect(connect::Options),
    /// Connections that a backend is asked about; cost of each.
    ProxyConnect(proxied::ConnectOptions),
    /// Calls of clients that a backend answers; cost and latency of each.
    ProxyRpc(proxied::RpcOptions),
    /// As channels, against a server on Redis whose channels `kept:` have a history; cost and latency of a publication.
    RedisPublish(requests::Options),
    /// As channels, against a server whose broker is NATS; cost and latency of a publication.
    NatsPublish(requests::Options),
    /// Clients publish to channels with a few subscribers; cost and latency of a publication.
    Publish(publish::Options),
    /// Clients come back after an outage and get what they missed; cost of a recovered message.
    Recover(recover::Options),
    /// Connections are cut in every way while the API publishes, and clients come back; everything is counted.
    Cuts(cuts::Options),
    /// A day in one run: clients come, leave, publish, ask and recover, the API publishes; everything is counted.
    Mixed(mixed::Options),
    /// The kernel's price of writing the same bytes to as many sockets.
    Floor(floor::Options),
    /// One scenario against two servers in turn; ratios of cost and latency, pair by pair.
    Compare(compare::Options),
}

/// Options of every scenario.
#[derive(Args, Clone)]
pub struct Common {
    /// Transport of the clients.
    #[arg(long, global = true, value_enum, default_value = "websocket")]
    pub transport: Transport,
    /// Where clients connect: ws:// or, for streams, http:// [default: that of the transport at 127.0.0.1:8000].
    #[arg(long, global = true)]
    pub url: Option<String>,
    /// Path by which clients of streams send commands and pongs, on the server of --url.
    #[arg(long, global = true, value_name = "PATH", default_value = "/emulation")]
    pub emulation: String,
    /// HTTP API, without the method.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8000/api")]
    pub api: String,
    /// Key of the HTTP API.
    #[arg(long, global = true, default_value = "")]
    pub api_key: String,
    /// Accept any certificate of the server, for wss:// and https:// addresses.
    #[arg(long, global = true)]
    pub insecure: bool,
    /// Certificates (PEM) that the server's must lead to, for wss:// and https:// addresses.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub ca: PathBuf,
    /// Own addresses to connect from in turn, as FIRST-LAST or separated by commas. Each has about 28,000 ports for one server.
    #[arg(long, global = true, value_name = "ADDRESSES", value_parser = sources::parse)]
    pub source_addresses: Option<Sources>,
    /// Secret to sign a connection token (HS256) for each client; without it clients are anonymous.
    #[arg(long, global = true)]
    pub token_secret: Option<String>,
    /// Process id of the server, to measure its CPU time and memory.
    #[arg(long, global = true)]
    pub pid: Option<u32>,
    /// Encoding of the clients.
    #[arg(long, global = true, value_enum, default_value = "json")]
    pub protocol: Protocol,
    /// Ask the server to deflate what it sends (websocket.compression); a server that does not is an error.
    #[arg(long, global = true)]
    pub compression: bool,
    /// Bytes of a publication's data.
    #[arg(long, global = true, default_value_t = 128, value_parser = payload_bytes)]
    pub payload: usize,
    /// Measured time, all windows together.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Pin this tool to a core.
    #[arg(long, global = true, value_name = "CPU")]
    pub pin: Option<usize>,
    /// Never sleep while waiting, so that nobody pays for waking this tool: server and floor are then charged alike.
    #[arg(long, global = true)]
    pub spin: bool,
    /// Seconds without progress after which the server is given up. A delivery that takes longer counts as late.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub patience: Duration,
    /// Write the latencies of each window to an HdrHistogram interval log, in microseconds; idle and floor have none.
    #[arg(long, global = true, value_name = "FILE")]
    pub hdr_log: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// Where clients connect.
    pub fn endpoint(&self) -> Result<Endpoint, EndpointError> {
        Endpoint::resolve(&self.url(), self.transport.scheme())
    }

    /// The same as it is written.
    pub fn url(&self) -> String {
        let default = || format!("{}://127.0.0.1:8000{}", self.transport.scheme(), self.transport.path());
        self.url.clone().unwrap_or_else(default)
    }

    /// Addresses to connect from; none where the system chooses.
    pub fn sources(&self) -> Vec<IpAddr> {
        self.source_addresses.iter().flat_map(|Sources(addresses)| addresses).copied().collect()
    }
}

/// Encoding of the clients.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Json,
    Protobuf,
}

impl Protocol {
    /// As the codecs name it.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Json => Encoding::Json,
            Self::Protobuf => Encoding::Protobuf,
        }
    }
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("not in {PAYLOAD_BYTES_MIN}..={PAYLOAD_BYTES_MAX}"))
    }
}

/// Seconds, with a fraction where that is wanted.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number".to_owned())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&time) {
        Ok(time)
    } else {
        Err("not in 0.001..=86400".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let parsed = CommandLine::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), accepted, "{line}");
    }

    #[test]
    fn options_do_not_contradict_each_other() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn common_options_stand_before_or_after_the_scenario() {
        check("ringcast-bench fanout --payload 128 --subscribers 10", true);
        check("ringcast-bench --payload 128 --json fanout", true);
        check("ringcast-bench fanout --compression", true);
        check("ringcast-bench compare --a http://a --b http://b fanout --subscribers 9 --a-pid 1 --patience 0.5", true);
        check(
            "ringcast-bench compare fanout --a http://a --b http://b --a-transport uni_sse --b-transport websocket",
            true,
        );
        check("ringcast-bench --compare a.json b.json", true);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for line in [
            "ringcast-bench",
            "ringcast-bench nothing",
            "ringcast-bench fanout --payload 51",
            "ringcast-bench fanout --payload 99999999",
            "ringcast-bench fanout --payload x",
            "ringcast-bench fanout --seconds 0",
            "ringcast-bench fanout --subscribers 0",
            "ringcast-bench fanout --outstanding 0",
            "ringcast-bench fanout --outstanding 1001",
            "ringcast-bench fanout --batch 0",
            "ringcast-bench fanout --protocol xml",
            "ringcast-bench fanout --transport http-stream",
            "ringcast-bench floor --frames 0",
            "ringcast-bench connect --concurrency 0",
            "ringcast-bench publish --channels 0",
            "ringcast-bench publish --channels 1001",
            "ringcast-bench publish --subscribers 0",
            "ringcast-bench recover --clients 0",
            "ringcast-bench recover --missed 0",
            "ringcast-bench api --connections 0",
            "ringcast-bench api --channels 1000001",
            "ringcast-bench channels --batch 1001",
            "ringcast-bench channels --floor-pin 1",
            "ringcast-bench latency --saturate --rate 5",
            "ringcast-bench mixed --batch 1",
            "ringcast-bench mixed --weight-api 1001",
            "ringcast-bench fanout --patience 0",
            "ringcast-bench fanout --patience -1",
            "ringcast-bench idle --source-addresses 127.0.0.9-127.0.0.2",
            "ringcast-bench compare idle",
            "ringcast-bench --compare a.json",
        ] {
            check(line, false);
        }
    }
}
