//! Channel names and the options that hold for them. Source: `channel` group of the configuration, Centrifugo
//! "Channels and namespaces".

use crate::proxy::ProxyId;
use regex::Regex;
use ringcast_proto::codes::ReplyError;
use std::collections::BTreeMap;
use std::time::Duration;

/// Config group `channel`: how names are read, and what each namespace allows.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Options of names without a namespace; key `channel.without_namespace`.
    pub without_namespace: ChannelOptions,
    /// Key `channel.namespaces`, by name.
    pub namespaces: BTreeMap<String, ChannelOptions>,
    /// Key `channel.history_meta_ttl`: life of epoch and top offset. Default 720 h.
    pub history_meta_ttl: Duration,
    /// Key `channel.publication_data_format`, for namespaces that name none.
    pub publication_data_format: DataFormat,
    /// Key `channel.max_length`, bytes. Default 255.
    pub max_length: usize,
    /// Key `channel.private_prefix`. Default `$`.
    pub private_prefix: String,
    /// Key `channel.namespace_boundary`. Default `:`.
    pub namespace_boundary: String,
    /// Key `channel.user_boundary`. Default `#`.
    pub user_boundary: String,
    /// Key `channel.user_separator`. Default `,`.
    pub user_separator: String,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        ChannelConfig {
            without_namespace: ChannelOptions::default(),
            namespaces: BTreeMap::new(),
            history_meta_ttl: Duration::from_secs(720 * 3600),
            publication_data_format: DataFormat::NotEmpty,
            max_length: 255,
            private_prefix: "$".into(),
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
        }
    }
}

/// What the data of a publication must be; key `publication_data_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataFormat {
    /// `""`: anything but empty.
    #[default]
    NotEmpty,
    /// `json`: a JSON value.
    Json,
    /// `json_object`: a JSON object.
    JsonObject,
    /// `binary`: anything, empty included.
    Binary,
}

/// How missed publications come back; key `force_recovery_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// All that were missed.
    #[default]
    Stream,
    /// Only the latest.
    Cache,
}

/// How a publication may be sent as the difference to the one before; an element of key `allowed_delta_types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaType {
    /// `fossil`: the delta format of the Fossil version control system.
    Fossil,
}

/// What a subscription to a channel is; key `subscription_type`. Only streams are served yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the value of its name")]
pub enum SubscriptionType {
    /// `""` or `stream`: publications, maybe with history.
    #[default]
    Stream,
    Map,
    MapClients,
    MapUsers,
    SharedPoll,
}

/// Options of the channels of a namespace. Each field is the configuration key of its name; all are off by default.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the key of the same name in the configuration's documentation")]
pub struct ChannelOptions {
    pub presence: bool,
    pub join_leave: bool,
    pub force_push_join_leave: bool,
    /// Publications kept.
    pub history_size: usize,
    pub history_ttl: Duration,
    /// Zero for the value of the whole group.
    pub history_meta_ttl: Duration,
    pub force_positioning: bool,
    pub allow_positioning: bool,
    pub force_recovery: bool,
    pub allow_recovery: bool,
    pub force_recovery_mode: RecoveryMode,
    pub auto_cache_recover: bool,
    pub allowed_delta_types: Vec<DeltaType>,
    pub delta_publish: bool,
    pub allow_tags_filter: bool,
    pub allow_subscribe_for_anonymous: bool,
    pub allow_subscribe_for_client: bool,
    pub allow_publish_for_anonymous: bool,
    pub allow_publish_for_subscriber: bool,
    pub allow_publish_for_client: bool,
    pub allow_presence_for_anonymous: bool,
    pub allow_presence_for_subscriber: bool,
    pub allow_presence_for_client: bool,
    pub allow_history_for_anonymous: bool,
    pub allow_history_for_subscriber: bool,
    pub allow_history_for_client: bool,
    pub allow_user_limited_channels: bool,
    /// Keys `subscribe_proxy_enabled` and `subscribe_proxy_name`: the backend that decides who subscribes without a token.
    pub subscribe_proxy: Option<ProxyId>,
    /// Keys `sub_refresh_proxy_enabled` and `sub_refresh_proxy_name`: the backend that decides whether a subscription goes on whose
    /// time is over; clients do not refresh it then.
    pub sub_refresh_proxy: Option<ProxyId>,
    /// Keys `subscribe_stream_proxy_enabled` and `subscribe_stream_proxy_name`: the backend that decides who subscribes without a token,
    /// and feeds the subscription with a stream.
    pub subscribe_stream_proxy: Option<ProxyId>,
    /// What clients publish goes up the stream; else they cannot publish.
    pub subscribe_stream_proxy_bidirectional: bool,
    /// Keys `publish_proxy_enabled` and `publish_proxy_name`: the backend that decides about publications of clients.
    pub publish_proxy: Option<ProxyId>,
    /// Matched against the name behind the namespace.
    pub channel_regex: Option<Regex>,
    /// `None` for the value of the whole group.
    pub publication_data_format: Option<DataFormat>,
    pub subscription_type: SubscriptionType,
    /// Publications handed to the subscribers of a shard together; 0 for any number.
    pub batch_max_size: usize,
    /// How long the first of them waits for the others; zero for no end.
    pub batch_max_delay: Duration,
    /// Only the newest of them is handed on.
    pub batch_flush_latest: bool,
}

