//! What the nodes of a cluster do for each other: commands of the server API that concern connections are carried out on each, and
//! each knows who else is there, asks the others and answers them. The control plane carries the messages.

mod answer;
mod survey;

pub(crate) use survey::Surveys;

use crate::broker::{NodeMessage, Teller};
use crate::channel::Position;
use crate::message::{Message, Overrides, ServerSubscribe, UserAct, UserCommand};
use crate::shard::Shard;
use crate::{Compass, Now, ShardId};
use ringcast_proto::api::NodeResult;
use ringcast_proto::client::StreamPosition;
use ringcast_proto::codes::{Disconnect, Unsubscribe};
use ringcast_proto::control::{self, Body};
use std::sync::Arc;

/// `source` of a subscription that the server API made.
const SOURCE_SERVER_API: u32 = 10;

/// Other nodes, and what they are to be told. Only where a broker joins several nodes.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// As they described themselves last.
    others: Arc<[NodeResult]>,
    /// Taken at the end of each turn; bounded by the calls of the server API in it, and by the bounds of surveys.
    messages: Vec<NodeMessage>,
    /// Questions to other nodes.
    pub(crate) surveys: Surveys,
    /// Questions of other nodes for which the shards are being asked.
    answering: usize,
}

/// Which connections a command concerns.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub user: &'a str,
    pub client: &'a str,
    pub session: &'a str,
}

impl Shard {
    /// What other nodes are to be told. Ask at the end of each turn.
    pub fn take_node_messages(&mut self) -> Vec<NodeMessage> {
        std::mem::take(&mut self.cluster.messages)
    }

    /// Other nodes, for `info`.
    pub(crate) fn other_nodes(&self) -> &[NodeResult] {
        &self.cluster.others
    }

    pub(crate) fn know_nodes(&mut self, others: Arc<[NodeResult]>) {
        self.cluster.others = others;
    }

    /// A command of the server API that was called here. False where there are no other nodes; else `teller` is told.
    pub(crate) fn tell_nodes(&mut self, target: Target<'_>, act: &UserAct, teller: Option<Teller>) -> bool {
        if self.brokered.is_none() {
            return false;
        }
        let (user, client, session) = (target.user.to_owned(), target.client.to_owned(), target.session.to_owned());
        let body = match act {
            UserAct::Unsubscribe { channel } => Body::Unsubscribe(control::Unsubscribe {
                channel: channel.clone(),
                user,
                client,
                session,
                code: Unsubscribe::SERVER.code,
                reason: Unsubscribe::SERVER.reason.into_owned(),
                ..control::Unsubscribe::default()
            }),
            UserAct::Disconnect { disconnect, whitelist } => Body::Disconnect(control::Disconnect {
                user,
                client,
                session,
                whitelist: whitelist.clone(),
                code: disconnect.code,
                reason: disconnect.reason.to_string(),
                ..control::Disconnect::default()
            }),
            UserAct::Refresh { expired, expire_at, info } => Body::Refresh(control::Refresh {
                user,
                client,
                session,
                expired: *expired,
                expire_at: *expire_at,
                info: info.clone(),
                ..control::Refresh::default()
            }),
            UserAct::Subscribe(subscribe) => {
                Body::Subscribe(control::Subscribe { user, client, session, ..self.subscribe_message(subscribe) })
            }
        };
        self.cluster.messages.push(NodeMessage { to: None, body, teller });
        true
    }

