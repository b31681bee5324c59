//! Reads of history for subscribers: one at a time for a channel, shared by all who wait for it. Whatever is told while one is
//! under way is handed on and kept, so that what was read and what was told make one piece.

use super::{Brokered, Channel, Job, LEVELLING_MAX, Place, RETRY_DELAY, SetBack, Waiter, Waiting, refuse};
use crate::broker::BrokerAsk;
use crate::channel::{Context, Position, Publication, Stream, meta_ttl, recover};
use crate::message::{Message, Recover, Recovery, Subscribed};
use crate::metrics::Action;
use ringcast_proto::client as wire;
use ringcast_proto::codes::ReplyError;
use std::collections::VecDeque;
use std::sync::Arc;

/// Publications that are kept while a read is under way; with one more it is read again.
const KEPT_MAX: usize = 1024;

/// A read under way.
#[derive(Debug)]
pub(super) struct Reading {
    waiters: Vec<Waiter>,
    /// Told since it was asked for, ascending.
    kept: VecDeque<Arc<Publication>>,
    /// More was told than could be kept.
    is_overrun: bool,
    reverse: bool,
    /// Top when it was asked for, and its time.
    known: Option<(Position, i64)>,
    /// Counted in `Brokered::levelling`.
    pub(super) is_level: bool,
}

impl Reading {
    pub(super) fn keep(&mut self, publication: Arc<Publication>) {
        self.is_overrun |= self.kept.len() >= KEPT_MAX;
        if !self.is_overrun {
            self.kept.push_back(publication);
        }
    }
}

/// What is read, in the terms of the broker.
struct Span {
    since: Option<u64>,
    limit: Option<usize>,
    reverse: bool,
}

impl Channel {
    /// Chooses who is served by the next read, and the span that serves them; `None` when nothing is to be read. With the position
    /// known it is all who wait: nobody further behind than `limit` publications can recover. Without, it is
    /// those who lie close together.
    fn next_span(&mut self, limit: usize) -> Option<(Span, Vec<Waiter>)> {
        if self.queue.is_empty() && !(self.needs_level && self.top.is_some() && self.positioned > 0) {
            return None;
        }
        let bound = |limit: usize| Some(limit).filter(|limit| *limit > 0);
        if let Some(top) = &self.top {
            let starts = self.queue.iter().map(|waiter| start(waiter, top, limit));
            // With the last publication that was told, to see whether it is the one that the stream has.
            let since = if self.needs_level { top.offset.saturating_sub(1) } else { top.offset };
            let since = starts.fold(since, u64::min);
            let span = Span { since: Some(since), limit: bound(2 * limit), reverse: false };
            return Some((span, std::mem::take(&mut self.queue)));
        }
        let front = wish(self.queue.first()?);
        if let Some(front) = front.filter(|wish| wish.cache) {
            let limit = if front.filter.is_some() { bound(limit) } else { Some(1) };
            let is_filtered = front.filter.is_some();
            let fits =
                |wish: Option<&Recover>| wish.is_none_or(|wish| wish.cache && wish.filter.is_some() == is_filtered);
            return Some((Span { since: None, limit, reverse: true }, self.take_waiters(fits)));
        }
        let streams = self.queue.iter().filter_map(wish).filter(|wish| !wish.cache);
        let Some(since) = streams.map(|wish| wish.offset).min() else {
            let fits = |wish: Option<&Recover>| wish.is_none();
            return Some((Span { since: None, limit: Some(0), reverse: false }, self.take_waiters(fits)));
        };
        let last = if limit == 0 { u64::MAX } else { since.saturating_add(limit as u64) };
        let fits = |wish: Option<&Recover>| wish.is_none_or(|wish| !wish.cache && wish.offset <= last);
        Some((Span { since: Some(since), limit: bound(2 * limit), reverse: false }, self.take_waiters(fits)))
    }

    fn take_waiters(&mut self, fits: impl Fn(Option<&Recover>) -> bool) -> Vec<Waiter> {
        self.queue.extract_if(.., |waiter| fits(wish(waiter))).collect()
    }

    /// Brings those who are subscribed to the top that was read, from what was read or, where that has a gap, by having those with a
    /// position come again.
    fn advance_to(&mut self, context: &mut Context<'_>, top: &Position, read: &[Arc<Publication>], time: i64) {
        let Some(known) = self.top.clone() else {
            (self.top, self.top_time) = (Some(top.clone()), time);
            return;
        };
        if known.epoch == top.epoch && top.offset <= known.offset {
            return;
        }
        let missed: Vec<_> = read.iter().filter(|publication| publication.offset > known.offset).cloned().collect();
        let follows = known.epoch == top.epoch && missed.len() as u64 == top.offset - known.offset;
        (self.top, self.top_time) = (Some(top.clone()), time);
        if follows {
            missed.into_iter().for_each(|publication| self.hand_on(context, publication, None));
        } else {
            self.lose_position(context);
        }
    }

