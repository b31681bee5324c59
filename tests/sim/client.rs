//! A client as the official libraries are: it connects, subscribes, recovers from where it was, answers pings. It checks
//! whatever it is told against the model.

use crate::model::{Model, Moment, PublicationId, Subscription, Wish, payload_id};
use crate::scenario::Scenario;
use crate::trace::Trace;
use ringcast_proto::client::{
    Command, ConnectResult, Encoding, HistoryRequest, Push, PushBody, Reply, ReplyResult, Request, SubscribeResult,
    decode_replies, encode_command,
};
use ringcast_proto::codes::ReplyError;
use ringcast_proto::websocket::{Decoder, Event, Role};
use ringcast_state::Time;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

/// What a client may look at while it handles something.
pub struct Context<'a> {
    pub scenario: &'a Scenario,
    pub model: &'a mut Model,
    pub trace: &'a mut Trace,
    pub now: Time,
    /// Deliveries that were given up anywhere so far.
    pub shed: u64,
}

/// One client, from one connection to the next.
pub struct Client {
    pub number: usize,
    pub user: String,
    pub encoding: Encoding,
    pub phase: Phase,
    /// Given by the server at connect.
    pub id: String,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Where subscriptions ended that may be recovered.
    pub positions: BTreeMap<String, (u64, String)>,
    pub asked: VecDeque<Asked>,
    /// Does not answer pings on this connection.
    pub is_deaf: bool,
    /// When the server last connected or pinged this client.
    pub pinged_at: Time,
    /// Codes that this client may be closed with, for something that it or a backend did.
    pub excuses: Vec<u32>,
    next_id: u32,
    decoder: Decoder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Away,
    /// Waits for the connect reply, or never asked for one.
    Connecting,
    Live,
}

/// A command without a reply so far.
#[derive(Debug)]
pub struct Asked {
    pub id: u32,
    pub moment: Moment,
    pub at: Time,
    pub request: Request,
    pub publication: PublicationId,
}

/// Largest frame from the server; generous.
const FRAME_BYTES_MAX: usize = 16 << 20;

impl Client {
    pub fn new(number: usize, user: String, encoding: Encoding) -> Self {
        Client {
            number,
            user,
            encoding,
            phase: Phase::Away,
            id: String::new(),
            subscriptions: BTreeMap::new(),
            positions: BTreeMap::new(),
            asked: VecDeque::new(),
            is_deaf: false,
            pinged_at: Time(0),
            excuses: Vec::new(),
            next_id: 0,
            decoder: Decoder::new(Role::Client, FRAME_BYTES_MAX),
        }
    }

    /// A transport is there.
    pub fn opened(&mut self) {
        assert_eq!(self.phase, Phase::Away);
        self.phase = Phase::Connecting;
        self.decoder = Decoder::new(Role::Client, FRAME_BYTES_MAX);
    }

    /// Writes a command into a frame.
    pub fn ask(
        &mut self,
        context: &mut Context<'_>,
        request: Request,
        publication: PublicationId,
        frame: &mut Vec<u8>,
    ) {
        self.next_id += 1;
        let id = self.next_id;
        if let Request::Subscribe(request) = &request {
            context.model.attempt(&request.channel, &self.id);
        }
        let command = Command { id, request: Some(request) };
        if self.encoding == Encoding::Json && !frame.is_empty() {
            frame.push(b'\n');
        }
        encode_command(self.encoding, &command, frame);
        context.trace.note(|| format!("client {} asks {command:?}", self.number));
        let Some(request) = command.request else { return };
        let moment = context.model.tick();
        self.asked.push_back(Asked { id, moment, at: context.now, request, publication });
    }

