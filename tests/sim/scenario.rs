//! What a seed decides beforehand: how large the world is, how its options are set and which faults it has.

use crate::options::{self, NAMESPACES, PERSONAL};
use crate::random::Random;
use ringcast_state::namespace::{ChannelOptions, RecoveryMode};
use ringcast_state::options::PersonalChannel;
use ringcast_state::{Options, Seeds};
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
    /// Writes of which the socket takes the first part only, likewise; counted in writes.
    pub short_one_in: usize,
    /// Shards whose receive buffers run out for a while, likewise.
    pub dry_one_in: usize,
    /// Moments from which on the process has no descriptor for a new connection for a while, likewise.
    pub full_one_in: usize,
    /// Wall clocks that are put forward or back, up to an hour, likewise.
    pub turn_clock_one_in: usize,
    /// Processes that are killed and started again, likewise.
    pub restart_one_in: usize,
    /// The server API subscribes, unsubscribes and disconnects users.
    pub acts_on_users: bool,
    /// Tokens bring server-side subscriptions.
    pub server_side: bool,
    /// Tokens end.
    pub expires: bool,
    /// Payloads that are not JSON.
    pub binary: bool,
    /// The quiet world is checked after so many steps.
    pub rest_every: usize,
    /// Options at the start and after a reload; in turns.
    pub options: Vec<Options>,
    /// Which of them.
    pub in_force: usize,
    /// Reloads: one in so many steps, 0 for never.
    pub reload_one_in: usize,
    pub seeds: Vec<Seeds>,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Self {
        let shards = if random.one_in(10) { 1 } else { random.scale(2, 16) as u16 };
        let steps = random.scale(50, 16_000) as usize;
        let clients = random.scale(1, 40) as usize;
        let rarely = |random: &mut Random, often: u64| {
            if random.one_in(2) { 0 } else { random.scale(often, often * 50) as usize }
        };
        let home = random.bits();
        let mut options = vec![options::at_start(random)];
        let reload_one_in = if random.one_in(3) { random.scale(50, 2000) as usize } else { 0 };
        if reload_one_in > 0 {
            options.push(options::reloaded(random, &options[0]));
        }
        let users = random.scale(1, 12) as usize;
        let has_personal = options[0].client.subscribe_to_user_personal_channel.is_some();
        Scenario {
            shards,
            clients,
            users,
            channels: channels(random, users, has_personal),
            steps,
            tick_max: *random.pick(&[20, 200, 1000, 4000]),
            ring_capacity: random.scale(1, 2048) as usize,
            ring_delay_max: *random.pick(&[0, 100, 1000, 5000]),
            batch_max: random.scale(1, 256) as usize,
            block_one_in: rarely(random, 10),
            cut_one_in: rarely(random, 10),
            stall_one_in: rarely(random, 100),
            jump_one_in: rarely(random, 100),
            short_one_in: rarely(random, 2),
            dry_one_in: rarely(random, 100),
            full_one_in: rarely(random, 100),
            turn_clock_one_in: if random.one_in(4) { random.scale(50, 2000) as usize } else { 0 },
            restart_one_in: if random.one_in(4) { random.scale(200, 5000) as usize } else { 0 },
            acts_on_users: random.one_in(2),
            server_side: random.one_in(2),
            expires: random.one_in(2),
            binary: random.one_in(8),
            rest_every: random.scale(50, 2000) as usize,
            options,
            in_force: 0,
            reload_one_in,
            seeds: (0..shards).map(|_| Seeds { home, shard: random.seed() }).collect(),
        }
    }

    /// Whether an answer may come too late in this world.
    pub fn may_time_out(&self) -> bool {
        // A ring of one message with a delay passes few messages per second.
        self.stall_one_in > 0 || self.jump_one_in > 0 || self.tick_max > 1000 || self.ring_capacity < 8
    }

    /// The wall clock is not what it was: when a token ends depends on when the server looked at it.
    pub fn turns_clock(&self) -> bool {
        self.turn_clock_one_in > 0
    }

    /// Options that are, or soon will be, in force on all shards.
    pub fn options(&self) -> &Options {
        &self.options[self.in_force]
    }

    /// What a channel is; the same whatever is in force, but for times and sizes.
    pub fn channel_options(&self, channel: &str) -> &ChannelOptions {
        self.options[0].channel.resolve(channel).expect("channels of the simulation are in its namespaces").1
    }

    /// A reload may have taken its namespace away.
    pub fn may_be_unknown(&self, channel: &str) -> bool {
        self.options.iter().any(|options| options.channel.resolve(channel).is_none())
    }

    /// Publications of a channel may wait for others, so that the answer to a publisher overtakes them.
    pub fn may_batch(&self, channel: &str) -> bool {
        self.of_channel(channel).any(ChannelOptions::has_batches)
    }

    /// Recovery brings the latest publication only.
    pub fn is_cache(&self, channel: &str) -> bool {
        self.channel_options(channel).force_recovery_mode == RecoveryMode::Cache
    }

    /// Recovery comes without being asked for.
    pub fn recovers_unasked(&self, channel: &str) -> bool {
        let options = self.channel_options(channel);
        options.auto_cache_recover && options.force_recovery && self.is_cache(channel)
    }

    /// Whether subscriptions of a channel know their position without asking.
    pub fn is_positioned(&self, channel: &str) -> bool {
        let options = self.channel_options(channel);
        options.has_history() && (options.force_positioning || options.force_recovery)
    }

    /// Clients get subscriptions that they do not ask for.
    pub fn has_server_side(&self) -> bool {
        self.server_side || self.acts_on_users || self.personal().is_some()
    }

    pub fn personal(&self) -> Option<&PersonalChannel> {
        self.options[0].client.subscribe_to_user_personal_channel.as_ref()
    }

    pub fn is_single(&self) -> bool {
        self.personal().is_some_and(|personal| personal.single_connection)
    }

    pub fn recovery_limit_min(&self) -> usize {
        self.recovery_limits().min().expect("there are options")
    }

    pub fn recovery_limit_max(&self) -> usize {
        self.recovery_limits().max().expect("there are options")
    }

    fn recovery_limits(&self) -> impl Iterator<Item = usize> {
        let limits = self.options.iter().map(|options| options.client.recovery_max_publication_limit);
        limits.map(|limit| if limit == 0 { usize::MAX } else { limit })
    }

    pub fn channel_limit_min(&self) -> usize {
        self.options.iter().map(|options| options.client.channel_limit).min().expect("there are options")
    }

    pub fn queue_size_min(&self) -> usize {
        self.options.iter().map(|options| options.client.queue_max_size).min().expect("there are options")
    }

    pub fn idempotency_ttl_min(&self) -> Duration {
        self.options.iter().map(|options| options.limits.idempotency_ttl).min().expect("there are options")
    }

    pub fn idempotency_ttl_max(&self) -> Duration {
        self.options.iter().map(|options| options.limits.idempotency_ttl).max().expect("there are options")
    }

    pub fn history_size_min(&self, channel: &str) -> usize {
        self.of_channel(channel).map(|options| options.history_size).min().unwrap_or(0)
    }

    pub fn history_size_max(&self, channel: &str) -> usize {
        self.of_channel(channel).map(|options| options.history_size).max().unwrap_or(0)
    }

    pub fn history_ttl_min(&self, channel: &str) -> Duration {
        self.of_channel(channel).map(|options| options.history_ttl).min().unwrap_or_default()
    }

    pub fn history_ttl_max(&self, channel: &str) -> Duration {
        self.of_channel(channel).map(|options| options.history_ttl).max().unwrap_or_default()
    }

    pub fn meta_ttl_min(&self, channel: &str) -> Duration {
        self.meta_ttls(channel).min().expect("there are options")
    }

    pub fn meta_ttl_max(&self, channel: &str) -> Duration {
        self.meta_ttls(channel).max().expect("there are options")
    }

    fn meta_ttls(&self, channel: &str) -> impl Iterator<Item = Duration> {
        self.options.iter().map(move |options| {
            let history_ttl =
                options.channel.resolve(channel).map_or(Duration::ZERO, |(_, options)| options.history_ttl);
            options.channel.history_meta_ttl.max(history_ttl)
        })
    }

    fn of_channel(&self, channel: &str) -> impl Iterator<Item = &ChannelOptions> {
        self.options.iter().filter_map(move |options| Some(options.channel.resolve(channel)?.1))
    }
}

fn channels(random: &mut Random, users: usize, has_personal: bool) -> Vec<String> {
    let per_namespace = random.scale(1, 6);
    let chosen = NAMESPACES.iter().filter(|_| !random.one_in(3)).collect::<Vec<_>>();
    let chosen = if chosen.is_empty() { vec![&NAMESPACES[0]] } else { chosen };
    let named = chosen.iter().flat_map(|name| (0..per_namespace).map(move |i| format!("{name}:{i}")));
    let own = (1..users).filter(|_| has_personal).map(|user| personal_channel(&format!("u{user}")));
    named.chain(own).collect()
}

/// The channel that is a user's own.
pub fn personal_channel(user: &str) -> String {
    format!("{PERSONAL}:#{user}")
}
