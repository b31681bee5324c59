//! The PUB/SUB connection of one Redis: which channels are subscribed there, also after the connection was lost, and what comes.

use super::commands;
use super::connection::{Connection, Input, Places};
use super::counters::{Counters, Fault};
use super::dialect::Dialect;
use super::news::{Asker, Listener, News, Question, Told};
use super::options::Endpoint;
use super::probe::{Due, Probe};
use crate::control::node::{ControlMessages, Unheard};
use crate::control::socket::{Backoff, Outgoing};
use bytes::Bytes;
use ringcast_proto::redis::{ClientMessage, CommandWriter, Kind, Value, decode_client_message, slot_of_tag};
use ringcast_state::Position;
use ringcast_state::broker::{BrokerAnswer, BrokerAsk, BrokerEvent, BrokerPublication};
use ringcast_state::message::ChannelName;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::split;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Channels in one command.
const CHANNELS_MAX: usize = 512;

/// Batches of questions that are taken before the socket is looked at again.
const BATCHES_MAX: usize = 64;

/// What is to be done over the connection.
pub enum Order {
    /// Questions of one turn of a shard, about subscriptions.
    Ask(Vec<Question>),
    /// Channels in these slots of a cluster may have lost publications.
    Doubt(HashSet<u16>),
}

/// Hears one Redis.
pub struct Subscriptions {
    pub endpoint: Endpoint,
    pub places: Places,
    pub dialect: Dialect,
    pub listener: Arc<dyn Listener>,
    pub inbox: UnboundedReceiver<Order>,
    /// Publishes probes.
    pub commands: WeakUnboundedSender<commands::Order>,
    /// Id of this node.
    pub node: String,
    /// Takes the messages on PUB/SUB channels for control.
    pub control: ControlMessages,
    pub counters: Arc<Counters>,
    /// Acknowledged by Redis, or to be once it is back.
    pub channels: HashSet<ChannelName>,
}

/// What a command still has to be told.
struct Asked {
    deed: Deed,
    /// In the order of the command, which is that of the answers.
    waiting: VecDeque<(Option<Asker>, ChannelName)>,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Subscribe,
    /// After a lost connection. Once the last of them is done, the shards are told.
    Resume {
        last: bool,
    },
    Unsubscribe,
    Control,
    Ping,
}

/// One life of the connection.
struct Talk<'a> {
    owner: &'a mut HashSet<ChannelName>,
    node: &'a str,
    control: &'a ControlMessages,
    counters: &'a Counters,
    dialect: &'a Dialect,
    listener: &'a dyn Listener,
    out: Outgoing,
    /// Commands without all of their answers. Bound: what the shards may ask, and one command for 512 channels to resume.
    asked: VecDeque<Asked>,
    heard_at: Instant,
    probe: Probe,
    news: News,
}

