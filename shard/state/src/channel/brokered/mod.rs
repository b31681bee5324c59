//! The home side where a broker orders channels for several nodes: this shard is the node's one subscriber of its channels there.
//! It hands on what the broker tells, knows how far that went, and asks the broker for all the rest.
//!
//! Its invariant: `Channel::top` is the position up to which the listening shards were handed publications. Subscribers with a
//! position are answered with it, so that what they are told next follows. What a read of history has beyond it is handed to all at
//! once, and dropped when the broker tells it later.

mod event;
mod question;
mod read;
mod subscribe;

use super::{Context, Epoch, Listeners, Position};
use crate::broker::{BrokerAsk, BrokerRequest};
use crate::message::{ChannelName, Message, Subscribe};
use crate::pending::Pending;
use crate::registry::{Named, Registry};
use crate::{ClientId, RequestId, ShardId, Time};
use question::Origin;
use read::Reading;
use ringcast_proto::client::ClientInfo;
use ringcast_proto::codes::ReplyError;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a channel stays subscribed at the broker without subscribers here.
const LEAVE_DELAY: Duration = Duration::from_secs(1);

/// Wait before a channel that could not be read is read again for those who are subscribed.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Channels that are read at a time to bring those who are subscribed level; others wait.
const LEVELLING_MAX: usize = 256;

/// Presence entries that are kept alive at a time.
const RENEWALS_MAX: usize = 512;

/// Between two parts of them.
const RENEWAL_PAUSE: Duration = Duration::from_millis(20);

/// All channels whose home a shard is, where a broker orders them.
#[derive(Debug)]
pub(crate) struct Brokered {
    channels: Registry<Channel>,
    /// Presence is what this node knows: nobody is asked, nobody told.
    presence_is_local: bool,
    /// Channels with at least one subscriber.
    active: usize,
    pending: Pending<Waiting>,
    /// Questions to which no answer came yet, those included that nobody waits for any more.
    ///
    /// Bound: `Limits::broker_requests_max`. Full: the question fails at once.
    unanswered: usize,
    /// Of this turn.
    requests: Vec<BrokerRequest>,
    jobs: BTreeMap<(Time, u64), (Place, Job)>,
    jobs_made: u64,
    /// Channels that wait to be read for those who are subscribed.
    stale: VecDeque<Place>,
    /// Such reads under way.
    levelling: usize,
}

/// A channel; exists from the first subscriber until some time after the last.
#[derive(Debug)]
struct Channel {
    name: ChannelName,
    generation: u32,
    listeners: Listeners,
    /// Subscribers with a position, those included that wait.
    positioned: u32,
    /// Subscribers that others see.
    members: Option<BTreeMap<ClientId, Entry>>,
    hearing: Hearing,
    /// See the invariant of this module.
    top: Option<Position>,
    /// When the publication at `top` was made, as the broker has it; 0 if that is not known. A broker that was replaced may have lost
    /// the end of the stream, and another publication at this offset since.
    top_time: i64,
    /// Such a loss.
    set_back: Option<SetBack>,
    /// The last publication went past the stream: subscribers do not hold the payload that the stream ends with.
    is_base_lost: bool,
    /// Those who are subscribed may have missed something.
    needs_level: bool,
    /// A [`Job::Check`] is made.
    is_checked: bool,
    /// A [`Job::Renew`] is made.
    is_renewed: bool,
    /// Subscribers that wait for the broker, or for the next read. Bound: each client has `client.concurrency` of them.
    queue: Vec<Waiter>,
    reading: Option<Box<Reading>>,
}

/// Positions above `kept` and up to `told` were given to publications that the broker has lost, and to others since. Who comes back with
/// one of them may have seen either.
#[derive(Debug)]
struct SetBack {
    epoch: Epoch,
    kept: u64,
    told: u64,
}

/// Whether the broker tells what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    No,
    Asked,
    Yes,
}

/// A channel, named so that a later one in its place is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u32,
    generation: u32,
}

/// A subscriber that is not answered yet.
#[derive(Debug)]
struct Waiter {
    from: ShardId,
    subscribe: Box<Subscribe>,
}

/// A subscriber that others see.
#[derive(Debug)]
struct Entry {
    info: Arc<ClientInfo>,
    presence: bool,
    /// Others were told that it came.
    joined: bool,
}

/// What is to be done later.
#[derive(Clone, Copy, Debug)]
enum Job {
    /// Unsubscribe at the broker unless somebody came.
    Leave,
    /// Look whether those with a position have everything.
    Check,
    /// Read again what could not be read.
    Retry,
    /// Keep presence entries alive, from behind this one on.
    Renew { behind: Option<ClientId> },
}

/// Who waits for an answer of the broker.
#[derive(Debug)]
enum Waiting {
    /// Nobody: it is enough that it was asked.
    Nobody,
    /// A channel's subscription.
    Subscribe(Place),
    /// A channel's history, for subscribers.
    Read(Place),
    /// A subscriber's presence entry, before it is subscribed.
    Enter(Place, Waiter),
    /// Somebody's question.
    Question(Origin),
}

