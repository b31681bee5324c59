//! Keys of a Redis connection -> where Redis is. Source: config §4.2.

use crate::config::settings::View;
use crate::control::redis::{Address, Endpoint, Login, Place, RedisOptions, Sentinels, Tls};
use crate::tls::ClientTls;
use std::time::Duration;

/// The broker, or the engine, whose type is `redis`. Says what cannot be served.
pub fn broker(root: View<'_>) -> Result<RedisOptions, String> {
    let broker = root.object("broker");
    let options = match broker.bool("enabled") {
        // Without presence of its own.
        true => options(broker.object("redis"), "broker.redis", None),
        false => engine(root),
    };
    let redis = if broker.bool("enabled") { broker.object("redis") } else { root.object("engine").object("redis") };
    options.map(|options| RedisOptions { history_use_lists: redis.bool("history_use_lists"), ..options })
}

/// Who keeps presence: the presence manager, or the engine, whose type is `redis`.
pub fn presence(root: View<'_>) -> Result<RedisOptions, String> {
    let manager = root.object("presence_manager");
    match manager.bool("enabled") {
        true => options(manager.object("redis"), "presence_manager.redis", Some(manager.object("redis"))),
        false => engine(root),
    }
}

fn engine(root: View<'_>) -> Result<RedisOptions, String> {
    let redis = root.object("engine").object("redis");
    options(redis, "engine.redis", Some(redis))
}

/// Presence has options of its own where it is kept there.
fn options(redis: View<'_>, path: &str, presence: Option<View<'_>>) -> Result<RedisOptions, String> {
    Ok(RedisOptions {
        prefix: redis.text("prefix").to_owned(),
        shards: endpoints(redis).map_err(|error| format!("{path}.{error}"))?,
        history_use_lists: false,
        presence_ttl: presence.map_or(Duration::ZERO, |presence| presence.duration("presence_ttl")),
        presence_user_mapping: presence.is_some_and(|presence| presence.bool("presence_user_mapping")),
        presence_hash_field_ttl: presence.is_some_and(|presence| presence.bool("presence_hash_field_ttl")),
    })
}

fn endpoints(redis: View<'_>) -> Result<Vec<Endpoint>, String> {
    let tls = |key: &str| -> Result<Option<Tls>, String> {
        let object = redis.object(key);
        let read = || ClientTls::read(object, key).map(Tls::from);
        object.bool("enabled").then(read).transpose()
    };
    let base = Endpoint {
        place: Place::Fixed(Address::Tcp(String::new())),
        login: login(redis, ["user", "password", "client_name"]),
        db: u32::try_from(redis.int("db")).map_err(|_| format!("db is {}, expected 0 or more", redis.int("db")))?,
        connect_timeout: redis.duration("connect_timeout"),
        io_timeout: redis.duration("io_timeout"),
        force_resp2: redis.bool("force_resp2"),
        tls: tls("tls")?,
        sentinel_tls: tls("sentinel_tls")?,
    };
    let clusters: Vec<_> = redis.texts("cluster_address").collect();
    if !clusters.is_empty() {
        let of = |item| Ok(Endpoint { place: Place::Cluster(addresses("cluster_address", item)?), ..base.clone() });
        return clusters.into_iter().map(of).collect();
    }
    let sentinels: Vec<_> = redis.texts("sentinel_address").collect();
    if sentinels.is_empty() {
        return redis.texts("address").map(|address| endpoint(&base, address)).collect();
    }
    let master = redis.text("sentinel_master_name").to_owned();
    if master.is_empty() {
        return Err(
            "sentinel_master_name is empty, expected the name that the sentinels of sentinel_address know".into()
        );
    }
    let place = |item: &str| {
        let addresses = addresses("sentinel_address", item)?;
        let login = login(redis, ["sentinel_user", "sentinel_password", "sentinel_client_name"]);
        let master = master.clone();
        Ok(Endpoint { place: Place::Sentinel(Sentinels { addresses, master, login }), ..base.clone() })
    };
    sentinels.into_iter().map(place).collect()
}

/// `host:port`, several with commas between.
fn addresses(key: &str, item: &str) -> Result<Vec<Address>, String> {
    let one = |address: &str| {
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let error = || format!("{key} names {address:?}, expected host:port");
        has_port.then(|| Address::Tcp(address.to_owned())).ok_or_else(error)
    };
    item.split(',').map(|address| one(address.trim())).collect()
}

fn login(redis: View<'_>, keys: [&str; 3]) -> Login {
    let [user, password, client_name] = keys.map(|key| redis.text(key).to_owned());
    Login { user, password, client_name }
}

