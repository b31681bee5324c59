//! `compare`: one scenario against two servers, a window of one and a window of the other in turn, so that both meet the same machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::engine::Transport;
use crate::failure::Failure;
use crate::ledger::Tally;
use crate::measure::report_cores;
use crate::options::Common;
use crate::problems::Problems;
use crate::report::Report;
use crate::requests::Listeners;
use crate::rounds::{Length, Rounds, Window, Windows};
use crate::spread::Spread;
use crate::{connect, fanout, latency, mixed, publish, recover, requests, telling};

/// Longest window: the clients of the other server answer no pings meanwhile, for which servers wait 8 s by default.
const WINDOW_MAX: Duration = Duration::from_secs(5);

/// Options of the comparison; those of the scenario follow its name.
#[derive(Args)]
pub struct Options {
    /// First server, as http://host:port or https://host:port; the paths are those of --url and --api.
    #[arg(long, global = true, value_name = "URL")]
    a: Option<String>,
    /// Second server; ratios are of the first to the second.
    #[arg(long, global = true, value_name = "URL")]
    b: Option<String>,
    /// Process id of the first server, to compare CPU time.
    #[arg(long, global = true, value_name = "PID")]
    a_pid: Option<u32>,
    /// Process id of the second server.
    #[arg(long, global = true, value_name = "PID")]
    b_pid: Option<u32>,
    /// Key of the first server's API, where it is not --api-key.
    #[arg(long, global = true, value_name = "KEY")]
    a_api_key: Option<String>,
    /// Key of the second server's API, where it is not --api-key.
    #[arg(long, global = true, value_name = "KEY")]
    b_api_key: Option<String>,
    /// Secret of the first server's tokens, where it is not --token-secret.
    #[arg(long, global = true, value_name = "SECRET")]
    a_token_secret: Option<String>,
    /// Secret of the second server's tokens, where it is not --token-secret.
    #[arg(long, global = true, value_name = "SECRET")]
    b_token_secret: Option<String>,
    /// Transport of the first server's clients, where it is not --transport.
    #[arg(long, global = true, value_enum)]
    a_transport: Option<Transport>,
    /// Transport of the second server's clients, where it is not --transport.
    #[arg(long, global = true, value_enum)]
    b_transport: Option<Transport>,
    #[command(subcommand)]
    scenario: Compared,
}

/// What both servers are asked.
#[derive(Subcommand)]
enum Compared {
    /// Publish over HTTP to many subscribers of one channel.
    Fanout(fanout::Options),
    /// Publish over HTTP to channels that nobody listens to.
    Api(requests::Options),
    /// Publish over HTTP to channels of one subscriber each.
    Channels(requests::Options),
    /// Publish over HTTP at a given rate.
    Latency(latency::Options),
    /// Connections that come and go.
    Connect(connect::Options),
    /// Clients publish to channels with a few subscribers.
    Publish(publish::Options),
    /// Clients come back after an outage and get what they missed.
    Recover(recover::Options),
    /// A day in one run.
    Mixed(mixed::Options),
}

impl Compared {
    /// Connects everybody to one server and warms up.
    fn start<'a>(&'a self, common: &Common) -> Result<Box<dyn Rounds + 'a>, Failure> {
        Ok(match self {
            Self::Fanout(options) => Box::new(fanout::start(common, options)?),
            Self::Api(options) => Box::new(requests::start(common, options, Listeners::Nobody)?),
            Self::Channels(options) => Box::new(requests::start(common, options, Listeners::OneEach)?),
            Self::Latency(options) => Box::new(latency::start(common, options)?),
            Self::Connect(options) => Box::new(connect::start(common, options)?),
            Self::Publish(options) => Box::new(publish::start(common, options)?),
            Self::Recover(options) => Box::new(recover::start(common, options)?),
            Self::Mixed(options) => Box::new(mixed::start(common, options)?),
        })
    }

    /// Windows of each server, and their length where time bounds it.
    fn windows(&self, common: &Common) -> (u32, Option<Duration>) {
        let windows = match self {
            Self::Fanout(options) => &options.windows,
            Self::Api(options) | Self::Channels(options) => &options.windows,
            Self::Latency(options) => &options.windows,
            Self::Publish(options) => &options.windows,
            Self::Mixed(options) => &options.windows,
            Self::Connect(options) => return (options.windows, None),
            Self::Recover(options) => return (options.windows, None),
        };
        match windows.length(common) {
            Length::Time(time) => (windows.windows, Some(time)),
            Length::Publications(_) => (windows.windows, None),
        }
    }
}

