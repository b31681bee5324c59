//! NATS as the broker of several nodes: hands on what is published, to whoever hears it at that moment. No history, no presence. One
//! connection for everything, on a thread of its own.
//!
//! A question is answered once, and after NATS has carried it out. While the connection is down, what is asked over it is refused
//! at once; one that does not answer within `write_timeout` counts as down. After a lost connection all channels are subscribed
//! again; what was published meanwhile is lost, as the reference has it.
//!
//! The client library of NATS is not used: it acknowledges no subscription, keeps what is published while there is no connection, and
//! has a queue and a task for each subscription.

mod connection;
mod options;
mod talk;

pub use options::{NatsOptions, Server};

use crate::control::node::{ControlMessages, Speaker};
use crate::control::redis::{Listener, News, Question, Told};
use connection::{Connection, Dialler};
use crossbeam_channel::Receiver;
use ringcast_proto::control::{Body, Command, encode};
use ringcast_proto::nats::Subjects;
use ringcast_runtime::BrokerDriver;
use ringcast_state::ShardId;
use ringcast_state::broker::{BrokerAnswer, BrokerAsk, BrokerRequest, NodeMessage};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use talk::{Channels, Talk};
use tokio::io::split;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Batches of questions that are taken before the socket is looked at again.
const BATCHES_MAX: usize = 64;

/// Unsent bytes over which no questions are taken. They wait in the queue, whose bound is the shards': each has a bounded number of
/// questions without an answer.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// A connection that lasted so long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The broker that is asked. Its thread ends when all that refer to it are gone.
pub struct Nats {
    /// Bound: the shards'; each has a bounded number of questions without an answer, and an order of control follows from a call
    /// of the server API.
    inbox: UnboundedSender<Order>,
    subjects: Subjects,
    /// Id of this node.
    node: String,
}

/// What is to be done over the connection.
enum Order {
    /// Questions of one turn of a shard.
    Ask(Vec<Question>),
    /// A message to all nodes or to one. Lost when the connection is.
    Tell {
        subject: String,
        message: Vec<u8>,
        /// Who wants to know whether NATS has it.
        said: Option<Told>,
    },
}

/// What outlives a connection.
struct Task {
    dialler: Dialler,
    subjects: Subjects,
    write_timeout: Duration,
    /// Id of this node.
    node: String,
    listener: Arc<dyn Listener>,
    control: ControlMessages,
    channels: Channels,
}

/// Connects, and serves the shards' questions from then on. `node` is the id of this node, under which others reach it; what they
/// tell it comes out of the receiver. Fails when no server can be reached.
pub fn start(
    options: &NatsOptions,
    node: &str,
    listener: Arc<dyn Listener>,
) -> io::Result<(Arc<Nats>, Receiver<Command>)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let (control, controlled) = ControlMessages::channel(node);
    let (inbox, orders) = unbounded_channel();
    let mut task = Task {
        dialler: Dialler::new(options.clone(), node.to_owned()),
        subjects: options.subjects.clone(),
        write_timeout: options.write_timeout,
        node: node.to_owned(),
        listener,
        control,
        channels: Channels::default(),
    };
    let first = runtime.block_on(task.dialler.open())?;
    info!(server = %first.server, raw_mode = options.subjects.is_raw(), "connected to NATS");
    thread::Builder::new().name("nats".into()).spawn(move || runtime.block_on(task.run(first, orders)))?;
    Ok((Arc::new(Nats { inbox, subjects: options.subjects.clone(), node: node.to_owned() }), controlled))
}

impl Task {
    /// Serves until nobody can ask any more.
    async fn run(mut self, first: Connection, mut orders: UnboundedReceiver<Order>) {
        let mut connection = first;
        loop {
            let began = Instant::now();
            let Some(error) = self.talk(connection, &mut orders).await else { return };
            warn!(%error, channels = self.channels.len(), "connection to NATS lost: what is asked fails until it is back");
            if began.elapsed() > GOOD_LIFE {
                self.dialler.worked();
            }
            let Some(again) = self.reopen(&mut orders).await else { return };
            connection = again;
            info!(server = %connection.server, channels = self.channels.len(), "connected to NATS again");
        }
    }