impl Subscriptions {
    /// Serves until nobody can ask any more.
    pub async fn run(mut self, first: Connection) {
        let mut connection = first;
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let Some(error) = self.talk(connection).await else { return };
            self.counters.count(Fault::Connection);
            warn!(error = %error, channels = self.channels.len(), "PUB/SUB connection to Redis lost");
            if began.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            let Some(again) = self.reopen(&mut backoff).await else { return };
            connection = again;
            info!(channels = self.channels.len(), "PUB/SUB connection to Redis is back: subscribing again");
        }
    }

    /// Tries until it works. Meanwhile nothing can be subscribed; what is unsubscribed is so.
    async fn reopen(&mut self, backoff: &mut Backoff) -> Option<Connection> {
        let (endpoint, mut places) = (self.endpoint.clone(), self.places.clone());
        loop {
            let wait = backoff.next();
            let attempt = async {
                places.wait(wait).await;
                Connection::open(&endpoint, &places).await
            };
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    result = &mut attempt => break result,
                    order = self.inbox.recv() => match order? {
                        Order::Ask(questions) => self.answer_without(questions),
                        // All channels are looked at once the connection is back.
                        Order::Doubt(_) => (),
                    },
                }
            };
            match result {
                Ok(connection) => return Some(connection),
                Err(error) => warn!(error = %error, "cannot connect to Redis"),
            }
        }
    }

    fn answer_without(&mut self, questions: Vec<Question>) {
        let mut news = News::default();
        for question in questions {
            self.channels.remove(question.asked.ask.channel());
            match question.asked.ask {
                BrokerAsk::Unsubscribe { .. } => news.answer(question.asker(), BrokerAnswer::Done),
                _ => news.refuse(question.asker()),
            }
        }
        news.tell(&*self.listener);
    }

    /// Hears until the connection fails, which is returned, or nobody can ask any more.
    async fn talk(&mut self, connection: Connection) -> Option<io::Error> {
        let Connection { address: here, stream, mut input } = connection;
        let (mut reader, mut writer) = split(stream);
        let mut talk = Talk {
            owner: &mut self.channels,
            node: &self.node,
            control: &self.control,
            counters: &self.counters,
            dialect: &self.dialect,
            listener: &*self.listener,
            out: Outgoing::default(),
            asked: VecDeque::new(),
            heard_at: Instant::now(),
            probe: Probe::new(),
            news: News::default(),
        };
        talk.begin();
        let patience = self.endpoint.io_timeout;
        let mut orders = Vec::with_capacity(BATCHES_MAX);
        let error = loop {
            let look_again_at = talk.look_again_at(patience);
            let step = tokio::select! {
                biased;
                read = input.read(&mut reader) => read.and_then(|()| talk.hear(&mut input)),
                taken = self.inbox.recv_many(&mut orders, BATCHES_MAX) => {
                    if taken == 0 {
                        return None;
                    }
                    talk.take(orders.drain(..));
                    Ok(())
                }
                written = talk.out.write(&mut writer), if !talk.out.is_gone() => written,
                () = sleep_until(look_again_at) => talk.check_silence(),
                due = talk.probe.due() => { talk.go_on_probing(due, &self.commands); Ok(()) }
                () = self.places.moved(&here) => Err(io::Error::other("the server is not the one to be asked any more")),
            };
            talk.news.tell(talk.listener);
            if let Err(error) = step {
                break error;
            }
        };
        talk.end();
        Some(error)
    }
}

