//! The entry point: everything that happens to one shard passes here.

use crate::api::{Acting, ApiOutcome, Calls, Gathering, Origin};
use crate::auth::Proofs;
use crate::broker::{BrokerNews, BrokerRequest, Teller};
use crate::channel::{Brokered, Context, Homes};
use crate::client::{Batches, Client, Clients, Phase, PingFrames, Scratch, Serving, Subscribing, Turn};
use crate::compass::Compass;
use crate::delivery::DeliveryCheck;
use crate::filters::Filters;
use crate::frame::{Frame, Frames, SendQueue};
use crate::hub::Hub;
use crate::message::{ChannelName, Message, UserConnect};
use crate::metrics::{ApiProtocol, Metrics, Snapshot, Unwritten};
use crate::node::Cluster;
use crate::outbox::Outbox;
use crate::pending::Pending;
use crate::post::Post;
use crate::proxy::{Background, Proxies, Streams};
use crate::random::Random;
use crate::session::Sessions;
use crate::sparse::GiveBack;
use crate::tenure::Tenure;
use crate::transport::{Shape, Transport};
use crate::users::Users;
use crate::wheel::{Timer, Wheel};
use crate::{ConnectionId, Now, Options, RequestId, ShardId, Time};
use bytes::Bytes;
use ringcast_proto::api::{ApiResult, Request};
use ringcast_proto::codes::{ApiError, Disconnect, ReplyError};
use ringcast_proto::delta;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Randomness as an input: fixed in simulation, from the system in the server.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Decides the home of a channel and of a user; equal on all shards of a process.
    pub home: u64,
    /// Client ids, epochs and jitter of this shard; different for each.
    pub shard: [u8; 32],
}

/// One call of the server API over HTTP, named by the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiCallId {
    /// The HTTP connection that waits for the answer.
    pub connection: ConnectionId,
    /// Counts the requests of that connection.
    pub sequence: u32,
}

/// The answer to an API call.
#[derive(Debug)]
pub struct ApiAnswer {
    /// Whose answer this is.
    pub call: ApiCallId,
    /// HTTP status.
    pub status: u16,
    /// The body is `application/json`; else it is plain text or empty.
    pub is_json: bool,
    /// Body.
    pub body: Vec<u8>,
}

