//! Label values that are known beforehand, as numbers that index arrays of counters. Source: metrics §1.1.

use ringcast_proto::client::{Command, PushBody, Reply, ReplyResult, Request};

/// Declares an enum whose variants are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the label value of its name")]
        pub enum $name {
            $($variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

labels! {
    /// How a call of the server API came: label `protocol`.
    ApiProtocol {
        Http "http",
        Grpc "grpc",
    }
}

labels! {
    /// What a message to or from a client is: label `frame_type`, and for commands `method`.
    FrameType {
        ServerPing "server_ping",
        ClientPong "client_pong",
        PushConnect "push_connect",
        PushSubscribe "push_subscribe",
        PushPublication "push_publication",
        PushJoin "push_join",
        PushLeave "push_leave",
        PushUnsubscribe "push_unsubscribe",
        PushMessage "push_message",
        PushRefresh "push_refresh",
        PushDisconnect "push_disconnect",
        Connect "connect",
        Subscribe "subscribe",
        Unsubscribe "unsubscribe",
        Publish "publish",
        Presence "presence",
        PresenceStats "presence_stats",
        History "history",
        Rpc "rpc",
        Send "send",
        Refresh "refresh",
        SubRefresh "sub_refresh",
        Unknown "unknown",
    }
}

labels! {
    /// What a node does, label `action`.
    Action {
        AddClient "add_client",
        RemoveClient "remove_client",
        AddSubscription "add_subscription",
        RemoveSubscription "remove_subscription",
        BrokerSubscribe "broker_subscribe",
        BrokerUnsubscribe "broker_unsubscribe",
        AddPresence "add_presence",
        RemovePresence "remove_presence",
        Presence "presence",
        PresenceStats "presence_stats",
        History "history",
        HistoryRecover "history_recover",
        HistoryRecoverCache "history_recover_cache",
        HistoryStreamTop "history_stream_top",
        HistoryRemove "history_remove",
        Survey "survey",
    }
}

labels! {
    /// What is sent through the broker, label `type`. With the memory engine the home of a channel is its broker.
    BrokerMessage {
        Publication "publication",
        Join "join",
        Leave "leave",
        Control "control",
    }
}

labels! {
    /// Why a publication was not published, label `reason`.
    Suppressed {
        Idempotency "idempotency",
        Version "version",
    }
}

impl FrameType {
    /// Those that a client may ask for: values of label `method`, shown from the start.
    pub const METHODS: &'static [FrameType] = &[
        FrameType::Connect,
        FrameType::Subscribe,
        FrameType::Unsubscribe,
        FrameType::Publish,
        FrameType::Presence,
        FrameType::PresenceStats,
        FrameType::History,
        FrameType::Rpc,
        FrameType::Send,
        FrameType::Refresh,
        FrameType::SubRefresh,
        FrameType::Unknown,
    ];

    /// Of a message of a client.
    pub(crate) fn of_command(command: &Command) -> Self {
        match &command.request {
            Some(Request::Send(_)) => FrameType::Send,
            _ if command.id == 0 => FrameType::ClientPong,
            None | Some(Request::Ping) => FrameType::Unknown,
            Some(Request::Connect(_)) => FrameType::Connect,
            Some(Request::Subscribe(_)) => FrameType::Subscribe,
            Some(Request::Unsubscribe(_)) => FrameType::Unsubscribe,
            Some(Request::Publish(_)) => FrameType::Publish,
            Some(Request::Presence(_)) => FrameType::Presence,
            Some(Request::PresenceStats(_)) => FrameType::PresenceStats,
            Some(Request::History(_)) => FrameType::History,
            Some(Request::Rpc(_)) => FrameType::Rpc,
            Some(Request::Refresh(_)) => FrameType::Refresh,
            Some(Request::SubRefresh(_)) => FrameType::SubRefresh,
        }
    }

    /// Of a message to a client, but for errors, which do not say to what.
    pub(crate) fn of_reply(reply: &Reply) -> Self {
        match reply {
            Reply::Ping => FrameType::ServerPing,
            Reply::Error { .. } => FrameType::Unknown,
            Reply::Result { result, .. } => match result {
                ReplyResult::Connect(_) => FrameType::Connect,
                ReplyResult::Subscribe(_) => FrameType::Subscribe,
                ReplyResult::Unsubscribe => FrameType::Unsubscribe,
                ReplyResult::Publish => FrameType::Publish,
                ReplyResult::Presence(_) => FrameType::Presence,
                ReplyResult::PresenceStats(_) => FrameType::PresenceStats,
                ReplyResult::History(_) => FrameType::History,
                ReplyResult::Ping => FrameType::Unknown,
                ReplyResult::Rpc(_) => FrameType::Rpc,
                ReplyResult::Refresh(_) => FrameType::Refresh,
                ReplyResult::SubRefresh(_) => FrameType::SubRefresh,
            },
            Reply::Push(push) => Self::of_push(&push.body),
        }
    }

    /// Of a push.
    pub(crate) fn of_push(body: &PushBody) -> Self {
        match body {
            PushBody::Pub(_) => FrameType::PushPublication,
            PushBody::Join(_) => FrameType::PushJoin,
            PushBody::Leave(_) => FrameType::PushLeave,
            PushBody::Unsubscribe(_) => FrameType::PushUnsubscribe,
            PushBody::Message(_) => FrameType::PushMessage,
            PushBody::Subscribe(_) => FrameType::PushSubscribe,
            PushBody::Connect(_) => FrameType::PushConnect,
            PushBody::Disconnect(_) => FrameType::PushDisconnect,
            PushBody::Refresh(_) => FrameType::PushRefresh,
        }
    }
}
