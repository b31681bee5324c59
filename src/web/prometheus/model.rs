//! Families of metrics, before they are written in some format.

use super::native::Native;
use ringcast_state::metrics::Histogram;

/// What kind a family is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: String,
    pub help: &'static str,
    pub kind: Kind,
    /// In the order of their label values.
    pub metrics: Vec<Metric>,
}

/// Labels in the order of their names.
pub type Labels = Vec<(&'static str, String)>;

/// One set of label values.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    pub labels: Labels,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    Summary {
        /// Share and value; NaN when nothing came of late.
        quantiles: Vec<(f64, f64)>,
        sum: f64,
        count: u64,
    },
    Histogram {
        /// Upper bound, and how many values are up to it; without the one of everything.
        buckets: Vec<(f64, u64)>,
        sum: f64,
        count: u64,
        /// Instead of `buckets`.
        native: Option<Native>,
    },
}

/// How histograms are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// With fixed buckets.
    Classic,
    /// Sparse, with buckets where there are values.
    Native,
}

/// What a histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, shown as seconds.
    Time,
    /// Plain numbers.
    Number,
}

impl Unit {
    /// Counted units per shown one.
    pub fn scale(self) -> f64 {
        match self {
            Unit::Time => 1e6,
            Unit::Number => 1.0,
        }
    }
}

/// Families as they are put together.
pub struct Families {
    pub shape: Shape,
    families: Vec<Family>,
}

impl Families {
    pub fn new(shape: Shape) -> Self {
        Families { shape, families: Vec::new() }
    }

    /// A counter for each set of label values; no family without any.
    pub fn counter(&mut self, name: &str, help: &'static str, values: impl IntoIterator<Item = (Labels, u64)>) {
        self.numbers(name, help, Kind::Counter, values.into_iter().map(|(labels, value)| (labels, value as f64)));
    }

    pub fn gauge(&mut self, name: &str, help: &'static str, values: impl IntoIterator<Item = (Labels, f64)>) {
        self.numbers(name, help, Kind::Gauge, values);
    }

    /// One counter without labels.
    pub fn count(&mut self, name: &str, help: &'static str, value: u64) {
        self.counter(name, help, [(Vec::new(), value)]);
    }

    /// One gauge without labels.
    pub fn level(&mut self, name: &str, help: &'static str, value: f64) {
        self.gauge(name, help, [(Vec::new(), value)]);
    }

    pub fn numbers(
        &mut self,
        name: &str,
        help: &'static str,
        kind: Kind,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let metrics = values.into_iter().map(|(labels, value)| Metric { labels, value: Value::Number(value) });
        self.add(name, help, kind, metrics.collect());
    }

    /// Histograms with these upper bounds, in counted units.
    pub fn histogram<'a>(
        &mut self,
        name: &str,
        help: &'static str,
        unit: Unit,
        bounds: &[u64],
        values: impl IntoIterator<Item = (Labels, &'a Histogram)>,
    ) {
        let shape = self.shape;
        let metrics = values.into_iter().map(|(labels, histogram)| {
            let (buckets, native) = match shape {
                Shape::Classic => (classic(histogram, unit, bounds), None),
                Shape::Native => (Vec::new(), Some(Native::new(histogram, unit))),
            };
            let sum = histogram.sum() as f64 / unit.scale();
            Metric { labels, value: Value::Histogram { buckets, sum, count: histogram.count(), native } }
        });
        self.add(name, help, Kind::Histogram, metrics.collect());
    }

    /// Summaries of durations: sum and count of all time, quantiles of the recent ones.
    pub fn summary<'a>(
        &mut self,
        name: &str,
        help: &'static str,
        values: impl IntoIterator<Item = (Labels, &'a Histogram, &'a Histogram)>,
    ) {
        const SHARES: [f64; 3] = [0.5, 0.99, 0.999];
        let metrics = values.into_iter().map(|(labels, all, recent)| {
            let seconds = |micros: u64| micros as f64 / Unit::Time.scale();
            let quantile = |share| (share, recent.quantile(share).map_or(f64::NAN, seconds));
            let quantiles = SHARES.map(quantile).to_vec();
            Metric { labels, value: Value::Summary { quantiles, sum: seconds(all.sum()), count: all.count() } }
        });
        self.add(name, help, Kind::Summary, metrics.collect());
    }

    fn add(&mut self, name: &str, help: &'static str, kind: Kind, mut metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        metrics.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.families.push(Family { name: name.to_owned(), help, kind, metrics });
    }

    /// In the order of their names.
    pub fn finish(mut self) -> Vec<Family> {
        self.families.sort_by(|a, b| a.name.cmp(&b.name));
        self.families
    }
}

/// How many values are up to each bound. One pass, for bounds and places of the scale both ascend.
fn classic(histogram: &Histogram, unit: Unit, bounds: &[u64]) -> Vec<(f64, u64)> {
    let mut places = histogram.buckets().peekable();
    let mut below = 0;
    let bucket = |bound: &u64| {
        while let Some(place) = places.next_if(|place| place.low <= *bound) {
            below += place.count;
        }
        (*bound as f64 / unit.scale(), below)
    };
    bounds.iter().map(bucket).collect()
}
