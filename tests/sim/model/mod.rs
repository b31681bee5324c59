//! The truth about channels, learnt from what clients and callers of the API are told, never from the code under test.
//!
//! Every payload carries an id of its own. So a channel has one order of ids, which all subscribers must see: the same
//! offset never shows two ids, and the same id is never followed by two others.

mod channel;
mod keys;
mod log;
mod subscription;
mod versions;

pub use channel::Publish;
pub use log::Log;
pub use subscription::{Subscription, Wish};

use crate::answers::Call;
use crate::content::{PublicationId, Wanted};
use crate::scenario::Scenario;
use channel::{Channel, Sent};
use keys::Keys;
use ringcast_proto::client::{ClientInfo, Publication, SubscribeResult};
use ringcast_state::Time;
use std::collections::BTreeMap;

/// Counts what happens; tells before from after where the clock stands still.
pub type Moment = u64;

/// All channels.
#[derive(Default)]
pub struct Model {
    channels: BTreeMap<String, Channel>,
    next_id: PublicationId,
    moment: Moment,
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

    /// Somebody publishes.
    pub fn publish(&mut self, channel: &str, id: PublicationId, publish: Publish) {
        let moment = self.tick();
        let channel = self.channel(channel);
        if !publish.key.is_empty() {
            channel.keys.sent(&publish.key, id, publish.at);
        }
        let before = channel.sent.insert(id, Sent { moment, publish, acknowledged: false, offset: None });
        assert!(before.is_none(), "an id is sent once to a channel");
    }

    /// A publisher is told how it went; callers of the API learn the place.
    pub fn answered(&mut self, now: Time, name: &str, id: PublicationId, result: Result<Option<(u64, &str)>, ()>) {
        let channel = self.channel(name);
        let sent = channel.sent.get_mut(&id).expect("only what was sent is answered");
        let at = sent.publish.at;
        if !sent.publish.key.is_empty() {
            let key = sent.publish.key.clone();
            return channel.keys.answered(&key, id, now, result.ok().flatten());
        }
        let Ok(place) = result else { return };
        let Some((offset, epoch)) = place.filter(|(offset, _)| *offset > 0) else {
            sent.acknowledged = true;
            return;
        };
        channel.touched_at = channel.touched_at.max(at);
        let is_versioned = sent.publish.version > 0;
        channel.epoch_told(epoch, now);
        if is_versioned {
            let epoch = channel.epoch_number(epoch);
            return channel.versions.answered(id, epoch, offset);
        }
        channel.sent.get_mut(&id).expect("found above").acknowledged = true;
        channel.place(name, id, offset, epoch);
    }

    /// The process was killed: streams begin anew, and what was to be remembered is forgotten.
    pub fn restarted(&mut self) {
        for channel in self.channels.values_mut() {
            channel.is_forgotten = true;
            channel.keys = Keys::default();
        }
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
        let is_positioned = result.positioned && !result.epoch.is_empty();
        let must_be = scenario.is_positioned(name) && !scenario.may_be_unknown(name);
        assert!(is_positioned || !must_be, "{name}: no position in {result:?}");
        assert!(result.recovered <= result.was_recovering, "{name}: {result:?}");
        let is_cache = scenario.is_cache(name);
        if is_positioned {
            self.channel(name).epoch_seen(name, &result.epoch, asked_at, now, scenario.meta_ttl_min(name));
            subscription.position = Some((result.offset, result.epoch.clone()));
            let recovers = wish.recover || scenario.recovers_unasked(name);
            assert_eq!(result.was_recovering, recovers, "{name}: {result:?}");
        }
        if result.recovered {
            self.recovered(scenario, name, wish, subscription, result);
        } else {
            assert!(result.publications.is_empty(), "{name}: publications without recovery, {result:?}");
            if result.was_recovering && result.recoverable {
                let is_filtered = subscription.wanted.is_some();
                let must = self.channel(name).must_recover(now, wish, result, scenario, name, is_filtered);
                assert!(!must, "{name}: needlessly unrecovered, {wish:?} {result:?}");
            }
        }
        if let Some((offset, epoch)) = &subscription.position {
            let is_whole = result.recovered && !is_cache;
            subscription.log.begin(epoch, *offset, is_whole, subscription.wanted.as_ref(), subscription.has_deltas);
        }
        for publication in &result.publications {
            self.positioned_publication(name, subscription, publication, true);
        }
    }

