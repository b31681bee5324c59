//! A healthy publisher, subscriber and HTTP caller beside the abuse: whatever others send, they notice nothing.

use serde_json::json;

use crate::client::Client;
use crate::server::Server;

/// Two clients in a channel of their own.
pub struct Bystander {
    channel: String,
    publisher: Client,
    subscriber: Client,
    published: u64,
}

impl Bystander {
    /// Connects both and sees a first publication arrive.
    pub fn new(server: &Server) -> Bystander {
        let channel = "chat:bystander".to_owned();
        let mut publisher = Client::connect(server.address());
        let mut subscriber = Client::connect(server.address());
        publisher.subscribe(&channel);
        subscriber.subscribe(&channel);
        let mut bystander = Bystander { channel, publisher, subscriber, published: 0 };
        bystander.is_undisturbed(server, "nothing happened yet");
        bystander
    }

    /// Publishes once as a client and once over HTTP; both must arrive, in order, on the connections of the start.
    #[track_caller]
    pub fn is_undisturbed(&mut self, server: &Server, after: &str) {
        for over_http in [false, true] {
            self.published += 1;
            let data = json!({"n": self.published});
            if over_http {
                server.publish(&self.channel, data.clone());
            } else {
                let reply = self.publisher.call("publish", json!({"channel": self.channel, "data": data}));
                assert!(reply.get("publish").is_some(), "after {after}: {reply}");
            }
            assert_eq!(self.subscriber.publication()["data"], data, "after {after}");
        }
    }
}
