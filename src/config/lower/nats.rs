//! Keys of `broker.nats` -> where NATS is. Source: config §4.

use super::redis::decoded;
use crate::config::settings::View;
use crate::control::nats::{NatsOptions, Server};
use crate::tls::ClientTls;
use ringcast_proto::nats::{RawMode, Replacements, Subjects};

/// Where a server listens unless its address says otherwise.
const PORT: u16 = 4222;

/// Whether NATS is the broker.
pub fn is_broker(root: View<'_>) -> bool {
    let broker = root.object("broker");
    broker.bool("enabled") && broker.text("type") == "nats"
}

/// The broker, where it is enabled and its type is `nats`. Says what cannot be served.
pub fn broker(root: View<'_>) -> Result<Option<NatsOptions>, String> {
    if !is_broker(root) {
        return Ok(None);
    }
    let nats = root.object("broker").object("nats");
    let servers = nats.text("url").split(',').map(str::trim).filter(|url| !url.is_empty()).map(server);
    let servers = servers.collect::<Result<Vec<_>, _>>().map_err(|error| format!("broker.nats.url {error}"))?;
    let (tls, raw) = (nats.object("tls"), nats.object("raw_mode"));
    let raw = raw.bool("enabled").then(|| raw_mode(raw)).transpose()?;
    let subjects = Subjects::new(nats.text("prefix"), raw, nats.bool("allow_wildcards"));
    if subjects.control().split('.').any(str::is_empty)
        || subjects.control().contains([' ', '\t', '\r', '\n', '*', '>'])
    {
        let prefix = nats.text("prefix");
        return Err(format!(
            "broker.nats.prefix is \"{prefix}\", expected words between dots, without spaces and wildcards"
        ));
    }
    Ok(Some(NatsOptions {
        servers: if servers.is_empty() { vec![server("localhost")?] } else { servers },
        subjects,
        dial_timeout: nats.duration("dial_timeout"),
        write_timeout: nats.duration("write_timeout"),
        tls: tls.bool("enabled").then(|| ClientTls::read(tls, "broker.nats.tls")).transpose()?,
    }))
}

/// What is to be kept in histories, although NATS is the broker; a warning for each.
pub fn without_history(root: View<'_>) -> Vec<String> {
    if !is_broker(root) {
        return Vec::new();
    }
    let channel = root.object("channel");
    let namespaces = channel.list("namespaces").map(|options| (format!("namespace {}", options.text("name")), options));
    let all = namespaces.chain([("without_namespace".to_owned(), channel.object("without_namespace"))]);
    let kept = all.filter(|(_, options)| options.int("history_size") > 0);
    kept.map(|(place, options)| {
        let size = options.int("history_size");
        format!(
            "history_size of {place} is {size} and has no effect: broker.type is nats, which keeps nothing; \
             subscriptions that want to recover get error 108"
        )
    })
    .collect()
}

fn raw_mode(raw: View<'_>) -> Result<RawMode, String> {
    let path = "broker.nats.raw_mode.channel_replacements";
    let mut pairs = Vec::new();
    for (old, new) in raw.object("channel_replacements").values() {
        let new = new.as_str().ok_or_else(|| format!("{path}.{old} is {new}, expected a string"))?;
        if old.is_empty() {
            return Err(format!("{path} has an empty key, expected the text that is to be replaced"));
        }
        pairs.push((old.clone(), new.to_owned()));
    }
    Ok(RawMode { prefix: raw.text("prefix").to_owned(), channel_replacements: Replacements::new(pairs) })
}

/// `[nats://|tls://][user:password@|token@]host[:port]`
fn server(url: &str) -> Result<Server, String> {
    let (tls, rest) = match url.split_once("://") {
        None => (false, url),
        Some(("nats", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        Some((scheme, _)) => {
            return Err(format!("begins with {scheme}://, expected nats://host:port or tls://host:port"));
        }
    };
    let rest = rest.trim_end_matches('/');
    let (login, place) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((login, place)) => {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
            (Some((decoded(user)?, password.map(decoded).transpose()?)), place)
        }
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (place, Some(PORT)),
    };
    let port = port.ok_or("has no number as its port, expected nats://host:port")?;
    let host = host.trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err("names no host, expected nats://host:port".to_owned());
    }
    Ok(Server { host, port, tls, login })
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, merge};
    use serde_json::{Value, json};

    fn lowered(nats: Value) -> Result<Vec<String>, String> {
        let file = json!({"broker": {"enabled": true, "type": "nats", "nats": nats}});
        let merged = merge::merge(file.as_object().expect("an object").clone(), &Environment::default(), &[]);
        let options = super::broker(merged.expect("merged").settings.view())?.expect("a broker");
        Ok(options.servers.iter().map(|server| format!("{server} {} {:?}", server.tls, server.login)).collect())
    }

    #[track_caller]
    fn check(url: &str, want: &[&str]) {
        assert_eq!(lowered(json!({ "url": url })).expect("lowered"), want, "{url}");
    }

    #[track_caller]
    fn check_refused(nats: Value, part: &str) {
        let error = lowered(nats).expect_err("an error");
        assert!(error.starts_with("broker.nats.") && error.contains(part), "{error}");
    }

    /// E07
    #[test]
    fn addresses_have_several_forms() {
        check("", &["localhost:4222 false None"]);
        check("nats://h:1, tls://g/ ,i", &["h:1 false None", "g:4222 true None", "i:4222 false None"]);
        check("nats://[::1]:7,[::1]", &["[::1]:7 false None", "[::1]:4222 false None"]);
        check("nats://u:p%40@h", &[r#"h:4222 false Some(("u", Some("p@")))"#]);
        check("nats://token@h", &[r#"h:4222 false Some(("token", None))"#]);
    }

    /// E07
    #[test]
    fn histories_that_nobody_keeps_are_named() {
        let named = |broker: &str| {
            let kept = json!({"name": "chat", "history_size": 10, "history_ttl": "60s"});
            let channel = json!({"namespaces": [kept, {"name": "other"}]});
            let file = json!({"broker": {"enabled": true, "type": broker}, "channel": channel});
            let merged = merge::merge(file.as_object().expect("an object").clone(), &Environment::default(), &[]);
            super::without_history(merged.expect("merged").settings.view())
        };
        let [warning] = &named("nats")[..] else { panic!("{:?}", named("nats")) };
        assert!(warning.starts_with("history_size of namespace chat is 10 "), "{warning}");
        assert!(named("redis").is_empty());
    }

    /// E07, E08
    #[test]
    fn what_cannot_be_served_is_refused() {
        check_refused(json!({"url": "ws://h:1"}), "ws://");
        check_refused(json!({"url": "nats://h:x"}), "port");
        check_refused(json!({"url": "nats://:1"}), "no host");
        check_refused(json!({"url": "nats://%4@h"}), "percent sign");
        check_refused(json!({"prefix": "a b"}), "prefix");
        check_refused(json!({"tls": {"enabled": true, "server_ca_pem": "none"}}), "tls.server_ca_pem");
        let replacements = json!({"enabled": true, "channel_replacements": {"": "."}});
        check_refused(json!({"raw_mode": replacements}), "empty key");
    }
}