/// One of the two servers.
struct Side<'a> {
    name: &'static str,
    common: Common,
    run: Box<dyn Rounds + 'a>,
    windows: Windows,
}

/// Carries the comparison out.
pub fn run(common: &Common, options: &Options) -> Result<Report, Failure> {
    let (count, length) = options.scenario.windows(common);
    if length.is_some_and(|length| length > WINDOW_MAX) {
        let text =
            format!("a comparison has windows of at most {WINDOW_MAX:?}: give it more --windows or fewer --seconds");
        return Err(Failure::Usage(text));
    }
    let mut sides = [options.side(common, "a")?, options.side(common, "b")?];
    for number in 1..=count {
        for side in &mut sides {
            side.window(number, count)?;
        }
        if sides.iter().any(|side| side.run.is_broken()) {
            break;
        }
    }
    for side in &mut sides {
        side.run.engine().live().clear();
        side.run.finish()?;
    }
    Ok(report(&sides))
}

impl Options {
    fn side(&self, common: &Common, name: &'static str) -> Result<Side<'_>, Failure> {
        let (url, pid, key, secret, transport) = match name {
            "a" => (&self.a, self.a_pid, &self.a_api_key, &self.a_token_secret, self.a_transport),
            _ => (&self.b, self.b_pid, &self.b_api_key, &self.b_token_secret, self.b_transport),
        };
        let transport = transport.unwrap_or(common.transport);
        let paths = Common { transport, ..common.clone() }.url();
        let url = url.as_deref().ok_or_else(|| Failure::Usage("a comparison needs --a URL and --b URL".to_owned()))?;
        let (url, api) = addresses(url, transport, &paths, &common.api)
            .ok_or_else(|| Failure::Usage(format!("{url}: expected http://host:port or https://host:port")))?;
        let common = Common {
            transport,
            url: Some(url),
            api,
            pid,
            api_key: key.clone().unwrap_or_else(|| common.api_key.clone()),
            token_secret: secret.clone().or_else(|| common.token_secret.clone()),
            hdr_log: common.hdr_log.as_ref().map(|path| suffixed(path, name)),
            ..common.clone()
        };
        let run = self.scenario.start(&common)?;
        Ok(Side { name, windows: Windows::new(&common)?, run, common })
    }
}

impl Side<'_> {
    fn window(&mut self, number: u32, count: u32) -> Result<(), Failure> {
        self.run.engine().live().phase(format!("{} window {number} of {count}", self.name));
        let window = self.run.window()?;
        self.run.engine().live().clear();
        self.windows.push(window)
    }

    fn tell(&self, report: &mut Report, keys: &Keys) {
        let (unit, units) = self.run.unit();
        report.text(keys.server, &format!("{}: server", self.name), self.common.url());
        if self.common.pid.is_some() {
            let label = format!("{}: server CPU per {unit}", self.name);
            report.spread(keys.cost, &label, self.windows.spread(|w| w.cost_us()), "µs");
        }
        let label = format!("{}: {units} per second", self.name);
        report.spread(keys.rate, &label, self.windows.spread(|w| w.per_second()), "");
        let label = format!("{}: latency p50 of the windows", self.name);
        report.spread(keys.p50, &label, self.windows.spread(|w| w.latency.p50_us as f64), "µs");
        let label = format!("{}: latency p99 of the windows", self.name);
        report.spread(keys.p99, &label, self.windows.spread(|w| w.latency.p99_us as f64), "µs");
        let each = self.windows.list.iter().map(|w| w.to_json(self.common.pid.is_some()));
        report.value(keys.windows, each.collect());
    }
}

