//! A client as the official libraries are: it connects, subscribes, recovers from where it was, answers pings. It checks
//! whatever it is told against the model.

use crate::content::{PublicationId, Wanted};
use crate::model::{Log, Model, Moment, Subscription};
use crate::scenario::{Scenario, personal_channel};
use crate::trace::Trace;
use crate::transport::{Means, Reader};
use ringcast_proto::client::{Command, Encoding, Push, PushBody, Reply, ReplyResult, Request, encode_command};
use ringcast_state::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client may look at while it handles something.
pub struct Context<'a> {
    pub scenario: &'a Scenario,
    pub model: &'a mut Model,
    pub trace: &'a mut Trace,
    pub now: Time,
    /// The wall clock.
    pub unix_ms: u64,
    /// Deliveries that were given up anywhere so far.
    pub shed: u64,
}

/// One client, from one connection to the next.
pub struct Client {
    pub number: usize,
    pub user: String,
    pub means: Means,
    pub phase: Phase,
    /// Given by the server at connect.
    pub id: String,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Where subscriptions ended that may be recovered.
    pub positions: BTreeMap<String, (u64, String)>,
    /// What was rebuilt of channels by subscriptions that ended.
    pub logs: BTreeMap<String, Log>,
    pub asked: VecDeque<Asked>,
    /// Does not answer pings on this connection.
    pub is_deaf: bool,
    /// When the server last connected or pinged this client.
    pub pinged_at: Time,
    /// When the connection ends unless it is refreshed, without the delay of grace.
    pub expire_at: Option<Time>,
    /// Codes that this client may be closed with, for something that it or a backend did.
    pub excuses: Vec<u32>,
    next_id: u32,
    reader: Reader,
    /// Where commands go that are requests of their own; none before connect.
    pub session: Option<String>,
    /// Code of a disconnect push.
    told: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Away,
    /// Waits for the connect reply, or never asked for one.
    Connecting,
    /// Connect was refused: nothing more comes.
    Refused,
    Live,
}

/// A command without a reply so far.
#[derive(Debug)]
pub struct Asked {
    pub id: u32,
    pub moment: Moment,
    pub at: Time,
    pub request: Request,
    pub aim: Aim,
}

/// What the client knows of its command beyond what it says.
#[derive(Debug, Default)]
pub struct Aim {
    /// What is published.
    pub publication: PublicationId,
    /// Filter of a subscription.
    pub wanted: Option<Wanted>,
    /// A token is given that is not right.
    pub is_wrong: bool,
    /// Unix seconds at which the token that is given ends.
    pub exp: Option<i64>,
    /// Channels of a connection token.
    pub granted: BTreeSet<String>,
}

impl Client {
    pub fn new(number: usize, user: String, means: Means) -> Self {
        Client {
            number,
            user,
            means,
            phase: Phase::Away,
            id: String::new(),
            subscriptions: BTreeMap::new(),
            positions: BTreeMap::new(),
            logs: BTreeMap::new(),
            asked: VecDeque::new(),
            is_deaf: false,
            pinged_at: Time(0),
            expire_at: None,
            excuses: Vec::new(),
            next_id: 0,
            reader: means.reader(),
            session: None,
            told: None,
        }
    }

    /// A transport is there.
    pub fn opened(&mut self) {
        assert_eq!(self.phase, Phase::Away);
        self.phase = Phase::Connecting;
        self.reader = self.means.reader();
        (self.session, self.told) = (None, None);
    }

    /// The channel that is the user's own, if users have one.
    pub fn personal_channel(&self, scenario: &Scenario) -> Option<String> {
        scenario.personal().filter(|_| !self.user.is_empty()).map(|_| personal_channel(&self.user))
    }

    /// Writes a command into a frame.
    pub fn ask(&mut self, context: &mut Context<'_>, request: Request, aim: Aim, frame: &mut Vec<u8>) {
        self.next_id += 1;
        let id = self.next_id;
        if let Request::Subscribe(request) = &request {
            context.model.attempt(&request.channel, &self.id);
        }
        let command = Command { id, request: Some(request) };
        let encoding = self.means.encoding;
        if encoding == Encoding::Json && !frame.is_empty() {
            frame.push(b'\n');
        }
        encode_command(encoding, &command, frame);
        context.trace.note(|| format!("client {} asks {command:?}", self.number));
        let Some(request) = command.request else { return };
        let moment = context.model.tick();
        self.asked.push_back(Asked { id, moment, at: context.now, request, aim });
    }

    /// Bytes came, maybe the middle of something. Returns the frames to answer with.
    pub fn receive(&mut self, context: &mut Context<'_>, bytes: &mut [u8]) -> Vec<Vec<u8>> {
        context.trace.bytes(bytes);
        let replies = self.reader.read(bytes);
        replies.into_iter().filter_map(|reply| self.handle(context, reply)).collect()
    }

    fn handle(&mut self, context: &mut Context<'_>, reply: Reply) -> Option<Vec<u8>> {
        context.trace.note(|| format!("client {} is told {reply:?}", self.number));
        if let Reply::Push(Push { body: PushBody::Disconnect(disconnect), .. }) = &reply {
            assert!(self.means.is_emulated() && self.told.is_none(), "client {}: {reply:?}", self.number);
            self.told = Some(disconnect.code);
            return None;
        }
        assert_eq!(self.told, None, "client {}: {reply:?} behind the goodbye", self.number);
        let is_connect = self.phase == Phase::Connecting
            && matches!(&reply, Reply::Result { result: ReplyResult::Connect(_), .. } | Reply::Error { .. });
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
        encode_command(self.means.encoding, &Command::default(), &mut frame);
        (!self.is_deaf).then_some(frame)
    }

    /// Replies come in the order of the commands unless several are served at a time.
    fn take_asked(&mut self, scenario: &Scenario, id: u32) -> Asked {
        let at = self.asked.iter().position(|asked| asked.id == id);
        let at = at.unwrap_or_else(|| panic!("client {}: a reply to nothing, {id} of {:?}", self.number, self.asked));
        if scenario.options().client.concurrency <= 1 {
            assert_eq!(at, 0, "client {}: reply {id} overtook others, {:?}", self.number, self.asked);
        }
        self.asked.remove(at).expect("it was found")
    }

    /// A subscription is over; what it brought stays for the next one.
    pub fn end(&mut self, channel: &str) {
        if let Some(subscription) = self.subscriptions.remove(channel)
            && let Some(position) = subscription.position
        {
            self.positions.insert(channel.to_owned(), position);
            self.logs.insert(channel.to_owned(), subscription.log);
        }
    }

    /// The connection is gone; `None` when the client was not told why.
    pub fn closed(&mut self, context: &mut Context<'_>, code: Option<u32>) {
        context.trace.note(|| format!("client {} is closed: {code:?}", self.number));
        if let Some(code) = code {
            self.check_code(context, code);
            let is_pushed = self.means.is_emulated() && code != 3000;
            assert_eq!(self.told, is_pushed.then_some(code), "client {}", self.number);
        }
        let channels = self.subscriptions.keys().cloned().collect::<Vec<_>>();
        for channel in channels {
            self.end(&channel);
        }
        self.asked.clear();
        self.excuses.clear();
        self.expire_at = None;
        self.phase = Phase::Away;
        self.is_deaf = false;
    }
}
