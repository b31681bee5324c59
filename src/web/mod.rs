//! Pages that the control plane makes for the shards' HTTP connections: metrics, and percentiles of latencies. A thread of its
//! own: it asks the shards for copies of their counters, and does everything else with these.

mod hdr;
mod latency;
mod prometheus;
mod ready;
pub mod swagger;

pub use prometheus::PrometheusOptions;

use crate::control::proxy::{MeterSnapshot, Meters};
use crate::control::redis::{PubSub, Redis};
use crate::log::DroppedLines;
use crossbeam_channel::{select, tick};
use prometheus::{Exposition, Format, Windows};
use ringcast_runtime::metrics::{MetricsLine, ShardSnapshot};
use ringcast_runtime::{Page, PageAnswer, PageLine, PageQuestion};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a shard may take to answer; one that does not is shown as down, and the page goes without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all shards counted at one moment, and whatever else pages show.
#[derive(Default)]
pub struct Scrape {
    /// In order; `None` for a shard that did not answer.
    pub shards: Vec<Option<Box<ShardSnapshot>>>,
    /// Names of the brokers whose deliveries are checked, as `Snapshot::delivery` has them; empty without the check.
    pub brokers: Vec<String>,
    /// Client connections refused by `client.connection_limit`.
    pub refused: u64,
    /// Log lines that were dropped.
    pub dropped_lines: u64,
    /// What was asked of backends.
    pub proxies: Vec<MeterSnapshot>,
    /// How the broker's PUB/SUB does, where it is Redis.
    pub redis: Option<PubSub>,
}

/// Where pages get what the shards do not know.
pub struct Sources {
    /// Names of the brokers whose deliveries are checked.
    pub brokers: Vec<String>,
    /// Of the log.
    pub dropped_lines: DroppedLines,
    /// Of backends.
    pub proxies: Arc<Meters>,
    /// The broker, where it is Redis.
    pub redis: Option<Arc<Redis>>,
}

/// Answers the shards from now on, until they have ended.
pub fn start(pages: PageLine, metrics: MetricsLine, options: PrometheusOptions, sources: Sources) -> io::Result<()> {
    let desk = Desk { pages, metrics, options, sources, windows: Windows::default() };
    thread::Builder::new().name("web".to_owned()).spawn(move || desk.run())?;
    Ok(())
}

struct Desk {
    pages: PageLine,
    metrics: MetricsLine,
    options: PrometheusOptions,
    sources: Sources,
    windows: Windows,
}

impl Desk {
    fn run(mut self) {
        let ticks = tick(Windows::STEP);
        loop {
            select! {
                recv(self.pages.questions()) -> question => match question {
                    Ok(question) => {
                        let answer = self.page(&question);
                        self.pages.answer(&question, answer);
                    }
                    Err(_) => return,
                },
                recv(ticks) -> _ => if self.options.enabled {
                    let scrape = self.scrape();
                    self.windows.step(&scrape);
                }
            }
        }
    }

    fn scrape(&self) -> Scrape {
        let shards = self.metrics.snapshots(PATIENCE);
        let sources = &self.sources;
        Scrape {
            shards,
            brokers: sources.brokers.clone(),
            refused: self.metrics.refused(),
            dropped_lines: sources.dropped_lines.count(),
            proxies: sources.proxies.snapshot(),
            redis: sources.redis.as_ref().map(|redis| redis.pub_sub()),
        }
    }

    fn page(&self, question: &PageQuestion) -> PageAnswer {
        let scrape = self.scrape();
        match question.page {
            Page::Ready => ready::page(&scrape),
            Page::Latency => PageAnswer { status: 200, content_type: "application/json", body: latency::page(&scrape) },
            Page::Metrics => {
                let format = Format::accepted(&question.accept);
                let families = Exposition::new(&self.options, &self.windows).families(&scrape);
                PageAnswer { status: 200, content_type: format.content_type(), body: format.encode(&families) }
            }
        }
    }
}