/// Names of a side's rows for machines.
struct Keys {
    server: &'static str,
    cost: &'static str,
    rate: &'static str,
    p50: &'static str,
    p99: &'static str,
    windows: &'static str,
}

const KEYS: [Keys; 2] = [
    Keys {
        server: "a_server",
        cost: "a_cpu_us",
        rate: "a_per_second",
        p50: "a_p50_us",
        p99: "a_p99_us",
        windows: "a_each_window",
    },
    Keys {
        server: "b_server",
        cost: "b_cpu_us",
        rate: "b_per_second",
        p50: "b_p50_us",
        p99: "b_p99_us",
        windows: "b_each_window",
    },
];

fn report(sides: &[Side<'_>; 2]) -> Report {
    let mut report = Report::new("compare");
    report.count("windows", "windows of each", sides[0].windows.list.len() as u64);
    for (side, keys) in sides.iter().zip(&KEYS) {
        side.tell(&mut report, keys);
    }
    if sides.iter().all(|side| side.common.pid.is_some()) {
        report.spread("cpu_ratio", "a / b, server CPU", ratios(sides, Window::cost_us), "");
    }
    report.spread("rate_ratio", "a / b, per second", ratios(sides, Window::per_second), "");
    report.spread("p50_ratio", "a / b, latency p50", ratios(sides, |w| w.latency.p50_us as f64), "");
    report.spread("p99_ratio", "a / b, latency p99", ratios(sides, |w| w.latency.p99_us as f64), "");
    let used: Vec<_> = sides.iter().flat_map(|side| side.windows.used()).collect();
    report_cores(&mut report, &used, false);
    let mut tally = Tally::default();
    let mut problems = Problems::default();
    for side in sides {
        tally += side.run.tally();
        for reason in side.run.problems().reasons() {
            problems.note(format!("{}: {reason}", side.name));
        }
    }
    report.tally(tally);
    report.problems(&problems);
    for side in sides {
        telling::doubts(&side.windows).for_each(|doubt| report.warn(format!("{}: {doubt}", side.name)));
    }
    report
}

/// Of the pairs of windows that followed each other; nothing where it was not measured.
fn ratios(sides: &[Side<'_>; 2], figure: impl Fn(&Window) -> f64) -> Option<Spread> {
    let [a, b] = sides;
    let pairs = a.windows.list.iter().zip(&b.windows.list).map(|(a, b)| (figure(a), figure(b)));
    Spread::of(pairs.filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b))
}

/// Where clients connect to a server, and its API, with the paths of the common addresses.
fn addresses(server: &str, transport: Transport, url: &str, api: &str) -> Option<(String, String)> {
    let server = server.trim_end_matches('/');
    let (scheme, authority) = server.split_once("://")?;
    let secure = match scheme {
        "http" => "",
        "https" => "s",
        _ => return None,
    };
    let clients = transport.scheme();
    let path = |address: &str| {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        rest.find('/').map_or_else(String::new, |slash| rest[slash..].to_owned())
    };
    let plain = !authority.is_empty() && !authority.contains('/');
    plain.then(|| (format!("{clients}{secure}://{authority}{}", path(url)), format!("{server}{}", path(api))))
}

fn suffixed(path: &std::path::Path, name: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(".");
    path.push(name);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(server: &str, want: Option<(&str, &str)>) {
        let got = addresses(server, Transport::Websocket, "ws://x:1/connection/websocket?a=b", "http://x:1/api");
        let got = got.as_ref().map(|(url, api)| (url.as_str(), api.as_str()));
        assert_eq!(got, want, "{server}");
    }

    #[test]
    fn paths_come_from_the_common_addresses() {
        check("http://h:1", Some(("ws://h:1/connection/websocket?a=b", "http://h:1/api")));
        check("https://[::1]:1/", Some(("wss://[::1]:1/connection/websocket?a=b", "https://[::1]:1/api")));
        for other in ["", "h:1", "ws://h:1", "http://", "http://h/api"] {
            check(other, None);
        }
    }
}
