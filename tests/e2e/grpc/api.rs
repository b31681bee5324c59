//! The server API over GRPC.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::client::Client;
use super::{KEY, Started, bytes, data};
use crate::client::{Client as WebSocket, token};
use crate::metrics::scrape_until;

const SERVICE: &str = "centrifugal.centrifugo.api.CentrifugoApi";

/// Calls every method there is, beside a client of user `u`.
#[track_caller]
fn check_methods(shards: u16) {
    let started = Started::new(shards);
    let grpc = started.client();
    let mut called = BTreeSet::new();
    let mut call = |method: &str, body: Value| {
        called.insert(method.to_owned());
        grpc.result(method, body)
    };
    let mut websocket =
        WebSocket::connect_with(started.server.address(), json!({"token": token(&json!({"sub": "u"}))}));
    websocket.subscribe("chat:a");

    let publish = json!({"channel": "chat:a", "data": data(&json!({"n": 1})), "tags": {"t": "x"}});
    assert_eq!(call("Publish", publish)["offset"], "1");
    let broadcast = call("Broadcast", json!({"channels": ["chat:a", "nosuch:x"], "data": data(&json!({"n": 2}))}));
    assert_eq!(broadcast["responses"][0]["result"]["offset"], "2", "{broadcast}");
    assert_eq!(broadcast["responses"][1]["error"]["code"], 102, "{broadcast}");
    assert_eq!(websocket.publication()["data"], json!({"n": 1}));
    assert_eq!(websocket.publication()["data"], json!({"n": 2}));

    let history = call("History", json!({"channel": "chat:a", "limit": 10}));
    assert_eq!(history["publications"][0]["data"], data(&json!({"n": 1})), "{history}");
    assert_eq!(history["publications"][0]["tags"], json!({"t": "x"}), "{history}");
    assert_eq!(history["publications"][1]["offset"], "2", "{history}");
    let since = json!({"offset": "1", "epoch": history["epoch"]});
    let history = call("History", json!({"channel": "chat:a", "limit": 10, "since": since}));
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(1), "{history}");
    call("HistoryRemove", json!({"channel": "chat:a"}));
    assert!(call("History", json!({"channel": "chat:a", "limit": 10})).get("publications").is_none());

    let presence = call("Presence", json!({"channel": "chat:a"}));
    assert_eq!(presence["presence"][&websocket.client]["user"], "u", "{presence}");
    let stats = call("PresenceStats", json!({"channel": "chat:a"}));
    assert_eq!(stats, json!({"numClients": 1, "numUsers": 1}));
    let channels = call("Channels", json!({"pattern": "chat:*"}));
    assert_eq!(channels["channels"]["chat:a"]["numClients"], 1, "{channels}");
    let info = call("Info", json!({}));
    assert_eq!(info["nodes"][0]["numClients"], 1, "{info}");

    call("Subscribe", json!({"channel": "short:b", "user": "u", "info": data(&json!({"i": 1}))}));
    websocket.push("subscribe");
    call("Unsubscribe", json!({"channel": "short:b", "user": "u"}));
    websocket.push("unsubscribe");
    let later =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later") + Duration::from_secs(900);
    call("Refresh", json!({"user": "u", "expireAt": later.as_secs().to_string()}));
    websocket.push("refresh");

    let replies = batch(&grpc);
    called.insert("Batch".to_owned());
    assert_eq!(replies[0]["publish"]["offset"], "3", "{replies}");
    assert_eq!(replies[1]["error"]["code"], 102, "{replies}");
    assert_eq!(replies[2]["presenceStats"]["numClients"], 1, "{replies}");

    called.insert("RPC".to_owned());
    let answer = grpc.call("RPC", json!({"method": "unknown", "params": bytes("1")})).expect("an answer");
    assert_eq!(answer["error"], json!({"code": 104, "message": "not found"}));

    called.insert("Disconnect".to_owned());
    grpc.result("Disconnect", json!({"user": "u", "disconnect": {"code": 4111, "reason": "over GRPC"}}));
    websocket.is_closed_with(4111, "a disconnect");
    assert_eq!(called, grpc.methods().into_iter().collect());
}

/// The replies of a batch.
#[track_caller]
fn batch(grpc: &Client) -> Value {
    let commands = json!([
        {"publish": {"channel": "chat:a", "data": data(&json!({"n": 3}))}},
        {"publish": {"channel": "nosuch:a", "data": data(&json!({"n": 3}))}},
        {"presence_stats": {"channel": "chat:a"}},
    ]);
    let answer = grpc.call("Batch", json!({"commands": commands})).expect("an answer");
    answer["replies"].clone()
}

/// A02
#[test]
fn every_method_is_served_on_one_shard() {
    check_methods(1);
}

/// A02
#[test]
fn every_method_is_served_on_four_shards() {
    check_methods(4);
}

#[test]
fn many_calls_of_one_connection_are_all_answered_and_counted() {
    const CALLS: usize = 3000;
    let started = Started::with(4, |config| config["prometheus"] = json!({"enabled": true}));
    let grpc = started.client();
    let answers = grpc.call_all(
        "Publish",
        (0..CALLS).map(|number| json!({"channel": format!("quiet:{}", number % 100), "data": data(&json!(number))})),
    );
    assert_eq!(answers.len(), CALLS);
    for answer in answers {
        assert!(answer.expect("an answer").get("error").is_none());
    }
    let name = r#"centrifugo_api_command_duration_seconds_histogram_count{method="publish",protocol="grpc"}"#;
    scrape_until(started.server.inside(), |samples| samples.get(name) == Some(&(CALLS as f64)));
}

