//! Questions to the application's backends, their answers, and who waits for them. A shard does not know where a backend is nor how
//! it is spoken to: it names the proxy by number, and the control plane asks.

mod background;
mod message;
mod options;
mod queue;
mod stream;

pub use crate::message::Overrides;
pub use background::Background;
pub use message::{
    ConnectAnswer, ProxyAnswer, ProxyAsker, ProxyEvent, ProxyQuestion, PublishAnswer, RefreshAnswer, SubscribeAnswer,
};
pub use options::{ProxyId, ProxyListId, ProxyOptions, RpcOptions};
pub(crate) use queue::{Asked, Matter, Proxies, Subject};
pub(crate) use stream::{Fed, Streams};
pub use stream::{StreamAct, StreamId, StreamNews};