    /// Bytes came, maybe the middle of something. Returns the frames to answer with.
    pub fn receive(&mut self, context: &mut Context<'_>, bytes: &mut [u8]) -> Vec<Vec<u8>> {
        context.trace.bytes(bytes);
        let (mut replies, encoding) = (Vec::new(), self.encoding);
        let read = self.decoder.decode(bytes, &mut |event| {
            let message = match (event, encoding) {
                (Event::Text(message), Encoding::Json) | (Event::Binary(message), Encoding::Protobuf) => message,
                (event, _) => panic!("a frame of the wrong kind: {event:?}"),
            };
            let decoded = decode_replies(encoding, message);
            replies.extend(decoded.map(|reply| reply.expect("the server speaks the protocol")));
            ControlFlow::Continue(())
        });
        let read = read.expect("the server keeps to the framing");
        assert_eq!(read, ControlFlow::Continue(()), "close frames are not sent here");
        replies.into_iter().filter_map(|reply| self.handle(context, reply)).collect()
    }

    fn handle(&mut self, context: &mut Context<'_>, reply: Reply) -> Option<Vec<u8>> {
        context.trace.note(|| format!("client {} is told {reply:?}", self.number));
        let is_connect = matches!(&reply, Reply::Result { result: ReplyResult::Connect(_), .. });
        assert!(self.phase == Phase::Live || is_connect, "client {}: {reply:?} before the connect reply", self.number);
        match reply {
            Reply::Ping => {
                self.pinged_at = context.now;
                return self.pong();
            }
            Reply::Error { id, error } => {
                let asked = self.take_asked(context.scenario, id);
                self.failed(context, &asked, &error);
            }
            Reply::Result { id, result } => {
                let asked = self.take_asked(context.scenario, id);
                self.succeeded(context, asked, result);
            }
            Reply::Push(push) => self.pushed(context, push),
        }
        None
    }