    /// The broker has lost the end of the stream, of which subscribers were told: those with a position have to come again.
    fn set_back_to(&mut self, context: &mut Context<'_>, top: &Position, known: &Position, time: i64) {
        // From where on another publication has come to the known place cannot be told.
        let mut kept = if top.offset < known.offset { top.offset } else { 0 };
        let mut told = known.offset;
        if let Some(before) = self.set_back.take().filter(|before| before.epoch == known.epoch) {
            (kept, told) = (kept.min(before.kept), told.max(before.told));
        }
        self.set_back = Some(SetBack { epoch: known.epoch.clone(), kept, told });
        // What was told since goes on from there.
        let has_more = self.top.as_ref().is_some_and(|now| now.epoch == top.epoch && now.offset > known.offset);
        if !has_more {
            (self.top, self.top_time) = (Some(top.clone()), time);
        }
        self.lose_position(context);
    }

    fn lose_position(&mut self, context: &mut Context<'_>) {
        let lost = || Message::PositionLost { channel: self.name.clone() };
        self.listeners.send(context.post, lost);
    }

    /// Whether a position may be one of a publication that was lost.
    fn is_doubtful(&self, wish: &Recover) -> bool {
        self.set_back.as_ref().is_some_and(|lost| {
            let is_of_epoch = wish.epoch.is_empty() || *wish.epoch == *lost.epoch;
            is_of_epoch && wish.offset > lost.kept && wish.offset <= lost.told
        })
    }
}

/// Whether the broker has lost what it told: its stream ends before what was known, or has another publication there.
fn is_set_back((known, time): &(Position, i64), top: &Position, read: &[wire::Publication]) -> bool {
    let is_other = |publication: &wire::Publication| {
        publication.offset == known.offset && publication.time != *time && publication.time != 0 && *time != 0
    };
    known.epoch == top.epoch && (top.offset < known.offset || read.iter().any(is_other))
}

/// What a waiting subscriber wants back.
fn wish(waiter: &Waiter) -> Option<&Recover> {
    waiter.subscribe.recover.as_ref()
}

/// Where a read must begin to serve a subscriber of a stream at `top`; its top for one that cannot be served.
fn start(waiter: &Waiter, top: &Position, limit: usize) -> u64 {
    let Some(wish) = wish(waiter) else { return top.offset };
    if wish.cache {
        let depth = if wish.filter.is_some() { limit.max(1) } else { 1 };
        return top.offset.saturating_sub(depth as u64);
    }
    let is_other = !wish.epoch.is_empty() && *wish.epoch != *top.epoch;
    let is_far = limit > 0 && wish.offset.saturating_add(limit as u64) < top.offset;
    if is_other || is_far { top.offset } else { wish.offset }
}

impl Brokered {
    /// Reads for those who wait, if nothing is being read.
    pub(super) fn read_next(&mut self, context: &mut Context<'_>, place: Place) {
        let limit = context.options.client.recovery_max_publication_limit;
        let channel = &mut self.channels[place.index];
        if channel.reading.is_some() {
            return;
        }
        let Some((span, waiters)) = channel.next_span(limit) else { return };
        let is_level = std::mem::take(&mut channel.needs_level);
        let Span { since, limit, reverse } = span;
        self.levelling += usize::from(is_level);
        let (kept, is_overrun) = (VecDeque::new(), false);
        let known = channel.top.clone().map(|top| (top, channel.top_time));
        channel.reading = Some(Box::new(Reading { waiters, kept, is_overrun, reverse, known, is_level }));
        let channel = channel.name.clone();
        let (_, options) = context.options.channel.resolve_known(&channel);
        let meta_ttl = meta_ttl(&context.options.channel, options);
        context.metrics.act(Action::History);
        let ask = BrokerAsk::History { channel, since, limit, reverse, meta_ttl };
        if self.ask(context, ask, Waiting::Read(place)).is_err() {
            self.read_failed(context, place, &ReplyError::INTERNAL);
        }
    }

    /// History was read.
    pub(super) fn was_read(
        &mut self,
        context: &mut Context<'_>,
        place: Place,
        top: Position,
        publications: Vec<wire::Publication>,
    ) {
        let Some(reading) = self.end_reading(place) else { return };
        let channel = &mut self.channels[place.index];
        let top = Position { epoch: channel.known_epoch(top.epoch), ..top };
        let now = context.now.at;
        let last = publications.iter().find(|publication| publication.offset == top.offset);
        let time = last.map_or(0, |last| last.time);
        let known = reading.known.as_ref();
        let set_back = known.filter(|known| is_set_back(known, &top, &publications)).map(|(known, _)| known);
        let publication =
            |content| Arc::new(Publication::new(super::event::stripped(content), top.epoch.clone(), now, now));
        let mut read: VecDeque<_> = publications.into_iter().map(publication).collect();
        if reading.reverse {
            read.make_contiguous().reverse();
        }
        let read = Vec::from(read);
        match set_back {
            Some(known) => channel.set_back_to(context, &top, known, time),
            None => channel.advance_to(context, &top, &read, time),
        }
        if reading.is_overrun {
            let behind = std::mem::replace(&mut channel.queue, reading.waiters);
            channel.queue.extend(behind);
            channel.queue.retain(|waiter| waiter.subscribe.deadline >= now);
        } else {
            let top = channel.top.clone().unwrap_or_default();
            let mut stream = piece(top, read, reading.kept);
            for waiter in reading.waiters {
                self.answer_subscriber(context, place.index, &waiter, Some(&mut stream));
            }
            self.plan_check(context, place);
        }
        self.read_next(context, place);
        self.level_some(context);
    }

