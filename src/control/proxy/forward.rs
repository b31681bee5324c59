//! Which headers of a client go along to a backend.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use ringcast_state::TransportKind;
use ringcast_state::proxy::ProxyAsker;
use std::collections::{BTreeSet, HashSet};

/// Lines that belong to the client's request and would break ours.
const OF_ONE_REQUEST: [HeaderName; 9] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Names of headers that a backend gets, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// Key `http_headers`: of the request that opened the connection.
    pub http_headers: BTreeSet<String>,
    /// Key `grpc_metadata`: of the call, of clients that came over GRPC.
    pub grpc_metadata: BTreeSet<String>,
    /// Key `emulated_headers`: of the connect command.
    pub emulated_headers: BTreeSet<String>,
}

impl Forwarding {
    /// What goes along on behalf of a client, to a backend that speaks GRPC or HTTP. Headers that the client only claims go first, so that
    /// real ones beat them.
    pub fn headers(&self, asker: &ProxyAsker, to_grpc: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(background) = &asker.background else { return headers };
        let emulated = background.emulated.iter().map(|(name, value)| (name, value.as_bytes()));
        add(&mut headers, emulated.filter(|(name, _)| self.emulated_headers.contains(*name)), to_grpc);
        let is_grpc = asker.transport == TransportKind::UniGrpc;
        let names = if is_grpc { &self.grpc_metadata } else { &self.http_headers };
        let lines = background.headers.iter().flat_map(|headers| headers.iter());
        let lines = lines.map(|(name, value)| (name, value.as_slice()));
        // Metadata has the form of the wire already.
        add(&mut headers, lines.filter(|(name, _)| names.contains(*name)), to_grpc && !is_grpc);
        headers
    }
}

/// Puts lines in the place of those with the same name. Lines that cannot be sent are left out.
fn add<'a>(headers: &mut HeaderMap, lines: impl Iterator<Item = (&'a String, &'a [u8])>, to_grpc: bool) {
    let mut replaced = HashSet::new();
    for (name, value) in lines {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) else { continue };
        if OF_ONE_REQUEST.contains(&name) || name.as_str().starts_with("grpc-") {
            continue;
        }
        if replaced.insert(name.clone()) {
            headers.remove(&name);
        }
        let value = if to_grpc { metadata(&name, value) } else { value };
        headers.append(name, value);
    }
}

/// A value in the form of GRPC's wire, which has those of names in `-bin` in base64. Source: GRPC over HTTP/2.
pub fn metadata(name: &HeaderName, value: HeaderValue) -> HeaderValue {
    if !name.as_str().ends_with("-bin") {
        return value;
    }
    STANDARD_NO_PAD.encode(value.as_bytes()).parse().expect("base64 is visible ASCII")
}

/// Puts the headers of one map in the place of those with the same name in another.
pub fn replace(headers: &mut HeaderMap, by: &HeaderMap) {
    for name in by.keys() {
        headers.remove(name);
    }
    headers.extend(by.iter().map(|(name, value)| (name.clone(), value.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_proto::client::Encoding;
    use ringcast_state::ClientId;
    use ringcast_state::proxy::Background;
    use std::sync::Arc;

    fn check(transport: TransportKind, to_grpc: bool, want: &[(&str, &str)]) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let forwarding = Forwarding {
            http_headers: names(&["x-a", "x-b", "cookie", "content-length", "x-bin"]),
            grpc_metadata: names(&["x-b", "x-bin"]),
            emulated_headers: names(&["x-a", "x-c", "x-bad"]),
        };
        let line = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        let real = [
            ("x-b", "1"),
            ("cookie", "2"),
            ("cookie", "3"),
            ("content-length", "4"),
            ("x-c", "5"),
            ("x-a", "6"),
            ("x-bin", "AAE"),
        ];
        let emulated = [("x-a", "7"), ("x-c", "8"), ("x-d", "9"), ("x-bad", "a\r\nb: c")];
        let background = Background {
            headers: Some(Arc::new(real.iter().map(line).collect())),
            emulated: emulated.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Background::default()
        };
        let asker = ProxyAsker {
            client: ClientId(1),
            transport,
            encoding: Encoding::Json,
            user: "".into(),
            background: Some(background.into()),
        };
        let headers = forwarding.headers(&asker, to_grpc);
        let mut got: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("a name"))).collect();
        got.sort_unstable();
        assert_eq!(got, want, "{transport:?}");
    }

    /// X13
    #[test]
    fn real_headers_beat_emulated_ones_and_only_listed_ones_go_along() {
        let want = [("cookie", "2"), ("cookie", "3"), ("x-a", "6"), ("x-b", "1"), ("x-bin", "AAE"), ("x-c", "8")];
        check(TransportKind::WebSocket, false, &want);
        check(TransportKind::UniGrpc, false, &[("x-a", "7"), ("x-b", "1"), ("x-bin", "AAE"), ("x-c", "8")]);
    }

    /// X11, X13
    #[test]
    fn to_grpc_names_in_bin_have_base64_once() {
        let want = [("cookie", "2"), ("cookie", "3"), ("x-a", "6"), ("x-b", "1"), ("x-bin", "QUFF"), ("x-c", "8")];
        check(TransportKind::WebSocket, true, &want);
        check(TransportKind::UniGrpc, true, &[("x-a", "7"), ("x-b", "1"), ("x-bin", "AAE"), ("x-c", "8")]);
    }
}
