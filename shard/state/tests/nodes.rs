//! What a shard asks other nodes and answers them.

use ringcast_proto::api::{ApiResult, ChannelInfo, ChannelsRequest, DisconnectRequest, NodeResult, Request};
use ringcast_proto::client::{EmulationRequest, Encoding};
use ringcast_proto::control::survey::{self, OP_CHANNELS, OP_EMULATION, emulation_codes};
use ringcast_proto::control::{Body, Command, SurveyRequest, SurveyResponse, survey_codes};
use ringcast_state::broker::{BrokerNews, NodeMessage, Teller};
use ringcast_state::metrics::ApiProtocol;
use ringcast_state::{ApiCallId, Compass, ConnectionId, EmulationError, Now, Options, Seeds, Shard, ShardId, Time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Now = Now { at: Time(1), unix_ms: 1_700_000_000_000 };
const HOME: u64 = 1;
/// Of a call over HTTP.
const CALL: ApiCallId = ApiCallId { connection: ConnectionId { slot: 7, generation: 0 }, sequence: 1 };

/// The only shard of a node that knows these others.
fn shard(others: &[&str]) -> Shard {
    let options = Options { has_broker: true, ..Options::default() };
    let mut shard = Shard::new(ShardId(0), 1, Arc::new(options), Seeds { home: HOME, shard: [7; 32] }, NOW);
    let node = |uid: &&str| NodeResult { uid: (*uid).to_owned(), ..NodeResult::default() };
    shard.handle_broker(NOW, vec![BrokerNews::Nodes(others.iter().map(node).collect())]);
    shard
}

fn ask(shard: &mut Shard, pattern: &str) {
    let request = ChannelsRequest { pattern: pattern.to_owned() };
    shard.handle_request(NOW, 0, ApiProtocol::Grpc, Request::Channels(request));
}

/// What was asked of the other nodes: to whom, id, name and data.
fn asked(shard: &mut Shard) -> (Option<String>, SurveyRequest) {
    match shard.take_node_messages().pop() {
        Some(NodeMessage { to, body: Body::SurveyRequest(request), .. }) => (to, request),
        other => panic!("no question: {other:?}"),
    }
}

fn hear(shard: &mut Shard, uid: &str, body: Body) {
    let command = Command { uid: uid.into(), body: Some(body) };
    assert_eq!(Compass::new(HOME, 1).addressee(&command), Some(ShardId(0)));
    shard.handle_broker(NOW, vec![BrokerNews::Survey(Box::new(command))]);
}

fn answer(shard: &mut Shard, uid: &str, id: u64, code: u32, channels: &[(&str, u32)]) {
    let channels = channels.iter().map(|(name, count)| ((*name).to_owned(), ChannelInfo { num_clients: *count }));
    let data = survey::encode_channels(channels.collect()).into();
    hear(shard, uid, Body::SurveyResponse(SurveyResponse { id, code, data }));
}

/// Channels of the answer, or the code of the error; `None` while it is awaited.
fn outcome(shard: &mut Shard) -> Option<Result<BTreeMap<String, u32>, u32>> {
    let (_, outcome) = shard.take_outcome()?;
    Some(match outcome {
        Ok(ApiResult::Channels(result)) => {
            Ok(result.channels.into_iter().map(|(name, info)| (name, info.num_clients)).collect())
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    })
}

fn sums(channels: &[(&str, u32)]) -> Option<Result<BTreeMap<String, u32>, u32>> {
    Some(Ok(channels.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()))
}

/// E13
#[test]
fn subscribers_of_all_nodes_are_added_up_once_each() {
    let mut shard = shard(&["a", "b"]);
    ask(&mut shard, "x*");
    let (to, request) = asked(&mut shard);
    assert_eq!((to, &*request.op), (None, OP_CHANNELS));
    assert_eq!(survey::decode_channels(&request.data).as_deref(), Some("x*"));
    answer(&mut shard, "a", request.id, 0, &[("x1", 2), ("x2", 1)]);
    answer(&mut shard, "a", request.id, 0, &[("x1", 2)]);
    answer(&mut shard, "stranger", request.id, 0, &[("x1", 2)]);
    answer(&mut shard, "b", request.id + 1, 0, &[("x1", 2)]);
    assert_eq!(outcome(&mut shard), None);
    answer(&mut shard, "b", request.id, 0, &[("x1", 3)]);
    assert_eq!(outcome(&mut shard), sums(&[("x1", 5), ("x2", 1)]));
    answer(&mut shard, "b", request.id, 0, &[("x1", 3)]);
    assert_eq!(outcome(&mut shard), None);
}

/// E13
#[test]
fn node_that_leaves_is_not_awaited_and_one_that_is_silent_fails_the_call() {
    let mut shard = shard(&["a", "b"]);
    ask(&mut shard, "");
    let (_, request) = asked(&mut shard);
    answer(&mut shard, "a", request.id, 0, &[("x", 1)]);
    shard.handle_broker(NOW, vec![BrokerNews::Left("b".into())]);
    assert_eq!(outcome(&mut shard), sums(&[("x", 1)]));

    ask(&mut shard, "");
    let (_, request) = asked(&mut shard);
    answer(&mut shard, "a", request.id, survey_codes::INTERNAL_ERROR, &[]);
    assert_eq!(outcome(&mut shard), Some(Err(100)));

    ask(&mut shard, "");
    let later = |seconds| Now { at: NOW.at + Duration::from_secs(seconds), ..NOW };
    shard.handle_timeout(later(10));
    assert_eq!(outcome(&mut shard), None);
    shard.handle_timeout(later(11));
    assert_eq!(outcome(&mut shard), Some(Err(100)));
}

/// E13
#[test]
fn calls_that_wait_for_nodes_are_bounded() {
    let mut shard = shard(&["a"]);
    (0..64).for_each(|_| ask(&mut shard, ""));
    assert_eq!(outcome(&mut shard), None);
    ask(&mut shard, "");
    assert_eq!(outcome(&mut shard), Some(Err(100)));
    shard.handle_broker(NOW, vec![BrokerNews::Left("a".into())]);
    (0..64).for_each(|_| assert_eq!(outcome(&mut shard), sums(&[])));
    ask(&mut shard, "");
    assert_eq!(outcome(&mut shard), None, "there is room again");
}

/// Who wants to know whether the broker took the only message.
fn teller(shard: &mut Shard) -> Teller {
    match &shard.take_node_messages()[..] {
        [NodeMessage { teller: Some(teller), .. }] => *teller,
        other => panic!("{other:?}"),
    }
}

/// E13
#[test]
fn what_other_nodes_cannot_be_told_or_asked_fails_at_once() {
    let mut shard = shard(&["a"]);
    ask(&mut shard, "");
    let question = teller(&mut shard);
    shard.handle_broker(NOW, vec![BrokerNews::Told(question, false)]);
    assert_eq!(outcome(&mut shard), Some(Err(100)));

    let disconnect =
        || Request::Disconnect(Box::new(DisconnectRequest { user: "u".into(), ..DisconnectRequest::default() }));
    for is_told in [true, false] {
        shard.handle_request(NOW, 0, ApiProtocol::Grpc, disconnect());
        assert!(shard.take_outcome().is_none());
        let command = teller(&mut shard);
        shard.handle_broker(NOW, vec![BrokerNews::Told(command, is_told), BrokerNews::Told(command, is_told)]);
        let (_, outcome) = shard.take_outcome().expect("it is over");
        assert_eq!(outcome.map_err(|error| error.code), if is_told { Ok(ApiResult::Disconnect) } else { Err(100) });
        assert!(shard.take_outcome().is_none());
    }
    let nobody = shard.forward_emulation(
        NOW,
        CALL,
        Encoding::Json,
        &EmulationRequest { node: "a".into(), ..EmulationRequest::default() },
    );
    assert_eq!(nobody, Ok(()));
    let commands = teller(&mut shard);
    shard.handle_broker(NOW, vec![BrokerNews::Told(commands, false)]);
    assert_eq!(shard.take_api_answer().map(|answer| (answer.call, answer.status)), Some((CALL, 500)));
}

/// E13, E14
#[test]
fn questions_of_other_nodes_get_one_answer_each() {
    let mut shard = shard(&["a"]);
    let emulation =
        |session: &str| EmulationRequest { node: String::new(), session: session.into(), data: r#""{}""#.into() };
    let pattern = survey::channels;
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (op, data, code) in [
        (OP_CHANNELS, pattern(""), 0),
        (OP_CHANNELS, pattern("["), survey_codes::INVALID_REQUEST),
        (OP_CHANNELS, vec![0xff], survey_codes::INVALID_REQUEST),
        (OP_EMULATION, vec![0xff], emulation_codes::BAD_REQUEST),
        (OP_EMULATION, survey::emulation(Encoding::Json, &emulation("x")), emulation_codes::NO_SESSION),
        (OP_EMULATION, survey::emulation(Encoding::Json, &emulation(nobody)), emulation_codes::NO_SESSION),
        ("connections", Vec::new(), survey_codes::METHOD_NOT_FOUND),
    ] {
        hear(&mut shard, "a", Body::SurveyRequest(SurveyRequest { id: 9, op: op.into(), data: data.into() }));
        let body = Body::SurveyResponse(SurveyResponse { id: 9, code, ..SurveyResponse::default() });
        assert_eq!(shard.take_node_messages(), [NodeMessage { to: Some("a".into()), body, teller: None }], "{op}");
    }
}

/// T10
#[test]
fn commands_for_another_node_are_answered_when_it_has_them() {
    let mut shard = shard(&["a"]);
    let request = |node: &str| EmulationRequest { node: node.into(), session: "s".into(), data: "{\"id\":1}".into() };
    let unknown = shard.forward_emulation(NOW, CALL, Encoding::Json, &request("b"));
    assert_eq!(unknown, Err(EmulationError::UnknownNode));
    let status = |shard: &mut Shard| shard.take_api_answer().map(|answer| (answer.call, answer.status));
    for (answers, expected) in [(true, 204), (false, 500)] {
        assert_eq!(shard.forward_emulation(NOW, CALL, Encoding::Json, &request("a")), Ok(()));
        let (to, survey) = asked(&mut shard);
        assert_eq!((to.as_deref(), &*survey.op), (Some("a"), OP_EMULATION));
        let passed = survey::decode_emulation(&survey.data).expect("as it is sent");
        assert_eq!(passed.data, r#""{\"id\":1}""#, "a JSON string");
        assert_eq!(status(&mut shard), None);
        if answers {
            answer(&mut shard, "b", survey.id, 0, &[]);
            assert_eq!(status(&mut shard), None, "not from there");
            answer(&mut shard, "a", survey.id, emulation_codes::NO_SESSION, &[]);
        } else {
            shard.handle_timeout(Now { at: NOW.at + Duration::from_secs(11), ..NOW });
        }
        assert_eq!(status(&mut shard), Some((CALL, expected)));
    }
    (0..1024).for_each(|_| assert_eq!(shard.forward_emulation(NOW, CALL, Encoding::Json, &request("a")), Ok(())));
    assert_eq!(shard.forward_emulation(NOW, CALL, Encoding::Json, &request("a")), Err(EmulationError::Busy));
}
