//! Prometheus' Protobuf format: a `MetricFamily` behind its length for each family. The schema is `metrics.proto` of
//! prometheus/client_model, as far as it is used.

use super::super::model::{self, Family, Kind, Value};
use super::super::native;
use prost::Message;

/// Appends a family.
pub fn encode(family: &Family, out: &mut Vec<u8>) {
    let message = MetricFamily::from(family);
    message.encode_length_delimited(out).expect("a vector takes everything");
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge` and `Counter`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Quantile>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Quantile {
    #[prost(double, optional, tag = "1")]
    quantile: Option<f64>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

impl From<&Family> for MetricFamily {
    fn from(family: &Family) -> Self {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Summary => MetricType::Summary,
            Kind::Histogram => MetricType::Histogram,
        };
        MetricFamily {
            name: Some(family.name.clone()),
            help: Some(family.help.to_owned()),
            r#type: Some(kind.into()),
            metric: family.metrics.iter().map(|metric| Metric::new(metric, family.kind)).collect(),
        }
    }
}

impl Metric {
    fn new(metric: &model::Metric, kind: Kind) -> Self {
        let label = |(name, value): &(&'static str, String)| LabelPair {
            name: Some((*name).to_owned()),
            value: Some(value.clone()),
        };
        let mut message = Metric { label: metric.labels.iter().map(label).collect(), ..Metric::default() };
        match &metric.value {
            Value::Number(value) => {
                let number = Some(Number { value: Some(*value) });
                if kind == Kind::Counter { message.counter = number } else { message.gauge = number }
            }
            Value::Summary { quantiles, sum, count } => {
                let quantile = |&(share, value): &(f64, f64)| Quantile { quantile: Some(share), value: Some(value) };
                message.summary = Some(Summary {
                    sample_count: Some(*count),
                    sample_sum: Some(*sum),
                    quantile: quantiles.iter().map(quantile).collect(),
                });
            }
            Value::Histogram { buckets, sum, count, native } => {
                let bucket =
                    |&(bound, below): &(f64, u64)| Bucket { cumulative_count: Some(below), upper_bound: Some(bound) };
                let mut histogram = Histogram {
                    sample_count: Some(*count),
                    sample_sum: Some(*sum),
                    bucket: buckets.iter().map(bucket).collect(),
                    ..Histogram::default()
                };
                if let Some(native) = native {
                    histogram.set_native(native);
                }
                message.histogram = Some(histogram);
            }
        }
        message
    }
}

impl Histogram {
    fn set_native(&mut self, native: &native::Native) {
        let span = |&(offset, length): &(i32, u32)| BucketSpan { offset: Some(offset), length: Some(length) };
        self.schema = Some(native.schema);
        self.zero_threshold = Some(native::Native::ZERO_THRESHOLD);
        self.zero_count = Some(native.zero_count);
        self.positive_span = native.spans.iter().map(span).collect();
        self.positive_delta = native.deltas.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: Kind, value: Value) -> Family {
        let labels = vec![("x", "1".to_owned())];
        Family { name: "a".to_owned(), help: "h", kind, metrics: vec![model::Metric { labels, value }] }
    }

    #[test]
    fn families_follow_each_other_behind_their_lengths() {
        let native = native::Native { schema: 3, zero_count: 2, spans: vec![(-8, 2), (4, 1)], deltas: vec![1, -1, 3] };
        let families = [
            family(Kind::Counter, Value::Number(2.0)),
            family(Kind::Gauge, Value::Number(-2.5)),
            family(Kind::Summary, Value::Summary { quantiles: vec![(0.5, 0.1)], sum: 1.5, count: 2 }),
            family(
                Kind::Histogram,
                Value::Histogram { buckets: vec![(0.1, 1), (1.0, 2)], sum: 3.5, count: 3, native: None },
            ),
            family(Kind::Histogram, Value::Histogram { buckets: Vec::new(), sum: 3.5, count: 6, native: Some(native) }),
        ];
        let mut out = Vec::new();
        families.iter().for_each(|family| encode(family, &mut out));
        let mut rest = &*out;
        for family in &families {
            let message = MetricFamily::decode_length_delimited(&mut rest).expect("a message");
            assert_eq!(message, MetricFamily::from(family));
        }
        assert!(rest.is_empty());
    }

    /// The bytes that prometheus/client_model writes for it.
    #[test]
    fn fields_have_the_numbers_of_the_schema() {
        let native = native::Native { schema: 3, zero_count: 1, spans: vec![(-1, 1)], deltas: vec![2] };
        let value = Value::Histogram { buckets: Vec::new(), sum: 1.0, count: 3, native: Some(native) };
        let mut out = Vec::new();
        encode(&family(Kind::Histogram, value), &mut out);
        let mut want = vec![0x34, 0x0a, 1, b'a', 0x12, 1, b'h', 0x18, 4, 0x22, 0x2a];
        want.extend([0x0a, 6, 0x0a, 1, b'x', 0x12, 1, b'1', 0x3a, 0x20]);
        want.extend([0x08, 3, 0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x28, 6]);
        want.extend([0x31, 0, 0, 0, 0, 0, 0, 0xf0, 0x37, 0x38, 1, 0x62, 4, 0x08, 1, 0x10, 1, 0x68, 4]);
        assert_eq!(out, want, "{out:x?}");
    }
}