/// For the runtime to carry out.
#[derive(Debug)]
pub enum Action {
    /// Write what is queued for the connection (unless `flush` is false), say goodbye with the code, then close. The state
    /// has forgotten the connection but for its queue; `handle_close` must still follow once the socket is gone.
    Disconnect {
        /// Which connection.
        connection: ConnectionId,
        /// Code and reason for the close frame.
        disconnect: Disconnect,
        /// False for 3000 and 3008.
        flush: bool,
    },
    /// Too many commands wait for answers: read no more from the socket.
    PauseReceive {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Read again.
    ResumeReceive {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// One shard: its clients, its hub, the channels and users whose home it is.
#[derive(Debug)]
pub struct Shard {
    pub(crate) options: Arc<Options>,
    pub(crate) clients: Clients,
    pub(crate) hub: Hub,
    /// Empty where a broker orders channels.
    pub(crate) homes: Homes,
    /// Whether they act.
    pub(crate) tenure: Tenure,
    /// Where a broker orders channels.
    pub(crate) brokered: Option<Box<Brokered>>,
    pub(crate) cluster: Cluster,
    pub(crate) delivery: DeliveryCheck,
    pub(crate) users: Users,
    pub(crate) filters: Filters,
    pub(crate) pending: Pending<Waiting>,
    pub(crate) proofs: Proofs,
    pub(crate) proxies: Proxies,
    pub(crate) streams: Streams,
    /// Of the options in force; looked at with every command.
    pub(crate) uses_public_keys: bool,
    /// Of the options in force; looked at with every publication.
    pub(crate) uses_batches: bool,
    pub(crate) batches: Batches,
    pub(crate) calls: Calls,
    pub(crate) post: Post,
    pub(crate) random: Random,
    pub(crate) wheel: Wheel,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) answers: VecDeque<ApiAnswer>,
    pub(crate) outcomes: VecDeque<(usize, ApiOutcome)>,
    pub(crate) scratch: Scratch,
    pub(crate) metrics: Metrics,
    pub(crate) unwritten: Unwritten,
    pub(crate) pings: PingFrames,
    pub(crate) sessions: Sessions,
    /// Since `take_pings`.
    pub(crate) pings_sent: usize,
    pub(crate) started_at: Time,
    compass: Compass,
    fired: Vec<Timer>,
    /// What several connections share is being changed: a panic now would leave it half changed.
    pub(crate) is_changing: bool,
    delta_table: delta::Table,
}

/// Who waits for the answer to a question that this shard asked.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A subscription; see [`Subscribing`].
    Subscribe(Box<Subscribing>),
    /// A publish command.
    Publish { connection: ConnectionId, serving: Serving },
    /// A presence or presence_stats command.
    Presence { connection: ConnectionId, serving: Serving, stats: bool },
    /// A history command.
    History { connection: ConnectionId, serving: Serving },
    /// A connect command, for the user's home to allow it.
    UserConnect { connection: ConnectionId },
    /// A publish call.
    ApiPublish { origin: Origin },
    /// One channel of a broadcast call.
    ApiBroadcast { broadcast: usize, index: usize },
    /// A presence or presence_stats call.
    ApiPresence { origin: Origin, stats: bool },
    /// A history call.
    ApiHistory { origin: Origin },
    /// A history_remove call.
    ApiHistoryRemove { origin: Origin },
    /// A call about the connections of a user.
    ApiActing(Box<Acting>),
    /// A call that asks every shard.
    ApiSurvey(Box<Gathering>),
    /// The delivery check, for a channel in this place.
    Delivery { place: usize },
}

impl Shard {
    /// A shard without connections. `shards` is the number of shards in the process, at least 1.
    pub fn new(id: ShardId, shards: u16, options: Arc<Options>, seeds: Seeds, now: Now) -> Shard {
        assert!(id.0 < shards, "shard {} of {shards}", id.0);
        let mut random = Random::new(seeds.shard);
        let mut hash_seed = || u64::from(random.next_u32()) << 32 | u64::from(random.next_u32());
        let (hub, homes) = (Hub::new(hash_seed()), Homes::new(hash_seed()));
        let (users, filters) = (Users::new(hash_seed()), Filters::new(hash_seed()));
        let proofs = Proofs::new(hash_seed());
        let brokered = options.has_broker.then(|| Box::new(Brokered::new(hash_seed(), options.presence_is_local)));
        let sessions = random.secret();
        let compass = Compass::new(seeds.home, shards);
        let delivery = DeliveryCheck::new(options.delivery_check, &options.node.uid, id, shards, &compass, now.at);
        Shard {
            clients: Clients::default(),
            hub,
            homes,
            tenure: Tenure::default(),
            brokered,
            cluster: Cluster::default(),
            delivery,
            users,
            filters,
            pending: Pending::new(),
            proofs,
            proxies: Proxies::new(),
            streams: Streams::default(),
            uses_public_keys: options.uses_public_keys(),
            uses_batches: options.channel.uses_batches(),
            batches: Batches::default(),
            calls: Calls::default(),
            post: Post::new(id, shards, options.limits.outbox_max_size),
            random,
            wheel: Wheel::new(now.at),
            actions: VecDeque::new(),
            answers: VecDeque::new(),
            outcomes: VecDeque::new(),
            scratch: Scratch::default(),
            metrics: Metrics::default(),
            unwritten: Unwritten::default(),
            pings: PingFrames::default(),
            sessions: Sessions::new(sessions),
            pings_sent: 0,
            started_at: now.at,
            compass,
            fired: Vec::new(),
            is_changing: false,
            delta_table: delta::Table::default(),
            options,
        }
    }

