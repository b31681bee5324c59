//! Keys of a Redis connection -> where Redis is. Source: config §4.2.

mod address;

pub use address::decoded;

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
        presence_read_from_replica: presence.is_some_and(|presence| presence.bool("presence_read_from_replica")),
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
        has_replica_client: redis.object("replica_client").bool("enabled"),
        readonly: false,
    };
    let clusters: Vec<_> = redis.texts("cluster_address").collect();
    if !clusters.is_empty() {
        let of = |item| Ok(Endpoint { place: Place::Cluster(addresses("cluster_address", item)?), ..base.clone() });
        return clusters.into_iter().map(of).collect();
    }
    let sentinels: Vec<_> = redis.texts("sentinel_address").collect();
    let master = redis.text("sentinel_master_name").to_owned();
    let sentinel_login = login(redis, ["sentinel_user", "sentinel_password", "sentinel_client_name"]);
    if sentinels.is_empty() {
        let base = address::Base { endpoint: base, master, sentinel_login };
        return redis.texts("address").map(|address| address::read(&base, address)).collect();
    }
    if master.is_empty() {
        return Err(
            "sentinel_master_name is empty, expected the name that the sentinels of sentinel_address know".into()
        );
    }
    let place = |item: &str| {
        let addresses = addresses("sentinel_address", item)?;
        let (master, login) = (master.clone(), sentinel_login.clone());
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
        check(json!({"address": ["redis://:p@h:1"], "user": "u"}), &[("h:1", "u", "p", 0)]);
        check(json!({"address": ["unix://u:p@/tmp/redis.sock"]}), &[("/tmp/redis.sock", "u", "p", 0)]);
        let trusting = json!({"enabled": true, "insecure_skip_verify": true});
        check(json!({"address": ["rediss://h:1"], "tls": trusting}), &[("h:1", "", "", 0)]);
        check(json!({"address": ["redis://:p@[::1]:7"]}), &[("[::1]:7", "", "p", 0)]);
        check(json!({"address": ["unix:///tmp/redis.sock"], "user": "u"}), &[("/tmp/redis.sock", "u", "", 0)]);
        let sentinels = json!({"sentinel_address": ["a:1, b:2"], "sentinel_master_name": "m"});
        check(sentinels, &[("m of a:1 b:2", "", "", 0)]);
        check(json!({"cluster_address": ["a:1,b:2", "c:3"]}), &[("a:1 b:2", "", "", 0), ("c:3", "", "", 0)]);
    }

    /// E04, E05
    #[test]
    fn an_address_may_name_sentinels_or_a_cluster() {
        check(
            json!({"address": ["redis+sentinel://u:p@a:1/2?sentinel_master_name=m&addr=b:2&addr=c"]}),
            &[("m of a:1 b:2 c:6379", "u", "p", 2)],
        );
        check(json!({"address": ["redis://a:1?sentinel_master_name=m"]}), &[("m of a:1", "", "", 0)]);
        let named = json!({"address": ["redis+sentinel://a:1"], "sentinel_master_name": "m"});
        check(named, &[("m of a:1", "", "", 0)]);
        check(json!({"address": ["redis+cluster://:p@a:1?addr=b:2"]}), &[("a:1 b:2", "", "p", 0)]);
        check(json!({"address": ["redis+cluster://a:1", "h:3"]}), &[("a:1", "", "", 0), ("h:3", "", "", 0)]);
        check_refused(json!({"address": ["redis+sentinel://a:1"]}), "sentinel_master_name");
    }

    /// E02, E04
    #[test]
    fn options_of_an_address_replace_those_of_the_keys() {
        let address = "redis+sentinel://a:1?sentinel_master_name=m&sentinel_user=su&sentinel_password=s+%26p\
            &connect_timeout=2s&io_timeout=300ms&force_resp2=1&tls_enabled=false&replica_client_enabled=true";
        let file = json!({"engine": {"type": "redis", "redis": {"address": [address], "io_timeout": "9s"}}});
        let merged = merge::merge(file.as_object().expect("an object").clone(), &Environment::default(), &[]);
        let options = super::broker(merged.expect("merged").settings.view()).expect("lowered");
        let endpoint = &options.shards[0];
        let Place::Sentinel(sentinels) = &endpoint.place else { panic!("{}", endpoint.place) };
        assert_eq!((&*sentinels.login.user, &*sentinels.login.password), ("su", "s &p"));
        assert_eq!((endpoint.connect_timeout.as_millis(), endpoint.io_timeout.as_millis()), (2000, 300));
        assert!(endpoint.force_resp2 && endpoint.tls.is_none() && endpoint.has_replica_client);
        check_refused(json!({"address": ["redis://h:1?io_timeout=4"]}), "io_timeout=4");
        check_refused(json!({"address": ["redis://h:1?tls_enabled=on"]}), "tls_enabled=on");
        check_refused(json!({"address": ["redis://h:1?tls=1"]}), "option tls");
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
