//! Random messages of the client protocol: there and back in both encodings, against prost and serde_json.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message as _;
use ringcast_proto::client::*;
use ringcast_proto::codes::ReplyError;
use std::collections::BTreeMap;

/// The envelopes as the schema has them.
mod schema {
    use ringcast_proto::client::*;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Command {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(message, optional, tag = "4")]
        pub connect: Option<ConnectRequest>,
        #[prost(message, optional, tag = "5")]
        pub subscribe: Option<SubscribeRequest>,
        #[prost(message, optional, tag = "6")]
        pub unsubscribe: Option<UnsubscribeRequest>,
        #[prost(message, optional, tag = "7")]
        pub publish: Option<PublishRequest>,
        #[prost(message, optional, tag = "8")]
        pub presence: Option<PresenceRequest>,
        #[prost(message, optional, tag = "9")]
        pub presence_stats: Option<PresenceStatsRequest>,
        #[prost(message, optional, tag = "10")]
        pub history: Option<HistoryRequest>,
        #[prost(message, optional, tag = "11")]
        pub ping: Option<Empty>,
        #[prost(message, optional, tag = "12")]
        pub send: Option<SendRequest>,
        #[prost(message, optional, tag = "13")]
        pub rpc: Option<RpcRequest>,
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshRequest>,
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshRequest>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Push {
        #[prost(int64, tag = "1")]
        pub id: i64,
        #[prost(string, tag = "2")]
        pub channel: String,
        #[prost(message, optional, tag = "4")]
        pub r#pub: Option<Publication>,
        #[prost(message, optional, tag = "5")]
        pub join: Option<Join>,
        #[prost(message, optional, tag = "6")]
        pub leave: Option<Leave>,
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<Unsubscribe>,
        #[prost(message, optional, tag = "8")]
        pub message: Option<Message>,
        #[prost(message, optional, tag = "9")]
        pub subscribe: Option<Subscribe>,
        #[prost(message, optional, tag = "10")]
        pub connect: Option<Connect>,
        #[prost(message, optional, tag = "11")]
        pub disconnect: Option<Disconnect>,
        #[prost(message, optional, tag = "12")]
        pub refresh: Option<Refresh>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Reply {
        #[prost(uint32, tag = "1")]
        pub id: u32,
        #[prost(message, optional, tag = "2")]
        pub error: Option<Error>,
        #[prost(message, optional, tag = "4")]
        pub push: Option<Push>,
        #[prost(message, optional, tag = "5")]
        pub connect: Option<ConnectResult>,
        #[prost(message, optional, tag = "6")]
        pub subscribe: Option<SubscribeResult>,
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<Empty>,
        #[prost(message, optional, tag = "8")]
        pub publish: Option<Empty>,
        #[prost(message, optional, tag = "9")]
        pub presence: Option<PresenceResult>,
        #[prost(message, optional, tag = "10")]
        pub presence_stats: Option<PresenceStatsResult>,
        #[prost(message, optional, tag = "11")]
        pub history: Option<HistoryResult>,
        #[prost(message, optional, tag = "12")]
        pub ping: Option<Empty>,
        #[prost(message, optional, tag = "13")]
        pub rpc: Option<RpcResult>,
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshResult>,
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshResult>,
    }
}

fn schema_command(command: &Command) -> schema::Command {
    let mut out = schema::Command { id: command.id, ..Default::default() };
    match command.request.clone() {
        Some(Request::Connect(request)) => out.connect = Some(*request),
        Some(Request::Subscribe(request)) => out.subscribe = Some(*request),
        Some(Request::Unsubscribe(request)) => out.unsubscribe = Some(request),
        Some(Request::Publish(request)) => out.publish = Some(request),
        Some(Request::Presence(request)) => out.presence = Some(request),
        Some(Request::PresenceStats(request)) => out.presence_stats = Some(request),
        Some(Request::History(request)) => out.history = Some(request),
        Some(Request::Rpc(request)) => out.rpc = Some(request),
        Some(Request::Send(request)) => out.send = Some(request),
        Some(Request::Refresh(request)) => out.refresh = Some(request),
        Some(Request::SubRefresh(request)) => out.sub_refresh = Some(request),
        Some(Request::Ping) => out.ping = Some(Empty {}),
        None => {}
    }
    out
}

fn schema_push(push: &Push) -> schema::Push {
    let mut out = schema::Push { id: push.id, channel: push.channel.clone(), ..Default::default() };
    match push.body.clone() {
        PushBody::Pub(body) => out.r#pub = Some(body),
        PushBody::Join(body) => out.join = Some(body),
        PushBody::Leave(body) => out.leave = Some(body),
        PushBody::Unsubscribe(body) => out.unsubscribe = Some(body),
        PushBody::Message(body) => out.message = Some(body),
        PushBody::Subscribe(body) => out.subscribe = Some(body),
        PushBody::Connect(body) => out.connect = Some(*body),
        PushBody::Disconnect(body) => out.disconnect = Some(body),
        PushBody::Refresh(body) => out.refresh = Some(body),
    }
    out
}

fn schema_reply(reply: &Reply) -> schema::Reply {
    let mut out = schema::Reply::default();
    match reply.clone() {
        Reply::Ping => {}
        Reply::Push(push) => out.push = Some(schema_push(&push)),
        Reply::Error { id, error } => {
            out.id = id;
            out.error = Some((&error).into());
        }
        Reply::Result { id, result } => {
            out.id = id;
            match result {
                ReplyResult::Connect(result) => out.connect = Some(*result),
                ReplyResult::Subscribe(result) => out.subscribe = Some(*result),
                ReplyResult::Unsubscribe => out.unsubscribe = Some(Empty {}),
                ReplyResult::Publish => out.publish = Some(Empty {}),
                ReplyResult::Presence(result) => out.presence = Some(result),
                ReplyResult::PresenceStats(result) => out.presence_stats = Some(result),
                ReplyResult::History(result) => out.history = Some(result),
                ReplyResult::Ping => out.ping = Some(Empty {}),
                ReplyResult::Rpc(result) => out.rpc = Some(result),
                ReplyResult::Refresh(result) => out.refresh = Some(result),
                ReplyResult::SubRefresh(result) => out.sub_refresh = Some(result),
            }
        }
    }
    out
}

/// A payload that both encodings can carry: no newline, for JSON leaves them out.
fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        any::<i64>().prop_map(|number| number.to_string().into()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("text is JSON").into()),
        "[a-z]{0,5}".prop_map(|key| format!("{{\"{key}\": [1, null,true ,{{}}]}}").into()),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z:#$]{1,12}", any::<String>()]
}

