//! Rules of channel options and namespaces.

use super::{DEFAULT_PROXY, NAME, NAME_PATTERN, Verdict, check_proxy, check_whole_seconds, inside, one_of, refuse};
use crate::config::duration;
use crate::config::settings::View;
use regex::Regex;

/// What the options of a channel are checked against.
pub struct Rules<'a> {
    root: View<'a>,
    channel: View<'a>,
    /// Names that a proxy may be referred to by.
    proxy_names: &'a [&'a str],
}

impl<'a> Rules<'a> {
    /// The rules of one configuration.
    pub fn new(root: View<'a>, proxy_names: &'a [&'a str]) -> Self {
        Rules { root, channel: root.object("channel"), proxy_names }
    }

    /// Checks every namespace, and what refers to one.
    pub fn check_namespaces(&self) -> Verdict {
        let personal = self.root.object("client").object("subscribe_to_user_personal_channel");
        let single_connection = personal.bool("single_connection");
        let personal_namespace = personal.text("personal_channel_namespace");
        let mut personal_found = !personal.bool("enabled") || personal_namespace.is_empty();
        if personal_found && single_connection && !self.channel.object("without_namespace").bool("presence") {
            return refuse("presence must be enabled on top level to maintain single connection");
        }
        let mut names = Vec::new();
        for namespace in self.channel.list("namespaces") {
            let name = namespace.text("name");
            if names.contains(&name) {
                return Err(format!("namespace name must be unique: {name}"));
            }
            self.check_namespace(namespace).map_err(|reason| format!("namespace {name}: {reason}"))?;
            if name == personal_namespace {
                personal_found = true;
                if single_connection && !namespace.bool("presence") {
                    return Err(format!("presence must be enabled for namespace {name} to maintain single connection"));
                }
            }
            names.push(name);
        }
        if !personal_found {
            return Err(format!("namespace for user personal channel not found: {personal_namespace}"));
        }
        Ok(())
    }

    fn check_namespace(&self, namespace: View<'_>) -> Verdict {
        let name = namespace.text("name");
        if !NAME.is_match(name) {
            return Err(format!("invalid namespace name – {name} (must match {NAME_PATTERN} regular expression)"));
        }
        self.check_options(namespace)
    }

    /// Checks the options of one namespace, or of channels without one.
    pub fn check_options(&self, options: View<'_>) -> Verdict {
        self.check_history(options)?;
        check_names(options)?;
        self.check_proxies(options)?;
        self.check_subscription_type(options)?;
        check_batch(options)?;
        check_map(options)?;
        self.check_presence_prefix(options, "map_clients")?;
        self.check_presence_prefix(options, "map_users")?;
        check_page_sizes(options.object("map"))
    }

    fn check_history(&self, options: View<'_>) -> Verdict {
        for name in ["history_ttl", "history_meta_ttl"] {
            check_whole_seconds(options, name).map_err(inside(name))?;
        }
        let (size, ttl) = (options.int("history_size"), options.int("history_ttl"));
        if (size == 0) != (ttl == 0) {
            return refuse("both history size and history ttl required for history");
        }
        let meta_ttl = match options.int("history_meta_ttl") {
            0 => self.channel.int("history_meta_ttl"),
            own => own,
        };
        if meta_ttl < ttl {
            return Err(format!(
                "history ttl ({}) can not be greater than history meta ttl ({})",
                duration::format(ttl),
                duration::format(meta_ttl)
            ));
        }
        let force_recovery = options.bool("force_recovery");
        if force_recovery && (size == 0 || ttl == 0) {
            return refuse("both history size and history ttl required for recovery");
        }
        let cache = options.text("force_recovery_mode") == "cache";
        if options.bool("auto_cache_recover") && !(force_recovery && cache) {
            return refuse("auto_cache_recover requires force_recovery and force_recovery_mode set to cache");
        }
        Ok(())
    }

    fn check_proxies(&self, options: View<'_>) -> Verdict {
        let map = options.object("map");
        for (event, options, words) in [
            ("subscribe", options, "subscribe"),
            ("publish", options, "publish"),
            ("sub_refresh", options, "sub refresh"),
            ("subscribe_stream", options, "subscribe stream"),
            ("map_publish", map, "map publish"),
            ("map_remove", map, "map remove"),
        ] {
            let key = event.strip_prefix("map_").unwrap_or(event);
            let name = options.text(&format!("{key}_proxy_name"));
            if !name.is_empty() && !self.proxy_names.contains(&name) {
                return Err(format!("{words} proxy with name \"{name}\" not found"));
            }
            if options.bool(&format!("{key}_proxy_enabled")) && name == DEFAULT_PROXY {
                self.check_default_proxy(event)?;
            }
        }
        Ok(())
    }

    fn check_default_proxy(&self, event: &str) -> Verdict {
        check_proxy(DEFAULT_PROXY, self.channel.object("proxy").object(event))
            .map_err(inside(&format!("channel.proxy.{event}")))
    }

    fn check_subscription_type(&self, options: View<'_>) -> Verdict {
        let kind = options.text("subscription_type");
        one_of(kind, &["", "stream", "map", "map_clients", "map_users", "shared_poll"])
            .map_err(|name| format!("unknown subscription_type: {name:?}"))?;
        if kind != "shared_poll" {
            return Ok(());
        }
        if self.root.object("shared_poll").text("hmac_secret_key").is_empty() {
            return refuse("shared_poll.hmac_secret_key is required when subscription_type is \"shared_poll\"");
        }
        let poll = options.object("shared_poll");
        let proxy = poll.text("proxy_name");
        if !proxy.is_empty() && !self.proxy_names.contains(&proxy) {
            return Err(format!("shared poll proxy with name {proxy:?} not found"));
        }
        if proxy.is_empty() || proxy == DEFAULT_PROXY {
            self.check_default_proxy("shared_poll_refresh")?;
        }
        one_of(poll.text("mode"), &["", "versionless", "versioned"])
            .map_err(|name| format!("invalid shared_poll mode: {name:?}"))?;
        if poll.bool("publish_enabled") && poll.text("mode") != "versioned" {
            return refuse(
                "shared_poll publish_enabled is incompatible with versionless mode (requires explicit versions)",
            );
        }
        Ok(())
    }

    /// The prefix must lead into a namespace of the right type.
    fn check_presence_prefix(&self, options: View<'_>, kind: &str) -> Verdict {
        let key = format!("{kind}_presence_channel_prefix");
        let prefix = options.text(&key);
        if prefix.is_empty() {
            return Ok(());
        }
        let boundary = self.channel.text("namespace_boundary");
        let target = match prefix.split_once(boundary) {
            Some((name, _)) if !boundary.is_empty() => name,
            _ => "",
        };
        let target_options = match target {
            "" => Some(self.channel.object("without_namespace")),
            name => self.channel.list("namespaces").find(|other| other.text("name") == name),
        };
        let Some(target_options) = target_options else {
            return Err(format!("{key} {prefix:?}: namespace {target:?} does not exist"));
        };
        match target_options.text("subscription_type") {
            found if found == kind => Ok(()),
            found => Err(format!(
                "{key} {prefix:?}: target namespace {target:?} must have subscription_type={kind:?} (got {found:?})"
            )),
        }
    }
}

/// Fails for a `publication_data_format` that is none.
pub fn check_data_format(object: View<'_>, key: &str) -> Verdict {
    one_of(object.text("publication_data_format"), &["", "json", "json_object", "binary"])
        .map_err(|name| format!("unknown {key}: \"{name}\""))
}

/// The newest publication of a batch must be one that every subscriber wants.
fn check_batch(options: View<'_>) -> Verdict {
    match options.bool("batch_flush_latest") && options.bool("allow_tags_filter") {
        true => refuse("batch_flush_latest and allow_tags_filter exclude each other, configure only one of them"),
        false => Ok(()),
    }
}

/// Options that take one of a few words, or a pattern.
fn check_names(options: View<'_>) -> Verdict {
    let pattern = options.text("channel_regex");
    Regex::new(pattern).map_err(|error| {
        let line = error.to_string().replace('\n', " ");
        format!("invalid channel regex {pattern}: {line}")
    })?;
    let others = ["subscribe_proxy_enabled", "publish_proxy_enabled", "sub_refresh_proxy_enabled"];
    if options.bool("subscribe_stream_proxy_enabled") && others.iter().any(|key| options.bool(key)) {
        return refuse("can't use subscribe stream proxy together with subscribe, publish or sub refresh proxies");
    }
    for delta in options.texts("allowed_delta_types") {
        one_of(delta, &["fossil"]).map_err(|name| format!("unknown allowed delta type: \"{name}\""))?;
    }
    one_of(options.text("force_recovery_mode"), &["", "stream", "cache"])
        .map_err(|name| format!("unknown recovery mode: \"{name}\""))?;
    check_data_format(options, "publication_data_format")
}

fn check_map(options: View<'_>) -> Verdict {
    let map = options.object("map");
    let kind = options.text("subscription_type");
    let is_map = ["map", "map_clients", "map_users"].contains(&kind);
    check_map_key(map)?;
    let mode = map.text("mode");
    one_of(mode, &["", "ephemeral", "recoverable", "persistent"]).map_err(|name| {
        format!("unknown map.mode: {name:?} (valid: \"ephemeral\", \"recoverable\", \"persistent\")")
    })?;
    if is_map && mode.is_empty() {
        return refuse("map.mode is required when subscription_type is a map type");
    }
    let key_ttl = map.int("key_ttl");
    if mode == "ephemeral" || mode == "recoverable" {
        if key_ttl == 0 {
            return Err(format!("map.key_ttl is required when map.mode is {mode:?}"));
        }
        if key_ttl < 0 {
            return refuse("map.key_ttl must be positive");
        }
    }
    if mode == "persistent" && key_ttl != 0 {
        return refuse("map.key_ttl must not be set when map.mode is \"persistent\" (entries don't expire)");
    }
    if mode == "persistent" && (kind == "map_clients" || kind == "map_users") {
        return Err(format!(
            "map.mode {mode:?} is not allowed with subscription_type {kind:?} (presence entries require TTL-based cleanup; use \"ephemeral\" or \"recoverable\")"
        ));
    }
    check_map_stream(map, mode)?;
    if map.bool("remove_client_on_unsubscribe") && !is_map {
        return refuse("map.remove_client_on_unsubscribe requires subscription_type to be a map type");
    }
    Ok(())
}

fn check_map_key(map: View<'_>) -> Verdict {
    let client_key = map.text("client_key");
    one_of(client_key, &["", "client_id", "user_id"])
        .map_err(|name| format!("unknown map.client_key: {name:?} (valid: \"client_id\", \"user_id\")"))?;
    for event in ["publish", "remove"] {
        if !client_key.is_empty() && map.bool(&format!("{event}_proxy_enabled")) {
            return Err(format!(
                "map.client_key is not compatible with map.{event}_proxy_enabled: the proxy is responsible for keying when enabled"
            ));
        }
    }
    Ok(())
}

fn check_map_stream(map: View<'_>, mode: &str) -> Verdict {
    for key in ["stream_size", "stream_ttl", "meta_ttl"] {
        let value = map.int(key);
        if mode == "ephemeral" && value != 0 && !(key == "stream_size" && value < 0) {
            return Err(format!("map.{key} must be 0 for map.mode \"ephemeral\""));
        }
        if (mode == "recoverable" || mode == "persistent") && value < 0 {
            return Err(format!("map.{key} must be non-negative"));
        }
    }
    let stream_ttl = match map.int("stream_ttl") {
        0 => 60 * duration::SECOND,
        own => own,
    };
    let meta_ttl = map.int("meta_ttl");
    if (mode == "recoverable" || mode == "persistent") && meta_ttl != 0 && meta_ttl < stream_ttl {
        return Err(format!(
            "map.meta_ttl ({}) must be >= map.stream_ttl ({}) (metadata must outlive stream)",
            duration::format(meta_ttl),
            duration::format(stream_ttl)
        ));
    }
    Ok(())
}

/// Sizes that are set must be in order: least, default, most.
fn check_page_sizes(map: View<'_>) -> Verdict {
    for key in ["min_page_size", "max_page_size", "default_page_size"] {
        if map.int(key) < 0 {
            return Err(format!("map.{key} must not be negative"));
        }
    }
    for (low, high, words) in
        [("min_page_size", "max_page_size", "exceed"), ("default_page_size", "max_page_size", "exceed")]
    {
        let (low_size, high_size) = (map.int(low), map.int(high));
        if low_size > 0 && high_size > 0 && low_size > high_size {
            return Err(format!("map.{low} ({low_size}) must not {words} map.{high} ({high_size})"));
        }
    }
    let (least, default) = (map.int("min_page_size"), map.int("default_page_size"));
    if default > 0 && least > 0 && default < least {
        return Err(format!("map.default_page_size ({default}) must not be below map.min_page_size ({least})"));
    }
    Ok(())
}
