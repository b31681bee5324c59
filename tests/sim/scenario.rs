//! What a seed decides beforehand: how large the world is, how its options are set and which faults it has.

use crate::random::Random;
use ringcast_state::namespace::{ChannelConfig, ChannelOptions, DeltaType, RecoveryMode};
use ringcast_state::options::{ClientOptions, Limits, TokenOptions};
use ringcast_state::{Options, Seeds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Key of all tokens.
pub const SECRET: &str = "the key of the simulation";

/// One world, before anything happens in it.
#[derive(Debug)]
pub struct Scenario {
    pub shards: u16,
    pub clients: usize,
    pub users: usize,
    pub channels: Vec<String>,
    pub steps: usize,
    /// Largest step of time between two events, microseconds.
    pub tick_max: u64,
    /// Messages that a ring holds.
    pub ring_capacity: usize,
    /// Longest way through a ring, microseconds.
    pub ring_delay_max: u64,
    /// Messages that a shard takes from a ring in one turn.
    pub batch_max: usize,
    /// Sockets that take no output for a while: one in so many steps, 0 for never.
    pub block_one_in: usize,
    /// Cuts, likewise.
    pub cut_one_in: usize,
    /// Shards that take no turn for a while, likewise.
    pub stall_one_in: usize,
    /// Moments at which the whole process sleeps, likewise.
    pub jump_one_in: usize,
    /// The server API subscribes, unsubscribes and disconnects users.
    pub acts_on_users: bool,
    /// Tokens bring server-side subscriptions.
    pub server_side: bool,
    /// Payloads that are not JSON.
    pub binary: bool,
    /// The quiet world is checked after so many steps.
    pub rest_every: usize,
    pub options: Options,
    pub seeds: Vec<Seeds>,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Self {
        let shards = random.between(1, 8) as u16;
        let steps = random.scale(50, 16_000) as usize;
        let clients = random.scale(1, 40) as usize;
        let rarely = |random: &mut Random, often: u64| {
            if random.one_in(2) { 0 } else { random.scale(often, often * 50) as usize }
        };
        let home = random.bits();
        Scenario {
            shards,
            clients,
            users: random.scale(1, 12) as usize,
            channels: channels(random),
            steps,
            tick_max: *random.pick(&[20, 200, 1000, 4000]),
            ring_capacity: random.scale(1, 2048) as usize,
            ring_delay_max: *random.pick(&[0, 100, 1000, 5000]),
            batch_max: random.scale(1, 256) as usize,
            block_one_in: rarely(random, 10),
            cut_one_in: rarely(random, 10),
            stall_one_in: rarely(random, 100),
            jump_one_in: rarely(random, 100),
            acts_on_users: random.one_in(2),
            server_side: random.one_in(2),
            binary: random.one_in(8),
            rest_every: random.scale(50, 2000) as usize,
            options: options(random),
            seeds: (0..shards).map(|_| Seeds { home, shard: random.seed() }).collect(),
        }
    }

    /// Whether an answer may come too late in this world.
    pub fn may_time_out(&self) -> bool {
        // A ring of one message with a delay passes few messages per second.
        self.stall_one_in > 0 || self.jump_one_in > 0 || self.tick_max > 1000 || self.ring_capacity < 8
    }

    pub fn channel_options(&self, channel: &str) -> &ChannelOptions {
        self.options.channel.resolve(channel).expect("channels of the simulation are in its namespaces").1
    }

    /// Recovery brings the latest publication only.
    pub fn is_cache(&self, channel: &str) -> bool {
        self.channel_options(channel).force_recovery_mode == RecoveryMode::Cache
    }

    /// Most publications that a recovery brings.
    pub fn recovery_limit(&self) -> usize {
        match self.options.client.recovery_max_publication_limit {
            0 => usize::MAX,
            limit => limit,
        }
    }

    /// Whether subscriptions of a channel know their position without asking.
    pub fn is_positioned(&self, channel: &str) -> bool {
        let options = self.channel_options(channel);
        options.has_history() && (options.force_positioning || options.force_recovery)
    }
}

fn channels(random: &mut Random) -> Vec<String> {
    let per_namespace = random.scale(1, 6);
    let names = ["stream", "open", "plain", "members", "cache"];
    let chosen = names.iter().filter(|_| !random.one_in(3)).collect::<Vec<_>>();
    let chosen = if chosen.is_empty() { vec![&names[0]] } else { chosen };
    chosen.iter().flat_map(|name| (0..per_namespace).map(move |i| format!("{name}:{i}"))).collect()
}

fn options(random: &mut Random) -> Options {
    let defaults = ClientOptions::default();
    let client = ClientOptions {
        allow_anonymous_connect_without_token: true,
        ping_interval: Duration::from_secs(*random.pick(&[0, 2, 25])),
        pong_timeout: Duration::from_secs(1),
        channel_limit: *random.pick(&[3, 128, 128]),
        queue_max_size: *random.pick(&[2 << 10, 16 << 10, 1 << 20, 1 << 20]),
        concurrency: *random.pick(&[0, 0, 0, 4]),
        user_connection_limit: *random.pick(&[0, 0, 0, 3]),
        connect_include_server_time: random.one_in(4),
        recovery_max_publication_limit: *random.pick(&[0, 5, 300, 300]),
        ..defaults
    };
    let limits = Limits {
        outbox_max_size: *random.pick(&[100, 500, 4 << 10, 8 << 20, 8 << 20, 8 << 20]),
        backlog_max_size: *random.pick(&[300, 64 << 10]),
        idempotency_ttl: Duration::from_secs(600),
        ..Limits::default()
    };
    Options {
        client,
        limits,
        token: TokenOptions { hmac_secret_key: SECRET.to_owned(), ..TokenOptions::default() },
        channel: channel_config(random),
        ..Options::default()
    }
}

fn channel_config(random: &mut Random) -> ChannelConfig {
    let everybody = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_history_for_client: true,
        allow_history_for_anonymous: true,
        allow_presence_for_client: true,
        allow_presence_for_anonymous: true,
        ..ChannelOptions::default()
    };
    let history = ChannelOptions {
        history_size: random.scale(1, 60) as usize,
        history_ttl: Duration::from_millis(random.scale(200, 3_600_000)),
        allowed_delta_types: if random.one_in(2) { vec![DeltaType::Fossil] } else { Vec::new() },
        delta_publish: random.one_in(2),
        allow_positioning: true,
        allow_recovery: true,
        ..everybody.clone()
    };
    let stream = ChannelOptions { force_positioning: true, force_recovery: true, ..history.clone() };
    let members = ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        ..if random.one_in(2) { stream.clone() } else { everybody.clone() }
    };
    let cache = ChannelOptions { force_recovery_mode: RecoveryMode::Cache, ..stream.clone() };
    let stream = ChannelOptions { presence: random.one_in(2), ..stream };
    let plain = ChannelOptions { presence: random.one_in(2), ..everybody };
    let namespaces = [("stream", stream), ("open", history), ("plain", plain), ("members", members), ("cache", cache)];
    let namespaces: BTreeMap<String, ChannelOptions> =
        namespaces.into_iter().map(|(name, options)| (name.to_owned(), options)).collect();
    let meta_ttl = Duration::from_millis(random.scale(1000, 720 * 3_600_000));
    ChannelConfig { namespaces, history_meta_ttl: meta_ttl, ..ChannelConfig::default() }
}
