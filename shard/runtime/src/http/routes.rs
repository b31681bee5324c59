//! From the path of a request to what serves it.

use std::rc::Rc;
use std::sync::Arc;

use ringcast_proto::api::Method;
use ringcast_state::TransportKind;

use crate::options::{Asset, Endpoints, Options, SwaggerOptions};
use crate::transport::page::{Endpoint, Page};
use crate::transport::sockjs::Place;

/// What a path leads to.
#[derive(Clone)]
pub enum Route {
    /// Upgrade to the client protocol.
    WebSocket,
    /// Upgrade to a stream of pushes.
    UniWebSocket,
    /// A response without end, by the transport that it is.
    Stream(TransportKind),
    /// Something of SockJS.
    SockJs(Place),
    /// Commands for one of the streams.
    Emulation,
    /// Nothing, for a client that opens its connection beforehand.
    Init,
    /// The server API; `None` is the bare prefix with its own request format.
    Api(Option<Method>),
    /// Is the server alive.
    Health,
    /// A page of the control plane.
    Page(Page),
    /// A static file.
    Asset(Rc<Asset>),
    /// Elsewhere: the path.
    Redirect(Rc<str>),
}

/// The paths of one port.
pub struct Routes {
    exact: Vec<(String, Route)>,
    /// Prefix of API methods, with its slash.
    api: Option<String>,
    /// Prefix of SockJS, without.
    sockjs: Option<String>,
}

impl Routes {
    /// What `endpoints` and the prefixes in `options` say.
    pub fn new(options: &Options, endpoints: Endpoints) -> Self {
        let mut exact = Vec::new();
        let mut add = |wanted: bool, prefix: &str, route: Route| {
            if wanted {
                exact.push((without_slash(prefix), route));
            }
        };
        add(endpoints.websocket, &options.websocket.handler_prefix, Route::WebSocket);
        add(endpoints.http_stream, &options.http_stream.handler_prefix, Route::Stream(TransportKind::HttpStream));
        add(endpoints.sse, &options.sse.handler_prefix, Route::Stream(TransportKind::Sse));
        add(endpoints.uni_websocket, &options.uni_websocket.websocket.handler_prefix, Route::UniWebSocket);
        let uni_http_stream = Route::Stream(TransportKind::UniHttpStream);
        add(endpoints.uni_http_stream, &options.uni_http_stream.handler_prefix, uni_http_stream);
        add(endpoints.uni_sse, &options.uni_sse.handler_prefix, Route::Stream(TransportKind::UniSse));
        add(endpoints.emulation, &options.emulation.handler_prefix, Route::Emulation);
        add(endpoints.init, &options.init_handler_prefix, Route::Init);
        add(endpoints.http_api, &options.http_api.handler_prefix, Route::Api(None));
        add(endpoints.health, &options.health.handler_prefix, Route::Health);
        add(endpoints.ready, "/ready", Route::Page(Page::Ready));
        let metrics = options.prometheus.handler_prefix.trim_end_matches('/');
        add(endpoints.prometheus, metrics, Route::Page(Page::Metrics));
        add(endpoints.prometheus, &format!("{metrics}/latency"), Route::Page(Page::Latency));
        for asset in options.assets.iter().filter(|_| endpoints.assets) {
            exact.push((asset.path.clone(), Route::Asset(Rc::new(asset.clone()))));
        }
        if endpoints.swagger {
            add_swagger(&mut exact, &options.swagger);
        }
        let prefix = options.http_api.handler_prefix.trim_end_matches('/');
        let sockjs = options.sockjs.handler_prefix.trim_end_matches('/');
        Self {
            exact,
            api: endpoints.http_api.then(|| format!("{prefix}/")),
            sockjs: endpoints.sockjs.then(|| sockjs.to_owned()),
        }
    }

    /// None: 404.
    pub fn find(&self, path: &str) -> Option<Route> {
        // Methods first: they are what is asked for most, and no other path can be one.
        let method = self.api.as_ref().and_then(|prefix| Method::from_path(path.strip_prefix(prefix.as_str())?));
        if let Some(method) = method {
            return Some(Route::Api(Some(method)));
        }
        let exact = self.exact.iter().find(|(exact, _)| exact == path).map(|(_, route)| route.clone());
        exact.or_else(|| {
            let behind = path.strip_prefix(self.sockjs.as_deref()?)?;
            Place::find(behind).map(Route::SockJs)
        })
    }
}

/// The name of the endpoint at a path that leads somewhere: there are as many as paths, and a path is all that names them. Those
/// of SockJS, which clients make up, share one.
pub fn endpoint(options: &Options, route: &Route, path: &str) -> Endpoint {
    match route {
        Route::SockJs(_) => Arc::from(&*options.sockjs.handler_prefix),
        _ => Arc::from(path),
    }
}