    pub(super) fn read_failed(&mut self, context: &mut Context<'_>, place: Place, error: &ReplyError) {
        let Some(reading) = self.end_reading(place) else { return };
        reading.waiters.iter().for_each(|waiter| refuse(context, waiter, error));
        if reading.is_level {
            self.later(context, RETRY_DELAY, place, Job::Retry);
        }
        self.read_next(context, place);
        self.level_some(context);
    }

    fn end_reading(&mut self, place: Place) -> Option<Box<Reading>> {
        let channel = self.channels.get_mut(place.index).filter(|channel| channel.generation == place.generation)?;
        let reading = channel.reading.take()?;
        self.levelling -= usize::from(reading.is_level);
        Some(reading)
    }

    /// Tells a subscriber that it is one, with what it missed if it wants that; then tells the others.
    pub(super) fn answer_subscriber(
        &mut self,
        context: &mut Context<'_>,
        index: u32,
        waiter: &Waiter,
        stream: Option<&mut Stream>,
    ) {
        let subscribe = &waiter.subscribe;
        if subscribe.deadline < context.now.at {
            return;
        }
        let (request, channel) = (subscribe.request, subscribe.channel.clone());
        let mut answer = Subscribed { request, channel, top: None, recovery: None };
        if let Some(stream) = stream {
            answer.top = Some(stream.position());
            let wish = subscribe.recover.as_ref();
            context.metrics.act(match wish {
                None => Action::HistoryStreamTop,
                Some(wish) if wish.cache => Action::HistoryRecoverCache,
                Some(_) => Action::HistoryRecover,
            });
            let is_doubtful = |wish: &Recover| self.channels[index].is_doubtful(wish);
            answer.recovery = wish.map(|wish| match is_doubtful(wish) {
                // The latest is sent whatever the client has.
                true if wish.cache => {
                    let wish = Recover { offset: 0, ..wish.clone() };
                    recover::recover(stream, &wish, subscribe.variant, context.delta_table)
                }
                true => Recovery::default(),
                false => recover::recover(stream, wish, subscribe.variant, context.delta_table),
            });
        }
        context.post.send(waiter.from, Message::Subscribed(Box::new(answer)));
        if let Some(member) = &subscribe.member {
            self.join(context, index, member);
        }
    }

    fn plan_check(&mut self, context: &Context<'_>, place: Place) {
        let channel = &mut self.channels[place.index];
        if !std::mem::replace(&mut channel.is_checked, true) {
            self.later(context, context.options.client.position_check_period(), place, Job::Check);
        }
    }

    /// Looks whether those with a position have everything, as the reference does for each of them.
    pub(super) fn check(&mut self, context: &mut Context<'_>, place: Place) {
        let channel = &mut self.channels[place.index];
        channel.is_checked = channel.positioned > 0;
        if channel.is_checked {
            self.later(context, context.options.client.position_check_period(), place, Job::Check);
            self.level(context, place);
        }
    }

    /// Those who are subscribed may have missed something: reads it for them, in turn with other channels.
    pub(super) fn level(&mut self, context: &mut Context<'_>, place: Place) {
        let channel = &mut self.channels[place.index];
        if channel.positioned > 0 && !std::mem::replace(&mut channel.needs_level, true) {
            self.stale.push_back(place);
            self.level_some(context);
        }
    }

    fn level_some(&mut self, context: &mut Context<'_>) {
        while self.levelling < LEVELLING_MAX
            && let Some(place) = self.stale.pop_front()
        {
            // While something is being read, the next read will do.
            if self.is_current(place) {
                self.read_next(context, place);
            }
        }
    }
}

/// What was read, and what was told since, as the end of a stream at `top`: as far back as it has no gap.
fn piece(top: Position, read: Vec<Arc<Publication>>, kept: VecDeque<Arc<Publication>>) -> Stream {
    let read_top = read.last().map_or(0, |publication| publication.offset);
    let told = kept.into_iter().filter(|publication| publication.offset > read_top);
    let all: Vec<_> = read.into_iter().chain(told).collect();
    let mut end = VecDeque::new();
    for publication in all.into_iter().rev() {
        let next = top.offset - end.len() as u64;
        if publication.offset != next || publication.epoch != top.epoch {
            break;
        }
        end.push_front(publication);
    }
    Stream::of(top, end)
}
