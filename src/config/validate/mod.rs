//! Rules that a configuration must keep beyond the kinds of its values.
//!
//! The rules and the texts of failures are Centrifugo's (`checkconfig`), so that scripts which
//! read them go on working; it stops at the first failure.

mod channel;
pub mod token;

use super::duration;
use super::settings::{Settings, View};
use regex::Regex;
use ringcast_runtime::placement::parse_cpu_list;
use std::sync::LazyLock;

/// A broken rule, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl std::fmt::Display for Invalid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

type Verdict = Result<(), String>;

/// Names of namespaces and proxies.
const NAME_PATTERN: &str = "^[-a-zA-Z0-9_.]{2,}$";
static NAME: LazyLock<Regex> = LazyLock::new(|| pattern(NAME_PATTERN));

const CLAIM_PATTERN: &str = "^[a-zA-Z_]+$";
static CLAIM: LazyLock<Regex> = LazyLock::new(|| pattern(CLAIM_PATTERN));

/// Name of the proxies that are configured in place.
const DEFAULT_PROXY: &str = "default";

const CONSUMER_PATTERN: &str = "^[a-zA-Z0-9_]{2,}$";
static CONSUMER: LazyLock<Regex> = LazyLock::new(|| pattern(CONSUMER_PATTERN));

const CONSUMER_TYPES: &[&str] =
    &["postgresql", "kafka", "nats_jetstream", "redis_stream", "google_pub_sub", "aws_sqs", "azure_service_bus"];

/// More threads than any machine has cores: a slip of the keyboard.
const SHARDS_MAX: i64 = 1024;

/// In nanoseconds. A heartbeat more often would be a load and no help.
const HEARTBEAT_DELAY_MIN: i64 = 1_000_000_000;

/// Longest text in a transform: what fits into a WebSocket close frame.
const REASON_BYTES_MAX: usize = 123;

/// Checks all rules, in the order of the reference.
pub fn validate(settings: &Settings) -> Result<(), Invalid> {
    check(settings.view()).map_err(Invalid)
}

fn check(root: View<'_>) -> Verdict {
    check_server(root)?;
    check_client(root)?;
    let channel = root.object("channel");
    check_whole_seconds(channel, "history_meta_ttl").map_err(inside("channel.history_meta_ttl"))?;
    channel::check_data_format(channel, "channel.publication_data_format")?;
    let uni = root.object("client").object("connect_code_to_unidirectional_disconnect");
    check_disconnect_transforms(uni).map_err(inside("client.connect_code_to_unidirectional_disconnect"))?;

    let proxy_names = check_proxies(root)?;
    let rules = channel::Rules::new(root, &proxy_names);
    rules.check_options(channel.object("without_namespace")).map_err(inside("channel.without_namespace"))?;
    let rpc = root.object("rpc");
    check_rpc(rpc.object("without_namespace"), &proxy_names).map_err(inside("rpc.without_namespace"))?;
    rules.check_namespaces()?;
    check_rpc_namespaces(rpc, &proxy_names)?;
    check_consumers(root)?;
    check_response_transforms(root)?;
    one_of(root.object("map_broker").text("type"), &["memory", "redis", "postgres"])
        .map_err(|name| format!("unknown map broker type: {name}"))
}