#[test]
fn key_is_wanted_where_one_is_configured() {
    let started = Started::new(1);
    let publish = || json!({"channel": "chat:a", "data": bytes("1")});
    let client = || Client::connect(started.api);
    assert_eq!(client().refused("Publish", publish()), Code::Unauthenticated);
    for wrong in ["apikey", "apikey ", "apikey other", KEY, "Bearer grpc-key", "apikey grpc-key2"] {
        let client = client().with("authorization", wrong);
        assert_eq!(client.refused("Publish", publish()), Code::Unauthenticated, "{wrong}");
    }
    started.client().result("Publish", publish());

    let open = Started::with(1, |config| config["grpc_api"]["key"] = json!(""));
    Client::connect(open.api).result("Publish", publish());
}

/// A10. The reference answers each of them alike, as here with `wrong_key_limit` -1: a 0 in a file stands for the default.
#[test]
fn wrong_keys_run_out_and_the_right_one_passes() {
    let started = Started::new(4);
    let publish = || json!({"channel": "chat:a", "data": bytes("1")});
    let guess = |at| Client::connect(at).with("authorization", "apikey other").refused("Publish", publish());
    for number in 0..13 {
        let want = if number < 10 { Code::Unauthenticated } else { Code::ResourceExhausted };
        assert_eq!(guess(started.api), want, "guess {number}");
    }
    started.client().result("Publish", publish());

    let unlimited = Started::with(1, |config| config["grpc_api"]["wrong_key_limit"] = json!(-1));
    assert!((0..13).all(|_| guess(unlimited.api) == Code::Unauthenticated));
}

#[test]
fn errors_are_statuses_in_transport_mode() {
    let unknown = || json!({"channel": "nosuch:a", "data": bytes("1")});
    let started = Started::new(1);
    let answer = started.client().call("Publish", unknown()).expect("an answer");
    assert_eq!(answer, json!({"error": {"code": 102, "message": "unknown channel"}}));
    let asking = started.client().with("x-centrifugo-error-mode", "transport");
    let status = asking.call("Publish", unknown()).expect_err("a status");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown channel"));
    assert!(!status.details().is_empty());
    assert_eq!(batch(&asking)[1]["error"]["code"], 102);

    let configured = Started::with(1, |config| config["grpc_api"]["error_mode"] = json!("transport"));
    assert_eq!(configured.client().refused("Publish", unknown()), Code::NotFound);
}

#[test]
fn messages_that_are_too_long_are_refused() {
    let publish = |length: usize| json!({"channel": "quiet:a", "data": data(&json!("x".repeat(length)))});
    let started = Started::new(1);
    let grpc = started.client();
    grpc.result("Publish", publish(4_000_000));
    assert_eq!(grpc.refused("Publish", publish(4 << 20)), Code::ResourceExhausted);
    grpc.result("Publish", publish(10));

    let limited = Started::with(1, |config| config["grpc_api"]["max_receive_message_size"] = json!(1000));
    for grpc in [limited.client(), limited.client().compressing()] {
        grpc.result("Publish", publish(900));
        assert_eq!(grpc.refused("Publish", publish(1000)), Code::ResourceExhausted);
    }
}

#[test]
fn unknown_services_and_methods_are_unimplemented() {
    let started = Started::with(1, |config| config["grpc_api"]["reflection"] = json!(false));
    let grpc = started.client();
    assert_eq!(grpc.run(async |channel| reflect(channel, &[]).await).err(), Some(Code::Unimplemented));
    // The one port does not have the service of the other.
    assert_eq!(
        Client::connect(started.api).consume(json!({})).err().map(|status| status.code()),
        Some(Code::Unimplemented)
    );
    assert_eq!(Client::connect(started.uni).refused("Info", json!({})), Code::Unimplemented);
}

/// Asks the reflection service.
async fn reflect(channel: Channel, questions: &[MessageRequest]) -> Result<Vec<ServerReflectionResponse>, Code> {
    let requests = questions
        .iter()
        .cloned()
        .map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let mut client = ServerReflectionClient::new(channel);
    let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut answers = client.server_reflection_info(requests).await.map_err(|status| status.code())?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.map_err(|status| status.code())? {
        all.push(answer);
    }
    Ok(all)
}

/// A12
#[test]
fn client_that_knows_nothing_learns_everything_by_reflection() {
    let started = Started::new(1);
    let questions =
        [MessageRequest::ListServices(String::new()), MessageRequest::FileContainingSymbol(SERVICE.to_owned())];
    let grpc = started.client();
    let answers = grpc.run(async |channel| reflect(channel, &questions).await).expect("answers");
    let [services, files] = &answers[..] else { panic!("{answers:?}") };
    let Some(MessageResponse::ListServicesResponse(services)) = &services.message_response else {
        panic!("{services:?}")
    };
    assert!(services.service.iter().any(|service| service.name == SERVICE), "{services:?}");
    let Some(MessageResponse::FileDescriptorResponse(files)) = &files.message_response else { panic!("{files:?}") };
    let learned = grpc.described_by(files.file_descriptor_proto.clone());
    assert_eq!(learned.methods().len(), 14);
    let published = learned.result("Publish", json!({"channel": "chat:a", "data": bytes("1")}));
    assert_eq!(published["offset"], "1");
}