    /// A transport was established (for WebSocket: upgraded). Call `handle_close` exactly once for each.
    pub fn handle_open(&mut self, now: Now, connection: ConnectionId, transport: Transport) {
        self.clients.insert(Client {
            connection,
            id: self.random.client_id(),
            encoding: transport.encoding,
            shape: Shape { kind: transport.kind, framing: transport.framing },
            pings: transport.pings,
            farewell: transport.farewell,
            phase: Phase::Fresh,
            program: Default::default(),
            user: transport.visitor.user.map_or_else(|| "".into(), Into::into),
            user_place: None,
            info: Bytes::new(),
            background: transport
                .visitor
                .headers
                .map(|headers| Background { headers: Some(headers), ..Background::default() }.into()),
            queue: SendQueue::default(),
            turn: Turn::default(),
            subscriptions: Default::default(),
            in_flight: 0,
            backlog: None,
            keep_alive: Default::default(),
            close_at: Some(now.at + self.options.client.stale_close_delay),
            timer_at: None,
        });
        self.arm(connection);
    }

    /// One whole message of the transport: one or more commands.
    pub fn handle_frame(&mut self, now: Now, connection: ConnectionId, frame: &[u8]) {
        self.serve_frame(now, connection, frame);
        self.handle_local(now);
    }

    /// A native pong frame came.
    pub fn handle_pong(&mut self, connection: ConnectionId) {
        self.receive_pong(connection);
    }

    /// The connection's socket is gone (or going without our wish); forgets it.
    pub fn handle_close(&mut self, now: Now, connection: ConnectionId) {
        self.forget(connection);
        self.handle_local(now);
    }

    /// Closes a connection with a code, as when its transport broke a rule or a panic was caught while handling it.
    pub fn disconnect(&mut self, now: Now, connection: ConnectionId, disconnect: Disconnect) {
        self.close(connection, disconnect);
        self.handle_local(now);
    }

    /// All connections now.
    pub fn connection_ids(&self) -> Vec<ConnectionId> {
        self.clients.iter().map(|client| client.connection).collect()
    }

    /// Closes all connections, as at shutdown.
    pub fn disconnect_all(&mut self, now: Now, disconnect: Disconnect) {
        self.flush_batches();
        for connection in self.connection_ids() {
            self.close(connection, disconnect.clone());
        }
        self.handle_local(now);
    }

    /// A server API call; the answer comes out of `take_api_answer`, maybe in this turn. `path` is what follows the
    /// prefix, such as `publish`; `None` for the bare prefix.
    /// A large payload of an owned body is not copied. `transport_errors`: errors as HTTP statuses (`http_api.error_mode` or the
    /// header).
    pub fn handle_api<'a>(
        &mut self,
        now: Now,
        call: ApiCallId,
        path: Option<&str>,
        body: impl Into<Cow<'a, [u8]>>,
        transport_errors: bool,
    ) {
        self.receive_api(now, call, path, body.into(), transport_errors);
        self.handle_local(now);
    }

    /// A server API call that came decoded, by its sender's number; the outcome comes out of `take_outcome`, maybe in this turn,
    /// and exactly once.
    pub fn handle_request(&mut self, now: Now, number: usize, protocol: ApiProtocol, request: Request) {
        self.receive_request(now, number, protocol, request);
        self.handle_local(now);
    }

    /// A message from another shard, in the order in which that shard sent them.
    pub fn handle_message(&mut self, now: Now, from: ShardId, message: Message) {
        self.dispatch_message(now, from, message);
        self.handle_local(now);
    }

    /// Messages that this shard sent to itself; nothing overtakes them.
    pub(crate) fn handle_local(&mut self, now: Now) {
        let own = self.post.own();
        self.is_changing = true;
        while let Some(message) = self.post.next_local() {
            self.dispatch_message(now, own, message);
        }
        self.is_changing = false;
    }