impl ChannelConfig {
    /// Options of a channel, and the part of its name behind the namespace; `None` when the namespace is unknown.
    pub fn resolve<'a, 'c>(&'a self, channel: &'c str) -> Option<(&'c str, &'a ChannelOptions)> {
        let name = channel.strip_prefix(&*self.private_prefix).unwrap_or(channel);
        match name.split_once(&*self.namespace_boundary).filter(|_| !self.namespace_boundary.is_empty()) {
            None => Some((channel, &self.without_namespace)),
            // Nothing in front of the boundary names no namespace, though the boundary is cut off.
            Some(("", rest)) => Some((rest, &self.without_namespace)),
            Some((namespace, rest)) => self.namespaces.get(namespace).map(|options| (rest, options)),
        }
    }

    /// For a channel that was resolved before. A reload may have taken its namespace away: then nothing is allowed and
    /// nothing kept.
    pub(crate) fn resolve_known<'a, 'c>(&'a self, channel: &'c str) -> (&'c str, &'a ChannelOptions) {
        static NOTHING: ChannelOptions = ChannelOptions::NOTHING;
        self.resolve(channel).unwrap_or((channel, &NOTHING))
    }

    /// Options of a channel that a client names, after the checks of the name. The length is not among them: the commands
    /// that subscribe check it first.
    pub(crate) fn resolve_for_client(&self, channel: &str) -> Result<&ChannelOptions, ReplyError> {
        let (rest, options) = self.resolve(channel).ok_or(ReplyError::UNKNOWN_CHANNEL)?;
        let is_valid = match &options.channel_regex {
            Some(regex) => regex.is_match(rest),
            None => channel.is_ascii(),
        };
        if is_valid { Ok(options) } else { Err(ReplyError::BAD_REQUEST) }
    }

    /// Whether publications of some channel wait for one another.
    pub(crate) fn uses_batches(&self) -> bool {
        self.without_namespace.has_batches() || self.namespaces.values().any(ChannelOptions::has_batches)
    }

    /// Whether only a subscription token opens the channel.
    pub(crate) fn is_private(&self, channel: &str) -> bool {
        !self.private_prefix.is_empty() && channel.starts_with(&*self.private_prefix)
    }

    /// The users that a user-limited channel names, if the options allow such names and it is one.
    pub(crate) fn limited_to<'a>(&'a self, channel: &'a str, options: &ChannelOptions) -> Option<UserList<'a>> {
        if !options.allow_user_limited_channels || self.user_boundary.is_empty() {
            return None;
        }
        let (_, list) = channel.rsplit_once(&*self.user_boundary)?;
        Some(UserList { list, separator: &self.user_separator })
    }

