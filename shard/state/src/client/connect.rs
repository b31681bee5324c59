//! The connect command: credentials, limits, server-side subscriptions. Source: protocol §5.

use super::command::{Outcome, Served, Serving};
use super::keep_alive::{KeepAlive, first_ping};
use super::subscribe::{Wish, grants_delta};
use super::timer::FIXED_PING_INTERVAL;
use super::{Grant, Phase, Refusal, SubscribeReply};
use crate::auth::{ConnectionToken, Proof, TokenError, verify_connection};
use crate::message::{Message, Overrides, UserConnect};
use crate::metrics::{FrameType, Program};
use crate::proxy::{ConnectAnswer, SubscribeAnswer};
use crate::shard::{Shard, Waiting};
use crate::{ConnectionId, Now, Pings};
use bytes::Bytes;
use ringcast_proto::client::{self as wire, ConnectRequest, ConnectResult, SubscribeRequest, SubscribeResult};
use ringcast_proto::codes::{Disconnect, ReplyError};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longer times to live are cut to a year.
const TTL_MAX: i64 = 365 * 24 * 3600;

/// A connect command that waits for other shards.
#[derive(Debug)]
pub(crate) struct Connecting {
    serving: Serving,
    /// All but the subscriptions.
    result: ConnectResult,
    /// Results of those that are live, encoded.
    live: BTreeMap<String, Vec<u8>>,
    /// Server-side subscriptions not begun yet; begun once the user's home allows the connection.
    subs: Vec<ServerSub>,
    /// Answers that are missing.
    missing: u32,
    /// What the subscriptions brought by now.
    held: Vec<Rc<[u8]>>,
    /// Bytes of `held` and `live`; bounded together with the queue.
    held_bytes: usize,
}

impl Connecting {
    pub(super) fn hold(&mut self, frame: &Rc<[u8]>) {
        self.held_bytes += frame.len();
        self.held.push(Rc::clone(frame));
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// A subscription that is made while connecting.
#[derive(Debug)]
struct ServerSub {
    channel: String,
    grant: Grant,
    wish: Wish,
}

/// Who connects.
struct Credentials {
    user: String,
    expire_at: Option<i64>,
    info: Bytes,
    /// For backends; empty for none.
    meta: Bytes,
    subs: BTreeMap<String, Grant>,
    /// Payload of the reply.
    data: Bytes,
    source: Source,
}

/// Who says so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A token, or nobody: the client may wish for server-side subscriptions.
    Own,
    /// Only the transport: such a client gets no server-side subscriptions.
    Transport,
    /// The backend: server-side subscriptions are those that it names, and the personal one.
    Backend,
}

impl Shard {
    pub(super) fn connect(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        mut request: ConnectRequest,
        proof: Proof,
    ) -> Outcome {
        let fresh = self.clients.get_mut(connection).filter(|client| matches!(client.phase, Phase::Fresh));
        let Some(client) = fresh else { return Err(Disconnect::BAD_REQUEST.into()) };
        client.keep_emulated(std::mem::take(&mut request.headers), &self.options.proxy);
        if request.token.is_empty()
            && let Some(proxy) = self.options.proxy.connect
        {
            return Ok(self.ask_to_connect(now, proxy, connection, serving, request));
        }
        let credentials = self.credentials(now, connection, &request, proof)?;
        self.let_in(now, connection, serving, &request, credentials)
    }

