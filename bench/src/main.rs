//! `ringcast-bench`: load client for ringcast and every server of its protocol. How to measure with it is in `bench/README.md`.
//!
//! Exit status 0 when everything arrived once and in order, 1 when something did not, 2 when nothing could be measured.

mod comeback;
mod compare;
mod connect;
mod crowd;
mod cuts;
mod drive;
mod endpoint;
mod engine;
mod failure;
mod fanout;
mod floor;
mod grpc;
mod hdr_log;
mod histogram;
mod idle;
mod lanes;
mod latency;
mod ledger;
mod live;
mod measure;
mod mixed;
mod options;
mod payload;
mod problems;
mod process;
mod provenance;
mod proxied;
mod publish;
mod recover;
mod report;
mod requests;
mod rounds;
mod saved;
mod scan;
mod sequence;
mod sources;
mod spread;
mod telling;
mod tls;
mod token;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use failure::Failure;
use options::{CommandLine, Common, Scenario};
use report::Report;
use requests::Listeners;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(&line) {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(failure) => fail(&failure),
    }
}

/// Whether everything arrived once and in order.
fn run(line: &CommandLine) -> Result<bool, Failure> {
    match (&line.scenario, line.compare.as_deref()) {
        (None, Some([a, b])) => saved::compare(a, b).map(|()| true),
        (Some(scenario), None) => {
            let mut report = measure(&line.common, scenario)?;
            provenance::tell(&mut report);
            report.print(line.common.json).map_err(Failure::system("printing the report"))?;
            Ok(report.is_clean())
        }
        _ => Err(Failure::Usage("name a scenario, or two saved reports with --compare; --help lists them".to_owned())),
    }
}

fn measure(common: &Common, scenario: &Scenario) -> Result<Report, Failure> {
    if let Some(core) = common.pin {
        process::pin(core).map_err(Failure::system("pinning to the core of --pin"))?;
    }
    process::raise_descriptor_limit().map_err(Failure::system("raising the descriptor limit"))?;
    match scenario {
        Scenario::Fanout(options) => fanout::run(common, options),
        Scenario::Api(options) => requests::run(common, options, Listeners::Nobody),
        Scenario::Channels(options) => requests::run(common, options, Listeners::OneEach),
        Scenario::Grpc(options) => grpc::run(common, options),
        Scenario::Latency(options) => latency::run(common, options),
        Scenario::Idle(options) => idle::run(common, options),
        Scenario::Connect(options) => connect::run(common, options),
        Scenario::ProxyConnect(options) => proxied::run_connect(common, options),
        Scenario::ProxyRpc(options) => proxied::run_rpc(common, options),
        Scenario::RedisPublish(options) => requests::run(common, options, Listeners::Redis),
        Scenario::NatsPublish(options) => requests::run(common, options, Listeners::Nats),
        Scenario::Publish(options) => publish::run(common, options),
        Scenario::Recover(options) => recover::run(common, options),
        Scenario::Cuts(options) => cuts::run(common, options),
        Scenario::Mixed(options) => mixed::run(common, options),
        Scenario::Floor(options) => floor::run(common, options),
        Scenario::Compare(options) => compare::run(common, options),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    // Nothing is left to tell it to when standard error is gone.
    let _ = writeln!(std::io::stderr(), "ringcast-bench: {failure}");
    ExitCode::from(2)
}