impl Named for Channel {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Brokered {
    pub(crate) fn new(hash_seed: u64, presence_is_local: bool) -> Self {
        Brokered {
            channels: Registry::new(hash_seed),
            presence_is_local,
            active: 0,
            pending: Pending::new(),
            unanswered: 0,
            requests: Vec::new(),
            jobs: BTreeMap::new(),
            jobs_made: 0,
            stale: VecDeque::new(),
            levelling: 0,
        }
    }

    /// Channels with at least one subscriber.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Whether a channel has subscribers.
    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.find(name).is_some_and(|index| self.channels[index].listeners.subscribers() > 0)
    }

    /// Every channel with subscribers, and how many.
    pub(crate) fn iter_active(&self) -> impl Iterator<Item = (&ChannelName, u32)> {
        let counted = self.channels.iter().map(|channel| (&channel.name, channel.listeners.subscribers()));
        counted.filter(|(_, subscribers)| *subscribers > 0)
    }

    /// What was asked since the last call.
    pub(crate) fn take_requests(&mut self) -> Vec<BrokerRequest> {
        std::mem::take(&mut self.requests)
    }

    /// When `handle_timeout` has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let job = self.jobs.first_key_value().map(|((at, _), _)| *at);
        [job, self.pending.next_timeout()].into_iter().flatten().min()
    }

    /// Does what is due and gives up questions that were not answered in time.
    pub(crate) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        while let Some(entry) = self.jobs.first_entry()
            && entry.key().0 <= context.now.at
        {
            let (place, job) = entry.remove();
            if self.is_current(place) {
                self.run(context, place, job);
            }
        }
        while let Some((_, waiting)) = self.pending.take_overdue(context.now.at) {
            self.failed(context, waiting, ReplyError::INTERNAL);
        }
    }

    fn run(&mut self, context: &mut Context<'_>, place: Place, job: Job) {
        match job {
            Job::Leave => self.leave(context, place),
            Job::Check => self.check(context, place),
            Job::Retry => self.level(context, place),
            Job::Renew { behind } => self.renew_presence(context, place, behind),
        }
    }

    /// Nobody has come since the last one went: the channel is forgotten.
    fn leave(&mut self, context: &mut Context<'_>, place: Place) {
        let channel = &self.channels[place.index];
        if channel.listeners.subscribers() > 0 {
            return;
        }
        let channel = channel.name.clone();
        if self.ask(context, BrokerAsk::Unsubscribe { channel }, Waiting::Nobody).is_err() {
            return self.later(context, LEAVE_DELAY, place, Job::Leave);
        }
        if self.channels[place.index].reading.as_ref().is_some_and(|reading| reading.is_level) {
            self.levelling -= 1;
        }
        self.channels.remove(place.index);
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.channels.find(name)
    }

    fn place(&self, index: u32) -> Place {
        Place { index, generation: self.channels[index].generation }
    }

    fn is_current(&self, place: Place) -> bool {
        self.channels.get(place.index).is_some_and(|channel| channel.generation == place.generation)
    }

    fn later(&mut self, context: &Context<'_>, delay: Duration, place: Place, job: Job) {
        self.jobs_made += 1;
        self.jobs.insert((context.now.at + delay, self.jobs_made), (place, job));
    }

    /// Asks the broker, unless too many questions are unanswered; then who would have waited comes back.
    fn ask(&mut self, context: &Context<'_>, ask: BrokerAsk, waiting: Waiting) -> Result<RequestId, Waiting> {
        let limits = &context.options.limits;
        if self.unanswered >= limits.broker_requests_max {
            return Err(waiting);
        }
        self.unanswered += 1;
        let request = self.pending.insert(waiting, context.now.at + limits.request_timeout);
        self.requests.push(BrokerRequest { request, ask });
        Ok(request)
    }

    /// Asks for something that ends by itself if it is lost: a presence entry, a notice.
    fn ask_in_passing(&mut self, context: &Context<'_>, ask: BrokerAsk) {
        let _ = self.ask(context, ask, Waiting::Nobody);
    }

    /// A question was not answered, or in the negative.
    fn failed(&mut self, context: &mut Context<'_>, waiting: Waiting, error: ReplyError) {
        match waiting {
            Waiting::Nobody => {}
            Waiting::Subscribe(place) => self.subscription_failed(context, place, &error),
            Waiting::Read(place) => self.read_failed(context, place, &error),
            Waiting::Enter(_, waiter) => refuse(context, &waiter, &error),
            Waiting::Question(origin) => origin.fail(context, error),
        }
    }
}

/// Tells a subscriber that it is none.
fn refuse(context: &mut Context<'_>, waiter: &Waiter, error: &ReplyError) {
    let (request, error) = (waiter.subscribe.request, error.clone());
    context.post.send(waiter.from, Message::SubscribeFailed { request, error });
}