/// The page is at the prefix with a slash, so that it finds the files beside it.
fn add_swagger(exact: &mut Vec<(String, Route)>, swagger: &SwaggerOptions) {
    let base = format!("{}/", swagger.handler_prefix.trim_end_matches('/'));
    let without = base.trim_end_matches('/');
    if !without.is_empty() {
        exact.push((without.to_owned(), Route::Redirect(Rc::from(&*base))));
    }
    let route = |file: &Asset| (format!("{base}{}", file.path), Route::Asset(Rc::new(file.clone())));
    exact.extend(swagger.files.iter().map(route));
}

/// As the reference reads its prefixes: a slash at the end does not count, and nothing is the root.
fn without_slash(prefix: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => "/".to_owned(),
        prefix => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const ALL: Endpoints = Endpoints::ALL;

    #[track_caller]
    fn check(endpoints: Endpoints, options: &Options, path: &str, want: &str) {
        let found = match Routes::new(options, endpoints).find(path) {
            None => "none".to_owned(),
            Some(Route::WebSocket) => "websocket".to_owned(),
            Some(Route::UniWebSocket) => "uni_websocket".to_owned(),
            Some(Route::Stream(kind)) => kind.as_str().to_owned(),
            Some(Route::SockJs(place)) => format!("{place:?}"),
            Some(Route::Emulation) => "emulation".to_owned(),
            Some(Route::Init) => "init".to_owned(),
            Some(Route::Api(None)) => "api".to_owned(),
            Some(Route::Api(Some(method))) => method.as_str().to_owned(),
            Some(Route::Health) => "health".to_owned(),
            Some(Route::Page(page)) => format!("{page:?}"),
            Some(Route::Asset(asset)) => asset.content_type.clone(),
            Some(Route::Redirect(path)) => format!("to {path}"),
        };
        assert_eq!(found, want, "{path}");
    }

    /// A01
    #[test]
    fn paths_lead_to_their_endpoints() {
        let page = Asset { path: "/".into(), content_type: "page".into(), bytes: Bytes::new() };
        let options = Options { assets: vec![page], ..Options::default() };
        check(ALL, &options, "/connection/websocket", "websocket");
        check(ALL, &options, "/connection/websocket/", "none");
        check(ALL, &options, "/connection/http_stream", "http_stream");
        check(ALL, &options, "/connection/sse", "sse");
        check(ALL, &options, "/connection/uni_websocket", "uni_websocket");
        check(ALL, &options, "/connection/uni_http_stream", "uni_http_stream");
        check(ALL, &options, "/connection/uni_sse", "uni_sse");
        check(ALL, &options, "/connection/sockjs", "Greeting");
        check(ALL, &options, "/connection/sockjs/", "Greeting");
        check(ALL, &options, "/connection/sockjs/info", "Info");
        check(ALL, &options, "/connection/sockjs/000/abc/xhr", "Session { name: \"abc\", call: Xhr }");
        check(ALL, &options, "/connection/sockjs/000/abc", "none");
        check(ALL, &options, "/connection/sockjsinfo", "none");
        check(ALL, &options, "/emulation", "emulation");
        check(ALL, &options, "/connection/init", "init");
        check(ALL, &options, "/api", "api");
        check(ALL, &options, "/api/publish", "publish");
        check(ALL, &options, "/api/presence_stats", "presence_stats");
        check(ALL, &options, "/api/nothing", "none");
        check(ALL, &options, "/api/", "none");
        check(ALL, &options, "/health", "health");
        check(ALL, &options, "/metrics", "Metrics");
        check(ALL, &options, "/metrics/latency", "Latency");
        check(ALL, &options, "/", "page");
        check(ALL, &options, "*", "none");
        check(ALL, &options, "", "none");
        check(Endpoints::default(), &options, "/api/publish", "none");
        check(Endpoints::default(), &options, "/", "none");
        check(Endpoints::default(), &options, "/metrics", "none");
        check(Endpoints::default(), &options, "/connection/sockjs/info", "none");
    }

    /// A11
    #[test]
    fn the_pages_of_the_api_are_below_their_prefix() {
        let page = Asset { path: "".into(), content_type: "page".into(), bytes: Bytes::new() };
        let file = Asset { path: "a.js".into(), content_type: "script".into(), bytes: Bytes::new() };
        let mut options = Options::default();
        options.swagger.files = vec![page, file];
        check(ALL, &options, "/swagger", "to /swagger/");
        check(ALL, &options, "/swagger/", "page");
        check(ALL, &options, "/swagger/a.js", "script");
        check(ALL, &options, "/swagger/b.js", "none");
        check(Endpoints::default(), &options, "/swagger/", "none");
        options.swagger.handler_prefix = "/".into();
        check(ALL, &options, "/", "page");
        check(ALL, &options, "/a.js", "script");
    }

    #[test]
    fn prefixes_are_configurable() {
        let mut options = Options::default();
        options.websocket.handler_prefix = "/ws/".into();
        options.http_api.handler_prefix = "/".into();
        check(ALL, &options, "/ws", "websocket");
        check(ALL, &options, "/", "api");
        check(ALL, &options, "/publish", "publish");
    }
}
