//! The connection for all questions but subscriptions, of one Redis. What waits is written at once and answered in order.

use super::answer::Expected;
use super::connection::{Connection, Input, Places, within};
use super::dialect::Dialect;
use super::news::{Listener, News, Question, Recipient, Told};
use super::options::Endpoint;
use super::scripts;
use crate::control::socket::{Backoff, Outgoing};
use ringcast_proto::redis::{CommandWriter, Value};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::split;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// Batches of questions that are taken before the socket is looked at again.
const BATCHES_MAX: usize = 64;

/// Unsent bytes over which no questions are taken. They wait in the queue, whose bound is the shards': each has a bounded number of
/// questions without an answer.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// What is to be done over the connection.
pub enum Order {
    /// Questions of one turn of a shard.
    Ask(Vec<Question>),
    /// A message to all nodes or to one. Lost when the connection is.
    Tell {
        /// PUB/SUB channel.
        channel: String,
        /// Encoded control message.
        message: Vec<u8>,
        /// Who wants to know whether Redis has it.
        said: Option<Told>,
    },
}

/// Asks one Redis.
pub struct Commands {
    pub endpoint: Endpoint,
    pub places: Places,
    pub dialect: Dialect,
    pub listener: Arc<dyn Listener>,
    pub inbox: UnboundedReceiver<Order>,
}

/// An answer that Redis owes.
struct Owed {
    recipient: Recipient,
    expected: Expected,
    since: Instant,
}

/// One life of the connection.
struct Talk {
    out: Outgoing,
    /// In the order of asking. Bounded as [`UNSENT_BYTES_MAX`] says.
    owed: VecDeque<Owed>,
    news: News,
}

impl Commands {
    /// Opens the connection.
    pub async fn open(endpoint: &Endpoint, places: &Places) -> io::Result<Connection> {
        let mut connection = Connection::open(endpoint, places).await?;
        within(endpoint.io_timeout, scripts::load(&mut connection)).await?;
        Ok(connection)
    }

    /// Serves until nobody can ask any more.
    pub async fn run(mut self, first: Connection) {
        let mut connection = first;
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let Some(error) = self.talk(connection).await else { return };
            warn!(error = %error, "connection to Redis lost: what is asked fails until it is back");
            if began.elapsed() > Duration::from_secs(10) {
                backoff.reset();
            }
            let Some(again) = self.reopen(&mut backoff).await else { return };
            connection = again;
            info!("connected to Redis again");
        }
    }

    /// Tries until it works; meanwhile all questions are refused. Nothing when nobody can ask any more.
    async fn reopen(&mut self, backoff: &mut Backoff) -> Option<Connection> {
        let (endpoint, mut places) = (self.endpoint.clone(), self.places.clone());
        loop {
            let wait = backoff.next();
            let attempt = async {
                places.wait(wait).await;
                Self::open(&endpoint, &places).await
            };
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    result = &mut attempt => break result,
                    order = self.inbox.recv() => refuse(order?, &*self.listener),
                }
            };
            match result {
                Ok(connection) => return Some(connection),
                Err(error) => warn!(error = %error, "cannot connect to Redis"),
            }
        }
    }

    /// Asks and answers until the connection fails, which is returned, or nobody can ask any more.
    async fn talk(&mut self, connection: Connection) -> Option<io::Error> {
        let Connection { address: here, stream, mut input } = connection;
        let (mut reader, mut writer) = split(stream);
        let mut talk = Talk { out: Outgoing::default(), owed: VecDeque::new(), news: News::default() };
        let mut orders = Vec::with_capacity(BATCHES_MAX);
        let error = loop {
            let give_up_at = talk.owed.front().map(|owed| owed.since + self.endpoint.io_timeout);
            let step = tokio::select! {
                biased;
                read = input.read(&mut reader) => read.and_then(|()| talk.take_answers(&mut input)),
                taken = self.inbox.recv_many(&mut orders, BATCHES_MAX), if talk.out.len() < UNSENT_BYTES_MAX => {
                    if taken == 0 {
                        return None;
                    }
                    orders.drain(..).for_each(|order| talk.ask(order, &mut self.dialect));
                    Ok(())
                }
                written = talk.out.write(&mut writer), if !talk.out.is_gone() => written,
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within io_timeout"))
                }
                () = self.places.moved(&here) => Err(io::Error::other("the sentinels name another master")),
            };
            talk.news.tell(&*self.listener);
            if let Err(error) = step {
                break error;
            }
        };
        talk.owed.drain(..).for_each(|owed| owed.recipient.refuse(&mut talk.news));
        talk.news.tell(&*self.listener);
        Some(error)
    }
}

/// Answers that Redis cannot be reached.
pub fn refuse(order: Order, listener: &dyn Listener) {
    let mut news = News::default();
    match order {
        Order::Ask(questions) => questions.iter().for_each(|question| news.refuse(question.asker())),
        Order::Tell { said, .. } => said.into_iter().for_each(|told| told.tell(false, &mut news)),
    }
    news.tell(listener);
}

impl Talk {
    fn ask(&mut self, order: Order, dialect: &mut Dialect) {
        let since = Instant::now();
        match order {
            Order::Ask(questions) => {
                for question in questions {
                    let recipient = Recipient::Shard(question.asker());
                    let expected = dialect.write(question.asked.ask, &mut self.out.bytes);
                    self.owed.push_back(Owed { recipient, expected, since });
                }
            }
            Order::Tell { channel, message, said } => {
                CommandWriter::new(&mut self.out.bytes).command(&[b"PUBLISH", channel.as_bytes(), &message]);
                let recipient = said.map_or(Recipient::Nobody, Recipient::Teller);
                self.owed.push_back(Owed { recipient, expected: Expected::Done, since });
            }
        }
    }

    fn take_answers(&mut self, input: &mut Input) -> io::Result<()> {
        while let Some(value) = input.next()? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let owed = self.owed.pop_front().ok_or_else(|| io::Error::other("Redis answers what was not asked"))?;
            let must_go = lost_its_role(&value);
            if is_script_unknown(&value) {
                self.load_scripts();
            }
            owed.recipient.answer(owed.expected, value, &mut self.news);
            if must_go {
                return Err(io::Error::other("the server is not a master any more"));
            }
        }
        Ok(())
    }

    /// After `SCRIPT FLUSH`; what was asked meanwhile is refused.
    fn load_scripts(&mut self) {
        let since = Instant::now();
        for script in scripts::ALL {
            script.write_load(&mut self.out.bytes);
            self.owed.push_back(Owed { recipient: Recipient::Nobody, expected: Expected::Done, since });
        }
    }
}

/// Somebody has flushed them.
pub fn is_script_unknown(value: &Value) -> bool {
    matches!(value, Value::Error(text) if text.starts_with(b"NOSCRIPT"))
}

/// After a failover the old master stays connected and refuses to write.
fn lost_its_role(value: &Value) -> bool {
    // A script's error has the words of the command that failed in it.
    matches!(value, Value::Error(text) if text.windows(8).any(|part| part == b"READONLY"))
}