    /// The backend has said who connects, or that it does not know.
    pub(super) fn connect_as_told(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        request: &ConnectRequest,
        answer: Option<ConnectAnswer>,
    ) -> Outcome {
        // With `client.concurrency` another connect command may have come meanwhile.
        if !self.clients.get(connection).is_some_and(|client| matches!(client.phase, Phase::Fresh)) {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let credentials = match answer {
            Some(answer) => self.told_credentials(answer)?,
            None => self.credentials(now, connection, request, Proof::Open)?,
        };
        self.let_in(now, connection, serving, request, credentials)
    }

    fn let_in(
        &mut self,
        now: Now,
        connection: ConnectionId,
        serving: Serving,
        request: &ConnectRequest,
        mut credentials: Credentials,
    ) -> Outcome {
        if credentials.source != Source::Transport {
            self.add_personal(&mut credentials)?;
            self.add_wanted(&mut credentials, &request.subs)?;
        }
        // A channel without a name has no place in the reply.
        credentials.subs.remove("");
        if credentials.subs.len() > self.options.client.channel_limit {
            return Err(Disconnect::CHANNEL_LIMIT.into());
        }
        let ttl = time_to_live(credentials.expire_at, now)?;
        let subs = server_subs(credentials.subs, &request.subs);
        let user: Arc<str> = credentials.user.into();

        let close_at = self.connection_end(now, ttl);
        let refreshes = self.options.proxy.refresh.is_none();
        let Some(client) = self.clients.get_mut(connection) else { return Ok(Served::Done) };
        client.user = Arc::clone(&user);
        client.info = credentials.info;
        client.keep_meta(credentials.meta, &self.options.proxy);
        client.program = Program { is_named: !request.name.is_empty(), is_versioned: !request.version.is_empty() };
        client.close_at = close_at;
        let kind = client.shape.kind;
        let ping_interval = match client.pings {
            Pings::Messages | Pings::Both => self.options.client.ping_interval,
            Pings::Fixed => FIXED_PING_INTERVAL,
            Pings::Frames => Duration::ZERO,
        };
        let session = match kind.is_emulated() || kind.is_unidirectional() {
            true => self.sessions.name(self.post.own(), connection).to_string(),
            false => String::new(),
        };
        let result = ConnectResult {
            client: client.id.to_string(),
            version: self.options.node.version.clone(),
            expires: ttl.is_some() && refreshes,
            ttl: ttl.filter(|_| refreshes).unwrap_or(0),
            data: credentials.data,
            ping: ping_interval.as_secs() as u32,
            pong: !kind.is_unidirectional() && !ping_interval.is_zero() && !self.options.client.pong_timeout.is_zero(),
            session,
            node: if kind.is_emulated() { self.options.node.uid.clone() } else { String::new() },
            time: if self.options.client.connect_include_server_time { now.unix_ms as i64 } else { 0 },
            ..ConnectResult::default()
        };
        let connecting =
            Connecting { serving, result, live: BTreeMap::new(), subs, missing: 0, held: Vec::new(), held_bytes: 0 };
        client.phase = Phase::Connecting(Box::new(connecting));
        client.user_place = Some(self.users.insert_local(&user, connection.slot));

        if user.is_empty() {
            self.begin_server_subs(now, connection);
            return Ok(Served::Later);
        }
        let personal = self.options.client.subscribe_to_user_personal_channel.as_ref();
        let is_only = personal.is_some_and(|personal| personal.single_connection);
        let client = client.id;
        // Also where there is no limit: a client that is connected is found by the calls that name its user.
        let request = self.ask(now, Waiting::UserConnect { connection });
        let home = self.home(&user);
        let connect = UserConnect { request, user, client, is_only };
        self.post.send(home, Message::UserConnect(Box::new(connect)));
        Ok(Served::Later)
    }

    /// Whom the token or the configuration lets in.
    fn credentials(
        &self,
        now: Now,
        connection: ConnectionId,
        request: &ConnectRequest,
        proof: Proof,
    ) -> Result<Credentials, Refusal> {
        let options = &self.options.client;
        if request.token.is_empty() {
            // Where everybody is let in as nobody, who the transport vouches for is, too.
            let is_open = options.allow_anonymous_connect_without_token || options.insecure;
            let vouched = self.clients.get(connection).map(|client| &*client.user).filter(|user| !user.is_empty());
            let user = match vouched {
                _ if is_open => "",
                Some(user) => user,
                None => return Err(Disconnect::BAD_REQUEST.into()),
            };
            let (info, meta, subs) = (Bytes::new(), Bytes::new(), BTreeMap::new());
            let source = if is_open { Source::Own } else { Source::Transport };
            let data = Bytes::new();
            return Ok(Credentials { user: user.to_owned(), expire_at: None, info, meta, subs, data, source });
        }
        let token = verify_connection(&request.token, &self.options.token, options.proof(proof), now.unix());
        let token = token.map_err(|error| match error {
            TokenError::Invalid => Refusal::from(Disconnect::INVALID_TOKEN),
            TokenError::Expired => Refusal::from(ReplyError::TOKEN_EXPIRED),
            TokenError::BrokenInfo => Refusal::from(ReplyError::INTERNAL),
        })?;
        if token.user.is_empty() && options.disallow_anonymous_connection_tokens {
            return Err(Disconnect::PERMISSION_DENIED.into());
        }
        let subs = self.token_subs(&token)?;
        let expire_at = token.expire_at.filter(|_| !options.insecure);
        let (user, info, meta) = (token.user, token.info, token.meta);
        Ok(Credentials { user, expire_at, info, meta, subs, data: Bytes::new(), source: Source::Own })
    }

    /// Whom the backend lets in.
    fn told_credentials(&self, answer: ConnectAnswer) -> Result<Credentials, Refusal> {
        let plain = answer.channels.iter().map(|channel| (channel.clone(), SubscribeAnswer::default()));
        let mut subs = BTreeMap::new();
        for (channel, terms) in plain.chain(answer.subs) {
            let (_, options) = self.options.channel.resolve(&channel).ok_or(ReplyError::UNKNOWN_CHANNEL)?;
            let cache_recover = terms.cache_recover;
            let mut grant = Grant { expire_at: None, ..Grant::told(options, terms) };
            grant.auto_cache_recover = cache_recover && grant.recoverable && grant.cache;
            subs.insert(channel, grant);
        }
        let expire_at = Some(answer.expire_at).filter(|at| *at > 0);
        let ConnectAnswer { user, info, data, meta, .. } = answer;
        Ok(Credentials { user, expire_at, info, meta, subs, data, source: Source::Backend })
    }

    /// Adds the channel that is the user's own.
    fn add_personal(&self, credentials: &mut Credentials) -> Result<(), Refusal> {
        let Some(personal) = &self.options.client.subscribe_to_user_personal_channel else { return Ok(()) };
        if credentials.user.is_empty() {
            return Ok(());
        }
        let config = &self.options.channel;
        let mut channel = format!("{}{}", config.user_boundary, credentials.user);
        if !personal.personal_channel_namespace.is_empty() {
            channel = format!("{}{}{channel}", personal.personal_channel_namespace, config.namespace_boundary);
        }
        let (_, options) = config.resolve(&channel).ok_or(ReplyError::UNKNOWN_CHANNEL)?;
        let grant = Grant::new(options, Overrides::default());
        credentials.subs.insert(channel, grant);
        Ok(())
    }

    /// What a connection token opens.
    pub(super) fn token_subs(&self, token: &ConnectionToken) -> Result<BTreeMap<String, Grant>, Refusal> {
        let granted = token.subs.iter().map(|sub| {
            let (_, options) = self.options.channel.resolve(&sub.channel).ok_or(ReplyError::UNKNOWN_CHANNEL)?;
            let mut grant = Grant::new(options, sub.overrides);
            (grant.info, grant.data) = (sub.info.clone(), sub.data.clone());
            grant.is_from_token = true;
            Ok((sub.channel.clone(), grant))
        });
        granted.collect()
    }

    /// Adds channels that the client wants from the start, where it could subscribe itself; others are passed over.
    fn add_wanted(
        &self,
        credentials: &mut Credentials,
        wanted: &BTreeMap<String, SubscribeRequest>,
    ) -> Result<(), Refusal> {
        let may_wish = credentials.source == Source::Own;
        for (channel, hint) in wanted.iter().filter(|(channel, _)| !channel.is_empty()) {
            if !may_wish && !credentials.subs.contains_key(channel) {
                continue;
            }
            let (_, options) = self.options.channel.resolve(channel).ok_or(Disconnect::BAD_REQUEST)?;
            let is_for_nobody =
                credentials.user.is_empty() && self.options.channel.limited_to(channel, options).is_some();
            let is_open = may_wish
                && self.options.channel.resolve_for_client(channel).is_ok()
                && !self.options.channel.is_private(channel)
                && (self.options.client.insecure || !is_for_nobody)
                && self.may_subscribe(&credentials.user, channel, options);
            if is_open && !credentials.subs.contains_key(channel) {
                credentials.subs.insert(channel.clone(), Grant::new(options, Overrides::default()));
            }
            if let Some(grant) = credentials.subs.get_mut(channel) {
                grant.delta = grants_delta(&hint.delta, options);
            }
        }
        Ok(())
    }

    /// The user's home has allowed the connection, or refused it.
    pub(crate) fn user_connected(&mut self, now: Now, connection: ConnectionId, allowed: bool) {
        if !allowed {
            return self.close(connection, Disconnect::CONNECTION_LIMIT);
        }
        self.begin_server_subs(now, connection);
    }

    fn begin_server_subs(&mut self, now: Now, connection: ConnectionId) {
        let Some(connecting) = self.connecting(connection) else { return };
        let subs = std::mem::take(&mut connecting.subs);
        connecting.missing = subs.len() as u32;
        if subs.is_empty() {
            return self.finish_connect(now, connection);
        }
        for ServerSub { channel, grant, wish } in subs {
            let reply = SubscribeReply::Connect { channel: channel.clone() };
            self.begin_subscribe(now, connection, &channel, grant, wish, reply);
        }
    }

    /// One of the server-side subscriptions is live.
    pub(super) fn server_sub_live(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: String,
        result: &SubscribeResult,
        publications: &[&[u8]],
    ) {
        let bytes_max = self.options.client.queue_max_size;
        let Some(client) = self.clients.get_mut(connection) else { return };
        let (encoding, queued_bytes) = (client.encoding, client.queued_bytes());
        let Phase::Connecting(connecting) = &mut client.phase else { return };
        let mut encoded = Vec::new();
        if wire::encode_subscription(encoding, result, publications, &mut encoded).is_err() {
            return self.close(connection, Disconnect::INAPPROPRIATE_PROTOCOL);
        }
        // The reply would not fit into the queue either.
        if queued_bytes + encoded.len() > bytes_max {
            return self.close(connection, Disconnect::SLOW);
        }
        connecting.held_bytes += encoded.len();
        connecting.live.insert(channel, encoded);
        connecting.missing -= 1;
        if connecting.missing == 0 {
            self.finish_connect(now, connection);
        }
    }

    /// Answers the connect command; what the subscriptions brought meanwhile follows.
    pub(crate) fn finish_connect(&mut self, now: Now, connection: ConnectionId) {
        let connections = self.clients.len();
        let Some(client) = self.clients.get_mut(connection) else { return };
        let ping_interval = client.keep_alive_options(&self.options.client).ping_interval;
        let wanted = now.at + self.random.upper_half(ping_interval);
        let Phase::Connecting(connecting) = &mut client.phase else { return };
        let (serving, result) = (connecting.serving, std::mem::take(&mut connecting.result));
        let live = std::mem::take(&mut connecting.live);
        let held = std::mem::take(&mut connecting.held);
        client.phase = Phase::Live;
        let kind = client.shape.kind;
        self.metrics.connected(kind, client.program);
        if !ping_interval.is_zero() {
            client.keep_alive = KeepAlive::Quiet { ping_at: first_ping(wanted, ping_interval, connections) };
        }
        let frame = if kind.is_unidirectional() { FrameType::PushConnect } else { FrameType::Connect };
        self.write_with(connection, frame, |encoding, out| match kind.is_unidirectional() {
            true => wire::encode_uni_connect_push(encoding, &result, &live, out),
            false => wire::encode_connect_result(encoding, serving.id, &result, &live, out),
        });
        for frame in held {
            self.clients.push_shared(connection.slot, &frame, usize::MAX);
        }
        self.arm(connection);
        self.finish_command(now, connection, serving);
    }

    fn connecting(&mut self, connection: ConnectionId) -> Option<&mut Connecting> {
        match &mut self.clients.get_mut(connection)?.phase {
            Phase::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }
}

/// Subscriptions in the order of their names, each with what the client says it has.
fn server_subs(granted: BTreeMap<String, Grant>, wanted: &BTreeMap<String, SubscribeRequest>) -> Vec<ServerSub> {
    let named = granted.into_iter().map(|(channel, grant)| {
        let wish = wanted.get(&channel).map_or_else(Wish::default, Wish::from_hint);
        ServerSub { channel, grant, wish }
    });
    named.collect()
}

/// Seconds until Unix time `expire_at`; `None` when there is none.
pub(super) fn time_to_live(expire_at: Option<i64>, now: Now) -> Result<Option<u32>, ReplyError> {
    let Some(expire_at) = expire_at else { return Ok(None) };
    // The server API may give any number.
    let left = expire_at.saturating_sub(now.unix());
    if left < 0 { Err(ReplyError::EXPIRED) } else { Ok(Some(left.min(TTL_MAX) as u32)) }
}

/// The same for a subscription: told as it is, and over at the moment itself.
pub(super) fn subscription_ttl(expire_at: Option<i64>, now: Now) -> Result<Option<u32>, ReplyError> {
    let Some(expire_at) = expire_at else { return Ok(None) };
    let left = expire_at.saturating_sub(now.unix());
    if left <= 0 { Err(ReplyError::EXPIRED) } else { Ok(Some(u32::try_from(left).unwrap_or(u32::MAX))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_live_is_told_for_any_number() {
        let now = Now { unix_ms: 1_000_000, ..Now::default() };
        for (expire_at, want) in [
            (None, Ok(None)),
            (Some(1000), Ok(Some(0))),
            (Some(1060), Ok(Some(60))),
            (Some(i64::MAX), Ok(Some(TTL_MAX as u32))),
            (Some(999), Err(ReplyError::EXPIRED)),
            (Some(i64::MIN), Err(ReplyError::EXPIRED)),
        ] {
            assert_eq!(time_to_live(expire_at, now), want, "{expire_at:?}");
        }
    }
}