fn tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn info() -> impl Strategy<Value = Option<ClientInfo>> {
    prop::option::of(
        (text(), text(), payload(), payload()).prop_map(|(user, client, conn_info, chan_info)| ClientInfo {
            user,
            client,
            conn_info,
            chan_info,
        }),
    )
}

fn publication() -> impl Strategy<Value = Publication> {
    let first = (payload(), info(), any::<u64>(), tags(), any::<bool>(), any::<i64>());
    let second = (text(), text(), any::<bool>(), any::<i64>(), text(), any::<u64>());
    (first, second).prop_map(
        |((data, info, offset, tags, delta, time), (channel, key, removed, score, epoch, version))| Publication {
            data,
            info,
            offset,
            tags,
            delta,
            time,
            channel,
            key,
            removed,
            score,
            epoch,
            prev_data: Bytes::new(),
            version,
        },
    )
}

fn filter() -> impl Strategy<Value = FilterNode> {
    let leaf = (text(), text(), text(), vec(text(), 0..3)).prop_map(|(key, cmp, val, vals)| FilterNode {
        op: String::new(),
        key,
        cmp,
        val,
        vals,
        nodes: Vec::new(),
    });
    leaf.prop_recursive(4, 16, 3, |inner| {
        (text(), vec(inner, 1..3)).prop_map(|(op, nodes)| FilterNode { op, nodes, ..Default::default() })
    })
}

fn subscribe_request() -> impl Strategy<Value = SubscribeRequest> {
    let first = (text(), text(), any::<[bool; 5]>(), text(), any::<u64>(), payload());
    let second = (text(), prop::option::of(filter()), any::<i64>(), any::<[i32; 3]>(), text());
    (first, second).prop_map(|((channel, token, bits, epoch, offset, data), (delta, tf, flag, numbers, cursor))| {
        SubscribeRequest {
            channel,
            token,
            recover: bits[0],
            epoch,
            offset,
            data,
            positioned: bits[1],
            recoverable: bits[2],
            join_leave: bits[3],
            delta,
            tf,
            flag,
            r#type: numbers[0],
            phase: numbers[1],
            cursor,
            limit: numbers[2],
            asc: bits[4],
        }
    })
}

