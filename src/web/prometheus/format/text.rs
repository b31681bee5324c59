//! Prometheus' text format 0.0.4, byte for byte as client_golang writes it.

use super::super::model::{Family, Kind, Labels, Metric, Value};

/// Appends a family.
pub fn encode(family: &Family, out: &mut Vec<u8>) {
    let name = &*family.name;
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Summary => "summary",
        Kind::Histogram => "histogram",
    };
    put(out, &["# HELP ", name, " ", &escaped(family.help, false), "\n# TYPE ", name, " ", kind, "\n"]);
    for metric in &family.metrics {
        encode_metric(name, metric, out);
    }
}

fn encode_metric(name: &str, metric: &Metric, out: &mut Vec<u8>) {
    let labels = &metric.labels;
    match &metric.value {
        Value::Number(value) => sample(out, name, "", labels, None, *value),
        Value::Summary { quantiles, sum, count } => {
            for (share, value) in quantiles {
                sample(out, name, "", labels, Some(("quantile", *share)), *value);
            }
            sample(out, name, "_sum", labels, None, *sum);
            sample(out, name, "_count", labels, None, *count as f64);
        }
        Value::Histogram { buckets, sum, count, .. } => {
            for (bound, below) in buckets {
                sample(out, name, "_bucket", labels, Some(("le", *bound)), *below as f64);
            }
            sample(out, name, "_bucket", labels, Some(("le", f64::INFINITY)), *count as f64);
            sample(out, name, "_sum", labels, None, *sum);
            sample(out, name, "_count", labels, None, *count as f64);
        }
    }
}

fn sample(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &Labels, extra: Option<(&str, f64)>, value: f64) {
    put(out, &[name, suffix]);
    let mut separator = "{";
    for (label, value) in labels {
        put(out, &[separator, label, "=\"", &escaped(value, true), "\""]);
        separator = ",";
    }
    if let Some((label, value)) = extra {
        put(out, &[separator, label, "=\"", &number(value), "\""]);
        separator = ",";
    }
    put(out, &[if separator == "{" { "" } else { "}" }, " ", &number(value), "\n"]);
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Quotes are escaped in label values only.
fn escaped(text: &str, is_label: bool) -> std::borrow::Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return text.into();
    }
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label { text.replace('"', "\\\"").into() } else { text.into() }
}

/// A number as Go's format `g` with as few digits as needed: with an exponent below 0.0001 and from a million on.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("asked for");
    let exponent: i32 = exponent.parse().expect("a number");
    if (-4..EXPONENT_MIN).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// From this power of ten on numbers are written with an exponent.
const EXPONENT_MIN: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_number(value: f64, want: &str) {
        assert_eq!(number(value), want);
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, want) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.0001, "0.0001"),
            (0.00025, "0.00025"),
            (1e-6, "1e-06"),
            (5e-5, "5e-05"),
            (2.5, "2.5"),
            (99_999.0, "99999"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (57_331_712.0, "5.7331712e+07"),
            (10_151_369_382.0, "1.0151369382e+10"),
            (0.000_789_057_999_999_999_9, "0.0007890579999999999"),
            (8.048e-5, "8.048e-05"),
            (-1.0, "-1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            check_number(value, want);
        }
    }

    #[track_caller]
    fn check(family: &Family, want: &str) {
        let mut out = Vec::new();
        encode(family, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), want);
    }

    fn family(kind: Kind, labels: Labels, value: Value) -> Family {
        Family { name: "a_b".to_owned(), help: "What \\ it\n\"is\".", kind, metrics: vec![Metric { labels, value }] }
    }

    #[test]
    fn help_and_label_values_are_escaped() {
        check(
            &family(Kind::Gauge, vec![("x", "a\\b\n\"c\"".to_owned()), ("y", String::new())], Value::Number(1.5)),
            "# HELP a_b What \\\\ it\\n\"is\".\n# TYPE a_b gauge\na_b{x=\"a\\\\b\\n\\\"c\\\"\",y=\"\"} 1.5\n",
        );
        check(
            &family(Kind::Counter, Vec::new(), Value::Number(3.0)),
            "# HELP a_b What \\\\ it\\n\"is\".\n# TYPE a_b counter\na_b 3\n",
        );
    }

    #[test]
    fn histograms_end_with_everything_and_summaries_with_their_count() {
        let value = Value::Histogram { buckets: vec![(1e-6, 1), (1.0, 2)], sum: 7.25, count: 3, native: None };
        check(
            &family(Kind::Histogram, vec![("x", "1".to_owned())], value),
            "# HELP a_b What \\\\ it\\n\"is\".\n# TYPE a_b histogram\na_b_bucket{x=\"1\",le=\"1e-06\"} 1\n\
             a_b_bucket{x=\"1\",le=\"1\"} 2\na_b_bucket{x=\"1\",le=\"+Inf\"} 3\na_b_sum{x=\"1\"} 7.25\na_b_count{x=\"1\"} 3\n",
        );
        let value = Value::Summary { quantiles: vec![(0.5, 0.25), (0.99, f64::NAN)], sum: 2.0, count: 4 };
        check(
            &family(Kind::Summary, Vec::new(), value),
            "# HELP a_b What \\\\ it\\n\"is\".\n# TYPE a_b summary\na_b{quantile=\"0.5\"} 0.25\n\
             a_b{quantile=\"0.99\"} NaN\na_b_sum 2\na_b_count 4\n",
        );
    }
}
