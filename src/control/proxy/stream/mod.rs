//! Subscription streams: a backend feeds the subscription of one client over GRPC for as long as it lives. One task for each, all on a
//! thread of their own, because acts about a stream have to come in their order. Source: behaviour §9.

mod pool;
mod words;

pub use pool::{StreamPool, Upwards};

use super::Directory;
use super::answers::AnswerDesk;
use super::backend::{Backend, BackendError};
use super::{grpc, question};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use prost::Message as _;
use ringcast_proto::DecodeError;
use ringcast_proto::proxy::{
    ProxyReply, ProxyRequest, Publication, SUBSCRIBE_BIDIRECTIONAL_PATH, SUBSCRIBE_UNIDIRECTIONAL_PATH,
    StreamSubscribeRequest, decode_first_word, decode_publication,
};
use ringcast_runtime::Acts;
use ringcast_state::proxy::{ProxyAnswer, ProxyQuestion, StreamAct, StreamId, StreamNews};
use ringcast_state::{RequestId, ShardId};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{Permit, Receiver, Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout};
use words::Words;

/// Publications of one client that wait for its backend; each is given up after the `timeout` of the proxy. Full: the next ones fail at
/// once, with the temporary error 100 for the client.
const WAITING_MAX: usize = 64;

/// What a stream is to do; when no more can come, it is to end.
///
/// Bound: publications `client.concurrency`, leave to say more once for what was said.
enum Order {
    Publish(RequestId, Bytes),
    Allow(usize),
}

/// The streams of all shards that were not closed.
#[derive(Default)]
struct Streams(HashMap<(ShardId, StreamId), UnboundedSender<Order>>);

/// Does what the shards say, in this order, until they have ended.
pub async fn run(mut acts: Receiver<Acts>, directory: Directory, desk: Arc<AnswerDesk>) {
    let mut streams = Streams::default();
    while let Some((shard, acts)) = acts.recv().await {
        for act in acts {
            streams.act(shard, act, &directory, &desk);
        }
    }
}

impl Streams {
    fn act(&mut self, shard: ShardId, act: StreamAct, directory: &Directory, desk: &Arc<AnswerDesk>) {
        match act {
            StreamAct::Open { stream, question, is_bidirectional } => {
                let Some(backend) = directory.find(question.proxy) else {
                    return desk.add(shard, question.request, ProxyAnswer::Failed);
                };
                let (orders, received) = unbounded_channel();
                self.0.insert((shard, stream), orders);
                let feed = Feed { shard, stream, backend, desk: desk.clone(), orders: received };
                tokio::spawn(feed.run(*question, is_bidirectional));
            }
            StreamAct::Publish { stream, request, data } => {
                if !self.order(shard, stream, Order::Publish(request, data)) {
                    desk.add(shard, request, ProxyAnswer::Failed);
                }
            }
            StreamAct::Allow { stream, bytes } => {
                self.order(shard, stream, Order::Allow(bytes));
            }
            StreamAct::Close { stream } => {
                self.0.remove(&(shard, stream));
            }
        }
    }

    /// False when the stream has ended.
    fn order(&self, shard: ShardId, stream: StreamId, order: Order) -> bool {
        self.0.get(&(shard, stream)).is_some_and(|orders| orders.send(order).is_ok())
    }
}

/// A stream that the backend has answered.
struct Opened {
    reply: ProxyReply,
    words: Words,
    /// Of a bidirectional one.
    upwards: Option<Sender<Bytes>>,
    /// Of one that goes one way.
    _place: Option<OwnedSemaphorePermit>,
}

/// One stream.
struct Feed {
    shard: ShardId,
    stream: StreamId,
    backend: Arc<Backend>,
    desk: Arc<AnswerDesk>,
    orders: UnboundedReceiver<Order>,
}

impl Feed {
    async fn run(mut self, question: ProxyQuestion, is_bidirectional: bool) {
        let request = question.request;
        let call = self.backend.begin_call("subscribe_stream");
        let limit = self.backend.timeout();
        let opened = tokio::select! {
            opened = timeout(limit, open(&self.backend, question, is_bidirectional)) => opened,
            // The shard wants it no more.
            None = self.orders.recv() => return,
        };
        let opened = opened.unwrap_or(Err(BackendError::Timeout(limit)));
        call.end(opened.is_err());
        let reply = opened.as_ref().map(|opened| &opened.reply);
        self.backend.tell_of_failure(reply);
        let answer = reply.map_or(ProxyAnswer::Failed, |reply| question::answer(reply.clone()));
        self.desk.add(self.shard, request, answer);
        let Ok(Opened { reply: ProxyReply::Result(_), words, upwards, _place }) = opened else { return };
        if let Some(news) = self.talk(words, upwards).await {
            self.desk.tell(self.shard, self.stream, news);
        }
    }

