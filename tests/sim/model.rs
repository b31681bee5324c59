//! The truth about channels, learnt from what clients and callers of the API are told, never from the code under test.
//!
//! Every payload carries an id of its own. So a channel has one order of ids, which all subscribers must see: the same
//! offset never shows two ids, and the same id is never followed by two others.

use crate::scenario::Scenario;
use ringcast_proto::client::{Encoding, Publication, SubscribeResult};
use ringcast_proto::delta;
use ringcast_state::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Counts what happens; tells before from after where the clock stands still.
pub type Moment = u64;

/// Longest payload; generous.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Id of a payload.
pub type PublicationId = u64;

/// All channels.
#[derive(Default)]
pub struct Model {
    channels: BTreeMap<String, Channel>,
    next_id: PublicationId,
    moment: Moment,
}

/// What is known of one channel.
#[derive(Default)]
struct Channel {
    sent: BTreeMap<PublicationId, Sent>,
    /// Epochs in the order in which they became known.
    epochs: Vec<String>,
    /// Which id has which place.
    order: BTreeMap<(usize, u64), PublicationId>,
    /// Which id came right behind which, and the other way round.
    next: BTreeMap<PublicationId, PublicationId>,
    previous: BTreeMap<PublicationId, PublicationId>,
    /// Somebody wrote or read the stream at this time or later.
    touched_at: Time,
    /// When each client first asked to subscribe.
    attempts: BTreeMap<String, Moment>,
    /// Calls of `history_remove` without an answer.
    removals_open: u32,
    /// One was never answered: it may be carried out at any time.
    removal_lost: bool,
    removed: Moment,
}

/// A publish command or call.
struct Sent {
    moment: Moment,
    at: Time,
    acknowledged: bool,
    offset: Option<u64>,
}

/// A subscription as its client sees it.
#[derive(Debug, Default)]
pub struct Subscription {
    /// When it was asked for.
    pub asked: Moment,
    /// When the client learnt that it is live.
    pub live: Moment,
    pub server_side: bool,
    /// Last offset and its epoch, when the subscription is positioned.
    pub position: Option<(u64, String)>,
    /// Last offset without position.
    loose_offset: u64,
    /// The last publication that came by itself.
    last: Option<PublicationId>,
    seen: BTreeSet<PublicationId>,
    /// Publications may be patches of the one before.
    pub has_deltas: bool,
    /// The last payload, when they may.
    base: Option<Vec<u8>>,
    /// Clients that were seen to join and not to leave.
    pub members: BTreeSet<String>,
    /// Clients that were seen to leave.
    gone: BTreeSet<String>,
}

/// What a client asked to recover from.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub recover: bool,
    pub offset: u64,
    pub epoch: String,
}

impl Subscription {
    /// A client asked for it.
    pub fn asked(moment: Moment) -> Self {
        Subscription { asked: moment, ..Subscription::default() }
    }

    /// The server made it.
    pub fn server_side() -> Self {
        Subscription { server_side: true, ..Subscription::default() }
    }

    /// Puts the whole payload where a delta subscription has its text or a patch.
    pub fn make_whole(&mut self, encoding: Encoding, publication: &mut Publication) {
        if !self.has_deltas {
            assert!(!publication.delta, "a patch without being asked for");
            return;
        }
        let text = match encoding {
            Encoding::Json => {
                let text: String = serde_json::from_slice(&publication.data).expect("a payload in a string");
                text.into_bytes()
            }
            Encoding::Protobuf => publication.data.to_vec(),
        };
        let mut whole = Vec::new();
        if publication.delta {
            let base = self.base.as_deref().expect("a patch comes behind what it changes");
            delta::decode(base, &text, PAYLOAD_BYTES_MAX, &mut whole).expect("a patch of the payload before");
        } else {
            whole = text;
        }
        publication.data = whole.clone().into();
        self.base = Some(whole);
    }
}

impl Model {
    /// The next moment.
    pub fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// An id for a payload.
    pub fn new_id(&mut self) -> PublicationId {
        self.next_id += 1;
        self.next_id
    }

    fn channel(&mut self, name: &str) -> &mut Channel {
        if !self.channels.contains_key(name) {
            self.channels.insert(name.to_owned(), Channel::default());
        }
        self.channels.get_mut(name).expect("it was entered")
    }

    /// Somebody publishes, maybe again.
    pub fn publish(&mut self, now: Time, channel: &str, id: PublicationId) {
        let moment = self.tick();
        let sent = Sent { moment, at: now, acknowledged: false, offset: None };
        self.channel(channel).sent.entry(id).or_insert(sent);
    }

