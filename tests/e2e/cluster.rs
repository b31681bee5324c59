//! Several nodes that Redis joins: clients see one system, whichever node they or a backend talk to, and whatever becomes of one.

mod house;
mod nats_storm;
mod outage;
mod storm;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringcast_proto::client::{
    Command, EmulationRequest, Encoding, Reply, ReplyResult, Request, SubscribeRequest, decode_replies, encode_command,
    encode_emulation_request,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Client, token};
use crate::http;
use crate::nats::peer::NatsServer;
use crate::server::Server;
use crate::stream::Stream;
use house::{Redis, channels, names, nodes, wait_for};

/// How long a node may be silent until others forget it, and how often they look: of the reference, with room for a busy machine.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(16);

#[track_caller]
fn result(server: &Server, method: &str, body: &Value) -> Value {
    let answer = server.api(method, body);
    assert!(answer.get("error").is_none(), "{method} {body}: {answer}");
    answer["result"].clone()
}

/// Connects as a user.
#[track_caller]
fn user(server: &Server, name: &str) -> Client {
    Client::connect_with(server.address(), json!({"token": token(&json!({"sub": name}))}))
}

/// E02, E13
#[test]
fn clients_of_three_nodes_see_one_system() {
    let redis = Redis::start();
    let servers: [Server; 3] = nodes(&redis);
    let mut clients: Vec<Client> = servers.iter().map(|server| Client::connect(server.address())).collect();
    let rooms: Vec<String> = (0..4).map(|number| format!("chat:{number}")).collect();
    for client in &mut clients {
        rooms.iter().for_each(|room| client.subscribe(room));
        let reply = client.call("subscribe", json!({"channel": "chat:hall", "join_leave": true}));
        assert!(reply.get("subscribe").is_some(), "{reply}");
    }
    for (number, server) in servers.iter().enumerate() {
        server.publish(&rooms[number], json!({"from": number}));
        for client in &mut clients {
            assert_eq!(client.publication()["data"], json!({"from": number}));
        }
        result(server, "broadcast", &json!({"channels": rooms, "data": "all"}));
        for client in &mut clients {
            rooms.iter().for_each(|_| assert_eq!(client.publication()["data"], "all"));
        }
    }
    let reply = clients[1].call("publish", json!({"channel": rooms[3], "data": "mine"}));
    assert!(reply.get("error").is_none(), "{reply}");
    let publisher = clients[1].client.clone();
    for client in &mut clients {
        let publication = client.publication();
        assert_eq!((&publication["data"], &publication["info"]["client"]), (&json!("mine"), &json!(publisher)));
    }

    let mut ids: Vec<String> = clients.iter().map(|client| client.client.clone()).collect();
    ids.sort();
    let first = result(&servers[0], "history", &json!({"channel": rooms[0], "limit": 10}));
    assert_eq!(first["publications"].as_array().map(Vec::len), Some(4), "{first}");
    for server in &servers {
        let presence = result(server, "presence", &json!({"channel": rooms[0]}));
        let present: Vec<String> = presence["presence"].as_object().expect("an object").keys().cloned().collect();
        assert_eq!(present, ids);
        let stats = result(server, "presence_stats", &json!({"channel": rooms[0]}));
        assert_eq!((&stats["num_clients"], &stats["num_users"]), (&json!(3), &json!(1)));
        assert_eq!(result(server, "history", &json!({"channel": rooms[0], "limit": 10})), first);
        assert_eq!(names(server), ["node0", "node1", "node2"]);
    }
    wait_for("every node tells the clients of all", || {
        servers.iter().all(|server| {
            let info = result(server, "info", &json!({}));
            let nodes = info["nodes"].as_array().expect("a list");
            nodes.iter().all(|node| node["num_clients"] == 1 && node["num_channels"] == 5 && node["num_subs"] == 5)
        })
    });

    let gone = clients.remove(2);
    let id = gone.client.clone();
    drop(gone);
    for client in &mut clients {
        assert_eq!(client.push("leave")["info"]["client"], json!(id));
    }
}

/// E13, A11
#[test]
fn channels_are_those_of_all_nodes() {
    let redis = Redis::start();
    let servers: [Server; 3] = nodes(&redis);
    let mut clients: Vec<Client> = servers.iter().map(|server| Client::connect(server.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe("chat:all");
        client.subscribe(&format!("quiet:{number}"));
        if number < 2 {
            client.subscribe("chat:two");
        }
    }
    let chat = json!({"chat:all": {"num_clients": 3}, "chat:two": {"num_clients": 2}});
    let one = json!({"num_clients": 1});
    let quiet = json!({"quiet:0": one, "quiet:1": one, "quiet:2": one});
    for server in &servers {
        assert_eq!(channels(server, "chat:*"), chat);
        assert_eq!(channels(server, "quiet:?"), quiet);
        assert_eq!(channels(server, "nothing:*"), json!({}));
        assert_eq!(channels(server, "").as_object().map(serde_json::Map::len), Some(5));
        assert_eq!(server.api("channels", &json!({"pattern": "["}))["error"]["code"], 100);
    }

    // One that hangs is waited for as long as the reference does, and everything else goes on.
    servers[2].signal(Signal::STOP);
    let began = Instant::now();
    let answer = server_while_publishing(&servers[0], &mut clients[1]);
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    let waited = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&waited), "{waited:?}");
    servers[2].signal(Signal::CONT);
    wait_for("it is back", || names(&servers[0]).len() == 3);
    assert_eq!(channels(&servers[0], "chat:*"), chat);
}

