//! The connection to one node of a cluster. It ends with its first failure; whoever made it makes another. Errands that the node
//! sends elsewhere go back.

use super::map::address;
use crate::control::redis::answer::Expected;
use crate::control::redis::commands::is_script_unknown;
use crate::control::redis::connection::{Connection, Input, within};
use crate::control::redis::news::{Listener, News, Recipient};
use crate::control::redis::options::{Address, Endpoint};
use crate::control::redis::scripts;
use crate::control::socket::Outgoing;
use bytes::Bytes;
use ringcast_proto::redis::{CommandWriter, Value};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::io::split;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

/// Errands that are taken before the socket is looked at again.
const ERRANDS_MAX: usize = 1024;

/// Unsent bytes over which no errands are taken.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// A command on its way to the node that can do it.
pub struct Errand {
    /// In the order of asking.
    pub number: u64,
    /// Of its channel; none for what every node can do.
    pub slot: Option<u16>,
    pub recipient: Recipient,
    pub expected: Expected,
    /// Written out. Kept until the answer, for another node may have to be asked.
    pub bytes: Bytes,
    pub since: Instant,
    /// The node is to do it although the slot is not yet its own.
    pub asking: bool,
}

/// Why a node does not do an errand.
pub enum Redirect {
    /// The slot is another's.
    Moved(Address),
    /// What the errand is about is at another's already, which the slot is moved to.
    Ask(Address),
    /// The node cannot do it yet.
    Again,
}

/// What a link tells who made it.
pub enum Return {
    /// It is connected.
    Opened(u64),
    /// An errand of this slot is answered.
    Done(Option<u16>),
    /// The node did not do it.
    Redirected(Errand, Redirect),
    /// The node says that the cluster is not what it was.
    Unsettled,
    /// It has ended; its errands are answered.
    Closed(u64, io::Error),
}

/// A connection.
pub struct Link {
    pub id: u64,
    pub address: Address,
    pub endpoint: Arc<Endpoint>,
    pub listener: Arc<dyn Listener>,
    pub inbox: UnboundedReceiver<Errand>,
    pub returns: UnboundedSender<Return>,
}

/// An answer that the node owes: to an errand, or to what we say for ourselves.
struct Owed {
    errand: Option<Errand>,
    since: Instant,
}

struct Talk<'a> {
    address: &'a Address,
    returns: &'a UnboundedSender<Return>,
    out: Outgoing,
    /// Bound: the shards'; each has a bounded number of questions without an answer.
    owed: VecDeque<Owed>,
    news: News,
}

impl Link {
    /// Serves until the connection fails.
    pub async fn run(mut self) {
        let open = async {
            let mut connection = Connection::open_at(&self.endpoint, &self.address).await?;
            scripts::load(&mut connection).await?;
            Ok(connection)
        };
        let error = match within(self.endpoint.connect_timeout, open).await {
            Ok(connection) => {
                self.tell(Return::Opened(self.id));
                self.talk(connection).await
            }
            Err(error) => error,
        };
        let mut news = News::default();
        self.inbox.close();
        while let Ok(errand) = self.inbox.try_recv() {
            errand.recipient.refuse(&mut news);
            self.tell(Return::Done(errand.slot));
        }
        news.tell(&*self.listener);
        self.tell(Return::Closed(self.id, error));
    }

    fn tell(&self, what: Return) {
        // Fails only while the server stops.
        let _ = self.returns.send(what);
    }

    async fn talk(&mut self, connection: Connection) -> io::Error {
        let Connection { stream, mut input, .. } = connection;
        let (mut reader, mut writer) = split(stream);
        let (address, returns) = (&self.address, &self.returns);
        let (out, owed, news) = Default::default();
        let mut talk = Talk { address, returns, out, owed, news };
        let mut errands = Vec::with_capacity(ERRANDS_MAX);
        let mut is_needed = true;
        let error = loop {
            // What it owes is still to be had, if only where to ask instead.
            if !is_needed && talk.owed.is_empty() {
                break io::Error::other("the node serves no slots any more");
            }
            let has_room = is_needed && talk.out.len() < UNSENT_BYTES_MAX;
            let give_up_at = talk.owed.front().map(|owed| owed.since + self.endpoint.io_timeout);
            let step = tokio::select! {
                biased;
                read = input.read(&mut reader) => read.and_then(|()| talk.take_answers(&mut input)),
                taken = self.inbox.recv_many(&mut errands, ERRANDS_MAX), if has_room => {
                    is_needed = taken > 0;
                    errands.drain(..).for_each(|errand| talk.ask(errand));
                    Ok(())
                }
                written = talk.out.write(&mut writer), if !talk.out.is_gone() => written,
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within io_timeout"))
                }
            };
            talk.news.tell(&*self.listener);
            if let Err(error) = step {
                break error;
            }
        };
        for errand in talk.owed.drain(..).filter_map(|owed| owed.errand) {
            errand.recipient.refuse(&mut talk.news);
            let _ = returns.send(Return::Done(errand.slot));
        }
        talk.news.tell(&*self.listener);
        error
    }
}

impl Talk<'_> {
    fn ask(&mut self, errand: Errand) {
        let since = Instant::now();
        if errand.asking {
            CommandWriter::new(&mut self.out.bytes).command(&[b"ASKING"]);
            self.owed.push_back(Owed { errand: None, since });
        }
        self.out.bytes.extend_from_slice(&errand.bytes);
        self.owed.push_back(Owed { errand: Some(errand), since });
    }

    fn take_answers(&mut self, input: &mut Input) -> io::Result<()> {
        while let Some(value) = input.next()? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let owed = self.owed.pop_front().ok_or_else(|| io::Error::other("Redis answers what was not asked"))?;
            if is_script_unknown(&value) {
                self.load_scripts();
            }
            if let Some(errand) = owed.errand {
                self.answered(errand, value);
            }
        }
        Ok(())
    }

    fn answered(&mut self, errand: Errand, value: Value) {
        let told = match redirect(&value, self.address) {
            Some(redirect) => Return::Redirected(errand, redirect),
            None => {
                if matches!(&value, Value::Error(text) if text.starts_with(b"CLUSTERDOWN")) {
                    let _ = self.returns.send(Return::Unsettled);
                }
                errand.recipient.answer(errand.expected, value, &mut self.news);
                Return::Done(errand.slot)
            }
        };
        // Fails only while the server stops.
        let _ = self.returns.send(told);
    }

    fn load_scripts(&mut self) {
        let since = Instant::now();
        for script in scripts::ALL {
            script.write_load(&mut self.out.bytes);
            self.owed.push_back(Owed { errand: None, since });
        }
    }
}

/// `MOVED slot host:port`, `ASK slot host:port`, or what is only for now.
fn redirect(value: &Value, here: &Address) -> Option<Redirect> {
    let Value::Error(text) = value else { return None };
    if text.starts_with(b"TRYAGAIN") {
        return Some(Redirect::Again);
    }
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let (kind, _, to) = (words.next()?, words.next()?, words.next()?);
    let (host, port) = to.rsplit_once(':')?;
    let to = address(host.trim_matches(['[', ']']), port.parse().ok()?, here)?;
    match kind {
        "MOVED" => Some(Redirect::Moved(to)),
        "ASK" => Some(Redirect::Ask(to)),
        _ => None,
    }
}