    /// A publisher is told that it succeeded; callers of the API learn the place.
    pub fn acknowledge(&mut self, channel: &str, id: PublicationId, place: Option<(u64, &str)>) {
        let known = self.channel(channel);
        let sent = known.sent.get_mut(&id).expect("only what was sent is acknowledged");
        sent.acknowledged = true;
        let at = sent.at;
        if let Some((offset, epoch)) = place.filter(|(offset, _)| *offset > 0) {
            known.place(channel, id, offset, epoch);
            known.touched_at = known.touched_at.max(at);
        }
    }

    /// When an id was first sent.
    pub fn sent_moment(&mut self, channel: &str, id: PublicationId) -> Moment {
        self.channel(channel).sent.get(&id).map_or(0, |sent| sent.moment)
    }

    pub fn removal_sent(&mut self, channel: &str) {
        self.channel(channel).removals_open += 1;
    }

    pub fn removal_done(&mut self, channel: &str, succeeded: bool) {
        let moment = self.tick();
        let channel = self.channel(channel);
        channel.removals_open -= 1;
        channel.removal_lost |= !succeeded;
        channel.removed = moment;
    }

    /// A subscription is live. `asked_at`: when the client sent its wish.
    pub fn subscribed(
        &mut self,
        scenario: &Scenario,
        (asked_at, now): (Time, Time),
        name: &str,
        wish: &Wish,
        subscription: &mut Subscription,
        result: &SubscribeResult,
    ) {
        subscription.live = self.tick();
        let options = scenario.channel_options(name);
        let is_positioned = result.positioned && !result.epoch.is_empty();
        assert!(is_positioned || !scenario.is_positioned(name), "{name}: no position in {result:?}");
        assert!(result.recovered <= result.was_recovering, "{name}: {result:?}");
        let is_cache = scenario.is_cache(name);
        if is_positioned {
            let meta_ttl = scenario.options.channel.history_meta_ttl.max(options.history_ttl);
            self.channel(name).epoch_seen(name, &result.epoch, asked_at, now, meta_ttl);
            subscription.position = Some((result.offset, result.epoch.clone()));
            assert_eq!(result.was_recovering, wish.recover, "{name}: {result:?}");
        }
        if !result.recovered {
            assert!(result.publications.is_empty(), "{name}: publications without recovery, {result:?}");
            if result.was_recovering && result.recoverable {
                let limit = scenario.recovery_limit();
                let channel = self.channel(name);
                let must = channel.must_recover(
                    now,
                    wish,
                    result,
                    options.history_size.min(limit),
                    options.history_ttl,
                    is_cache,
                );
                assert!(!must, "{name}: needlessly unrecovered, {wish:?} {result:?}");
            }
            return;
        }
        assert_eq!(result.offset, wish.offset, "{name}: a recovered subscription begins where the client was");
        assert!(wish.epoch.is_empty() || is_cache || wish.epoch == result.epoch, "{name}: {wish:?} {result:?}");
        if let (true, Some(first)) = (is_cache, result.publications.first()) {
            assert_eq!(result.publications.len(), 1, "{name}: cache recovery brings the latest");
            subscription.position = Some((first.offset - 1, result.epoch.clone()));
        }
        for publication in &result.publications {
            self.positioned_publication(name, subscription, publication);
        }
    }

    /// A publication came to a live subscription.
    pub fn delivered(&mut self, name: &str, subscription: &mut Subscription, publication: &Publication) {
        let id = if subscription.position.is_some() && publication.offset > 0 {
            self.positioned_publication(name, subscription, publication)
        } else {
            self.loose_publication(name, subscription, publication)
        };
        if let Some(last) = subscription.last.replace(id) {
            let channel = self.channel(name);
            let next = *channel.next.entry(last).or_insert(id);
            assert_eq!(next, id, "{name}: another subscriber saw another publication behind {last}");
            let previous = *channel.previous.entry(id).or_insert(last);
            assert_eq!(previous, last, "{name}: another subscriber saw another publication before {id}");
        }
    }

    fn positioned_publication(
        &mut self,
        name: &str,
        subscription: &mut Subscription,
        publication: &Publication,
    ) -> PublicationId {
        let (offset, epoch) = subscription.position.as_mut().expect("it is positioned");
        assert_eq!(publication.offset, *offset + 1, "{name}: a gap or a repetition behind {offset}");
        if publication.offset == 1 && !publication.epoch.is_empty() {
            assert_eq!(publication.epoch, *epoch, "{name}: the stream began anew behind the client's back");
        }
        *offset = publication.offset;
        let epoch = epoch.clone();
        self.seen(name, subscription, publication, Some(&epoch))
    }