/// E07, E13, A11, A12, T10
#[test]
fn nodes_on_nats_ask_each_other() {
    let nats = NatsServer::start();
    let servers: [Server; 3] = nodes(&nats);
    let mut clients: Vec<Client> = servers.iter().map(|server| Client::connect(server.address())).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe("quiet:all");
        client.subscribe(&format!("quiet:{number}"));
    }
    let one = json!({"num_clients": 1});
    let all = json!({"quiet:all": {"num_clients": 3}, "quiet:0": one, "quiet:1": one, "quiet:2": one});
    for server in &servers {
        assert_eq!(channels(server, "quiet:*"), all);
        assert_eq!(channels(server, "nothing:*"), json!({}));
        assert_eq!(names(server), ["node0", "node1", "node2"]);
    }
    wait_for("every node tells the clients of all", || {
        servers.iter().all(|server| {
            let info = result(server, "info", &json!({}));
            let nodes = info["nodes"].as_array().expect("a list");
            nodes.iter().all(|node| node["num_clients"] == 1 && node["num_channels"] == 2 && node["num_subs"] == 2)
        })
    });
    let mut stream = Stream::post(servers[1].address(), "/connection/http_stream", "", br#"{"id":1,"connect":{}}"#);
    let connected = stream.message()["connect"].clone();
    let commands = r#"{"id":2,"subscribe":{"channel":"quiet:stream"}}"#;
    let body = json!({"session": connected["session"], "node": connected["node"], "data": commands}).to_string();
    assert_eq!(http::post(servers[0].address(), "/emulation", &[], body.as_bytes()).status, 204);
    assert_eq!(stream.message()["id"], 2);

    // One that leaves is not asked any more.
    let [first, second, third] = servers;
    third.signal(Signal::TERM);
    assert!(third.wait().status.success());
    wait_for("it is gone", || names(&first) == ["node0", "node1"]);
    assert_eq!(channels(&second, "quiet:all"), json!({"quiet:all": {"num_clients": 2}}));
}

/// Asks for channels, and meanwhile publishes.
fn server_while_publishing(server: &Server, client: &mut Client) -> Value {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| server.api("channels", &json!({})));
        for number in 0..5 {
            server.publish("chat:all", json!(number));
            assert_eq!(client.publication()["data"], number);
        }
        asking.join().expect("it is answered")
    })
}

