//! Proxies: the list that the control plane keeps, and the places in it that the shards name. Source: config §4.3, behaviour §9.

use super::settings::{Settings, View};
use crate::control::proxy::{BackendOptions, Forwarding, GrpcBackend, HttpBackend, StatusTransform, metadata};
use crate::tls::ClientTls;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ringcast_proto::proxy::{Disconnect, Error};
use ringcast_runtime::ForwardedHeaders;
use ringcast_state::proxy::{ProxyId, ProxyListId, ProxyOptions, RpcOptions};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// What the name `default` stands for, for each event. Those of `proxies` follow in the list.
const DEFAULTS: [(&str, &[&str]); 7] = [
    ("connect", &["client", "proxy", "connect"]),
    ("refresh", &["client", "proxy", "refresh"]),
    ("subscribe", &["channel", "proxy", "subscribe"]),
    ("subscribe_stream", &["channel", "proxy", "subscribe_stream"]),
    ("sub_refresh", &["channel", "proxy", "sub_refresh"]),
    ("publish", &["channel", "proxy", "publish"]),
    ("rpc", &["rpc", "proxy"]),
];

/// Events that channel options name a proxy for, with their keys.
const CHANNEL_EVENTS: [(&str, &str, &str); 4] = [
    ("subscribe", "subscribe_proxy_enabled", "subscribe_proxy_name"),
    ("subscribe_stream", "subscribe_stream_proxy_enabled", "subscribe_stream_proxy_name"),
    ("sub_refresh", "sub_refresh_proxy_enabled", "sub_refresh_proxy_name"),
    ("publish", "publish_proxy_enabled", "publish_proxy_name"),
];

/// Name of the proxies that are configured in place.
const DEFAULT: &str = "default";

const HEADER_WANTED: &str = "expected the name of a header with a value in visible ASCII";

/// What the shards need on top of the time limit of a backend: their own is the last resort.
const GIVE_UP_MARGIN: Duration = Duration::from_secs(1);

/// That of a proxy which does not say.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Every proxy, at its place; none where no endpoint is configured. Fails with the key, its value and what is expected.
pub fn list(settings: &Settings) -> Result<Vec<Option<BackendOptions>>, String> {
    let root = settings.view();
    let defaults = DEFAULTS.iter().map(|(_, path)| (DEFAULT, path.join("."), descend(root, path)));
    let named = root.list("proxies").enumerate().map(|(index, proxy)| {
        let name = proxy.text("name");
        (name, format!("proxies.[{index}]"), proxy)
    });
    let list = defaults.chain(named).map(|(name, path, proxy)| {
        let is_set = !proxy.text("endpoint").is_empty();
        is_set.then(|| backend(name, proxy, &path)).transpose()
    });
    let list = list.collect::<Result<Vec<_>, _>>()?;
    check(root, &list)?;
    check_streams(root, &list)?;
    Ok(list)
}

/// Whom the shards ask about what is not said by a channel.
pub fn asked(root: View<'_>) -> ProxyOptions {
    let rpc = root.object("rpc");
    let of = |options: View<'_>| options.bool("proxy_enabled").then(|| id(root, "rpc", options.text("proxy_name")));
    let namespaces = rpc.list("namespaces").map(|options| (options.text("name").to_owned(), of(options)));
    let client = root.object("client").object("proxy");
    let of_client = |event| client.object(event).bool("enabled").then(|| id(root, event, DEFAULT));
    let longest = all(root).map(|proxy| proxy.duration("timeout")).max().unwrap_or(TIMEOUT);
    ProxyOptions {
        list: ProxyListId(0),
        connect: of_client("connect"),
        refresh: of_client("refresh"),
        rpc: RpcOptions {
            without_namespace: of(rpc.object("without_namespace")),
            namespaces: namespaces.collect(),
            namespace_boundary: rpc.text("namespace_boundary").to_owned(),
        },
        emulated_headers: names(root, "emulated_headers"),
        include_connection_meta: all(root).any(|proxy| proxy.bool("include_connection_meta")),
        give_up_after: longest + GIVE_UP_MARGIN,
    }
}

/// Headers or metadata of clients' requests that some proxy forwards, by the key that names them.
pub fn forwarded(root: View<'_>, key: &str) -> ForwardedHeaders {
    ForwardedHeaders(names(root, key))
}