fn subscribe_result() -> impl Strategy<Value = SubscribeResult> {
    let first = (any::<[bool; 6]>(), any::<[u32; 2]>(), text(), vec(publication(), 0..3), any::<u64>(), payload());
    let second = (any::<i64>(), any::<[i32; 2]>(), text(), vec(publication(), 0..2));
    (first, second).prop_map(|((bits, times, epoch, publications, offset, data), (id, numbers, cursor, state))| {
        SubscribeResult {
            expires: bits[0],
            ttl: times[0],
            recoverable: bits[1],
            epoch,
            publications,
            recovered: bits[2],
            offset,
            positioned: bits[3],
            data,
            was_recovering: bits[4],
            delta: bits[5],
            id,
            r#type: numbers[0],
            phase: numbers[1],
            cursor,
            state,
            publish_debounce: times[1],
        }
    })
}

fn connect_request() -> impl Strategy<Value = ConnectRequest> {
    let first = (text(), payload(), btree_map(text(), subscribe_request(), 0..2), text(), text());
    let second = (tags(), any::<i64>(), text(), text());
    (first, second).prop_map(|((token, data, subs, name, version), (headers, flag, dict, profile))| ConnectRequest {
        token,
        data,
        subs,
        name,
        version,
        headers,
        flag,
        dict,
        profile,
    })
}

fn connect_result() -> impl Strategy<Value = ConnectResult> {
    let first =
        (text(), text(), any::<[bool; 2]>(), any::<[u32; 2]>(), payload(), btree_map(text(), subscribe_result(), 0..2));
    let second = (text(), text(), any::<[i64; 2]>(), prop::option::of((text(), text())));
    (first, second).prop_map(|((client, version, bits, times, data, subs), (session, node, numbers, dict))| {
        ConnectResult {
            client,
            version,
            expires: bits[0],
            ttl: times[0],
            data,
            subs,
            ping: times[1],
            pong: bits[1],
            session,
            node,
            time: numbers[0],
            flag: numbers[1],
            dict: dict.map(|(id, data_b64)| Dictionary { id, data: Bytes::new(), data_b64 }),
        }
    })
}

fn connect_push() -> impl Strategy<Value = Connect> {
    connect_result().prop_map(|result| Connect {
        client: result.client,
        version: result.version,
        data: result.data,
        subs: result.subs,
        expires: result.expires,
        ttl: result.ttl,
        ping: result.ping,
        pong: result.pong,
        session: result.session,
        node: result.node,
        time: result.time,
    })
}

