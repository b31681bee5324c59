//! The metrics page: the families of Centrifugo with its names, labels and buckets, so that its dashboards work, and ours.
//! Source: metrics §1 to §3.

mod centrifugo;
mod format;
mod model;
mod native;
mod ours;
mod process;
mod window;

pub use format::Format;
pub use window::Windows;

use super::Scrape;
use model::{Families, Family, Shape};
use ringcast_state::metrics::Snapshot;

/// Config group `prometheus`, as far as the page is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrometheusOptions {
    /// Key `prometheus.enabled`. Default false.
    pub enabled: bool,
    /// Key `prometheus.recovered_publications_histogram`: one more histogram. Default false.
    pub recovered_publications_histogram: bool,
    /// Key `prometheus.native_histograms`: histograms have no fixed buckets, and there are no summaries; for scrapes in
    /// Protobuf. Default false.
    pub native_histograms: bool,
    /// Version that `centrifugo_node_build` shows.
    pub version: String,
}

/// Makes a page of what was scraped.
pub struct Exposition<'a> {
    options: &'a PrometheusOptions,
    windows: &'a Windows,
}

impl<'a> Exposition<'a> {
    pub fn new(options: &'a PrometheusOptions, windows: &'a Windows) -> Self {
        Exposition { options, windows }
    }

    /// All families in the order of their names.
    pub fn families(&self, scrape: &Scrape) -> Vec<Family> {
        let node = node(scrape);
        let shape = if self.options.native_histograms { Shape::Native } else { Shape::Classic };
        let mut families = Families::new(shape);
        centrifugo::add(
            &mut families,
            self.options,
            scrape,
            &node,
            &self.windows.recent(&node.metrics, &scrape.proxies),
        );
        ours::add(&mut families, scrape);
        process::add(&mut families);
        families.finish()
    }
}

/// The shards that answered, together.
fn node(scrape: &Scrape) -> Snapshot {
    let mut node = Snapshot::default();
    for shard in scrape.shards.iter().flatten() {
        node.add(&shard.state);
    }
    node
}

#[cfg(test)]
mod tests;
