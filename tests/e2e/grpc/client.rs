//! A client of GRPC that learns the messages from descriptions, as generated clients do: bodies and answers are JSON.

use std::net::SocketAddr;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataKey};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error};
use tonic::{Code, Request, Status, Streaming};

use crate::server::PATIENCE;

const API: &str = "centrifugal.centrifugo.api.CentrifugoApi";
const UNI: &str = "centrifugal.centrifugo.unistream.CentrifugoUniStream";

/// One connection, and what its server offers.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    messages: DescriptorPool,
    metadata: Vec<(MetadataKey<Ascii>, String)>,
    is_compressing: bool,
}

/// The pushes of a unidirectional stream.
pub struct Pushes {
    runtime: Runtime,
    stream: Streaming<DynamicMessage>,
    /// The connection.
    _channel: Channel,
}

/// The descriptions that this repository has.
fn described() -> DescriptorPool {
    let folders = [
        concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/grpc"),
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/grpc"),
    ];
    let files = protox::compile(["api.proto", "uni.proto"], folders).expect("the descriptions can be read");
    DescriptorPool::from_file_descriptor_set(files).expect("the descriptions are whole")
}

impl Client {
    /// Connects without TLS.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(Endpoint::from_shared(format!("http://{address}")).expect("an address")).expect("it listens")
    }

    /// Connects to `localhost` with TLS.
    pub fn secure(address: SocketAddr, tls: ClientTlsConfig) -> Result<Client, Error> {
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
        Client::over(endpoint.tls_config(tls.domain_name("localhost"))?)
    }

    fn over(endpoint: Endpoint) -> Result<Client, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = runtime.block_on(endpoint.timeout(PATIENCE).connect())?;
        Ok(Client { runtime, channel, messages: described(), metadata: Vec::new(), is_compressing: false })
    }

    /// Sends this with every request from now on.
    pub fn with(mut self, name: &'static str, value: &str) -> Client {
        let name = MetadataKey::from_static(name);
        self.metadata.retain(|(other, _)| *other != name);
        self.metadata.push((name, value.to_owned()));
        self
    }

    /// Compresses requests from now on.
    pub fn compressing(mut self) -> Client {
        self.is_compressing = true;
        self
    }

    /// Forgets what this repository says of the messages, and asks the server.
    #[track_caller]
    pub fn described_by(mut self, files: Vec<Vec<u8>>) -> Client {
        self.messages = DescriptorPool::new();
        for file in files {
            self.messages.decode_file_descriptor_proto(&*file).expect("a description");
        }
        self
    }

    /// The methods of the server API, as they are described.
    pub fn methods(&self) -> Vec<String> {
        let service = self.messages.get_service_by_name(API).expect("the API is described");
        service.methods().map(|method| method.name().to_owned()).collect()
    }

    /// Calls a method of the server API.
    pub fn call(&self, method: &str, body: Value) -> Result<Value, Status> {
        let method = self.method(API, method);
        let request = self.request(message(method.input(), body));
        let mut grpc = self.grpc();
        let answer = self.runtime.block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.unary(request, path(&method), Messages(method.output())).await
        })?;
        Ok(json(answer.get_ref()))
    }

    /// Makes calls all at once; the answers in the order in which they come.
    pub fn call_all(&self, method: &str, bodies: impl Iterator<Item = Value>) -> Vec<Result<Value, Status>> {
        let method = self.method(API, method);
        let requests = bodies.map(|body| (self.request(message(method.input(), body)), self.grpc()));
        self.runtime.block_on(async {
            let calls = requests.map(|(request, mut grpc)| {
                let (path, messages) = (path(&method), Messages(method.output()));
                async move {
                    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                    grpc.unary(request, path, messages).await
                }
            });
            let answers = calls.collect::<JoinSet<_>>().join_all().await;
            answers.into_iter().map(|answer| answer.map(|answer| json(answer.get_ref()))).collect()
        })
    }

    /// The code of a call that fails.
    #[track_caller]
    pub fn refused(&self, method: &str, body: Value) -> Code {
        let answer = self.call(method, body.clone());
        answer.map(|answer| panic!("{method} {body}: {answer}")).unwrap_or_else(|status| status.code())
    }

    /// The result of a call that succeeds.
    #[track_caller]
    pub fn result(&self, method: &str, body: Value) -> Value {
        let answer = self.call(method, body.clone()).unwrap_or_else(|status| panic!("{method} {body}: {status}"));
        assert!(answer.get("error").is_none(), "{method} {body}: {answer}");
        answer["result"].clone()
    }

    /// Opens a unidirectional stream.
    pub fn consume(self, connect: Value) -> Result<Pushes, Status> {
        let method = self.method(UNI, "Consume");
        let request = self.request(message(method.input(), connect));
        let mut grpc = self.grpc();
        let stream = self.runtime.block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            grpc.server_streaming(request, path(&method), Messages(method.output())).await
        })?;
        Ok(Pushes { runtime: self.runtime, stream: stream.into_inner(), _channel: self.channel })
    }

    /// Does something else with the connection.
    pub fn run<T>(&self, task: impl AsyncFnOnce(Channel) -> T) -> T {
        self.runtime.block_on(async { task(self.channel.clone()).await })
    }

    fn method(&self, service: &str, name: &str) -> MethodDescriptor {
        let service = self.messages.get_service_by_name(service).expect("the service is described");
        service.methods().find(|method| method.name() == name).unwrap_or_else(|| panic!("no method {name}"))
    }

    fn request(&self, message: DynamicMessage) -> Request<DynamicMessage> {
        let mut request = Request::new(message);
        for (name, value) in &self.metadata {
            request.metadata_mut().insert(name.clone(), value.parse().expect("metadata is text"));
        }
        request
    }

    fn grpc(&self) -> Grpc<Channel> {
        let grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        if self.is_compressing { grpc.send_compressed(CompressionEncoding::Gzip) } else { grpc }
    }
}

impl Pushes {
    /// The next push; `None` once the server has ended the stream without an error.
    #[track_caller]
    pub fn next(&mut self) -> Result<Option<Value>, Status> {
        let message = self.runtime.block_on(async { timeout(PATIENCE, self.stream.message()).await });
        let message = message.expect("something comes, or the stream ends")?;
        Ok(message.as_ref().map(json))
    }

    /// The next push, which must come.
    #[track_caller]
    pub fn push(&mut self) -> Value {
        self.next().expect("no error").expect("the stream goes on")
    }
}

fn path(method: &MethodDescriptor) -> http::uri::PathAndQuery {
    format!("/{}/{}", method.parent_service().full_name(), method.name()).parse().expect("a path")
}

fn json(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).expect("messages have a form in JSON")
}

fn message(kind: MessageDescriptor, body: Value) -> DynamicMessage {
    let text = body.to_string();
    let mut json = serde_json::Deserializer::from_str(&text);
    DynamicMessage::deserialize(kind, &mut json).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// Messages that are described at run time; holds what is read.
struct Messages(MessageDescriptor);

impl Codec for Messages {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Messages {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Messages {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