    fn dispatch_message(&mut self, now: Now, from: ShardId, message: Message) {
        match message {
            Message::Subscribe(_)
            | Message::Unsubscribe(_)
            | Message::Renew(_)
            | Message::Publish(_)
            | Message::Presence(_)
            | Message::History(_)
            | Message::HistoryRemove(_) => self.dispatch_to_home(now, from, message),

            Message::Subscribed(subscribed) => {
                if !self.delivery_subscribed(now, subscribed.request) {
                    self.subscribed(now, *subscribed);
                }
            }
            Message::SubscribeFailed { request, error } => match self.pending.take(request) {
                Some(Waiting::Subscribe(subscribing)) => self.fail_subscribe(now, request, *subscribing, error),
                Some(Waiting::Delivery { place }) => self.delivery_failed(place),
                waiting => debug_assert!(waiting.is_none(), "{waiting:?}"),
            },
            Message::Published { request, result } => match self.pending.take(request) {
                Some(Waiting::Publish { connection, serving }) => self.published(now, connection, serving, result),
                Some(Waiting::ApiPublish { origin }) => self.api_published(now, &origin, result),
                Some(Waiting::ApiHistoryRemove { origin }) => self.api_history_removed(now, &origin, result),
                Some(Waiting::ApiBroadcast { broadcast, index }) => {
                    self.api_broadcast_published(now, broadcast, index, result);
                }
                // What counts is that it comes back.
                Some(Waiting::Delivery { .. }) => {}
                waiting => debug_assert!(waiting.is_none(), "{waiting:?}"),
            },
            Message::PresenceIs { request, members } => match self.pending.take(request) {
                Some(Waiting::Presence { connection, serving, stats }) => {
                    self.presence_is(now, connection, serving, stats, members);
                }
                Some(Waiting::ApiPresence { origin, stats }) => self.api_presence_is(now, &origin, stats, members),
                waiting => debug_assert!(waiting.is_none(), "{waiting:?}"),
            },
            Message::HistoryIs { request, result } => match self.pending.take(request) {
                Some(Waiting::History { connection, serving }) => self.history_is(now, connection, serving, result),
                Some(Waiting::ApiHistory { origin }) => self.api_history_is(now, &origin, result),
                waiting => debug_assert!(waiting.is_none(), "{waiting:?}"),
            },
            Message::Deliver { channel, publication } => self.deliver(now, &channel, publication),
            Message::Membership { channel, info, joined } => self.deliver_membership(&channel, &info, joined),
            Message::PositionLost { channel } => self.lose_position(&channel),
            Message::Insufficient { channel } => self.deliver_insufficient(&channel),

            Message::Emulate { slot, session, data, asker } => self.emulate(now, (slot, session), &data, asker),

            Message::UserConnect(connect) => self.user_connect(from, *connect),
            Message::UserDisconnect { user } => self.users.disconnect(&user, from),
            Message::UserConnected { request, allowed } => {
                if let Some(Waiting::UserConnect { connection }) = self.pending.take(request) {
                    self.user_connected(now, connection, allowed);
                }
            }
            Message::UserCommand(command) => self.relay_to_user(*command),
            Message::UserAct(command) => self.user_act(now, &command),
            Message::Expect { request, answers } => self.expect_done(now, request, answers),
            Message::Done { request, failed, more } => self.done(now, request, failed, more),

            Message::Survey { request, question } => self.report(from, request, &question),
            Message::SurveyIs { request, answer } => self.survey_is(now, request, *answer),
        }
    }