    /// Carries publications in both directions. Returns how the stream ended; none when the shard has ended it.
    async fn talk(&mut self, mut words: Words, upwards: Option<Sender<Bytes>>) -> Option<StreamNews> {
        // What may still be said. Less than zero after a long publication.
        let mut allowed = 0_isize;
        let mut takes_more = upwards.is_some();
        let mut waiting = VecDeque::new();
        let end = loop {
            let give_up_at = waiting.front().map_or_else(Instant::now, |(_, _, until)| *until);
            tokio::select! {
                order = self.orders.recv() => match order {
                    None => break None,
                    Some(Order::Allow(bytes)) => allowed += bytes.cast_signed(),
                    Some(Order::Publish(request, data)) if takes_more && waiting.len() < WAITING_MAX => {
                        waiting.push_back((request, data, Instant::now() + self.backend.timeout()));
                    }
                    Some(Order::Publish(request, _)) => self.fail(request),
                },
                word = words.next(), if allowed > 0 => match self.read(word) {
                    Ok(None) => {}
                    Ok(Some(news)) => {
                        allowed -= news.cost().cast_signed();
                        self.desk.tell(self.shard, self.stream, news);
                    }
                    Err(end) => break Some(end),
                },
                room = room(upwards.as_ref()), if !waiting.is_empty() => match room {
                    Ok(room) => if let Some((request, data, _)) = waiting.pop_front() {
                        let sent = self.send(room, data);
                        self.desk.add(self.shard, request, if sent { ProxyAnswer::Sent } else { ProxyAnswer::Failed });
                    },
                    // What was sent has no reader any more; how the stream ended is still to be heard.
                    Err(SendError(())) => {
                        takes_more = false;
                        waiting.drain(..).for_each(|(request, ..)| self.fail(request));
                    }
                },
                () = sleep_until(give_up_at), if !waiting.is_empty() => {
                    if let Some((request, ..)) = waiting.pop_front() {
                        self.fail(request);
                    }
                }
            }
        };
        waiting.into_iter().for_each(|(request, ..)| self.fail(request));
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Publish(request, _) = order {
                self.fail(request);
            }
        }
        end
    }

    fn fail(&self, request: RequestId) {
        self.desk.add(self.shard, request, ProxyAnswer::Failed);
    }

    /// What a word means to the client; an error is the end.
    fn read(&self, word: Result<Option<Bytes>, BackendError>) -> Result<Option<StreamNews>, StreamNews> {
        let publication = match word {
            Ok(None) => return Err(StreamNews::Complete),
            Ok(Some(word)) => decode_publication(&word).map_err(BackendError::Decode),
            Err(error) => Err(error),
        };
        match publication {
            Ok(publication) => Ok(publication.map(|Publication { data, tags }| StreamNews::Publication { data, tags })),
            Err(error) => {
                self.backend.failed(&error);
                Err(StreamNews::Failed)
            }
        }
    }

    /// False when it cannot be sent.
    fn send(&self, room: Permit<'_, Bytes>, data: Bytes) -> bool {
        let publication = Some(Publication { data, ..Publication::default() });
        let message = StreamSubscribeRequest { publication, ..StreamSubscribeRequest::default() };
        let is_compressed = self.backend.grpc().is_some_and(|grpc| grpc.compression);
        let framed = grpc::frame(message.encode_to_vec(), is_compressed);
        framed.is_ok_and(|framed| {
            room.send(framed);
            true
        })
    }
}

/// Room for a message; none comes where messages do not go up.
async fn room(upwards: Option<&Sender<Bytes>>) -> Result<Permit<'_, Bytes>, SendError<()>> {
    match upwards {
        Some(upwards) => upwards.reserve().await,
        None => std::future::pending().await,
    }
}

/// Opens a stream, up to the backend's first word.
async fn open(backend: &Backend, question: ProxyQuestion, is_bidirectional: bool) -> Result<Opened, BackendError> {
    let options = backend.grpc().ok_or(BackendError::NotGrpc)?;
    let (client, place) = backend.streams().take(options.tls.as_ref())?;
    let (request, forwarded) = backend.request(question);
    let (path, message) = match (is_bidirectional, request) {
        (true, ProxyRequest::Subscribe(request)) => {
            let subscribe_request = Some(request);
            let message = StreamSubscribeRequest { subscribe_request, ..StreamSubscribeRequest::default() };
            (SUBSCRIBE_BIDIRECTIONAL_PATH, message.encode_to_vec())
        }
        (_, request) => {
            let mut message = Vec::new();
            request.encode_protobuf(&mut message);
            (SUBSCRIBE_UNIDIRECTIONAL_PATH, message)
        }
    };
    let first = grpc::frame(message, options.compression)?;
    let (body, upwards, place) = if is_bidirectional {
        let (body, upwards) = Upwards::many(first, place);
        (body, Some(upwards), None)
    } else {
        (Upwards::one(first), None, Some(place))
    };
    let mut call = Request::new(body);
    *call.method_mut() = Method::POST;
    *call.uri_mut() = grpc::address(&options.endpoint, path);
    *call.headers_mut() = grpc::headers(options, &forwarded);
    let response = client.send(call).await?;
    if response.status() != StatusCode::OK {
        return Err(BackendError::Status(response.status().as_u16()));
    }
    // A stream without messages has its status here.
    grpc::check_status(response.headers(), false)?;
    let mut words = Words::new(response.into_body());
    let silent =
        || BackendError::Decode(DecodeError { reason: "the first message has no subscribe_response", position: 0 });
    let first = words.next().await?.ok_or_else(silent)?;
    let reply = decode_first_word(&first).map_err(BackendError::Decode)?.ok_or_else(silent)?;
    Ok(Opened { reply, words, upwards, _place: place })
}