/// E02, H05
#[test]
fn client_recovers_on_another_node_when_its_own_was_killed() {
    let redis = Redis::start();
    let [first, second, third] = nodes(&redis);
    let mut client = Client::connect(first.address());
    let subscribed = client.call("subscribe", json!({"channel": "chat:room"}))["subscribe"].clone();
    second.publish("chat:room", json!(0));
    let offset = client.publication()["offset"].clone();
    assert_eq!(offset, 1);
    // Killed, without farewell.
    drop(first);
    let killed_at = Instant::now();
    (1..6).for_each(|number| third.publish("chat:room", json!(number)));
    let mut client = Client::connect(second.address());
    let again = json!({"channel": "chat:room", "recover": true, "offset": offset, "epoch": subscribed["epoch"]});
    let reply = client.call("subscribe", again);
    let recovered = &reply["subscribe"];
    assert_eq!(recovered["recovered"], true, "{reply}");
    let publications = recovered["publications"].as_array().expect("they are there");
    assert_eq!(publications.iter().map(|publication| &publication["data"]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    second.publish("chat:room", json!(6));
    assert_eq!(client.publication()["data"], 6);

    assert_eq!(names(&second).len(), 3, "it may be back in a moment");
    for server in [&second, &third] {
        wait_for("the killed node is forgotten", || names(server) == ["node1", "node2"]);
    }
    assert!(killed_at.elapsed() < FORGOTTEN_AFTER, "{:?}", killed_at.elapsed());
    assert_eq!(channels(&third, ""), json!({"chat:room": {"num_clients": 1}}));
}

/// E13
#[test]
fn node_that_leaves_is_gone_at_once() {
    let redis = Redis::start();
    let [stays, leaves] = nodes(&redis);
    let mut client = Client::connect(leaves.address());
    client.subscribe("chat:room");
    assert_eq!(channels(&stays, ""), json!({"chat:room": {"num_clients": 1}}));
    leaves.signal(Signal::TERM);
    client.is_closed_with(3001, "SIGTERM");
    assert!(leaves.wait().status.success());
    let began = Instant::now();
    wait_for("it is gone", || names(&stays) == ["node0"]);
    assert!(began.elapsed() < Duration::from_secs(3), "it said so itself");
    assert_eq!(channels(&stays, ""), json!({}));
}

/// E13, A05, A06, A07, A08
#[test]
fn commands_of_the_server_api_are_carried_out_on_every_node() {
    let redis = Redis::start();
    let [here, there] = nodes(&redis);
    let mut ann = user(&there, "ann");
    let mut bob = user(&there, "bob");
    bob.subscribe("chat:bob");

    result(&here, "subscribe", &json!({"user": "ann", "channel": "chat:given"}));
    let push = ann.push("subscribe");
    assert_eq!((&push["recoverable"], &push["positioned"]), (&json!(true), &json!(true)), "{push}");
    here.publish("chat:given", json!("to ann"));
    assert_eq!(ann.publication()["data"], "to ann");

    result(&here, "unsubscribe", &json!({"user": "ann", "channel": "chat:given"}));
    assert_eq!(ann.push("unsubscribe")["code"], 2000);
    assert_eq!(channels(&here, "chat:given"), json!({}));

    // One connection of a user among two.
    let mut second = user(&there, "ann");
    let only = json!({"user": "ann", "client": second.client, "disconnect": {"code": 4000, "reason": "enough"}});
    result(&here, "disconnect", &only);
    second.is_closed_with(4000, "disconnect of one client");

    let expire_at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    result(&here, "refresh", &json!({"user": "ann", "expire_at": expire_at + 3600}));
    let push = ann.push("refresh");
    assert!(push["expires"] == true && push["ttl"].as_u64().is_some_and(|ttl| ttl > 3000), "{push}");
    result(&here, "refresh", &json!({"user": "ann", "expired": true}));
    ann.is_closed_with(3005, "refresh with expired");

    result(&here, "disconnect", &json!({"user": "bob", "whitelist": [bob.client]}));
    here.publish("chat:bob", json!("still there"));
    assert_eq!(bob.publication()["data"], "still there");
    result(&here, "disconnect", &json!({"user": "bob"}));
    bob.is_closed_with(3503, "disconnect on another node");
}

/// T10
#[test]
fn commands_for_a_stream_reach_it_through_another_node() {
    let redis = Redis::start();
    let [here, there] = nodes(&redis);
    for path in ["/connection/http_stream", "/connection/sse"] {
        let mut stream = Stream::post(there.address(), path, "", br#"{"id":1,"connect":{}}"#);
        let connected = stream.message()["connect"].clone();
        let send = |session: &Value, node: &Value, commands: &str| {
            let body = json!({"session": session, "node": node, "data": commands}).to_string();
            http::post(here.address(), "/emulation", &[], body.as_bytes()).status
        };
        let (session, node) = (&connected["session"], &connected["node"]);
        let commands = concat!(
            r#"{"id":2,"subscribe":{"channel":"chat:a\"b"}}"#,
            "\n",
            r#"{"id":3,"presence":{"channel":"chat:a\"b"}}"#
        );
        assert_eq!(send(session, node, commands), 204);
        let subscribed = stream.message();
        assert!(subscribed["id"] == 2 && subscribed["subscribe"].is_object(), "{subscribed}");
        here.publish("chat:a\"b", json!(path));
        loop {
            let message = stream.message();
            if message["id"] == 3 {
                let present = message["presence"]["presence"].as_object().map(serde_json::Map::len);
                assert_eq!(present, Some(1), "{message}");
            }
            if message["push"]["pub"]["data"] == path {
                break;
            }
        }
        // Nobody's session, as with a node's own; and no node's.
        assert_eq!(send(&json!("00000000-0000-4000-8000-000000000000"), node, commands), 204);
        assert_eq!(send(&json!("x"), node, commands), 204);
        assert_eq!(send(session, &json!("x"), commands), 404);
    }
    subscribes_in_protobuf(here.address(), there.address());
}

fn subscribes_in_protobuf(here: SocketAddr, there: SocketAddr) {
    const TYPE: &str = "Content-Type: application/octet-stream\r\n";
    let command = |id: u32, request: Request| {
        let mut bytes = Vec::new();
        encode_command(Encoding::Protobuf, &Command { id, request: Some(request) }, &mut bytes);
        bytes
    };
    let connect = command(1, Request::Connect(Box::default()));
    let mut stream = Stream::post(there, "/connection/http_stream", TYPE, &connect);
    let ReplyResult::Connect(connected) = next_result(&mut stream) else { panic!("not a connect reply") };
    let subscribe = SubscribeRequest { channel: "quiet:protobuf".into(), ..SubscribeRequest::default() };
    let data = command(2, Request::Subscribe(Box::new(subscribe))).into();
    let request = EmulationRequest { node: connected.node, session: connected.session, data };
    let mut body = Vec::new();
    encode_emulation_request(Encoding::Protobuf, &request, &mut body);
    assert_eq!(Stream::post(here, "/emulation", TYPE, &body).status, 204);
    assert!(matches!(next_result(&mut stream), ReplyResult::Subscribe(_)));
}

fn next_result(stream: &mut Stream) -> ReplyResult {
    let frame = stream.chunk().expect("the stream goes on");
    match decode_replies(Encoding::Protobuf, &frame).next() {
        Some(Ok(Reply::Result { result, .. })) => result,
        other => panic!("not a result: {other:?}"),
    }
}