    /// Lets the home side act on a message.
    pub(crate) fn dispatch_to_home(&mut self, now: Now, from: ShardId, message: Message) {
        let Some(message) = self.hold_back(from, message) else { return };
        let Shard { homes, brokered, options, post, random, wheel, metrics, delta_table, .. } = self;
        let context = &mut Context { now, options, post, random, wheel, metrics, delta_table, from };
        match (brokered, message) {
            (None, Message::Subscribe(subscribe)) => homes.subscribe(context, *subscribe),
            (None, Message::Unsubscribe(unsubscribe)) => homes.unsubscribe(context, *unsubscribe),
            (None, Message::Renew(renew)) => homes.renew(*renew),
            (None, Message::Publish(publish)) => homes.publish(context, *publish),
            (None, Message::Presence(ask)) => homes.presence(context, *ask),
            (None, Message::History(ask)) => homes.history(context, *ask),
            (None, Message::HistoryRemove(ask)) => homes.history_remove(context, *ask),
            (Some(brokered), Message::Subscribe(subscribe)) => brokered.subscribe(context, *subscribe),
            (Some(brokered), Message::Unsubscribe(unsubscribe)) => brokered.unsubscribe(context, *unsubscribe),
            (Some(brokered), Message::Renew(renew)) => brokered.renew(context, *renew),
            (Some(brokered), Message::Publish(publish)) => brokered.publish(context, *publish),
            (Some(brokered), Message::Presence(ask)) => brokered.presence(context, *ask),
            (Some(brokered), Message::History(ask)) => brokered.history(context, *ask),
            (Some(brokered), Message::HistoryRemove(ask)) => brokered.history_remove(context, *ask),
            (_, message) => unreachable!("{message:?} is not for a home"),
        }
    }

    /// Lets the home side act on something else than a message, where a broker orders channels.
    fn with_broker(&mut self, now: Now, act: impl FnOnce(&mut Brokered, &mut Context<'_>)) {
        let Shard { brokered, options, post, random, wheel, metrics, delta_table, .. } = self;
        let Some(brokered) = brokered else { return };
        let from = post.own();
        act(brokered, &mut Context { now, options, post, random, wheel, metrics, delta_table, from });
    }

    /// News of the broker, in their order.
    pub fn handle_broker(&mut self, now: Now, news: Vec<BrokerNews>) {
        self.is_changing = true;
        for news in news {
            match news {
                BrokerNews::Command(body) => self.obey(*body),
                BrokerNews::Survey(command) => self.handle_survey(now, *command),
                BrokerNews::Nodes(others) => self.know_nodes(others),
                BrokerNews::Left(node) => self.node_left(now, &node),
                BrokerNews::Told(Teller::Call(request), is_told) => self.nodes_told(now, request, is_told),
                BrokerNews::Told(Teller::Survey(request), is_told) => self.nodes_asked(now, request, is_told),
                news => self.with_broker(now, |brokered, context| brokered.handle_news(context, news)),
            }
        }
        self.is_changing = false;
        self.handle_local(now);
    }

    /// Questions for the broker, oldest first. Ask at the end of each turn.
    pub fn take_broker_requests(&mut self) -> Vec<BrokerRequest> {
        self.brokered.as_mut().map_or_else(Vec::new, |brokered| brokered.take_requests())
    }

    /// Channels with subscribers whose home is here.
    pub(crate) fn active_channels(&self) -> usize {
        let active = self.homes.active() + self.brokered.as_ref().map_or(0, |brokered| brokered.active());
        let is_active = |name: &&ChannelName| {
            self.homes.is_active(name) || self.brokered.as_ref().is_some_and(|brokered| brokered.is_active(name))
        };
        active - self.delivery.guests().iter().filter(is_active).count()
    }

    /// At a user's home: one more connection, within the limit or not, or in place of those before.
    fn user_connect(&mut self, from: ShardId, connect: UserConnect) {
        if connect.is_only {
            self.close_others(&connect);
        }
        let connections = self.users.connect(connect.user, from);
        let limit = self.options.client.user_connection_limit;
        let allowed = limit == 0 || connections as usize <= limit;
        self.post.send(from, Message::UserConnected { request: connect.request, allowed });
    }

    /// Fires due timers. Call once `now` reaches `next_timeout`; an early call does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(now.at, &mut fired);
        for timer in fired.drain(..) {
            match timer {
                Timer::Client(connection) => self.client_timeout(now, connection),
                Timer::Channel { index, generation } => {
                    let ways = (&mut self.post, &mut self.wheel);
                    self.homes.handle_timer(now, (index, generation), ways, &self.options);
                }
            }
        }
        fired.give_back();
        self.fired = fired;
        self.with_broker(now, |brokered, context| brokered.handle_timeout(context));
        self.flush_due_batches(now.at);
        while let Some((request, waiting)) = self.pending.take_overdue(now.at) {
            self.time_out(now, request, waiting);
        }
        self.give_up_surveys(now);
        self.give_up_proofs(now);
        self.give_up_proxies(now);
        self.check_delivery(now);
        self.handle_local(now);
    }

