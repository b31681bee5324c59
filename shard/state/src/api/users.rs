//! Calls that concern the connections of a user: the user's home knows which shards have some.

use super::Origin;
use crate::Now;
use crate::RequestId;
use crate::broker::Teller;
use crate::channel::Position;
use crate::message::{Message, Overrides, ServerSubscribe, UserAct, UserCommand, UserConnect};
use crate::node::Target;
use crate::shard::{Shard, Waiting};
use ringcast_proto::api::{
    ApiResult, BoolValue, DisconnectRequest, RefreshRequest, SubscribeOptionOverride, SubscribeRequest,
    UnsubscribeRequest,
};
use ringcast_proto::codes::{ApiError, Disconnect};
use std::sync::Arc;

/// A call that waits until every shard concerned has carried it out, and the broker has it for other nodes.
#[derive(Debug)]
pub(crate) struct Acting {
    origin: Origin,
    result: ApiResult,
    /// Shards told less shards done; the number told may come after some are done.
    missing: i64,
    /// The number told has come.
    is_counted: bool,
    /// Some shard could not do it for all, or other nodes were not told.
    has_failed: bool,
}

impl Shard {
    pub(super) fn api_subscribe(
        &mut self,
        now: Now,
        origin: &Origin,
        request: SubscribeRequest,
    ) -> Result<(), ApiError> {
        if request.channel.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        self.options.channel.resolve(&request.channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
        let (info, data) = (request.info_payload()?, request.payload()?);
        let since = request.recover_since.as_ref();
        let act = UserAct::Subscribe(ServerSubscribe {
            channel: (&*request.channel).into(),
            info,
            data,
            expire_at: request.expire_at,
            recover_since: since.map(|since| Position { offset: since.offset, epoch: (&*since.epoch).into() }),
            overrides: request.r#override.as_ref().map(Overrides::from).unwrap_or_default(),
        });
        let target = Target { user: &request.user, client: &request.client, session: &request.session };
        self.act(now, origin, ApiResult::Subscribe, target, act);
        Ok(())
    }

    pub(super) fn api_unsubscribe(
        &mut self,
        now: Now,
        origin: &Origin,
        request: UnsubscribeRequest,
    ) -> Result<(), ApiError> {
        if !request.channel.is_empty() {
            self.options.channel.resolve(&request.channel).ok_or(ApiError::UNKNOWN_CHANNEL)?;
        }
        let act = UserAct::Unsubscribe { channel: request.channel };
        let target = Target { user: &request.user, client: &request.client, session: &request.session };
        self.act(now, origin, ApiResult::Unsubscribe, target, act);
        Ok(())
    }

    pub(super) fn api_disconnect(
        &mut self,
        now: Now,
        origin: &Origin,
        request: DisconnectRequest,
    ) -> Result<(), ApiError> {
        let disconnect = match request.disconnect {
            None => Disconnect::FORCE_NO_RECONNECT,
            Some(wanted) => Disconnect { code: wanted.code, reason: wanted.reason.into() },
        };
        let act = UserAct::Disconnect { disconnect, whitelist: request.whitelist };
        let target = Target { user: &request.user, client: &request.client, session: &request.session };
        self.act(now, origin, ApiResult::Disconnect, target, act);
        Ok(())
    }

    pub(super) fn api_refresh(&mut self, now: Now, origin: &Origin, request: RefreshRequest) -> Result<(), ApiError> {
        let act = UserAct::Refresh { expired: request.expired, expire_at: request.expire_at, info: request.info };
        let target = Target { user: &request.user, client: &request.client, session: &request.session };
        self.act(now, origin, ApiResult::Refresh, target, act);
        Ok(())
    }

    fn act(&mut self, now: Now, origin: &Origin, result: ApiResult, target: Target<'_>, act: UserAct) {
        let acting = Acting { origin: origin.clone(), result, missing: 0, is_counted: false, has_failed: false };
        let request = self.ask(now, Waiting::ApiActing(Box::new(acting)));
        if self.tell_nodes(target, &act, Some(Teller::Call(request)))
            && let Some(Waiting::ApiActing(acting)) = self.pending.get_mut(request)
        {
            acting.missing += 1;
        }
        let origin = Some((self.post.own(), request));
        let Target { user, client, session } = target;
        let act = Arc::new(act);
        let command = UserCommand { origin, user: user.into(), client: client.into(), session: session.into(), act };
        if user.is_empty() {
            // Anonymous connections have no home: every shard is asked.
            return self.relay(command, self.post.shards().collect());
        }
        self.post.send(self.home(user), Message::UserCommand(Box::new(command)));
    }

    /// At the user's home: a connection takes the place of the user's others.
    pub(crate) fn close_others(&mut self, newcomer: &UserConnect) {
        let whitelist = vec![newcomer.client.to_string()];
        let act = UserAct::Disconnect { disconnect: Disconnect::CONNECTION_LIMIT, whitelist };
        self.tell_nodes(Target { user: &newcomer.user, client: "", session: "" }, &act, None);
        let (user, client, session) = (newcomer.user.clone(), "".into(), "".into());
        self.relay_to_user(UserCommand { origin: None, user, client, session, act: Arc::new(act) });
    }

    /// At the user's home: passes a command on to the shards concerned.
    pub(crate) fn relay_to_user(&mut self, command: UserCommand) {
        let shards = self.users.shards(&command.user).collect();
        self.relay(command, shards);
    }

    fn relay(&mut self, command: UserCommand, shards: Vec<crate::ShardId>) {
        if let Some((origin, request)) = command.origin {
            self.post.send(origin, Message::Expect { request, answers: shards.len() as u32 });
        }
        for shard in shards {
            self.post.send(shard, Message::UserAct(Box::new(command.clone())));
        }
    }

    /// So many shards were told.
    pub(crate) fn expect_done(&mut self, now: Now, request: RequestId, answers: u32) {
        self.count_done(now, request, |acting| {
            acting.missing += i64::from(answers);
            acting.is_counted = true;
        });
    }

    /// The broker took the command for other nodes, or could not: whoever called is to do so again. This node has carried it out.
    pub(crate) fn nodes_told(&mut self, now: Now, request: RequestId, is_told: bool) {
        self.done(now, request, !is_told, 0);
    }

    /// One shard is done, but for `more` of its connections; or one of these.
    pub(crate) fn done(&mut self, now: Now, request: RequestId, failed: bool, more: u32) {
        self.count_done(now, request, |acting| {
            acting.missing += i64::from(more) - 1;
            acting.has_failed |= failed;
        });
    }

    fn count_done(&mut self, now: Now, request: RequestId, count: impl FnOnce(&mut Acting)) {
        let Some(Waiting::ApiActing(acting)) = self.pending.get_mut(request) else { return };
        count(acting);
        if !acting.is_counted || acting.missing > 0 {
            return;
        }
        if let Some(Waiting::ApiActing(acting)) = self.pending.take(request) {
            let result = if acting.has_failed { Err(ApiError::INTERNAL) } else { Ok(acting.result) };
            self.complete(now, &acting.origin, result);
        }
    }
}

impl Acting {
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl From<&SubscribeOptionOverride> for Overrides {
    fn from(wanted: &SubscribeOptionOverride) -> Self {
        let value = |flag: &Option<BoolValue>| flag.as_ref().map(|flag| flag.value);
        Self {
            presence: value(&wanted.presence),
            join_leave: value(&wanted.join_leave),
            force_recovery: value(&wanted.force_recovery),
            force_positioning: value(&wanted.force_positioning),
            force_push_join_leave: value(&wanted.force_push_join_leave),
        }
    }
}