fn check_server(root: View<'_>) -> Verdict {
    let http = root.object("http_server");
    let port = http.int("port");
    if u16::try_from(port).is_err() {
        return Err(format!("http_server.port is {port}, expected 0 to 65535"));
    }
    let internal_port = http.text("internal_port");
    if !internal_port.is_empty() && internal_port.parse::<u16>().is_err() {
        return Err(format!("http_server.internal_port is {internal_port}, expected 0 to 65535"));
    }
    if http.bool("h2c_external") {
        if internal_port.is_empty() || internal_port == port.to_string() {
            return refuse("external_h2c requires custom separate internal_port to be configured");
        }
        if http.object("tls").bool("enabled") {
            return refuse("external_h2c cannot be used together with enabled TLS for external HTTP server");
        }
    }
    let has_http3 = http.object("http3").bool("enabled");
    if has_http3 && !http.object("tls").bool("enabled") {
        return refuse("HTTP/3 requires TLS configured: http_server.http3.enabled needs http_server.tls.enabled");
    }
    if root.object("webtransport").bool("enabled") && !has_http3 {
        return refuse(
            "can not enable webtransport without experimental HTTP/3: webtransport.enabled needs \
             http_server.http3.enabled",
        );
    }
    for api in ["http_api", "grpc_api"] {
        let mode = root.object(api).text("error_mode");
        if !["", "transport"].contains(&mode) {
            return Err(format!("unknown {api}.error_mode: \"{mode}\""));
        }
    }
    for grpc in ["grpc_api", "uni_grpc"] {
        let port = root.object(grpc).int("port");
        if u16::try_from(port).is_err() {
            return Err(format!("{grpc}.port is {port}, expected 0 to 65535"));
        }
    }
    one_of(root.object("broker").text("type"), &["memory", "nats", "redis", "redisnats", "postgres"])
        .map_err(|name| format!("unknown broker: {name}"))?;
    one_of(root.object("engine").text("type"), &["memory", "redis"])
        .map_err(|name| format!("unknown engine type: {name}"))?;
    let heartbeat_delay = root.object("sockjs").int("heartbeat_delay");
    if heartbeat_delay < HEARTBEAT_DELAY_MIN {
        let given = duration::format(heartbeat_delay);
        return Err(format!("sockjs.heartbeat_delay is {given}, expected 1s or more"));
    }
    let shards = root.int("shards");
    if !(0..=SHARDS_MAX).contains(&shards) {
        return Err(format!("shards is {shards}, expected 0 to {SHARDS_MAX}"));
    }
    check_placement(root.object("shard_placement"), shards)?;
    crate::tls::check(root)
}

/// What can be known without the machine that it will run on.
fn check_placement(placement: View<'_>, shards: i64) -> Verdict {
    let list = placement.text("cpus");
    let cpus = parse_cpu_list(list).map_err(|error| format!("shard_placement.cpus is \"{list}\": {error}"))?;
    let reserve = placement.int("reserve");
    if !(0..=SHARDS_MAX).contains(&reserve) {
        return Err(format!("shard_placement.reserve is {reserve}, expected 0 to {SHARDS_MAX}"));
    }
    if cpus.is_empty() {
        return Ok(());
    }
    if reserve > 0 || placement.bool("one_per_core") {
        return refuse(
            "shard_placement.cpus names the CPUs already: expected neither shard_placement.reserve nor \
             shard_placement.one_per_core beside it",
        );
    }
    if shards != 0 && shards != cpus.len() as i64 {
        return Err(format!(
            "shard_placement.cpus names {} CPUs and shards is {shards}: expected one CPU for each shard, or shards 0",
            cpus.len()
        ));
    }
    Ok(())
}

fn check_client(root: View<'_>) -> Verdict {
    let client = root.object("client");
    for (section, name) in [("token", "token"), ("subscription_token", "subscription token")] {
        for key in ["audience_regex", "issuer_regex"] {
            let pattern = client.object(section).text(key);
            Regex::new(pattern)
                .map_err(|_| format!("invalid client.{section}.{key}: {pattern}, expected a pattern"))?;
        }
        check_claim_rules(client.object(section))?;
        let claim = client.object(section).text("user_id_claim");
        if !claim.is_empty() && !CLAIM.is_match(claim) {
            return Err(format!(
                "invalid {name} custom user ID claim: {claim}, must match {CLAIM_PATTERN} regular expression"
            ));
        }
    }
    token::check(client)?;
    let (ping, pong) = (client.int("ping_interval"), client.int("pong_timeout"));
    if ping <= pong {
        return Err(format!(
            "client.ping_interval ({}) must be greater than client.pong_timeout ({})",
            duration::format(ping),
            duration::format(pong)
        ));
    }
    for event in ["connect", "refresh"] {
        let proxy = client.object("proxy").object(event);
        if proxy.bool("enabled") {
            check_proxy(DEFAULT_PROXY, proxy).map_err(inside(&format!("client.proxy.{event}")))?;
        }
    }
    Ok(())
}