    fn loose_publication(
        &mut self,
        name: &str,
        subscription: &mut Subscription,
        publication: &Publication,
    ) -> PublicationId {
        let last = subscription.loose_offset;
        if publication.offset > 1 {
            assert!(last == 0 || publication.offset == last + 1, "{name}: {} behind {last}", publication.offset);
        }
        if publication.offset > 0 {
            subscription.loose_offset = publication.offset;
        }
        let epoch = Some(publication.epoch.as_str()).filter(|epoch| !epoch.is_empty());
        self.seen(name, subscription, publication, epoch)
    }

    fn seen(
        &mut self,
        name: &str,
        subscription: &mut Subscription,
        publication: &Publication,
        epoch: Option<&str>,
    ) -> PublicationId {
        let id = payload_id(&publication.data);
        let channel = self.channel(name);
        channel.check_offset(name, id, publication.offset);
        if let (Some(epoch), 1..) = (epoch, publication.offset) {
            channel.place(name, id, publication.offset, epoch);
        }
        assert!(subscription.seen.insert(id), "{name}: publication {id} came twice");
        id
    }

    /// A publisher that is subscribed must have its own publication when it is told that it succeeded.
    pub fn check_own(&mut self, name: &str, subscription: &Subscription, id: PublicationId) {
        let sent = self.sent_moment(name, id);
        if subscription.live < sent {
            assert!(subscription.seen.contains(&id), "{name}: the reply overtook the publisher's own push {id}");
        }
    }

    /// A client asks to subscribe.
    pub fn attempt(&mut self, name: &str, client: &str) {
        let moment = self.tick();
        self.channel(name).attempts.entry(client.to_owned()).or_insert(moment);
    }

    /// A subscriber is told that somebody came.
    pub fn joined(&mut self, name: &str, subscription: &mut Subscription, client: &str) {
        assert!(subscription.members.insert(client.to_owned()), "{name}: {client} joined twice");
    }

    /// A subscriber is told that somebody went, which must have come before.
    pub fn left(&mut self, scenario: &Scenario, name: &str, subscription: &mut Subscription, client: &str) {
        let was_known = subscription.members.remove(client);
        let is_again = !subscription.gone.insert(client.to_owned());
        let first_attempt = self.channel(name).attempts.get(client).copied();
        // A subscription that the server made was not asked for.
        let may_be_older = scenario.server_side
            || scenario.acts_on_users
            || first_attempt.is_some_and(|moment| moment < subscription.live);
        assert!(was_known || may_be_older && !is_again, "{name}: {client} left and never joined");
    }

    /// Whether the stream of a channel may have ended by its meta TTL, and another one begun.
    pub fn may_have_ended(&self, scenario: &Scenario, now: Time, name: &str) -> bool {
        let options = scenario.channel_options(name);
        let meta_ttl = scenario.options.channel.history_meta_ttl.max(options.history_ttl);
        let Some(channel) = self.channels.get(name) else { return false };
        channel.epochs.len() > 1 || channel.touched_at + meta_ttl <= now
    }

    /// What a reader of history got. `is_whole`: the reader asked for everything, in order.
    pub fn history(
        &mut self,
        scenario: &Scenario,
        (asked_at, now): (Time, Time),
        name: &str,
        read: &[(u64, PublicationId)],
        (top, epoch): (u64, &str),
        is_whole: bool,
    ) {
        let options = scenario.channel_options(name);
        assert!(read.len() <= options.history_size, "{name}: more than history_size publications");
        let meta_ttl = scenario.options.channel.history_meta_ttl.max(options.history_ttl);
        let channel = self.channel(name);
        channel.epoch_seen(name, epoch, asked_at, now, meta_ttl);
        for (offset, id) in read {
            channel.place(name, *id, *offset, epoch);
            assert!(*offset <= top, "{name}: {offset} is above the top {top}");
        }
        if !is_whole {
            return;
        }
        assert!(read.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "{name}: a gap in history {read:?}");
        if let Some((last, _)) = read.last() {
            assert_eq!(*last, top, "{name}: the newest publication is the top of the stream");
        }
    }

    /// With the world at rest: a live subscription has everything that it must have. `top`: of the stream, if there is one.
    pub fn check_level(&mut self, name: &str, subscription: &Subscription, top: Option<(u64, &str)>) {
        if let (Some((offset, epoch)), Some(top)) = (&subscription.position, top) {
            // A stream that begins anew is told with its first publication.
            let is_another = top.0 == 0 && **epoch != *top.1 && self.channel(name).epochs.len() > 1;
            let is_level = (*offset, &**epoch) == top;
            assert!(
                is_level || is_another,
                "{name}: a subscriber is not level with the stream, {offset} {epoch} {top:?}"
            );
        }
        let channel = self.channel(name);
        for (id, sent) in channel.sent.iter().filter(|(_, sent)| sent.acknowledged && sent.moment > subscription.live) {
            assert!(subscription.seen.contains(id), "{name}: acknowledged publication {id} was lost, {sent:?}");
        }
    }