    /// Another shard did not answer in time.
    fn time_out(&mut self, now: Now, request: RequestId, waiting: Waiting) {
        let error = ReplyError::INTERNAL;
        match waiting {
            Waiting::Subscribe(subscribing) => self.fail_subscribe(now, request, *subscribing, error),
            Waiting::Publish { connection, serving } => self.published(now, connection, serving, Err(error)),
            Waiting::Presence { connection, serving, stats } => {
                self.presence_is(now, connection, serving, stats, Err(error));
            }
            Waiting::History { connection, serving } => self.history_is(now, connection, serving, Err(error)),
            // Only a limit is worth a refusal.
            Waiting::UserConnect { connection } if self.options.client.user_connection_limit == 0 => {
                self.user_connected(now, connection, true);
            }
            Waiting::UserConnect { connection } => self.close(connection, Disconnect::SERVER_ERROR),
            Waiting::ApiPublish { origin } => self.api_published(now, &origin, Err(error)),
            Waiting::ApiBroadcast { broadcast, index } => {
                self.api_broadcast_published(now, broadcast, index, Err(error));
            }
            Waiting::ApiPresence { origin, stats } => self.api_presence_is(now, &origin, stats, Err(error)),
            Waiting::ApiHistory { origin } => self.api_history_is(now, &origin, Err(error)),
            Waiting::ApiHistoryRemove { origin } => self.api_history_removed(now, &origin, Err(error)),
            Waiting::ApiActing(acting) => self.complete_late(now, acting.origin()),
            Waiting::ApiSurvey(gathering) => self.gathered_late(now, *gathering),
            Waiting::Delivery { place } => self.delivery_failed(place),
        }
    }