/// A claim is compared with a text or with a pattern, not with both.
fn check_claim_rules(token: View<'_>) -> Verdict {
    for claim in ["audience", "issuer"] {
        if !token.text(claim).is_empty() && !token.text(&format!("{claim}_regex")).is_empty() {
            return Err(format!("can not use both token_{claim} and token_{claim}_regex, configure only one of them"));
        }
    }
    Ok(())
}

/// Names that channel options may refer to.
fn check_proxies(root: View<'_>) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    for proxy in root.list("proxies") {
        let name = proxy.text("name");
        if names.contains(&name) {
            return Err(format!("duplicate proxy name in channel.named_proxies: {name}"));
        }
        check_proxy(name, proxy).map_err(|reason| format!("in proxy {name}: {reason}"))?;
        names.push(name);
    }
    if names.contains(&DEFAULT_PROXY) {
        return Err(format!("proxy name {DEFAULT_PROXY} is reserved"));
    }
    names.push(DEFAULT_PROXY);
    Ok(names)
}

fn check_proxy(name: &str, proxy: View<'_>) -> Verdict {
    if !NAME.is_match(name) {
        return Err(format!("invalid proxy name: {name}, must match {NAME_PATTERN} regular expression"));
    }
    if proxy.int("timeout") == 0 {
        return refuse("timeout not set");
    }
    if proxy.text("endpoint").is_empty() {
        return refuse("endpoint not set");
    }
    for (index, transform) in proxy.object("http").list("status_to_code_transforms").enumerate() {
        check_status_transform(transform, &format!("status_to_code_transforms[{index}]"))
            .map_err(inside("status_to_code_transforms"))?;
    }
    Ok(())
}

fn check_status_transform(transform: View<'_>, place: &str) -> Verdict {
    if transform.int("status_code") == 0 {
        return Err(format!("status_code should be set in {place}"));
    }
    let (error, disconnect) = (transform.object("to_error"), transform.object("to_disconnect"));
    match (error.int("code") != 0, disconnect.int("code") != 0) {
        (false, false) => return Err(format!("no error or disconnect code set in {place}")),
        (true, true) => {
            return Err(format!("only error or disconnect code can be set in {place}, but not both"));
        }
        _ => {}
    }
    let (message, reason) = (error.text("message"), disconnect.text("reason"));
    if !reason.is_ascii() {
        return Err(format!("{place} disconnect reason must be ASCII"));
    }
    if !message.is_ascii() {
        return Err(format!("{place} error message must be ASCII"));
    }
    if message.len() > REASON_BYTES_MAX {
        return Err(format!("{place} item error message can be up to {REASON_BYTES_MAX} characters long"));
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(format!("{place} disconnect reason can be up to {REASON_BYTES_MAX} characters long"));
    }
    Ok(())
}

fn check_disconnect_transforms(section: View<'_>) -> Verdict {
    for (index, transform) in section.list("transforms").enumerate() {
        let to = transform.object("to");
        if transform.int("code") == 0 {
            return Err(format!("no code specified in transforms[{index}]"));
        }
        if to.int("code") == 0 {
            return Err(format!("no disconnect code specified in transforms[{index}].to"));
        }
        if !to.text("reason").is_ascii() {
            return Err(format!("disconnect reason must be ASCII in transforms[{index}].to"));
        }
    }
    Ok(())
}

fn check_response_transforms(root: View<'_>) -> Verdict {
    for transport in ["uni_sse", "uni_http_stream"] {
        let section = root.object(transport).object("connect_code_to_http_response");
        for (index, transform) in section.list("transforms").enumerate() {
            let place = format!("connect_code_to_http_status.transforms[{index}]");
            let failure = if transform.int("code") == 0 {
                format!("code should be set in {place}")
            } else if transform.object("to").int("status_code") == 0 {
                format!("status_code should be set in {place}.to_response")
            } else if !(100..=999).contains(&transform.object("to").int("status_code")) {
                format!("status_code in {place}.to_response should have three digits")
            } else {
                continue;
            };
            return Err(format!("in {transport}.connect_code_to_http_status.transforms: {failure}"));
        }
    }
    Ok(())
}