    /// Whether the data may be published; `publication_data_format`.
    pub(crate) fn accepts(&self, options: &ChannelOptions, data: &[u8]) -> bool {
        match options.publication_data_format.unwrap_or(self.publication_data_format) {
            DataFormat::NotEmpty => !data.is_empty(),
            DataFormat::Json => ringcast_proto::is_json(data),
            DataFormat::JsonObject => ringcast_proto::is_json_object(data),
            DataFormat::Binary => true,
        }
    }
}

/// The text behind the last user boundary of a channel name.
pub(crate) struct UserList<'a> {
    list: &'a str,
    separator: &'a str,
}

impl UserList<'_> {
    pub(crate) fn contains(&self, user: &str) -> bool {
        match self.separator {
            "" => self.list == user,
            separator => self.list.split(separator).any(|listed| listed == user),
        }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        ChannelOptions::NOTHING
    }
}

impl ChannelOptions {
    /// Nothing allowed, nothing kept: the defaults.
    pub const NOTHING: ChannelOptions = ChannelOptions {
        presence: false,
        join_leave: false,
        force_push_join_leave: false,
        history_size: 0,
        history_ttl: Duration::ZERO,
        history_meta_ttl: Duration::ZERO,
        force_positioning: false,
        allow_positioning: false,
        force_recovery: false,
        allow_recovery: false,
        force_recovery_mode: RecoveryMode::Stream,
        auto_cache_recover: false,
        allowed_delta_types: Vec::new(),
        delta_publish: false,
        allow_tags_filter: false,
        allow_subscribe_for_anonymous: false,
        allow_subscribe_for_client: false,
        allow_publish_for_anonymous: false,
        allow_publish_for_subscriber: false,
        allow_publish_for_client: false,
        allow_presence_for_anonymous: false,
        allow_presence_for_subscriber: false,
        allow_presence_for_client: false,
        allow_history_for_anonymous: false,
        allow_history_for_subscriber: false,
        allow_history_for_client: false,
        allow_user_limited_channels: false,
        subscribe_proxy: None,
        sub_refresh_proxy: None,
        subscribe_stream_proxy: None,
        subscribe_stream_proxy_bidirectional: false,
        publish_proxy: None,
        channel_regex: None,
        publication_data_format: None,
        subscription_type: SubscriptionType::Stream,
        batch_max_size: 0,
        batch_max_delay: Duration::ZERO,
        batch_flush_latest: false,
    };

    /// Whether publications are kept.
    pub fn has_history(&self) -> bool {
        self.history_size > 0 && !self.history_ttl.is_zero()
    }

