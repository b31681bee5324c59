//! In which format a page is written: Prometheus' text, or Protobuf for who asks for it.
//!
//! OpenMetrics is not spoken, as in the reference: it wants every counter's name to end in `_total`, and the names here are
//! those that dashboards know.

mod protobuf;
mod text;

use super::model::Family;

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, version 0.0.4.
    Text,
    /// Messages `io.prometheus.client.MetricFamily`, each behind its length.
    Protobuf,
}

impl Format {
    /// What a scraper wants by its header `Accept`: the first of its wishes by weight, then order, that there is.
    pub fn accepted(accept: &str) -> Format {
        let mut best: Option<(f32, Format)> = None;
        for wish in accept.split(',') {
            let Some((weight, format)) = wish_of(wish) else { continue };
            if weight > 0.0 && best.is_none_or(|(heaviest, _)| weight > heaviest) {
                best = Some((weight, format));
            }
        }
        best.map_or(Format::Text, |(_, format)| format)
    }

    /// For the response.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
            }
        }
    }

    /// The page.
    pub fn encode(self, families: &[Family]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 << 10);
        for family in families {
            match self {
                Format::Text => text::encode(family, &mut out),
                Format::Protobuf => protobuf::encode(family, &mut out),
            }
        }
        out
    }
}

/// Weight and format of one wish; `None` for one that cannot be fulfilled.
fn wish_of(wish: &str) -> Option<(f32, Format)> {
    let mut parts = wish.split(';').map(str::trim);
    let media_type = parts.next()?;
    let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().trim_matches('"'))
    };
    let weight = parameter("q").map_or(Some(1.0), |weight| weight.parse().ok())?;
    let is = |name, want| parameter(name).is_none_or(|value| value == want);
    if media_type.eq_ignore_ascii_case("application/vnd.google.protobuf") {
        let is_ours = parameter("proto") == Some("io.prometheus.client.MetricFamily")
            && parameter("encoding") == Some("delimited");
        return is_ours.then_some((weight, Format::Protobuf));
    }
    let is_text = ["text/plain", "text/*", "*/*"].iter().any(|known| media_type.eq_ignore_ascii_case(known));
    (is_text && is("version", "0.0.4")).then_some((weight, Format::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, want: Format) {
        assert_eq!(Format::accepted(accept), want, "{accept}");
    }

    #[test]
    fn protobuf_is_for_who_asks_for_it() {
        const PROTOBUF: &str =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        check("", Format::Text);
        check("*/*", Format::Text);
        check("text/html", Format::Text);
        check("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", Format::Text);
        check(PROTOBUF, Format::Protobuf);
        check(&format!("{PROTOBUF};q=0.6, text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), Format::Protobuf);
        check(&format!("text/plain;version=0.0.4;q=0.7, {PROTOBUF};q=0.6"), Format::Text);
        check(&format!("{PROTOBUF};q=0"), Format::Text);
        check("application/vnd.google.protobuf", Format::Text);
        check("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Format::Text);
    }
}