fn check_rpc_namespaces(rpc: View<'_>, proxy_names: &[&str]) -> Verdict {
    let mut names = Vec::new();
    for namespace in rpc.list("namespaces") {
        let name = namespace.text("name");
        if names.contains(&name) {
            return Err(format!("rpc namespace name must be unique: {name}"));
        }
        if !NAME.is_match(name) {
            return Err(format!(
                "rpc namespace {name}: invalid rpc namespace name – {name} (must match {NAME_PATTERN} regular expression)"
            ));
        }
        check_rpc(namespace, proxy_names).map_err(|reason| format!("rpc namespace {name}: {reason}"))?;
        names.push(name);
    }
    Ok(())
}

fn check_rpc(options: View<'_>, proxy_names: &[&str]) -> Verdict {
    let name = options.text("proxy_name");
    match name.is_empty() || proxy_names.contains(&name) {
        true => Ok(()),
        false => Err(format!("proxy {name} not found for rpc")),
    }
}

fn check_consumers(root: View<'_>) -> Verdict {
    let mut names = Vec::new();
    for consumer in root.list("consumers") {
        let name = consumer.text("name");
        if !CONSUMER.is_match(name) {
            return Err(format!("invalid consumer name: {name}, must match {CONSUMER_PATTERN} regular expression"));
        }
        if names.contains(&name) {
            return Err(format!("invalid consumer name: {name}, must be unique"));
        }
        one_of(consumer.text("type"), CONSUMER_TYPES).map_err(|kind| format!("unknown consumer type: {kind}"))?;
        names.push(name);
    }
    Ok(())
}

/// Fails when a span has a part below a second.
fn check_whole_seconds(object: View<'_>, name: &str) -> Verdict {
    let nanoseconds = object.int(name);
    if nanoseconds > 0 && nanoseconds % duration::SECOND != 0 {
        return Err(format!(
            "malformed duration {}, sub-second precision is not supported for this key",
            duration::format(nanoseconds)
        ));
    }
    Ok(())
}

fn one_of<'a>(name: &'a str, known: &[&str]) -> Result<(), &'a str> {
    if known.contains(&name) { Ok(()) } else { Err(name) }
}

fn refuse(reason: &str) -> Verdict {
    Err(reason.to_owned())
}