fn names(root: View<'_>, key: &str) -> BTreeSet<String> {
    all(root).flat_map(|proxy| lower(proxy, key)).collect()
}

fn lower(proxy: View<'_>, key: &str) -> BTreeSet<String> {
    proxy.texts(key).map(str::to_ascii_lowercase).collect()
}

/// Every proxy that has somebody to ask.
fn all(root: View<'_>) -> impl Iterator<Item = View<'_>> {
    let all = DEFAULTS.iter().map(move |(_, path)| descend(root, path)).chain(root.list("proxies"));
    all.filter(|proxy| !proxy.text("endpoint").is_empty())
}

/// The proxy of an event in channels with these options, if it is enabled.
pub fn of_channel(root: View<'_>, options: View<'_>, event: &str) -> Option<ProxyId> {
    let row = CHANNEL_EVENTS.iter().find(|(known, _, _)| *known == event);
    let (_, enabled, name) = row.expect("an event that is in the table");
    options.bool(enabled).then(|| id(root, event, options.text(name)))
}

/// The place of a name; beyond the list where there is no such proxy, which [`list`] refuses.
fn id(root: View<'_>, event: &str, name: &str) -> ProxyId {
    let place = match name {
        DEFAULT => DEFAULTS.iter().position(|(known, _)| *known == event),
        name => {
            let index = root.list("proxies").position(|proxy| proxy.text("name") == name);
            index.map(|index| DEFAULTS.len() + index)
        }
    };
    ProxyId(place.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX))
}

/// Whoever is enabled has somebody to ask: an empty name is nobody's, and the default needs an endpoint.
fn check(root: View<'_>, list: &[Option<BackendOptions>]) -> Result<(), String> {
    let ProxyOptions { rpc, .. } = asked(root);
    let channel = root.object("channel");
    let without_namespace = ("channel.without_namespace".to_owned(), channel.object("without_namespace"));
    let namespaces = channel.list("namespaces").map(|options| (format!("namespace {}", options.text("name")), options));
    let of_channels = [without_namespace].into_iter().chain(namespaces).flat_map(|(place, options)| {
        let of = |(event, _, name): (&str, &str, &str)| {
            of_channel(root, options, event).map(|id| (format!("{place}: {name}"), id))
        };
        CHANNEL_EVENTS.map(of).into_iter().flatten()
    });
    let of_rpc = rpc.namespaces.iter().map(|(name, id)| (format!("rpc namespace {name}: proxy_name"), *id));
    let of_rpc = of_rpc.chain([("rpc.without_namespace.proxy_name".to_owned(), rpc.without_namespace)]);
    let of_rpc = of_rpc.filter_map(|(place, id)| Some((place, id?)));
    for (place, id) in of_channels.chain(of_rpc) {
        if !list.get(usize::from(id.0)).is_some_and(Option::is_some) {
            return Err(format!("{place} names a proxy without an endpoint, expected the name of one of proxies"));
        }
    }
    Ok(())
}

/// Streams come over GRPC.
fn check_streams(root: View<'_>, list: &[Option<BackendOptions>]) -> Result<(), String> {
    const EVENT: &str = "subscribe_stream";
    let channel = root.object("channel");
    let channels = [channel.object("without_namespace")].into_iter().chain(channel.list("namespaces"));
    for id in channels.filter_map(|options| of_channel(root, options, EVENT)) {
        if let Some(HttpBackend { endpoint, .. }) =
            list.get(usize::from(id.0)).and_then(Option::as_ref).and_then(|backend| backend.http.as_ref())
        {
            return Err(format!("a subscribe stream proxy has endpoint {endpoint}, expected grpc://host:port"));
        }
    }
    Ok(())
}

fn descend<'a>(root: View<'a>, path: &[&str]) -> View<'a> {
    path.iter().fold(root, |view, name| view.object(name))
}

