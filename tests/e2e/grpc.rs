//! GRPC from outside, with clients that speak it by tonic and know the messages from descriptions only.

mod api;
mod client;
mod secure;
mod uni;

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::server::{PATIENCE, Server, config, free_port};
use client::Client;

const KEY: &str = "grpc-key";

/// A server with GRPC.
struct Started {
    server: Server,
    /// Its configuration.
    config: Value,
    /// Where the API is.
    api: SocketAddr,
    /// Where streams are.
    uni: SocketAddr,
}

impl Started {
    fn new(shards: u16) -> Started {
        Started::with(shards, |_| {})
    }

    /// The same with a configuration that was changed.
    fn with(shards: u16, change: impl FnOnce(&mut Value)) -> Started {
        let (api, uni) = (free_port(), free_port());
        let mut config = config(free_port());
        config["grpc_api"] =
            json!({"enabled": true, "address": "127.0.0.1", "port": api, "key": KEY, "reflection": true});
        config["uni_grpc"] = json!({"enabled": true, "address": "127.0.0.1", "port": uni});
        change(&mut config);
        let server = Server::start_with(shards, &config);
        // Health answers before these ports are open.
        server.wait_for_log(PATIENCE, |log| log.contains(r#""message":"ready""#).then_some(()));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Started { server, config, api: at(api), uni: at(uni) }
    }

    /// A client of the API that has the key.
    fn client(&self) -> Client {
        Client::connect(self.api).with("authorization", &format!("apikey {KEY}"))
    }
}

/// Bytes in a message's form in JSON.
fn bytes(data: impl AsRef<[u8]>) -> Value {
    json!(BASE64_STANDARD.encode(data))
}

/// JSON that is sent as bytes.
fn data(value: &Value) -> Value {
    bytes(value.to_string())
}