    /// Tries until it works; meanwhile all questions are refused. Nothing when nobody can ask any more.
    async fn reopen(&mut self, orders: &mut UnboundedReceiver<Order>) -> Option<Connection> {
        let Self { dialler, channels, listener, .. } = self;
        loop {
            let wait = dialler.wait();
            let attempt = async {
                tokio::time::sleep(wait).await;
                dialler.open().await
            };
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    result = &mut attempt => break result,
                    order = orders.recv() => refuse(order?, channels, &**listener),
                }
            };
            match result {
                Ok(connection) => return Some(connection),
                Err(error) => warn!(%error, "cannot connect to NATS"),
            }
        }
    }

    /// Asks, hears and answers until the connection fails, which is returned, or nobody can ask any more.
    async fn talk(&mut self, connection: Connection, orders: &mut UnboundedReceiver<Order>) -> Option<io::Error> {
        let (mut reader, mut writer) = split(connection.stream);
        let mut input = connection.input;
        let patience = self.write_timeout;
        let mut talk = Talk::begin(self, &connection.info);
        let mut batches = Vec::with_capacity(BATCHES_MAX);
        let error = loop {
            let look_again_at = talk.look_again_at(patience);
            let step = tokio::select! {
                read = input.read(&mut reader) => read.and_then(|()| talk.hear(&mut input)),
                taken = orders.recv_many(&mut batches, BATCHES_MAX), if talk.out.len() < UNSENT_BYTES_MAX => {
                    if taken == 0 {
                        return None;
                    }
                    talk.take(batches.drain(..));
                    Ok(())
                }
                written = talk.out.write(&mut writer), if !talk.out.is_gone() => written,
                () = sleep_until(look_again_at) => talk.check_silence(),
            };
            talk.tell();
            if let Err(error) = step {
                break error;
            }
        };
        talk.end();
        Some(error)
    }
}

/// There is no connection. What is unsubscribed is so.
fn refuse(order: Order, channels: &mut Channels, listener: &dyn Listener) {
    let mut news = News::default();
    let questions = match order {
        Order::Ask(questions) => questions,
        Order::Tell { said, .. } => {
            said.into_iter().for_each(|told| told.tell(false, &mut news));
            Vec::new()
        }
    };
    for question in questions {
        match &question.asked.ask {
            BrokerAsk::Unsubscribe { channel } => {
                channels.remove(channel);
                news.answer(question.asker(), BrokerAnswer::Done);
            }
            BrokerAsk::Subscribe { channel } => {
                channels.remove(channel);
                news.refuse(question.asker());
            }
            _ => news.refuse(question.asker()),
        }
    }
    news.tell(listener);
}

impl Nats {
    fn tell(&self, node: Option<&str>, body: Body, said: Option<Told>) {
        let message = encode(&self.node, body);
        let subject = node.map_or_else(|| self.subjects.control(), |node| self.subjects.node(node));
        // Fails only while the server stops.
        let _ = self.inbox.send(Order::Tell { subject, message, said });
    }
}

impl Speaker for Nats {
    fn say(&self, node: Option<&str>, body: Body) {
        self.tell(node, body, None);
    }
}

impl BrokerDriver for Nats {
    fn tell_nodes(&self, shard: ShardId, messages: Vec<NodeMessage>) {
        for NodeMessage { to, body, teller } in messages {
            self.tell(to.as_deref(), body, teller.map(|teller| Told::Shard(shard, teller)));
        }
    }

    fn take(&self, shard: ShardId, requests: Vec<BrokerRequest>) {
        let questions = requests.into_iter().map(|asked| Question { shard, asked }).collect();
        // Fails only while the server stops.
        let _ = self.inbox.send(Order::Ask(questions));
    }
}
