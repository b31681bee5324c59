//! How a seed sets the options of the servers: those at the start, and those of a reload.

use crate::random::Random;
use crate::scenario::SECRET;
use ringcast_state::Options;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions, DeltaType, RecoveryMode};
use ringcast_state::options::{ClientOptions, Limits, PersonalChannel, TokenOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// Namespace of the personal channels.
pub const PERSONAL: &str = "own";

/// Longest `batch_max_delay`.
const BATCH_MILLIS_MAX: u64 = 30;

/// All other namespaces.
pub const NAMESPACES: [&str; 6] = ["stream", "open", "plain", "members", "cache", "private"];

/// Options at the start.
pub fn at_start(random: &mut Random) -> Options {
    Options {
        client: client(random),
        limits: limits(random),
        token: TokenOptions { hmac_secret_key: SECRET.to_owned(), ..TokenOptions::default() },
        channel: channel(random),
        ..Options::default()
    }
}

/// Options of a reload: limits and times are others, and a namespace may be gone. What decides who sees what stays, so that
/// everybody knows what to expect.
pub fn reloaded(random: &mut Random, before: &Options) -> Options {
    let mut options = before.clone();
    let (client, limits) = (client(random), limits(random));
    options.client.channel_limit = client.channel_limit;
    options.client.recovery_max_publication_limit = client.recovery_max_publication_limit;
    options.client.queue_max_size = client.queue_max_size;
    options.client.write_delay = client.write_delay;
    options.client.reply_without_queue = client.reply_without_queue;
    options.limits.idempotency_ttl = limits.idempotency_ttl;
    for namespace in options.channel.namespaces.values_mut().filter(|namespace| namespace.has_history()) {
        namespace.history_size = history_size(random);
        namespace.history_ttl = history_ttl(random);
    }
    options.channel.namespaces.values_mut().for_each(|namespace| batches(random, namespace));
    options.channel.history_meta_ttl = meta_ttl(random);
    if random.one_in(2) {
        options.channel.namespaces.remove(*random.pick(&NAMESPACES));
    }
    options
}

fn client(random: &mut Random) -> ClientOptions {
    let has_personal = random.one_in(3);
    let (personal_channel_namespace, single_connection) = (PERSONAL.to_owned(), random.one_in(2));
    ClientOptions {
        allow_anonymous_connect_without_token: true,
        ping_interval: Duration::from_secs(*random.pick(&[0, 2, 25])),
        pong_timeout: Duration::from_secs(1),
        channel_limit: *random.pick(&[4, 128, 128]),
        queue_max_size: *random.pick(&[2 << 10, 16 << 10, 1 << 20, 1 << 20]),
        write_delay: Duration::from_millis(*random.pick(&[0, 0, 1, 20])),
        reply_without_queue: random.one_in(2),
        concurrency: *random.pick(&[0, 0, 0, 4]),
        user_connection_limit: *random.pick(&[0, 0, 0, 3]),
        connect_include_server_time: random.one_in(4),
        recovery_max_publication_limit: *random.pick(&[0, 5, 300, 300]),
        expired_close_delay: Duration::from_millis(*random.pick(&[0, 300, 5000])),
        expired_sub_close_delay: Duration::from_millis(*random.pick(&[0, 300, 5000])),
        subscribe_to_user_personal_channel: has_personal
            .then_some(PersonalChannel { personal_channel_namespace, single_connection }),
        ..ClientOptions::default()
    }
}

fn limits(random: &mut Random) -> Limits {
    Limits {
        outbox_max_size: *random.pick(&[100, 500, 4 << 10, 8 << 20, 8 << 20, 8 << 20]),
        backlog_max_size: *random.pick(&[300, 64 << 10]),
        idempotency_ttl: Duration::from_millis(random.scale(100, 600_000)),
        ..Limits::default()
    }
}

fn history_size(random: &mut Random) -> usize {
    random.scale(1, 60) as usize
}

fn history_ttl(random: &mut Random) -> Duration {
    Duration::from_millis(random.scale(200, 3_600_000))
}

fn meta_ttl(random: &mut Random) -> Duration {
    Duration::from_millis(random.scale(1000, 720 * 3_600_000))
}

/// Batches always end by time, and soon: the world at rest waits for them.
fn batches(random: &mut Random, options: &mut ChannelOptions) {
    let delay = if random.one_in(3) { *random.pick(&[1, 5, BATCH_MILLIS_MAX]) } else { 0 };
    options.batch_max_delay = Duration::from_millis(delay);
    options.batch_max_size = if delay > 0 { *random.pick(&[0, 1, 2, 10]) } else { 0 };
}

fn channel(random: &mut Random) -> ChannelConfig {
    let everybody = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_history_for_client: true,
        allow_history_for_anonymous: true,
        allow_presence_for_client: true,
        allow_presence_for_anonymous: true,
        allow_tags_filter: random.one_in(2),
        ..ChannelOptions::default()
    };
    let open = ChannelOptions {
        history_size: history_size(random),
        history_ttl: history_ttl(random),
        allowed_delta_types: if random.one_in(2) { vec![DeltaType::Fossil] } else { Vec::new() },
        delta_publish: random.one_in(2),
        allow_positioning: true,
        allow_recovery: true,
        join_leave: random.one_in(2),
        ..everybody.clone()
    };
    let history = ChannelOptions { force_positioning: true, force_recovery: true, join_leave: false, ..open.clone() };
    let members = |random: &mut Random| ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        ..if random.one_in(2) { history.clone() } else { everybody.clone() }
    };
    let cache = ChannelOptions {
        force_recovery_mode: RecoveryMode::Cache,
        auto_cache_recover: random.one_in(2),
        ..history.clone()
    };
    let private = ChannelOptions { allow_subscribe_for_client: false, ..members(random) };
    let own = ChannelOptions { allow_user_limited_channels: true, ..members(random) };
    let open = ChannelOptions { presence: random.one_in(2), ..open };
    let members = members(random);
    let stream = ChannelOptions { presence: random.one_in(2), ..history };
    let plain = ChannelOptions { presence: random.one_in(2), ..everybody };
    let namespaces = [
        ("stream", stream),
        ("open", open),
        ("plain", plain),
        ("members", members),
        ("cache", cache),
        ("private", private),
        (PERSONAL, own),
    ];
    let namespaces = namespaces.into_iter().map(|(name, mut options)| {
        batches(random, &mut options);
        (name.to_owned(), options)
    });
    let namespaces: BTreeMap<String, ChannelOptions> = namespaces.collect();
    ChannelConfig { namespaces, history_meta_ttl: meta_ttl(random), ..ChannelConfig::default() }
}