    /// The other node is told what holds, not what differs from its namespace.
    fn subscribe_message(&self, subscribe: &ServerSubscribe) -> control::Subscribe {
        let options = self.options.channel.resolve(&subscribe.channel).map(|(_, options)| options);
        let Overrides { presence, join_leave, force_recovery, force_positioning, force_push_join_leave } =
            subscribe.overrides;
        let or = |own: Option<bool>, of: fn(&crate::namespace::ChannelOptions) -> bool| {
            own.unwrap_or_else(|| options.is_some_and(of))
        };
        control::Subscribe {
            channel: subscribe.channel.to_string(),
            emit_presence: or(presence, |options| options.presence),
            emit_join_leave: or(join_leave, |options| options.join_leave),
            push_join_leave: or(force_push_join_leave, |options| options.force_push_join_leave),
            recover: or(force_recovery, |options| options.force_recovery),
            position: or(force_positioning, |options| options.force_positioning),
            expire_at: subscribe.expire_at,
            channel_info: subscribe.info.clone(),
            data: subscribe.data.clone(),
            recover_since: subscribe
                .recover_since
                .as_ref()
                .map(|since| StreamPosition { offset: since.offset, epoch: since.epoch.to_string() }),
            source: SOURCE_SERVER_API,
            ..control::Subscribe::default()
        }
    }

    /// Another node asks or answers.
    pub(crate) fn handle_survey(&mut self, now: Now, command: control::Command) {
        match command.body {
            Some(Body::SurveyRequest(request)) => self.asked_by_node(now, command.uid, request),
            Some(Body::SurveyResponse(response)) => self.answered_by_node(now, &command.uid, response),
            _ => (),
        }
    }

    /// At a user's home, or anywhere for those without a name: a command that another node was called with.
    pub(crate) fn obey(&mut self, body: Body) {
        let Some((user, client, session, act)) = command(body) else { return };
        let is_nobody = user.is_empty();
        let command = UserCommand {
            origin: None,
            user: user.into(),
            client: client.into(),
            session: session.into(),
            act: Arc::new(act),
        };
        if is_nobody {
            for shard in self.post.shards().collect::<Vec<_>>() {
                self.post.send(shard, Message::UserAct(Box::new(command.clone())));
            }
            return;
        }
        self.relay_to_user(command);
    }
}

impl Compass {
    /// The shard that a question or an answer of another node is for. `None` for everything else, and for what nobody asked.
    pub fn addressee(&self, command: &control::Command) -> Option<ShardId> {
        match command.body.as_ref()? {
            // Any will do.
            Body::SurveyRequest(_) => Some(self.home(&command.uid)),
            Body::SurveyResponse(response) => Some(survey::place(response.id).0).filter(|shard| self.has(*shard)),
            _ => None,
        }
    }
}

/// User, client, session, and what to do. Nothing for what we cannot do as it is meant: by labels, or for all users.
fn command(body: Body) -> Option<(String, String, String, UserAct)> {
    Some(match body {
        Body::Unsubscribe(message) if message.label_filter.is_none() && !message.all_users => {
            let act = UserAct::Unsubscribe { channel: message.channel };
            (message.user, message.client, message.session, act)
        }
        Body::Disconnect(message) if message.label_filter.is_none() && !message.all_users => {
            let disconnect = Disconnect { code: message.code, reason: message.reason.into() };
            let act = UserAct::Disconnect { disconnect, whitelist: message.whitelist };
            (message.user, message.client, message.session, act)
        }
        Body::Refresh(message) if message.label_filter.is_none() && !message.all_users => {
            let act = UserAct::Refresh { expired: message.expired, expire_at: message.expire_at, info: message.info };
            (message.user, message.client, message.session, act)
        }
        Body::Subscribe(message) if message.label_filter.is_none() && !message.all_users => {
            let act = UserAct::Subscribe(ServerSubscribe {
                channel: message.channel.into(),
                info: message.channel_info,
                data: message.data,
                expire_at: message.expire_at,
                recover_since: message
                    .recover_since
                    .map(|since| Position { offset: since.offset, epoch: since.epoch.as_str().into() }),
                overrides: Overrides {
                    presence: Some(message.emit_presence),
                    join_leave: Some(message.emit_join_leave),
                    force_recovery: Some(message.recover),
                    force_positioning: Some(message.position),
                    force_push_join_leave: Some(message.push_join_leave),
                },
            });
            (message.user, message.client, message.session, act)
        }
        _ => return None,
    })
}