    /// With the world at rest: everything that was acknowledged is below the top of its epoch.
    pub fn check_top(&mut self, name: &str, top: u64, epoch: &str) {
        let channel = self.channel(name);
        let number = channel.epoch_number(epoch);
        let newest = channel.order.range(..=(number, u64::MAX)).next_back();
        if let Some(((known, offset), id)) = newest {
            assert!(*known < number || *offset <= top, "{name}: {id} at {offset} is above the top {top}");
        }
    }
}

impl Channel {
    fn epoch_number(&mut self, epoch: &str) -> usize {
        if let Some(number) = self.epochs.iter().position(|known| known == epoch) {
            return number;
        }
        self.epochs.push(epoch.to_owned());
        self.epochs.len() - 1
    }

    /// A reader was told the epoch: a new one is right only when nobody used the stream for `meta_ttl`.
    fn epoch_seen(&mut self, name: &str, epoch: &str, asked_at: Time, now: Time, meta_ttl: std::time::Duration) {
        let is_new = !self.epochs.iter().any(|known| known == epoch);
        if is_new && !self.epochs.is_empty() {
            assert!(self.touched_at + meta_ttl <= now, "{name}: a new epoch {epoch} before its time");
        }
        self.epoch_number(epoch);
        self.touched_at = self.touched_at.max(asked_at);
    }

    /// An id stands at an offset of an epoch.
    fn place(&mut self, name: &str, id: PublicationId, offset: u64, epoch: &str) {
        self.check_offset(name, id, offset);
        let epoch = self.epoch_number(epoch);
        let known = *self.order.entry((epoch, offset)).or_insert(id);
        assert_eq!(known, id, "{name}: two publications at offset {offset}");
    }

    fn check_offset(&mut self, name: &str, id: PublicationId, offset: u64) {
        let sent = self.sent.get_mut(&id);
        let sent = sent.unwrap_or_else(|| panic!("{name}: publication {id} was never sent"));
        let known = *sent.offset.get_or_insert(offset);
        assert_eq!(known, offset, "{name}: publication {id} has two offsets");
    }

    /// Whether everything behind the client's position was certainly still there.
    fn must_recover(
        &self,
        now: Time,
        wish: &Wish,
        result: &SubscribeResult,
        kept: usize,
        ttl: std::time::Duration,
        is_cache: bool,
    ) -> bool {
        let Some(epoch) = self.epochs.iter().position(|known| *known == result.epoch) else { return false };
        let is_same = wish.epoch.is_empty() || wish.epoch == result.epoch;
        if wish.offset == result.offset && is_same {
            return !is_cache || !wish.epoch.is_empty() && wish.offset > 0;
        }
        let first = if is_cache { result.offset } else { wish.offset.saturating_add(1) };
        if !is_same && !is_cache || first > result.offset || result.offset - first >= kept as u64 || first == 0 {
            return false;
        }
        let missed = self.order.range((epoch, first)..=(epoch, result.offset));
        let mut missed = missed.map(|(_, id)| &self.sent[id]).collect::<Vec<_>>();
        missed.sort_by_key(|sent| sent.moment);
        let is_young = missed.iter().all(|sent| sent.at + ttl > now);
        let is_removed = self.removal_lost || self.removals_open > 0;
        let all_known = missed.len() as u64 == result.offset - first + 1;
        is_young && all_known && !is_removed && missed[0].moment > self.removed
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sent at moment {}, offset {:?}", self.moment, self.offset)
    }
}

/// A payload with an id; `length` bytes of padding.
pub fn payload(id: PublicationId, length: usize, binary: bool) -> Vec<u8> {
    let pad = "x".repeat(length);
    if binary { format!("id {id} {pad}\u{0}") } else { format!(r#"{{"id":{id},"pad":"{pad}"}}"#) }.into_bytes()
}

/// The id in a payload.
pub fn payload_id(data: &[u8]) -> PublicationId {
    let digits = data.iter().skip_while(|byte| !byte.is_ascii_digit()).take_while(|byte| byte.is_ascii_digit());
    let digits: String = digits.map(|byte| char::from(*byte)).collect();
    digits.parse().unwrap_or_else(|_| panic!("a payload that nobody sent: {}", String::from_utf8_lossy(data)))
}
