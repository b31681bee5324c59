//! The PUB/SUB connection of one Redis: which channels are subscribed there, also after the connection was lost, and what comes.

use super::connection::{Backoff, Connection, Input};
use super::dialect::Dialect;
use super::news::{Asker, Listener, News, Question};
use super::options::Endpoint;
use bytes::Bytes;
use crossbeam_channel::Sender;
use ringcast_proto::control::{Body, Command, decode};
use ringcast_proto::redis::{ClientMessage, CommandWriter, Kind, Value, decode_client_message};
use ringcast_state::Position;
use ringcast_state::broker::{BrokerAnswer, BrokerAsk, BrokerEvent, BrokerPublication};
use ringcast_state::message::ChannelName;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, split};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Channels in one command.
const CHANNELS_MAX: usize = 512;

/// Batches of questions that are taken before the socket is looked at again.
const BATCHES_MAX: usize = 64;

/// Takes what other nodes say about themselves.
pub type ControlMessages = Sender<Command>;

/// Hears one Redis.
pub struct Subscriptions {
    pub endpoint: Endpoint,
    pub dialect: Dialect,
    pub listener: Arc<dyn Listener>,
    pub inbox: UnboundedReceiver<Vec<Question>>,
    /// Id of this node, whose own messages are passed over.
    pub node: String,
    /// PUB/SUB channels for control, and who takes their messages.
    pub control: (Vec<String>, ControlMessages),
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
    control: &'a (Vec<String>, ControlMessages),
    dialect: &'a Dialect,
    listener: &'a dyn Listener,
    out: Vec<u8>,
    sent: usize,
    /// Commands without all of their answers. Bound: what the shards may ask, and one command for 512 channels to resume.
    asked: VecDeque<Asked>,
    heard_at: Instant,
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
        loop {
            let wait = backoff.next(self.dialect.random_byte());
            let endpoint = self.endpoint.clone();
            let attempt = async {
                tokio::time::sleep(wait).await;
                Connection::open(&endpoint).await
            };
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    result = &mut attempt => break result,
                    questions = self.inbox.recv() => self.answer_without(questions?),
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
        let (mut reader, mut writer) = split(connection.stream);
        let mut input = connection.input;
        let mut talk = Talk {
            owner: &mut self.channels,
            node: &self.node,
            control: &self.control,
            dialect: &self.dialect,
            listener: &*self.listener,
            out: Vec::new(),
            sent: 0,
            asked: VecDeque::new(),
            heard_at: Instant::now(),
            news: News::default(),
        };
        talk.begin();
        let patience = self.endpoint.io_timeout;
        let mut batches = Vec::with_capacity(BATCHES_MAX);
        let error = loop {
            let look_again_at = talk.look_again_at(patience);
            let step = tokio::select! {
                biased;
                read = input.read(&mut reader) => read.and_then(|()| talk.hear(&mut input)),
                taken = self.inbox.recv_many(&mut batches, BATCHES_MAX) => {
                    if taken == 0 {
                        return None;
                    }
                    talk.ask(batches.drain(..).flatten());
                    Ok(())
                }
                written = writer.write(&talk.out[talk.sent..]), if talk.sent < talk.out.len() => match written {
                    Ok(count) => { talk.wrote(count); if talk.out.is_empty() { writer.flush().await } else { Ok(()) } }
                    Err(error) => Err(error),
                },
                () = sleep_until(look_again_at) => talk.check_silence(),
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
        let (names, _) = self.control;
        let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE"];
        words.extend(names.iter().map(|name| name.as_bytes()));
        CommandWriter::new(&mut self.out).command(&words);
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
        let mut writer = CommandWriter::new(&mut self.out);
        let name = if deed == Deed::Unsubscribe { "UNSUBSCRIBE" } else { "SUBSCRIBE" };
        writer.begin(1 + waiting.len()).word(name);
        for (_, channel) in &waiting {
            writer.word(self.dialect.keys.name(Kind::Client, channel));
        }
        self.await_answers(deed, waiting);
    }

    /// Neighbours that want the same go into one command.
    fn ask(&mut self, questions: impl Iterator<Item = Question>) {
        let mut open = (Deed::Subscribe, VecDeque::new());
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
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
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
        CommandWriter::new(&mut self.out).command(&[b"PING"]);
        self.await_answers(Deed::Ping, VecDeque::new());
        Ok(())
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
                Some(b"message") => self.message(&parts),
                Some(b"subscribe" | b"unsubscribe") => return self.acknowledge(),
                Some(b"pong") => self.pong(),
                _ => (),
            },
            Value::Text(_) => self.pong(),
            Value::Error(text) => return self.refused(&text),
            Value::Null | Value::Integer(_) => (),
        }
        Ok(())
    }

    fn pong(&mut self) {
        if self.asked.front().is_some_and(|asked| asked.deed == Deed::Ping) {
            self.asked.pop_front();
        }
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
            self.tell_hearing();
        }
        Ok(())
    }

    /// All that was subscribed before is again.
    fn tell_hearing(&mut self) {
        let mut homes: HashMap<_, Vec<ChannelName>> = HashMap::new();
        for channel in self.owner.iter() {
            homes.entry(self.listener.home(channel)).or_default().push(channel.clone());
        }
        for (home, channels) in homes {
            self.news.event(home, BrokerEvent::Hearing { channels });
        }
    }

    /// A whole command failed, such as for want of permission.
    fn refused(&mut self, text: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(text).into_owned();
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
        let Some(channel) = std::str::from_utf8(name).ok().and_then(|name| self.dialect.keys.channel(name)) else {
            return self.control_message(data);
        };
        match decode_client_message(data) {
            Ok(message) => self.news.event(self.listener.home(channel), event(channel.into(), message)),
            Err(error) => warn!(channel, error = %error, "a message in Redis is none of Centrifugo's"),
        }
    }

    /// Commands go to the home of their user, everything else to who keeps the list of nodes.
    fn control_message(&mut self, data: &Bytes) {
        let command = match decode(data) {
            Ok(command) if command.uid == self.node => return,
            Ok(command) => command,
            Err(error) => return warn!(error = %error, "a control message in Redis is none of Centrifugo's"),
        };
        let user = match &command.body {
            Some(Body::Unsubscribe(message)) => &message.user,
            Some(Body::Disconnect(message)) => &message.user,
            Some(Body::Subscribe(message)) => &message.user,
            Some(Body::Refresh(message)) => &message.user,
            _ => {
                if self.control.1.try_send(command).is_err() {
                    warn!("control messages come faster than they are worked off");
                }
                return;
            }
        };
        let home = self.listener.home(user);
        if let Some(body) = command.body {
            self.news.command(home, body);
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