    /// Whether publications wait for one another.
    pub fn has_batches(&self) -> bool {
        self.batch_max_size > 1 || self.batch_max_size == 0 && !self.batch_max_delay.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespaces `news`, whose names behind it must be `a` to `z`, and `rooms`, where users may be named.
    fn config() -> ChannelConfig {
        let regex = Regex::new("^[a-z]+$").ok();
        let news = ChannelOptions { channel_regex: regex, history_size: 1, ..ChannelOptions::default() };
        let rooms = ChannelOptions { allow_user_limited_channels: true, history_size: 2, ..ChannelOptions::default() };
        let namespaces = [("news".to_owned(), news), ("rooms".to_owned(), rooms)];
        ChannelConfig { namespaces: namespaces.into(), ..ChannelConfig::default() }
    }

    /// Wants the name behind the namespace and the history size that tells the namespaces apart.
    #[track_caller]
    fn check_resolve(channel: &str, want: Option<(&str, usize)>) {
        let config = config();
        let got = config.resolve(channel).map(|(rest, options)| (rest, options.history_size));
        assert_eq!(got, want, "{channel}");
    }

    #[track_caller]
    fn check_client(channel: &str, want: Result<(), ReplyError>) {
        assert_eq!(config().resolve_for_client(channel).map(|_| ()), want, "{channel}");
    }

    #[track_caller]
    fn check_limited(channel: &str, user: &str, want: Option<bool>) {
        let config = config();
        let (_, options) = config.resolve(channel).expect("a known namespace");
        let got = config.limited_to(channel, options).map(|users| users.contains(user));
        assert_eq!(got, want, "{channel} {user}");
    }

    #[track_caller]
    fn check_data(own: Option<DataFormat>, data: &[u8], want: bool) {
        let options = ChannelOptions { publication_data_format: own, ..ChannelOptions::default() };
        assert_eq!(config().accepts(&options, data), want, "{own:?} {}", String::from_utf8_lossy(data));
    }

    #[test]
    fn namespace_stands_before_the_first_boundary() {
        check_resolve("news:today", Some(("today", 1)));
        check_resolve("news:a:b", Some(("a:b", 1)));
        check_resolve("news:", Some(("", 1)));
        check_resolve("news", Some(("news", 0)));
        check_resolve("plain", Some(("plain", 0)));
    }

    #[test]
    fn private_prefix_is_not_part_of_the_namespace() {
        check_resolve("$news:today", Some(("today", 1)));
        check_resolve("$plain", Some(("$plain", 0)));
        check_resolve("$$news:today", None);
    }

    #[test]
    fn unknown_namespace_is_not_resolved() {
        check_resolve("weather:today", None);
    }

    #[test]
    fn empty_namespace_is_none_but_is_cut_off() {
        check_resolve(":today", Some(("today", 0)));
        check_resolve("$:today", Some(("today", 0)));
    }

    /// C02
    #[test]
    fn names_have_no_namespaces_without_a_boundary() {
        let config = ChannelConfig { namespace_boundary: String::new(), ..config() };
        let (rest, options) = config.resolve("news:today").expect("a channel without namespace");
        assert_eq!((rest, options.history_size), ("news:today", 0));
    }

    #[test]
    fn name_must_match_the_regex_or_be_ascii() {
        check_client("news:today", Ok(()));
        check_client("news:Today", Err(ReplyError::BAD_REQUEST));
        check_client("news:", Err(ReplyError::BAD_REQUEST));
        check_client("rooms:1", Ok(()));
        check_client("rooms:\u{e4}", Err(ReplyError::BAD_REQUEST));
        check_client("weather:today", Err(ReplyError::UNKNOWN_CHANNEL));
    }

    /// C04
    #[test]
    fn users_are_named_behind_the_last_boundary_where_that_is_allowed() {
        check_limited("rooms:1#ann,bob", "bob", Some(true));
        check_limited("rooms:1#ann,bob", "bo", Some(false));
        check_limited("rooms:1#ann,bob", "", Some(false));
        check_limited("rooms:1#ann#bob", "ann", Some(false));
        check_limited("rooms:1#", "ann", Some(false));
        check_limited("rooms:1", "ann", None);
        check_limited("news:a#ann", "ann", None);
        check_limited("plain#ann", "bob", None);
    }

    #[test]
    fn only_names_with_the_prefix_are_private() {
        assert!(config().is_private("$news:today"));
        assert!(!config().is_private("news:$today"));
        let without = ChannelConfig { private_prefix: String::new(), ..config() };
        assert!(!without.is_private("$news:today"));
    }

    /// C06
    #[test]
    fn data_must_have_the_format_of_the_namespace_or_of_all() {
        check_data(None, b"", false);
        check_data(None, b"\xff", true);
        check_data(Some(DataFormat::Json), b"[1]", true);
        check_data(Some(DataFormat::Json), b"{", false);
        check_data(Some(DataFormat::Json), b"", false);
        check_data(Some(DataFormat::JsonObject), b"[1]", false);
        check_data(Some(DataFormat::JsonObject), b" {} ", true);
        check_data(Some(DataFormat::Binary), b"", true);
    }

    #[test]
    fn history_needs_size_and_ttl() {
        for (size, ttl, want) in [(0, 1, false), (1, 0, false), (1, 1, true)] {
            let history_ttl = Duration::from_secs(ttl);
            let options = ChannelOptions { history_size: size, history_ttl, ..ChannelOptions::default() };
            assert_eq!(options.has_history(), want, "{size} {ttl}");
        }
    }
}