/// `host:port`, `redis://[user:password@]host:port[/db]`, or `unix://path`.
fn endpoint(base: &Endpoint, address: &str) -> Result<Endpoint, String> {
    let mut endpoint = base.clone();
    if let Some(path) = address.strip_prefix("unix://") {
        endpoint.place = Place::Fixed(Address::Unix(path.into()));
        return Ok(endpoint);
    }
    let rest = match address.split_once("://") {
        None => address,
        Some(("redis" | "tcp", rest)) => rest,
        Some(("rediss", rest)) => {
            let system = || ClientTls::system().map(Tls::from).map_err(|error| format!("address wants TLS: {error}"));
            endpoint.tls = Some(endpoint.tls.take().map_or_else(system, Ok)?);
            rest
        }
        Some((scheme, _)) => {
            return Err(format!(
                "address begins with {scheme}://, which is not supported yet: expected host:port, redis://host:port or unix://path"
            ));
        }
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !query.is_empty() {
        return Err(format!("address has options behind a question mark, {query:?}, which are not supported yet"));
    }
    let rest = match rest.rsplit_once('@') {
        None => rest,
        Some((user, rest)) => {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            (endpoint.login.user, endpoint.login.password) = (decoded(user)?, decoded(password)?);
            rest
        }
    };
    let (host, db) = rest.split_once('/').unwrap_or((rest, ""));
    if !db.is_empty() {
        endpoint.db = db.parse().map_err(|_| format!("address names the database {db:?}, expected a number"))?;
    }
    if host.is_empty() {
        return Err("address names no host, expected host:port".to_owned());
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port { host.to_owned() } else { format!("{host}:6379") };
    endpoint.place = Place::Fixed(Address::Tcp(host));
    Ok(endpoint)
}

/// Percent signs of a URL, read.
pub fn decoded(text: &str) -> Result<String, String> {
    let broken = || "address has a broken percent sign in its user or password".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(broken)?;
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, merge};
    use crate::control::redis::{Address, Place};
    use serde_json::json;

    fn lowered(redis: serde_json::Value) -> Result<Vec<(String, String, String, u32)>, String> {
        let file = json!({"engine": {"type": "redis", "redis": redis}});
        let merged = merge::merge(file.as_object().expect("an object").clone(), &Environment::default(), &[]);
        let options = super::broker(merged.expect("merged").settings.view())?;
        let join = |addresses: Vec<Address>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let name = |place| match place {
            Place::Fixed(Address::Tcp(address)) => address,
            Place::Fixed(Address::Unix(path)) => path.display().to_string(),
            Place::Sentinel(sentinels) => format!("{} of {}", sentinels.master, join(sentinels.addresses)),
            Place::Cluster(seeds) => join(seeds),
        };
        let shards = options.shards.into_iter();
        Ok(shards.map(|shard| (name(shard.place), shard.login.user, shard.login.password, shard.db)).collect())
    }

    #[track_caller]
    fn check(redis: serde_json::Value, want: &[(&str, &str, &str, u32)]) {
        let got = lowered(redis.clone()).expect("lowered");
        let got: Vec<_> = got.iter().map(|(place, user, password, db)| (&**place, &**user, &**password, *db)).collect();
        assert_eq!(got, want, "{redis}");
    }

    #[track_caller]
    fn check_refused(redis: serde_json::Value, part: &str) {
        let error = lowered(redis).expect_err("an error");
        assert!(error.starts_with("engine.redis.") && error.contains(part), "{error}");
    }

    /// E02, E03, E04, E05
    #[test]
    fn addresses_have_several_forms() {
        check(json!({}), &[("127.0.0.1:6379", "", "", 0)]);
        check(json!({"address": ["h", "g:1"], "db": 3}), &[("h:6379", "", "", 3), ("g:1", "", "", 3)]);
        check(json!({"address": ["redis://u:p%40q@h:1/2"]}), &[("h:1", "u", "p@q", 2)]);
        let trusting = json!({"enabled": true, "insecure_skip_verify": true});
        check(json!({"address": ["rediss://h:1"], "tls": trusting}), &[("h:1", "", "", 0)]);
        check(json!({"address": ["redis://:p@[::1]:7"]}), &[("[::1]:7", "", "p", 0)]);
        check(json!({"address": ["unix:///tmp/redis.sock"], "user": "u"}), &[("/tmp/redis.sock", "u", "", 0)]);
        let sentinels = json!({"sentinel_address": ["a:1, b:2"], "sentinel_master_name": "m"});
        check(sentinels, &[("m of a:1 b:2", "", "", 0)]);
        check(json!({"cluster_address": ["a:1,b:2", "c:3"]}), &[("a:1 b:2", "", "", 0), ("c:3", "", "", 0)]);
    }

    /// E02
    #[test]
    fn what_cannot_be_served_is_refused() {
        check_refused(json!({"address": ["other://h:1"]}), "other://");
        check_refused(json!({"address": ["redis://h/x"]}), "database \"x\"");
        check_refused(json!({"address": ["redis://%4@h"]}), "percent sign");
        check_refused(json!({"address": ["redis://"]}), "no host");
        check_refused(json!({"tls": {"enabled": true, "server_ca_pem": "x"}}), "tls.server_ca_pem");
        check_refused(json!({"cluster_address": ["h"]}), "cluster_address");
        check_refused(json!({"sentinel_address": ["h:1"]}), "sentinel_master_name");
    }
}