fn sub_refresh_request() -> impl Strategy<Value = SubRefreshRequest> {
    let item = (text(), any::<u64>()).prop_map(|(key, version)| KeyedItem { key, version });
    let batch = (text(), vec(item, 0..3)).prop_map(|(signature, items)| TrackBatch { signature, items });
    (text(), text(), any::<i32>(), vec(batch, 0..3), vec(text(), 0..3)).prop_map(
        |(channel, token, kind, track, untrack)| SubRefreshRequest { channel, token, r#type: kind, track, untrack },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let position = (any::<u64>(), text()).prop_map(|(offset, epoch)| StreamPosition { offset, epoch });
    prop_oneof![
        connect_request().prop_map(|request| Request::Connect(Box::new(request))),
        subscribe_request().prop_map(|request| Request::Subscribe(Box::new(request))),
        text().prop_map(|channel| Request::Unsubscribe(UnsubscribeRequest { channel })),
        (text(), payload(), any::<i32>(), text(), any::<bool>()).prop_map(|(channel, data, kind, key, removed)| {
            Request::Publish(PublishRequest { channel, data, r#type: kind, key, removed })
        }),
        text().prop_map(|channel| Request::Presence(PresenceRequest { channel })),
        text().prop_map(|channel| Request::PresenceStats(PresenceStatsRequest { channel })),
        (text(), any::<i32>(), prop::option::of(position), any::<bool>()).prop_map(
            |(channel, limit, since, reverse)| { Request::History(HistoryRequest { channel, limit, since, reverse }) }
        ),
        (payload(), text()).prop_map(|(data, method)| Request::Rpc(RpcRequest { data, method })),
        payload().prop_map(|data| Request::Send(SendRequest { data })),
        text().prop_map(|token| Request::Refresh(RefreshRequest { token })),
        sub_refresh_request().prop_map(Request::SubRefresh),
        Just(Request::Ping),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    (any::<u32>(), prop::option::of(request())).prop_map(|(id, request)| Command { id, request })
}

fn history_result() -> impl Strategy<Value = HistoryResult> {
    (vec(publication(), 0..4), text(), any::<u64>()).prop_map(|(publications, epoch, offset)| HistoryResult {
        publications,
        epoch,
        offset,
    })
}

fn result() -> impl Strategy<Value = ReplyResult> {
    let refresh = (text(), text(), any::<bool>(), any::<u32>());
    prop_oneof![
        connect_result().prop_map(|result| ReplyResult::Connect(Box::new(result))),
        subscribe_result().prop_map(|result| ReplyResult::Subscribe(Box::new(result))),
        Just(ReplyResult::Unsubscribe),
        Just(ReplyResult::Publish),
        btree_map(text(), info().prop_map(Option::unwrap_or_default), 0..3)
            .prop_map(|presence| ReplyResult::Presence(PresenceResult { presence })),
        any::<[u32; 2]>().prop_map(|[num_clients, num_users]| {
            ReplyResult::PresenceStats(PresenceStatsResult { num_clients, num_users })
        }),
        history_result().prop_map(ReplyResult::History),
        Just(ReplyResult::Ping),
        payload().prop_map(|data| ReplyResult::Rpc(RpcResult { data })),
        refresh.prop_map(|(client, version, expires, ttl)| {
            ReplyResult::Refresh(RefreshResult { client, version, expires, ttl })
        }),
        (any::<bool>(), any::<u32>(), vec(publication(), 0..3))
            .prop_map(|(expires, ttl, items)| { ReplyResult::SubRefresh(SubRefreshResult { expires, ttl, items }) }),
    ]
}

fn push() -> impl Strategy<Value = Push> {
    let body = prop_oneof![
        publication().prop_map(PushBody::Pub),
        info().prop_map(|info| PushBody::Join(Join { info })),
        info().prop_map(|info| PushBody::Leave(Leave { info })),
        (any::<u32>(), text()).prop_map(|(code, reason)| PushBody::Unsubscribe(Unsubscribe { code, reason })),
        payload().prop_map(|data| PushBody::Message(Message { data })),
        (any::<[bool; 2]>(), text(), any::<u64>(), payload()).prop_map(|(bits, epoch, offset, data)| {
            PushBody::Subscribe(Subscribe { recoverable: bits[0], epoch, offset, positioned: bits[1], data })
        }),
        connect_push().prop_map(|body| PushBody::Connect(Box::new(body))),
        (any::<u32>(), text(), any::<bool>())
            .prop_map(|(code, reason, reconnect)| { PushBody::Disconnect(Disconnect { code, reason, reconnect }) }),
        (any::<bool>(), any::<u32>()).prop_map(|(expires, ttl)| PushBody::Refresh(Refresh { expires, ttl })),
    ];
    (text(), body, any::<i64>()).prop_map(|(channel, body, id)| Push { channel, body, id })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        1 => Just(Reply::Ping),
        2 => (any::<u32>(), any::<u32>(), text(), any::<bool>()).prop_map(|(id, code, message, temporary)| {
            Reply::Error { id, error: ReplyError { code, message: message.into(), temporary } }
        }),
        6 => (any::<u32>(), result()).prop_map(|(id, result)| Reply::Result { id, result }),
        6 => push().prop_map(Reply::Push),
    ]
}

/// Joins messages to a frame as a transport does.
fn join<M>(encoding: Encoding, messages: &[M], mut encode: impl FnMut(&M, &mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    for message in messages {
        if encoding == Encoding::Json && !frame.is_empty() {
            frame.push(b'\n');
        }
        encode(message, &mut frame);
    }
    frame
}

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

fn slices(bodies: &[Bytes]) -> Vec<&[u8]> {
    bodies.iter().map(|body| &body[..]).collect()
}

proptest! {
    /// R01, R02
    #[test]
    fn commands_come_back(commands in vec(command(), 1..4)) {
        for encoding in ENCODINGS {
            let frame = join(encoding, &commands, |command, out| encode_command(encoding, command, out));
            let got: Result<Vec<_>, _> = decode_commands(encoding, &frame).collect();
            prop_assert_eq!(got.as_deref(), Ok(&commands[..]), "{:?} {}", encoding, String::from_utf8_lossy(&frame));
        }
    }

    #[test]
    fn replies_come_back(replies in vec(reply(), 1..4)) {
        for encoding in ENCODINGS {
            let frame = join(encoding, &replies, |reply, out| encode_reply(encoding, reply, out).unwrap());
            let got: Result<Vec<_>, _> = decode_replies(encoding, &frame).collect();
            prop_assert_eq!(got.as_deref(), Ok(&replies[..]), "{:?} {}", encoding, String::from_utf8_lossy(&frame));
        }
    }

    #[test]
    fn envelopes_equal_those_of_prost(command in command(), reply in reply(), push in push()) {
        let mut out = Vec::new();
        encode_command(Encoding::Protobuf, &command, &mut out);
        prop_assert_eq!(&out, &schema_command(&command).encode_length_delimited_to_vec());
        out.clear();
        encode_reply(Encoding::Protobuf, &reply, &mut out).unwrap();
        prop_assert_eq!(&out, &schema_reply(&reply).encode_length_delimited_to_vec());
        out.clear();
        encode_uni_push(Encoding::Protobuf, Some(&push), &mut out).unwrap();
        prop_assert_eq!(&out, &schema_push(&push).encode_length_delimited_to_vec());
    }

    #[test]
    fn json_is_json_on_one_line(reply in reply(), command in command()) {
        let mut lines = [Vec::new(), Vec::new()];
        encode_reply(Encoding::Json, &reply, &mut lines[0]).unwrap();
        encode_command(Encoding::Json, &command, &mut lines[1]);
        for line in lines {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok(), "{}", String::from_utf8_lossy(&line));
            prop_assert!(!line.contains(&b'\n'));
        }
    }

    #[test]
    fn a_publication_encoded_once_gives_the_same_pushes(channel in text(), publication in publication()) {
        for encoding in ENCODINGS {
            let body = encode_publication(encoding, &publication).unwrap();
            let push = Push { channel: channel.clone(), body: PushBody::Pub(publication.clone()), id: 0 };
            let (mut once, mut whole) = (Vec::new(), Vec::new());
            encode_publication_push(encoding, &channel, &body, &mut once);
            encode_reply(encoding, &Reply::Push(push.clone()), &mut whole).unwrap();
            prop_assert_eq!(&once, &whole);
            once.clear();
            whole.clear();
            encode_uni_publication_push(encoding, &channel, &body, &mut once);
            encode_uni_push(encoding, Some(&push), &mut whole).unwrap();
            prop_assert_eq!(&once, &whole);
        }
    }

    #[test]
    fn encoded_publications_give_the_same_results(id: u32, connect in connect_result(), subscribe in subscribe_result(), history in history_result()) {
        for encoding in ENCODINGS {
            let encode = |publications: &[Publication]| -> Vec<Bytes> {
                publications.iter().map(|publication| encode_publication(encoding, publication).unwrap()).collect()
            };
            let encoded = (encode(&subscribe.publications), encode(&history.publications));
            let (mut once, mut whole) = (Vec::new(), Vec::new());
            encode_subscribe_result(encoding, id, &subscribe, &slices(&encoded.0), &mut once).unwrap();
            let result = ReplyResult::Subscribe(Box::new(subscribe.clone()));
            encode_reply(encoding, &Reply::Result { id, result }, &mut whole).unwrap();
            prop_assert_eq!(&once, &whole);
            once.clear();
            whole.clear();
            let subs = connect.subs.iter().map(|(channel, result)| {
                let mut encoded = Vec::new();
                encode_subscription(encoding, result, &slices(&encode(&result.publications)), &mut encoded).unwrap();
                (channel.clone(), encoded)
            });
            encode_connect_result(encoding, id, &connect, &subs.collect(), &mut once).unwrap();
            let result = ReplyResult::Connect(Box::new(connect.clone()));
            encode_reply(encoding, &Reply::Result { id, result }, &mut whole).unwrap();
            prop_assert_eq!(&once, &whole);
            once.clear();
            whole.clear();
            encode_history_result(encoding, id, &history, &slices(&encoded.1), &mut once);
            let result = ReplyResult::History(history.clone());
            encode_reply(encoding, &Reply::Result { id, result }, &mut whole).unwrap();
            prop_assert_eq!(&once, &whole);
        }
    }

    #[test]
    fn damaged_frames_never_panic(commands in vec(command(), 1..3), replies in vec(reply(), 1..3), flips in vec(any::<(prop::sample::Index, u8)>(), 1..4)) {
        for encoding in ENCODINGS {
            let mut frame = join(encoding, &commands, |command, out| encode_command(encoding, command, out));
            frame.extend(join(encoding, &replies, |reply, out| encode_reply(encoding, reply, out).unwrap()));
            for (at, byte) in &flips {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            decode_commands(encoding, &frame).count();
            decode_replies(encoding, &frame).count();
        }
    }
}