    /// When `handle_timeout` wants to be called next; `None` if nothing is due ever.
    pub fn next_timeout(&self) -> Option<Time> {
        let timeouts = [
            self.wheel.next_timeout(),
            self.pending.next_timeout(),
            self.proofs.next_timeout(),
            self.proxies.next_timeout(),
            self.batches.next_timeout(),
            self.brokered.as_ref().and_then(|brokered| brokered.next_timeout()),
            self.cluster.surveys.next_timeout(),
            self.delivery.next_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// What the runtime must do, oldest first.
    pub fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// An answer for an HTTP connection; it may be gone by now.
    pub fn take_api_answer(&mut self) -> Option<ApiAnswer> {
        self.answers.pop_front()
    }

    /// What came of a call of `handle_request`, and its number.
    pub fn take_outcome(&mut self) -> Option<(usize, Result<ApiResult, ApiError>)> {
        self.outcomes.pop_front()
    }

    /// A connection with output that is to be written now; each is named once. When the socket is still busy with an
    /// earlier flush, skip it and ask `take_frames` again after `handle_flushed`. Ask at the end of each turn until there
    /// is none, and at `next_flush`.
    pub fn take_dirty(&mut self, now: Now) -> Option<ConnectionId> {
        self.clients.take_dirty(now.at, self.options.client.write_delay)
    }

    /// When `take_dirty` will name a connection whose output waits for `client.write_delay`; `None` if none does.
    pub fn next_flush(&self) -> Option<Time> {
        self.clients.next_flush()
    }

    /// How many messages may share a frame of the transport; at least 1. Only where writes are delayed: without a delay
    /// messages are few, and stay as they were encoded for all.
    pub fn messages_in_frame(&self) -> usize {
        let options = &self.options.client;
        if options.write_delay.is_zero() { 1 } else { options.max_messages_in_frame.max(1) }
    }

    /// All that waits for a connection; nothing when the connection is unknown.
    pub fn take_frames(&mut self, connection: ConnectionId) -> Option<Frames> {
        self.clients.get_mut(connection)?.queue.take()
    }

    /// The socket has accepted everything that `take_frames` gave. Returns whether more waits that was due meanwhile; the
    /// rest `take_dirty` will name.
    pub fn handle_flushed(&mut self, connection: ConnectionId) -> bool {
        let Some(client) = self.clients.get_mut(connection) else { return false };
        client.queue.flushed();
        if self.streams.has_unread() && client.queue.is_empty() {
            self.streams.was_read(connection);
        }
        !client.queue.is_empty() && !client.turn.is_awaited()
    }

    /// Takes back the emptied vector of `Frames::Many`.
    pub fn recycle(&mut self, frames: Vec<Frame>) {
        self.clients.recycle(frames);
    }

    /// How many pings were queued since the last call.
    pub fn take_pings(&mut self) -> usize {
        std::mem::take(&mut self.pings_sent)
    }

    /// Messages for another shard.
    pub fn outbox(&mut self, to: ShardId) -> &mut Outbox {
        self.post.outbox(to)
    }

    /// Whether a panic that was just caught can be blamed on one connection. If not, it may have left what connections share
    /// half changed, and the process must end.
    pub fn is_whole(&self) -> bool {
        !self.is_changing
    }

    /// New options, as after a reload; in force from the next command on.
    pub fn set_options(&mut self, options: Arc<Options>) {
        let endpoint = |options: &Options| {
            let tokens = [&options.token, options.subscription_token()];
            tokens.map(|token| token.jwks_public_endpoint.clone())
        };
        if endpoint(&self.options) != endpoint(&options) {
            self.proofs.keys.clear();
        }
        self.flush_batches();
        self.uses_public_keys = options.uses_public_keys();
        self.uses_batches = options.channel.uses_batches();
        self.options = options;
    }

    /// Open connections of this shard.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Connections that are connected.
    pub(crate) fn live_clients(&self) -> usize {
        self.metrics.num_clients() as usize
    }

    /// Something waits for `handle_written`.
    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Frames and answers taken out before are in the kernel's hands since `at`, or wait there for their peer: ends the
    /// durations that a write ends. Once per turn is enough.
    pub fn handle_written(&mut self, at: Time) {
        self.unwritten.written(&mut self.metrics, at);
    }

    /// A copy of all counters and histograms. Copies what is in use, as a rule 20 to 200 KiB.
    pub fn snapshot(&self) -> Snapshot {
        let outboxes = self.post.outboxes();
        let (outbox_bytes, shed) = outboxes.fold((0, 0), |(bytes, shed), to| (bytes + to.bytes(), shed + to.shed()));
        Snapshot {
            metrics: self.metrics.clone(),
            users: self.users.count(),
            has_anonymous: !self.users.local("").is_empty(),
            channels: self.active_channels(),
            outbox_bytes,
            shed,
            delivery: self.delivery.trips(),
        }
    }

    /// The shard that orders a channel, keeps the list of a user, or has whatever else goes by a name; the same whichever shard
    /// is asked.
    pub fn home(&self, name: &str) -> ShardId {
        self.compass.home(name)
    }

    /// Which shards there are.
    pub(crate) fn compass(&self) -> &Compass {
        &self.compass
    }

    /// When a question asked now is given up.
    pub(crate) fn deadline(&self, now: Now) -> Time {
        now.at + self.options.limits.request_timeout
    }

    pub(crate) fn ask(&mut self, now: Now, waiting: Waiting) -> RequestId {
        let deadline = self.deadline(now);
        self.pending.insert(waiting, deadline)
    }

    /// A name to send along; the hub's own if the channel has subscribers here.
    pub(crate) fn channel_name(&self, name: String) -> ChannelName {
        match self.hub.find(&name) {
            Some(index) => self.hub.name(index).clone(),
            None => name.into(),
        }
    }
}