    fn pong(&self) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        encode_command(self.encoding, &Command::default(), &mut frame);
        (!self.is_deaf).then_some(frame)
    }

    /// Replies come in the order of the commands unless several are served at a time.
    fn take_asked(&mut self, scenario: &Scenario, id: u32) -> Asked {
        let at = self.asked.iter().position(|asked| asked.id == id);
        let at = at.unwrap_or_else(|| panic!("client {}: a reply to nothing, {id} of {:?}", self.number, self.asked));
        if scenario.options.client.concurrency <= 1 {
            assert_eq!(at, 0, "client {}: reply {id} overtook others, {:?}", self.number, self.asked);
        }
        self.asked.remove(at).expect("it was found")
    }

    fn succeeded(&mut self, context: &mut Context<'_>, asked: Asked, result: ReplyResult) {
        match (asked.request, result) {
            (Request::Connect(request), ReplyResult::Connect(result)) => {
                let wishes = request.subs.iter().map(|(channel, wanted)| {
                    let (offset, epoch) = (wanted.offset, wanted.epoch.clone());
                    (channel.clone(), Wish { recover: wanted.recover, offset, epoch })
                });
                self.connected(context, asked.at, &wishes.collect(), *result);
            }
            (Request::Subscribe(request), ReplyResult::Subscribe(result)) => {
                let wish = Wish { recover: request.recover, offset: request.offset, epoch: request.epoch };
                let options = context.scenario.channel_options(&request.channel);
                let is_delta = !request.delta.is_empty() && !options.allowed_delta_types.is_empty();
                assert_eq!(result.delta, is_delta, "{}: deltas asked for and granted", request.channel);
                let subscription = Subscription::asked(asked.moment);
                self.subscribed(context, asked.at, &request.channel, &wish, subscription, *result);
            }
            (Request::Unsubscribe(request), ReplyResult::Unsubscribe) => self.end(&request.channel),
            (Request::Publish(request), ReplyResult::Publish) => {
                context.model.acknowledge(&request.channel, asked.publication, None);
                if let Some(subscription) = self.subscriptions.get(&request.channel) {
                    context.model.check_own(&request.channel, subscription, asked.publication);
                }
            }
            (Request::Presence(request), ReplyResult::Presence(result)) => {
                let is_there = self.subscriptions.get(&request.channel).is_some_and(|s| s.live < asked.moment);
                assert!(!is_there || result.presence.contains_key(&self.id), "{}: not present itself", request.channel);
            }
            (Request::PresenceStats(request), ReplyResult::PresenceStats(result)) => {
                let is_there = self.subscriptions.get(&request.channel).is_some_and(|s| s.live < asked.moment);
                assert!(result.num_clients >= u32::from(is_there), "{}: not present itself", request.channel);
                assert!(result.num_users <= result.num_clients);
            }
            (Request::History(request), ReplyResult::History(result)) => {
                let read = result.publications.iter().map(|p| (p.offset, payload_id(&p.data))).collect::<Vec<_>>();
                let times = (asked.at, context.now);
                let top = (result.offset, &*result.epoch);
                context.model.history(context.scenario, times, &request.channel, &read, top, is_whole(&request));
            }
            (request, result) => panic!("client {}: {result:?} is no answer to {request:?}", self.number),
        }
    }

    fn connected(
        &mut self,
        context: &mut Context<'_>,
        at: Time,
        wishes: &BTreeMap<String, Wish>,
        result: ConnectResult,
    ) {
        assert_eq!(self.phase, Phase::Connecting);
        assert!(!result.client.is_empty());
        self.phase = Phase::Live;
        self.pinged_at = context.now;
        self.id = result.client;
        for (channel, result) in result.subs {
            let wish = wishes.get(&channel).cloned().unwrap_or_default();
            let subscription = Subscription::server_side();
            self.subscribed(context, at, &channel, &wish, subscription, result);
        }
    }

    fn subscribed(
        &mut self,
        context: &mut Context<'_>,
        at: Time,
        channel: &str,
        wish: &Wish,
        mut subscription: Subscription,
        mut result: SubscribeResult,
    ) {
        subscription.has_deltas = result.delta;
        for publication in &mut result.publications {
            subscription.make_whole(self.encoding, publication);
        }
        context.model.subscribed(context.scenario, (at, context.now), channel, wish, &mut subscription, &result);
        let before = self.subscriptions.insert(channel.to_owned(), subscription);
        assert!(before.is_none(), "client {}: subscribed to {channel} twice", self.number);
    }

    fn failed(&mut self, context: &mut Context<'_>, asked: &Asked, error: &ReplyError) {
        let scenario = context.scenario;
        let is_excused = match (&asked.request, error.code) {
            (_, 100) => scenario.may_time_out(),
            (Request::Subscribe(request), 105) => {
                scenario.acts_on_users
                    || scenario.options.client.concurrency > 1
                    || self.subscriptions.contains_key(&request.channel)
            }
            (Request::Subscribe(_), 106) => scenario.options.client.channel_limit < 128,
            (Request::Subscribe(request), 112) => request.recover && request.flag == 2,
            (Request::Presence(request), 108) => !scenario.channel_options(&request.channel).presence,
            (Request::PresenceStats(request), 108) => !scenario.channel_options(&request.channel).presence,
            (Request::History(request), 108) => !scenario.channel_options(&request.channel).has_history(),
            (Request::History(request), 112) => request.since.as_ref().is_some_and(|since| !since.epoch.is_empty()),
            (Request::Rpc(_), 108) => true,
            _ => false,
        };
        assert!(is_excused, "client {}: {error:?} for {asked:?}", self.number);
    }

    fn pushed(&mut self, context: &mut Context<'_>, push: Push) {
        let channel = push.channel;
        if let PushBody::Subscribe(subscribe) = push.body {
            let subscription = Subscription::server_side();
            let result = SubscribeResult {
                recoverable: subscribe.recoverable,
                epoch: subscribe.epoch,
                offset: subscribe.offset,
                positioned: subscribe.positioned,
                ..SubscribeResult::default()
            };
            return self.subscribed(context, Time(0), &channel, &Wish::default(), subscription, result);
        }
        if matches!(push.body, PushBody::Refresh(_)) && context.scenario.acts_on_users {
            return;
        }
        let subscription = self.subscriptions.get_mut(&channel);
        // The server API tells those, too, who have nothing to end.
        if subscription.is_none()
            && matches!(&push.body, PushBody::Unsubscribe(unsubscribe) if unsubscribe.code == 2000)
        {
            return assert!(context.scenario.acts_on_users);
        }
        let subscription =
            subscription.unwrap_or_else(|| panic!("client {}: {channel} is not subscribed", self.number));
        match push.body {
            PushBody::Pub(mut publication) => {
                subscription.make_whole(self.encoding, &mut publication);
                context.model.delivered(&channel, subscription, &publication);
            }
            PushBody::Join(join) => {
                let info = join.info.expect("a join names somebody");
                context.model.joined(&channel, subscription, &info.client);
            }
            PushBody::Leave(leave) => {
                let info = leave.info.expect("a leave names somebody");
                context.model.left(context.scenario, &channel, subscription, &info.client);
            }
            PushBody::Unsubscribe(unsubscribe) => {
                match unsubscribe.code {
                    2000 => assert!(context.scenario.acts_on_users),
                    2500 => {
                        assert!(!subscription.server_side, "the connection ends with a subscription of the server");
                        let is_excused =
                            context.shed > 0 || context.model.may_have_ended(context.scenario, context.now, &channel);
                        assert!(is_excused, "client {}: {channel} ended, and nothing was lost", self.number);
                    }
                    code => panic!("client {}: {channel} unsubscribed with {code}", self.number),
                }
                self.end(&channel);
            }
            body => panic!("client {}: unexpected {body:?}", self.number),
        }
    }

    fn end(&mut self, channel: &str) {
        if let Some(subscription) = self.subscriptions.remove(channel)
            && let Some(position) = subscription.position
        {
            self.positions.insert(channel.to_owned(), position);
        }
    }

    /// The connection is gone; `None` when the client was not told why.
    pub fn closed(&mut self, context: &mut Context<'_>, code: Option<u32>) {
        context.trace.note(|| format!("client {} is closed: {code:?}", self.number));
        if let Some(code) = code {
            self.check_code(context, code);
        }
        let channels = self.subscriptions.keys().cloned().collect::<Vec<_>>();
        for channel in channels {
            self.end(&channel);
        }
        self.asked.clear();
        self.excuses.clear();
        self.phase = Phase::Away;
        self.is_deaf = false;
    }

    /// Whether a stream that the client reads may have begun anew.
    fn may_have_lost_a_stream(&self, context: &Context<'_>) -> bool {
        self.subscriptions.keys().any(|channel| context.model.may_have_ended(context.scenario, context.now, channel))
    }

    fn check_code(&self, context: &Context<'_>, code: u32) {
        let scenario = context.scenario;
        let options = &scenario.options.client;
        let has_server_side = scenario.server_side || scenario.acts_on_users;
        let is_excused = match code {
            3004 => self.phase == Phase::Connecting && scenario.may_time_out(),
            3008 => options.queue_max_size < 1 << 20 || scenario.block_one_in > 0,
            3010 => has_server_side && (context.shed > 0 || self.may_have_lost_a_stream(context)),
            3012 => self.is_deaf || scenario.block_one_in > 0 || scenario.may_time_out(),
            3503 => scenario.acts_on_users,
            3502 => self.phase == Phase::Connecting && self.asked.is_empty() || scenario.may_time_out(),
            3505 => scenario.acts_on_users && options.channel_limit < 128,
            3504 => options.user_connection_limit > 0,
            3506 => scenario.binary && self.encoding == Encoding::Json,
            _ => false,
        };
        let is_excused = is_excused || self.excuses.contains(&code);
        assert!(is_excused, "client {}: closed with {code} in {:?}", self.number, self.phase);
    }
}

/// Whether a history request asks for everything.
fn is_whole(request: &HistoryRequest) -> bool {
    request.limit < 0 && request.since.is_none() && !request.reverse
}