fn backend(name: &str, proxy: View<'_>, path: &str) -> Result<BackendOptions, String> {
    let (endpoint, http, grpc) = (proxy.text("endpoint"), proxy.object("http"), proxy.object("grpc"));
    let is_http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    Ok(BackendOptions {
        name: name.to_owned(),
        timeout: proxy.duration("timeout"),
        binary_encoding: proxy.bool("binary_encoding"),
        include_connection_meta: proxy.bool("include_connection_meta"),
        forwarding: Forwarding {
            http_headers: lower(proxy, "http_headers"),
            grpc_metadata: lower(proxy, "grpc_metadata"),
            emulated_headers: lower(proxy, "emulated_headers"),
        },
        http: is_http.then(|| http_backend(endpoint, http, path)).transpose()?,
        grpc: (!is_http).then(|| grpc_backend(endpoint, grpc, path)).transpose()?,
    })
}

fn http_backend(endpoint: &str, http: View<'_>, path: &str) -> Result<HttpBackend, String> {
    let mut static_headers = HeaderMap::new();
    add_headers(&mut static_headers, &http.values()["static_headers"], &format!("{path}.http.static_headers"))?;
    static_headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(HttpBackend {
        endpoint: uri(endpoint, path, endpoint)?,
        tls: http_tls(endpoint, http, path)?,
        static_headers,
        status_to_code_transforms: http.list("status_to_code_transforms").map(transform).collect(),
    })
}

fn grpc_backend(endpoint: &str, grpc: View<'_>, path: &str) -> Result<GrpcBackend, String> {
    let mut static_metadata = HeaderMap::new();
    add_headers(&mut static_metadata, &grpc.values()["static_metadata"], &format!("{path}.grpc.static_metadata"))?;
    for (name, value) in &mut static_metadata {
        *value = metadata(name, value.clone());
    }
    let credentials = match grpc.text("credentials_key") {
        "" => None,
        key => {
            let (name, value) = header(key, grpc.text("credentials_value"))
                .ok_or_else(|| format!("{path}.grpc.credentials_key is {key}, {HEADER_WANTED}"))?;
            let value = metadata(&name, value);
            Some((name, value))
        }
    };
    let tls = tls(grpc, &format!("{path}.grpc.tls"))?;
    let host = endpoint.strip_prefix("grpc://").unwrap_or(endpoint).trim_end_matches('/');
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = uri(&format!("{scheme}://{host}"), path, endpoint)?;
    Ok(GrpcBackend { endpoint, tls, static_metadata, credentials, compression: grpc.bool("compression") })
}

fn uri(address: &str, path: &str, endpoint: &str) -> Result<Uri, String> {
    let uri = address.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    uri.ok_or_else(|| format!("{path}.endpoint is {endpoint}, expected http(s)://host:port/path or grpc://host:port"))
}

/// Without TLS options, `https://` trusts whom the system trusts.
fn http_tls(endpoint: &str, http: View<'_>, path: &str) -> Result<Option<ClientTls>, String> {
    match tls(http, &format!("{path}.http.tls"))? {
        None if endpoint.starts_with("https://") => ClientTls::system()
            .map(Some)
            .map_err(|error| format!("{path}.endpoint is {endpoint}: {error}, expected {path}.http.tls.server_ca_pem")),
        tls => Ok(tls),
    }
}

fn tls(object: View<'_>, path: &str) -> Result<Option<ClientTls>, String> {
    let tls = object.object("tls");
    tls.bool("enabled").then(|| ClientTls::read(tls, path)).transpose()
}

fn add_headers(headers: &mut HeaderMap, values: &Value, path: &str) -> Result<(), String> {
    for (name, value) in values.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (name, value) =
            header(name, &text).ok_or_else(|| format!("{path}.{name} cannot be sent, {HEADER_WANTED}"))?;
        headers.insert(name, value);
    }
    Ok(())
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.to_ascii_lowercase().parse().ok()?, value.parse().ok()?))
}

fn transform(transform: View<'_>) -> StatusTransform {
    let (error, disconnect) = (transform.object("to_error"), transform.object("to_disconnect"));
    let code = |object: View<'_>| u32::try_from(object.int("code")).unwrap_or(0);
    StatusTransform {
        status_code: transform.int("status_code"),
        to_error: (code(error) > 0).then(|| Error {
            code: code(error),
            message: error.text("message").to_owned(),
            temporary: error.bool("temporary"),
        }),
        to_disconnect: (code(disconnect) > 0)
            .then(|| Disconnect { code: code(disconnect), reason: disconnect.text("reason").to_owned() }),
    }
}