/// Puts the place before a reason.
fn inside(place: &str) -> impl Fn(String) -> String {
    move |reason| format!("in {place}: {reason}")
}

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant pattern")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, merge};
    use serde_json::{Value, json};

    /// An empty `want` is a valid configuration.
    #[track_caller]
    fn check_file(file: Value, want: &str) {
        let object = file.as_object().expect("an object").clone();
        let merged = merge::merge(object, &Environment::default(), &[]).expect("merged");
        let failure = validate(&merged.settings).err().map_or(String::new(), |error| error.0);
        assert_eq!(failure, want, "{file}");
    }

    /// Checks options of the namespace `nn`.
    #[track_caller]
    fn check_options(mut options: Value, want: &str) {
        options["name"] = json!("nn");
        let want = if want.is_empty() { String::new() } else { format!("namespace nn: {want}") };
        check_file(json!({"channel": {"namespaces": [options]}}), &want);
    }

    #[test]
    fn defaults_are_valid() {
        check_file(json!({}), "");
    }

    #[test]
    fn namespaces_have_names_of_their_own() {
        check_file(
            json!({"channel": {"namespaces": [{"name": "h"}]}}),
            "namespace h: invalid namespace name – h (must match ^[-a-zA-Z0-9_.]{2,}$ regular expression)",
        );
        check_file(
            json!({"channel": {"namespaces": [{"name": "aa"}, {"name": "aa"}]}}),
            "namespace name must be unique: aa",
        );
        check_file(
            json!({"rpc": {"namespaces": [{"name": "ü"}]}}),
            "rpc namespace ü: invalid rpc namespace name – ü (must match ^[-a-zA-Z0-9_.]{2,}$ regular expression)",
        );
    }

    #[test]
    fn history_needs_size_and_time() {
        let both = "both history size and history ttl required for history";
        check_options(json!({"history_size": 1}), both);
        check_options(json!({"history_ttl": "1s"}), both);
        check_options(json!({"history_size": 1, "history_ttl": "1s"}), "");
        check_options(json!({"force_recovery": true}), "both history size and history ttl required for recovery");
        check_options(
            json!({"history_size": 1, "history_ttl": "1500ms"}),
            "in history_ttl: malformed duration 1.5s, sub-second precision is not supported for this key",
        );
        check_options(
            json!({"history_size": 1, "history_ttl": "1h", "history_meta_ttl": "1m"}),
            "history ttl (1h0m0s) can not be greater than history meta ttl (1m0s)",
        );
    }

    #[test]
    fn filtered_subscribers_are_not_left_with_the_newest_of_a_batch() {
        check_options(json!({"batch_flush_latest": true, "batch_max_delay": "200ms"}), "");
        check_options(
            json!({"batch_flush_latest": true, "allow_tags_filter": true}),
            "batch_flush_latest and allow_tags_filter exclude each other, configure only one of them",
        );
    }

    #[test]
    fn words_are_of_a_few() {
        check_options(json!({"force_recovery_mode": "all"}), "unknown recovery mode: \"all\"");
        check_options(json!({"publication_data_format": "xml"}), "unknown publication_data_format: \"xml\"");
        check_options(json!({"allowed_delta_types": ["x"]}), "unknown allowed delta type: \"x\"");
        check_options(json!({"subscription_type": "x"}), "unknown subscription_type: \"x\"");
        check_file(json!({"broker": {"type": "x"}}), "unknown broker: x");
        check_file(json!({"map_broker": {"type": "x"}}), "unknown map broker type: x");
        check_file(json!({"http_api": {"error_mode": "x"}}), "unknown http_api.error_mode: \"x\"");
        check_file(json!({"grpc_api": {"error_mode": "x"}}), "unknown grpc_api.error_mode: \"x\"");
        check_file(json!({"uni_grpc": {"port": -1}}), "uni_grpc.port is -1, expected 0 to 65535");
        check_file(json!({"consumers": [{"name": "cc", "type": "x"}]}), "unknown consumer type: x");
    }

    #[test]
    fn patterns_compile() {
        check_options(json!({"channel_regex": "^[a-z]+$"}), "");
        let broken = json!({"channel": {"namespaces": [{"name": "nn", "channel_regex": "("}]}});
        let object = broken.as_object().expect("an object").clone();
        let merged = merge::merge(object, &Environment::default(), &[]).expect("merged");
        let failure = validate(&merged.settings).expect_err("a broken pattern").0;
        assert!(failure.starts_with("namespace nn: invalid channel regex (:"), "{failure}");
        assert!(!failure.contains('\n'), "{failure}");
    }

    #[test]
    fn a_claim_has_one_rule() {
        let token = json!({"issuer": "a", "audience_regex": "b"});
        check_file(json!({"client": {"token": token}}), "");
        let token = json!({"issuer": "a", "issuer_regex": "a"});
        check_file(
            json!({"client": {"subscription_token": token}}),
            "can not use both token_issuer and token_issuer_regex, configure only one of them",
        );
    }

    #[test]
    fn pings_leave_time_for_the_pong() {
        check_file(
            json!({"client": {"ping_interval": "5s"}}),
            "client.ping_interval (5s) must be greater than client.pong_timeout (8s)",
        );
        check_file(json!({"client": {"ping_interval": "-1s", "pong_timeout": "-2s"}}), "");
        check_file(
            json!({"sockjs": {"heartbeat_delay": "500ms"}}),
            "sockjs.heartbeat_delay is 500ms, expected 1s or more",
        );
        check_file(json!({"sockjs": {"heartbeat_delay": "1s"}}), "");
    }

    #[test]
    fn proxies_are_whole_and_found() {
        check_options(json!({"publish_proxy_name": "other"}), "publish proxy with name \"other\" not found");
        check_options(json!({"subscribe_proxy_enabled": true}), "in channel.proxy.subscribe: endpoint not set");
        check_file(
            json!({"client": {"proxy": {"connect": {"enabled": true}}}}),
            "in client.proxy.connect: endpoint not set",
        );
        check_file(json!({"proxies": [{"name": "default", "endpoint": "x"}]}), "proxy name default is reserved");
        check_file(json!({"proxies": [{"name": "pp"}]}), "in proxy pp: endpoint not set");
        let transform = json!({"status_code": 404});
        check_file(
            json!({"proxies": [{"name": "pp", "endpoint": "x", "http": {"status_to_code_transforms": [transform]}}]}),
            "in proxy pp: in status_to_code_transforms: no error or disconnect code set in status_to_code_transforms[0]",
        );
    }

    #[test]
    fn numbers_are_in_range() {
        check_file(json!({"http_server": {"port": 70000}}), "http_server.port is 70000, expected 0 to 65535");
        check_file(json!({"shards": -1}), "shards is -1, expected 0 to 1024");
    }

    #[test]
    fn placement_of_shards_is_whole() {
        check_file(json!({"shards": 5, "shard_placement": {"cpus": "0-3,8"}}), "");
        check_file(json!({"shard_placement": {"reserve": 2, "one_per_core": true}}), "");
        check_file(
            json!({"shard_placement": {"cpus": "0-x"}}),
            "shard_placement.cpus is \"0-x\": \"0-x\" is not a CPU from 0 to 1023 or a range: expected a list such as 0-3,8",
        );
        check_file(
            json!({"shard_placement": {"cpus": "1,0-2"}}),
            "shard_placement.cpus is \"1,0-2\": CPU 1 is named twice: expected each once",
        );
        check_file(json!({"shard_placement": {"reserve": -1}}), "shard_placement.reserve is -1, expected 0 to 1024");
        let both = "shard_placement.cpus names the CPUs already: expected neither shard_placement.reserve nor \
                    shard_placement.one_per_core beside it";
        check_file(json!({"shard_placement": {"cpus": "0", "reserve": 1}}), both);
        check_file(json!({"shard_placement": {"cpus": "0", "one_per_core": true}}), both);
        check_file(
            json!({"shards": 4, "shard_placement": {"cpus": "0-2"}}),
            "shard_placement.cpus names 3 CPUs and shards is 4: expected one CPU for each shard, or shards 0",
        );
    }

    #[test]
    fn maps_and_polls_follow_their_modes() {
        check_options(json!({"subscription_type": "map"}), "map.mode is required when subscription_type is a map type");
        check_options(
            json!({"subscription_type": "map", "map": {"mode": "ephemeral"}}),
            "map.key_ttl is required when map.mode is \"ephemeral\"",
        );
        check_options(
            json!({"map": {"mode": "persistent", "key_ttl": "1s"}}),
            "map.key_ttl must not be set when map.mode is \"persistent\" (entries don't expire)",
        );
        check_options(
            json!({"subscription_type": "shared_poll"}),
            "shared_poll.hmac_secret_key is required when subscription_type is \"shared_poll\"",
        );
        check_options(
            json!({"map": {"min_page_size": 9, "max_page_size": 8}}),
            "map.min_page_size (9) must not exceed map.max_page_size (8)",
        );
    }

    #[test]
    fn personal_channels_have_a_namespace() {
        let personal = |single: bool, namespace: &str| {
            json!({"client": {"subscribe_to_user_personal_channel": {
                "enabled": true, "single_connection": single, "personal_channel_namespace": namespace,
            }}})
        };
        check_file(personal(false, ""), "");
        check_file(personal(false, "nope"), "namespace for user personal channel not found: nope");
        check_file(personal(true, ""), "presence must be enabled on top level to maintain single connection");
    }
}
