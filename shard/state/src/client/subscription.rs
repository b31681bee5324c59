//! What a connection is subscribed to, and under which terms.

use crate::filters::FilterId;
use crate::hub::HubIndex;
use crate::message::{Member, Overrides};
use crate::namespace::{ChannelOptions, RecoveryMode};
use crate::proxy::{StreamId, SubscribeAnswer};
use crate::{RequestId, Time, Variant};
use bytes::Bytes;
use ringcast_proto::filter::Filter;

/// One subscription of one connection.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: HubIndex,
    pub(crate) state: State,
    pub(crate) is_positioned: bool,
    pub(crate) is_server_side: bool,
    /// Named by the connection token.
    pub(crate) is_from_token: bool,
    /// The client has said what program it is.
    pub(crate) is_named: bool,
    pub(crate) variant: Variant,
    /// What most subscriptions do not have.
    pub(crate) detail: Option<Box<Detail>>,
}

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The home was asked; its answer must name this request, or it is for an earlier subscription.
    Subscribing(RequestId),
    /// Live, at this place among the channel's subscribers in the hub.
    Live(u32),
}

/// The rarer parts of a subscription.
#[derive(Debug, Default)]
pub(crate) struct Detail {
    /// Present with presence or join and leave.
    pub(crate) member: Option<Member>,
    /// Channel info of the client, which goes with what it publishes.
    pub(crate) info: Bytes,
    /// Which publications the client wants.
    pub(crate) filter: Option<FilterId>,
    /// When it is ended unless refreshed, the delay of grace included.
    pub(crate) expire_at: Option<Time>,
    /// The backend was asked whether it goes on; `expire_at` is not set until it answers.
    pub(crate) refreshing: Option<RequestId>,
    /// When presence shows what `member` says since a refresh.
    pub(crate) renew_at: Option<Time>,
    /// The backend's stream that feeds it.
    pub(crate) stream: Option<StreamId>,
}

impl Subscription {
    pub(crate) fn member(&self) -> Option<&Member> {
        self.detail.as_ref()?.member.as_ref()
    }

    pub(crate) fn filter(&self) -> Option<FilterId> {
        self.detail.as_ref()?.filter
    }

    pub(crate) fn stream(&self) -> Option<StreamId> {
        self.detail.as_ref()?.stream
    }

    pub(crate) fn expire_at(&self) -> Option<Time> {
        self.detail.as_ref()?.expire_at
    }

    pub(crate) fn set_terms(&mut self, info: Bytes, expire_at: Option<Time>) {
        if !info.is_empty() || expire_at.is_some() || self.detail.is_some() {
            let detail = self.detail.get_or_insert_default();
            (detail.info, detail.expire_at) = (info, expire_at);
        }
    }
}

/// The subscriptions of one connection, ordered by hub index: one takes little, many are found fast.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, channel: HubIndex) -> Option<&Subscription> {
        self.find(channel).ok().map(|at| &self.0[at])
    }

    pub(crate) fn get_mut(&mut self, channel: HubIndex) -> Option<&mut Subscription> {
        self.find(channel).ok().map(|at| &mut self.0[at])
    }

    /// Adds one; its channel must not be there yet.
    pub(crate) fn insert(&mut self, subscription: Subscription) {
        let at = self.find(subscription.channel).expect_err("a channel is entered once per connection");
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.insert(at, subscription);
    }

    pub(crate) fn remove(&mut self, channel: HubIndex) -> Option<Subscription> {
        self.find(channel).ok().map(|at| self.0.remove(at))
    }

    pub(crate) fn pop(&mut self) -> Option<Subscription> {
        self.0.pop()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Subscription> {
        self.0.iter_mut()
    }

    /// When the next one expires or is to be renewed.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        let details = self.0.iter().filter_map(|subscription| subscription.detail.as_deref());
        details.flat_map(|detail| [detail.expire_at, detail.renew_at]).flatten().min()
    }

    fn find(&self, channel: HubIndex) -> Result<usize, usize> {
        self.0.binary_search_by_key(&channel, |subscription| subscription.channel)
    }
}

/// The terms on which a channel is opened to a client, whoever opened it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grant {
    pub(crate) presence: bool,
    pub(crate) join_leave: bool,
    pub(crate) push_join_leave: bool,
    pub(crate) positioned: bool,
    pub(crate) recoverable: bool,
    /// Named by the connection token.
    pub(crate) is_from_token: bool,
    /// Recovery brings the latest publication only.
    pub(crate) cache: bool,
    /// Cache recovery without being asked.
    pub(crate) auto_cache_recover: bool,
    /// Channel info of the client.
    pub(crate) info: Bytes,
    /// Payload of the subscribe reply.
    pub(crate) data: Bytes,
    /// Unix seconds.
    pub(crate) expire_at: Option<i64>,
    /// A backend is asked whether it goes on when its time is over, and the client is not told the time.
    pub(crate) server_refresh: bool,
    /// Publications as deltas.
    pub(crate) delta: bool,
    /// Which publications the client wants.
    pub(crate) filter: Option<Filter>,
    /// The backend's stream that feeds it.
    pub(crate) stream: Option<StreamId>,
}

impl Grant {
    /// The terms of the namespace, but for what is overridden.
    pub(crate) fn new(options: &ChannelOptions, overrides: Overrides) -> Self {
        let recoverable = overrides.force_recovery.unwrap_or(options.force_recovery);
        let cache = options.force_recovery_mode == RecoveryMode::Cache;
        Grant {
            presence: overrides.presence.unwrap_or(options.presence),
            join_leave: overrides.join_leave.unwrap_or(options.join_leave),
            push_join_leave: overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave),
            positioned: overrides.force_positioning.unwrap_or(options.force_positioning),
            recoverable,
            server_refresh: options.sub_refresh_proxy.is_some(),
            cache,
            auto_cache_recover: options.auto_cache_recover && recoverable && cache,
            ..Grant::default()
        }
    }

    /// The terms of the namespace, but for what a backend says.
    pub(crate) fn told(options: &ChannelOptions, answer: SubscribeAnswer) -> Self {
        Grant {
            info: answer.info,
            data: answer.data,
            expire_at: Some(answer.expire_at).filter(|at| *at > 0),
            ..Grant::new(options, answer.overrides)
        }
    }

    /// As `told`, for a subscription that a stream feeds: it has no position, and the client is told when it ends.
    pub(crate) fn fed(options: &ChannelOptions, answer: SubscribeAnswer, stream: StreamId) -> Self {
        Grant {
            positioned: false,
            recoverable: false,
            auto_cache_recover: false,
            cache: false,
            stream: Some(stream),
            ..Grant::told(options, answer)
        }
    }
}