    fn recovered(
        &mut self,
        scenario: &Scenario,
        name: &str,
        wish: &Wish,
        subscription: &mut Subscription,
        result: &SubscribeResult,
    ) {
        let is_cache = scenario.is_cache(name);
        assert_eq!(result.offset, wish.offset, "{name}: a recovered subscription begins where the client was");
        assert!(wish.epoch.is_empty() || is_cache || wish.epoch == result.epoch, "{name}: {wish:?} {result:?}");
        assert!(result.publications.len() <= scenario.recovery_limit_max(), "{name}: {result:?}");
        if let (true, Some(first)) = (is_cache, result.publications.first()) {
            assert_eq!(result.publications.len(), 1, "{name}: cache recovery brings the latest");
            subscription.position = Some((first.offset - 1, result.epoch.clone()));
        }
    }

    /// A publication came to a live subscription.
    pub fn delivered(&mut self, name: &str, subscription: &mut Subscription, publication: &Publication) {
        let id = if subscription.position.is_some() && publication.offset > 0 {
            self.positioned_publication(name, subscription, publication, false)
        } else {
            self.loose_publication(name, subscription, publication)
        };
        let channel = self.channel(name);
        // Deltas need every publication: the filter is not applied to them.
        if let Some(wanted) = subscription.wanted.as_ref().filter(|_| !subscription.has_deltas) {
            assert!(channel.is_wanted(wanted, id), "{name}: publication {id} was not wanted, {wanted:?}");
            return;
        }
        if let Some(last) = subscription.last.replace(id).filter(|_| !subscription.by_call) {
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
        is_recovered: bool,
    ) -> PublicationId {
        let (offset, epoch) = subscription.position.as_mut().expect("it is positioned");
        if std::mem::take(&mut subscription.may_jump) {
            *offset = publication.offset - 1;
            subscription.log.begin(epoch, *offset, false, None, subscription.has_deltas);
        }
        let follows = publication.offset == *offset + 1;
        // What was not wanted is left out; the log is compared with the stream later.
        let may_skip = subscription.wanted.is_some() && publication.offset > *offset;
        assert!(follows || may_skip, "{name}: {} is a gap or a repetition behind {offset}", publication.offset);
        if publication.offset == 1 && !publication.epoch.is_empty() {
            assert_eq!(publication.epoch, *epoch, "{name}: the stream began anew behind the client's back");
        }
        *offset = publication.offset;
        let epoch = epoch.clone();
        let id = self.seen(name, subscription, publication, Some(&epoch));
        subscription.log.add(publication.offset, id);
        if let Some(wanted) = subscription.wanted.as_ref().filter(|_| is_recovered) {
            assert!(self.channel(name).is_wanted(wanted, id), "{name}: {id} came back and was not wanted, {wanted:?}");
        }
        id
    }

    fn loose_publication(
        &mut self,
        name: &str,
        subscription: &mut Subscription,
        publication: &Publication,
    ) -> PublicationId {
        let last = subscription.loose_offset;
        if publication.offset > 1 {
            // One who filters may not see the stream begin anew.
            let follows = publication.offset == last + 1 || subscription.wanted.is_some();
            assert!(last == 0 || follows, "{name}: {} behind {last}", publication.offset);
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
        let channel = self.channel(name);
        let id = channel.check_content(name, publication);
        let version = channel.sent[&id].publish.version;
        // Texts and patches carry none.
        let has_version = publication.version == version || subscription.has_deltas && publication.version == 0;
        assert!(has_version, "{name}: version of {id}, {publication:?}");
        channel.check_offset(name, id, publication.offset);
        if let (Some(epoch), 1..) = (epoch, publication.offset) {
            channel.place(name, id, publication.offset, epoch);
        }
        assert!(subscription.seen.insert(id), "{name}: publication {id} came twice");
        id
    }

    /// A publisher that is subscribed must have its own publication when it is told that it succeeded.
    pub fn check_own(&mut self, name: &str, subscription: &Subscription, id: PublicationId) {
        let channel = self.channel(name);
        if subscription.live < channel.sent[&id].moment && channel.must_come(subscription, id) {
            assert!(subscription.seen.contains(&id), "{name}: the reply overtook the publisher's own push {id}");
        }
    }

    /// A client asks to subscribe.
    pub fn attempt(&mut self, name: &str, client: &str) {
        let moment = self.tick();
        self.channel(name).attempts.entry(client.to_owned()).or_insert(moment);
    }

    /// A subscriber is told that somebody went, which must have come before.
    pub fn left(&mut self, scenario: &Scenario, name: &str, subscription: &mut Subscription, client: &str) {
        let first_attempt = self.channel(name).attempts.get(client).copied();
        // A subscription that the server made was not asked for.
        let may_be_older = scenario.has_server_side() || first_attempt.is_some_and(|moment| moment < subscription.live);
        subscription.left(name, client, may_be_older);
    }

    /// Whether the stream of a channel may have ended by its meta TTL, and another one begun.
    pub fn may_have_ended(&self, scenario: &Scenario, now: Time, name: &str) -> bool {
        let Some(channel) = self.channels.get(name) else { return false };
        channel.is_forgotten || channel.epochs.len() > 1 || channel.touched_at + scenario.meta_ttl_min(name) <= now
    }

    /// What a reader of history got. `is_whole`: the reader asked for everything, in order.
    pub fn history(
        &mut self,
        scenario: &Scenario,
        (asked_at, now): (Time, Time),
        name: &str,
        read: &[Publication],
        (top, epoch): (u64, &str),
        is_whole: bool,
    ) {
        assert!(read.len() <= scenario.history_size_max(name), "{name}: more than history_size publications");
        let channel = self.channel(name);
        channel.epoch_seen(name, epoch, asked_at, now, scenario.meta_ttl_min(name));
        for publication in read {
            let (id, offset) = (channel.check_content(name, publication), publication.offset);
            channel.place(name, id, offset, epoch);
            assert!(offset <= top, "{name}: {offset} is above the top {top}");
        }
        if !is_whole {
            return;
        }
        let is_dense = read.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset);
        assert!(is_dense, "{name}: a gap in history {read:?}");
        if let Some(last) = read.last() {
            assert_eq!(last.offset, top, "{name}: the newest publication is the top of the stream");
        }
    }

    /// With the world at rest: a live subscription has everything that it must have. `top`: of the stream, if there is one.
    pub fn check_level(&mut self, name: &str, subscription: &mut Subscription, top: Option<(u64, &str)>) {
        let channel = self.channel(name);
        if let (Some((offset, epoch)), Some(top)) = (&subscription.position, top) {
            // A stream that begins anew is told with its first publication.
            let is_another = top.0 == 0 && **epoch != *top.1 && channel.epochs.len() > 1;
            let has_all = *offset == top.0 || subscription.wanted.is_some() && *offset < top.0;
            // What a call recovered is told by no push: then the position is known with the first publication.
            let is_level = **epoch == *top.1 && (has_all || subscription.may_jump);
            assert!(
                is_level || is_another,
                "{name}: a subscriber is not level with the stream, {offset} {epoch} {top:?}"
            );
            if is_level && !subscription.may_jump {
                subscription.log.compare(name, channel, top.0);
            }
        }
        // Everything sent before an earlier rest was answered and looked at then.
        for (id, sent) in channel.sent.range(subscription.looked_at + 1..) {
            let must_come =
                sent.acknowledged && sent.moment > subscription.live && channel.must_come(subscription, *id);
            let has_come = !must_come || subscription.seen.contains(id);
            assert!(has_come, "{name}: acknowledged publication {id} was lost, {sent:?}");
        }
        for ids in channel.keys.acknowledged().filter(|_| subscription.wanted.is_none()) {
            let is_later = ids.iter().all(|id| channel.sent[id].moment > subscription.live);
            let has_come = ids.iter().any(|id| subscription.seen.contains(id));
            assert!(!is_later || has_come, "{name}: acknowledged publication of {ids:?} was lost");
        }
        subscription.looked_at = self.next_id;
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

    /// With the world at rest: what publishers were told of keys and versions agrees with what came of it.
    pub fn check_promises(&mut self, scenario: &Scenario, now: Time) {
        for (name, channel) in &mut self.channels {
            channel.check_keys(name, scenario.idempotency_ttl_min());
            channel.keys.forget(now, scenario.idempotency_ttl_max());
            channel.check_versions(name);
        }
    }

    /// A place in the stream of a channel that is or was the latest.
    pub fn some_position(&self, channel: &str) -> Option<(u64, String)> {
        let channel = self.channels.get(channel)?;
        let ((epoch, offset), _) = channel.order.last_key_value()?;
        Some((*offset, channel.epochs[*epoch].clone()))
    }

    /// Whether a publication has an idempotency key, so that its answer may be an old one.
    pub fn is_keyed(&self, call: &Call) -> bool {
        let Call::Publish { channel, id } = call else { return false };
        !self.channels[channel].sent[id].publish.key.is_empty()
    }

    /// Infos of clients are made from their user and the channel.
    pub fn check_info(&self, name: &str, info: &ClientInfo) {
        let is_right = |info: &[u8], want: &str| info.is_empty() || info == info_of(want).as_bytes();
        assert!(is_right(&info.conn_info, &info.user), "{name}: connection info of {info:?}");
        assert!(is_right(&info.chan_info, name), "{name}: channel info of {info:?}");
    }
}

/// The info of a user or a channel, as tokens and calls give it.
pub fn info_of(name: &str) -> String {
    format!(r#"{{"of":"{name}"}}"#)
}

impl Channel {
    /// Whether a publication is for a subscription at all.
    fn must_come(&self, subscription: &Subscription, id: PublicationId) -> bool {
        subscription.has_deltas || subscription.wanted.as_ref().is_none_or(|wanted: &Wanted| self.is_wanted(wanted, id))
    }

    /// Whether everything behind the client's position was certainly still there.
    fn must_recover(
        &self,
        now: Time,
        wish: &Wish,
        result: &SubscribeResult,
        scenario: &Scenario,
        name: &str,
        is_filtered: bool,
    ) -> bool {
        let is_cache = scenario.is_cache(name);
        let Some(epoch) = self.epochs.iter().position(|known| *known == result.epoch) else { return false };
        let is_same = wish.epoch.is_empty() || wish.epoch == result.epoch;
        if wish.offset == result.offset && is_same {
            return !is_cache || !wish.epoch.is_empty() && wish.offset > 0;
        }
        let kept = scenario.history_size_min(name).min(scenario.recovery_limit_min());
        let first = if is_cache { result.offset } else { wish.offset.saturating_add(1) };
        if !is_same && !is_cache || first > result.offset || result.offset - first >= kept as u64 || first == 0 {
            return false;
        }
        let missed = self.order.range((epoch, first)..=(epoch, result.offset));
        let mut missed = missed.map(|(_, id)| &self.sent[id]).collect::<Vec<_>>();
        missed.sort_by_key(|sent| sent.moment);
        let is_young = missed.iter().all(|sent| sent.publish.at + scenario.history_ttl_min(name) > now);
        let is_removed = self.removal_lost || self.removals_open > 0;
        let all_known = missed.len() as u64 == result.offset - first + 1;
        // The latest may not be what a filtered subscriber wants.
        let is_certain = !is_cache || !is_filtered;
        is_young && all_known && is_certain && !is_removed && missed[0].moment > self.removed
    }
}