impl Talk<'_> {
    /// Subscribes to what was subscribed before.
    fn begin(&mut self) {
        let keys = &self.dialect.keys;
        let names = [keys.control(), keys.node(self.node), keys.probe(self.node)];
        let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE"];
        words.extend(names.iter().map(|name| name.as_bytes()));
        CommandWriter::new(&mut self.out.bytes).command(&words);
        let waiting = names.iter().map(|name| (None, ChannelName::from(name.as_str()))).collect();
        self.await_answers(Deed::Control, waiting);
        let channels: Vec<_> = self.owner.iter().cloned().collect();
        for (index, part) in channels.chunks(CHANNELS_MAX).enumerate() {
            let last = (index + 1) * CHANNELS_MAX >= channels.len();
            let waiting = part.iter().map(|channel| (None, channel.clone())).collect();
            self.command(Deed::Resume { last }, waiting);
        }
    }

    fn await_answers(&mut self, deed: Deed, waiting: VecDeque<(Option<Asker>, ChannelName)>) {
        self.asked.push_back(Asked { deed, waiting, since: Instant::now() });
    }

    fn command(&mut self, deed: Deed, waiting: VecDeque<(Option<Asker>, ChannelName)>) {
        let mut writer = CommandWriter::new(&mut self.out.bytes);
        let name = if deed == Deed::Unsubscribe { "UNSUBSCRIBE" } else { "SUBSCRIBE" };
        writer.begin(1 + waiting.len()).word(name);
        for (_, channel) in &waiting {
            writer.word(self.dialect.keys.name(Kind::Client, channel));
        }
        self.await_answers(deed, waiting);
    }

    /// Neighbours that want the same go into one command.
    fn take(&mut self, orders: impl Iterator<Item = Order>) {
        let mut open = (Deed::Subscribe, VecDeque::new());
        let mut doubted = HashSet::new();
        let questions = orders.flat_map(|order| match order {
            Order::Ask(questions) => questions,
            Order::Doubt(slots) => {
                doubted.extend(slots);
                Vec::new()
            }
        });
        for question in questions {
            let deed = match &question.asked.ask {
                BrokerAsk::Unsubscribe { .. } => Deed::Unsubscribe,
                _ => Deed::Subscribe,
            };
            if (deed != open.0 || open.1.len() == CHANNELS_MAX) && !open.1.is_empty() {
                self.command(open.0, std::mem::take(&mut open.1));
            }
            open.0 = deed;
            open.1.push_back((Some(question.asker()), question.asked.ask.channel().clone()));
        }
        if !open.1.is_empty() {
            self.command(open.0, open.1);
        }
        if !doubted.is_empty() {
            self.tell_hearing(|channel| doubted.contains(&slot_of_tag(channel)));
        }
    }

    fn go_on_probing(&mut self, due: Due, commands: &WeakUnboundedSender<commands::Order>) {
        match due {
            Due::Publish(said) => {
                let channel = self.dialect.keys.probe(self.node);
                // There is nobody only while the server stops.
                if let Some(commands) = commands.upgrade() {
                    let (message, said) = (b"probe".into(), Some(Told::Probe(said)));
                    let _ = commands.send(commands::Order::Tell { channel, message, said });
                }
            }
            Due::NotPublished => self.counters.count(Fault::ProbePublish),
            Due::Ask => self.ping(),
        }
    }

    /// When an answer is late, or nothing was heard for so long that it is time to ask whether somebody is there.
    fn look_again_at(&self, patience: Duration) -> Instant {
        self.asked.front().map_or(self.heard_at, |asked| asked.since.max(self.heard_at)) + patience
    }

    fn check_silence(&mut self) -> io::Result<()> {
        if !self.asked.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within io_timeout"));
        }
        self.ping();
        Ok(())
    }

    fn ping(&mut self) {
        CommandWriter::new(&mut self.out.bytes).command(&[b"PING"]);
        self.await_answers(Deed::Ping, VecDeque::new());
    }

    fn hear(&mut self, input: &mut Input) -> io::Result<()> {
        self.heard_at = Instant::now();
        while let Some(value) = input.next()? {
            self.understand(value)?;
        }
        Ok(())
    }

    fn understand(&mut self, value: Value) -> io::Result<()> {
        match value {
            Value::Push(parts) | Value::Array(parts) => match parts.first().and_then(Value::text).map(|kind| &kind[..])
            {
                Some(b"message") => {
                    self.probe.heard();
                    self.message(&parts);
                }
                Some(b"subscribe" | b"unsubscribe") => return self.acknowledge(),
                Some(b"pong") => return self.pong(),
                _ => (),
            },
            Value::Text(_) => return self.pong(),
            Value::Error(text) => return self.refused(&text),
            Value::Null | Value::Integer(_) => (),
        }
        Ok(())
    }

    fn pong(&mut self) -> io::Result<()> {
        if self.asked.front().is_some_and(|asked| asked.deed == Deed::Ping) {
            self.asked.pop_front();
        }
        if self.probe.answered() {
            return Ok(());
        }
        self.counters.count(Fault::ProbeTimeout);
        Err(io::Error::other("the server answers and does not tell what is published"))
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        let asked = self.asked.front_mut().filter(|asked| asked.deed != Deed::Ping);
        let asked = asked.ok_or_else(|| io::Error::other("Redis acknowledges what was not asked"))?;
        let deed = asked.deed;
        asked.since = Instant::now();
        let done = asked.waiting.pop_front();
        let is_last = asked.waiting.is_empty();
        if is_last {
            self.asked.pop_front();
        }
        if let Some((asker, channel)) = done {
            match deed {
                Deed::Subscribe => {
                    self.owner.insert(channel);
                }
                Deed::Unsubscribe => {
                    self.owner.remove(&channel);
                }
                Deed::Resume { .. } | Deed::Control | Deed::Ping => (),
            }
            if let Some(asker) = asker {
                self.news.answer(asker, BrokerAnswer::Done);
            }
        }
        if is_last && deed == (Deed::Resume { last: true }) {
            self.tell_hearing(|_| true);
        }
        Ok(())
    }

    /// What was published in these channels until now may not have come; what will be does.
    fn tell_hearing(&mut self, is_concerned: impl Fn(&str) -> bool) {
        let mut homes: HashMap<_, Vec<ChannelName>> = HashMap::new();
        for channel in self.owner.iter().filter(|channel| is_concerned(channel)) {
            homes.entry(self.listener.home(channel)).or_default().push(channel.clone());
        }
        for (home, channels) in homes {
            self.news.event(home, BrokerEvent::Hearing { channels });
        }
    }

    /// A whole command failed, such as for want of permission.
    fn refused(&mut self, text: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(text).into_owned();
        self.counters.count(Fault::SubscribeChannel);
        match self.asked.pop_front() {
            Some(Asked { deed: Deed::Subscribe | Deed::Unsubscribe, waiting, .. }) => {
                warn!(error = %text, "Redis refused to subscribe or unsubscribe");
                for (asker, channel) in waiting {
                    self.owner.remove(&channel);
                    asker.into_iter().for_each(|asker| self.news.refuse(asker));
                }
                Ok(())
            }
            _ => Err(io::Error::other(text)),
        }
    }

    fn message(&mut self, parts: &[Value]) {
        let [_, Value::Text(name), Value::Text(data)] = parts else { return };
        let keys = &self.dialect.keys;
        let Some(channel) = std::str::from_utf8(name).ok().and_then(|name| keys.channel(name)) else {
            if name[..] != *keys.probe(self.node).as_bytes() {
                self.control_message(data);
            }
            return;
        };
        match decode_client_message(data) {
            Ok(message) => self.news.event(self.listener.home(channel), event(channel.into(), message)),
            Err(error) => {
                self.counters.count(Fault::ClientMessage);
                warn!(channel, error = %error, "a message in Redis is none of Centrifugo's");
            }
        }
    }

    fn control_message(&mut self, data: &Bytes) {
        match self.control.hear(data, self.listener, &mut self.news) {
            Ok(()) => (),
            Err(Unheard::Broken) => self.counters.count(Fault::ControlMessage),
            Err(Unheard::TooMany) => self.counters.drop_control(),
        }
    }

    /// The connection is gone: nobody gets an answer any more.
    fn end(mut self) {
        for asked in std::mem::take(&mut self.asked) {
            for (asker, channel) in asked.waiting {
                match (asked.deed, asker) {
                    (Deed::Subscribe, Some(asker)) => {
                        self.owner.remove(&channel);
                        self.news.refuse(asker);
                    }
                    (Deed::Unsubscribe, Some(asker)) => {
                        self.owner.remove(&channel);
                        self.news.answer(asker, BrokerAnswer::Done);
                    }
                    _ => (),
                }
            }
        }
        self.news.tell(self.listener);
    }
}

fn event(channel: ChannelName, message: ClientMessage) -> BrokerEvent {
    match message {
        ClientMessage::Publication { publication, epoch, use_delta: _, previous } => {
            let position = Position { offset: publication.offset, epoch: epoch.as_str().into() };
            BrokerEvent::Publication(Box::new(BrokerPublication { channel, position, publication, previous }))
        }
        ClientMessage::Join(info) => BrokerEvent::Membership { channel, info: Arc::new(info), joined: true },
        ClientMessage::Leave(info) => BrokerEvent::Membership { channel, info: Arc::new(info), joined: false },
    }
}
