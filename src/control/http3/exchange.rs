//! One request that a shard serves: its body goes there and the response comes back, piece by piece.

use super::Site;
use super::connection::Fault;
use super::lobby::Streams;
use super::peer::{Peer, Piece, Unread};
use super::request::Request;
use super::wire::{self, ReadError, code, kind};
use quinn::{RecvStream, SendStream, VarInt};
use ringcast_runtime::{Ended, Link, Outlet, Respond, ResponseHead};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

/// Bytes of a body that go to the shard at a time.
const PIECE_BYTES: usize = 16 << 10;

/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take no byte of a response. That of a stream may not take as long as that: its shard gives it up.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last bytes may take once the shard has ended a client, and to be confirmed once all are written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What became of a request.
pub enum Outcome {
    Served,
    /// The peer gave it up before it was.
    Given,
    /// The peer broke a rule.
    Fault(Fault),
}

/// Why there is no whole response.
enum Cut {
    /// The peer has reset its stream or wants no answer.
    Gone,
    /// The stream ends with this code.
    Code(VarInt),
    Fault(Fault),
}

/// What the shard says.
enum Said {
    Begin(ResponseHead, Piece),
    Bytes(Piece),
    Finish,
    End(Ended),
}

/// Where it says it.
struct Ways {
    /// Bound: a whole response, or one piece of it that is on its way and a few right before the end.
    said: mpsc::UnboundedSender<Said>,
    /// The last piece of the body is taken.
    ready: Arc<Notify>,
    ended: Arc<Notify>,
    unread: Unread,
}

impl Ways {
    fn say(&self, said: Said) {
        // Who has gone need not know.
        let _ = self.said.send(said);
    }
}

impl Outlet for Ways {
    fn send(&self, bytes: Vec<u8>) {
        self.say(Said::Bytes(self.unread.piece(bytes)));
    }

    fn end(&self, why: Ended) {
        self.say(Said::End(why));
        self.ended.notify_one();
    }

    /// A request brings all that it has to say.
    fn pause(&self, _: bool) {}

    fn ready(&self) {
        self.ready.notify_one();
    }
}

impl Respond for Ways {
    fn begin(&self, head: ResponseHead, content: Vec<u8>) {
        self.say(Said::Begin(head, self.unread.piece(content)));
    }

    fn finish(&self) {
        self.say(Said::Finish);
    }
}

/// Has a shard serve a request, and ends its stream.
pub async fn serve(request: Request, (mut output, mut input): Streams, peer: &Peer, site: &Site) -> Outcome {
    let _open = site.open();
    let stopped = output.stopped();
    let served = tokio::select! {
        served = exchange(request, &mut output, &mut input, peer, site) => served,
        _ = stopped => Err(Cut::Gone),
    };
    let (outcome, code) = match served {
        Ok(()) => {
            let _ = input.stop(code::NO_ERROR);
            // Its bytes go before the end of the connection, which would overtake them.
            let _ = timeout(LAST_WORDS, output.stopped()).await;
            return Outcome::Served;
        }
        Err(Cut::Gone) => (Outcome::Given, code::REQUEST_CANCELLED),
        Err(Cut::Code(code)) => (Outcome::Served, code),
        Err(Cut::Fault(fault)) => return Outcome::Fault(fault),
    };
    // Fails only for a stream that is gone already.
    let _ = output.reset(code);
    let _ = input.stop(code);
    outcome
}

async fn exchange(
    request: Request,
    output: &mut SendStream,
    input: &mut RecvStream,
    peer: &Peer,
    site: &Site,
) -> Result<(), Cut> {
    peer.unread.has_room().await;
    let announced = request.content_length();
    let (said, mut answers) = mpsc::unbounded_channel();
    let (ready, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let ways = Ways { said, ready: ready.clone(), ended: ended.clone(), unread: peer.unread.clone() };
    let link = site.line.request(site.options.listener, request.into_head(peer.address), Box::new(ways));
    tokio::select! {
        responded = respond(&link, &mut answers, output) => responded,
        cut = pass_on(&link, &ready, input, announced, peer) => Err(cut),
        () = give_up(&ended) => Err(Cut::Code(code::REQUEST_CANCELLED)),
    }
}

/// Waits until the shard has ended the client and the time for the last bytes is over.
async fn give_up(ended: &Notify) {
    ended.notified().await;
    sleep(LAST_WORDS).await;
}

/// Writes what the shard says, until it has said all.
async fn respond(link: &Link, answers: &mut mpsc::UnboundedReceiver<Said>, output: &mut SendStream) -> Result<(), Cut> {
    while let Some(said) = answers.recv().await {
        match said {
            Said::Begin(head, content) => {
                let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                write(&wire::response(head.status, fields), output).await?;
                write_data(&content, output).await?;
            }
            Said::Bytes(piece) => {
                write_data(&piece, output).await?;
                link.written();
            }
            Said::Finish | Said::End(Ended::Disconnect(_)) => {
                return output.finish().map_err(|_| Cut::Gone);
            }
            Said::End(Ended::Lost | Ended::Refused) => break,
        }
    }
    Err(Cut::Code(code::REQUEST_CANCELLED))
}

async fn write_data(bytes: &[u8], output: &mut SendStream) -> Result<(), Cut> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut header = Vec::new();
    wire::write_number(kind::DATA, &mut header);
    wire::write_number(bytes.len() as u64, &mut header);
    write(&header, output).await?;
    write(bytes, output).await
}

/// Writes all, as long as the peer takes some.
async fn write(mut bytes: &[u8], output: &mut SendStream) -> Result<(), Cut> {
    while !bytes.is_empty() {
        match timeout(RESPONSE_TIMEOUT, output.write(bytes)).await {
            Ok(Ok(written)) => bytes = &bytes[written..],
            Ok(Err(_)) => return Err(Cut::Gone),
            Err(_) => return Err(Cut::Code(code::REQUEST_CANCELLED)),
        }
    }
    Ok(())
}

/// Passes the body on, and waits for ever then.
async fn pass_on(link: &Link, ready: &Notify, input: &mut RecvStream, announced: Option<u64>, peer: &Peer) -> Cut {
    match timeout(BODY_TIMEOUT, pass_body(link, ready, input, announced, peer)).await {
        Ok(Ok(())) => pending().await,
        Ok(Err(cut)) => cut,
        Err(_) => Cut::Code(code::REQUEST_CANCELLED),
    }
}

/// Nothing is read while the shard has not taken what came before.
async fn pass_body(
    link: &Link,
    ready: &Notify,
    input: &mut RecvStream,
    announced: Option<u64>,
    peer: &Peer,
) -> Result<(), Cut> {
    let (mut body, mut piece) = (peer.bodies.begin(), Vec::new());
    while let Some(kind) = wire::next_frame(input).await? {
        match kind {
            kind::DATA => {
                let mut left = wire::read_number(input).await?;
                while left > 0 {
                    let most = left.min(PIECE_BYTES as u64) as usize;
                    let chunk = input.read_chunk(most, true).await.map_err(|_| Cut::Gone)?.ok_or(Cut::Gone)?;
                    left -= chunk.bytes.len() as u64;
                    if !body.take(chunk.bytes.len()) {
                        // Not looked at yet, so it may be sent again.
                        return Err(Cut::Code(code::REQUEST_REJECTED));
                    }
                    piece.extend_from_slice(&chunk.bytes);
                    if piece.len() >= PIECE_BYTES {
                        link.body(std::mem::take(&mut piece), false);
                        ready.notified().await;
                    }
                }
            }
            kind if wire::is_unexpected(kind) => {
                return Err(Cut::Fault(Fault::new(code::FRAME_UNEXPECTED, "no frame of a request")));
            }
            // Trailers, and frames that mean nothing.
            _ => wire::skip_frame(input).await?,
        }
    }
    if announced.is_some_and(|announced| announced != body.bytes() as u64) {
        return Err(Cut::Code(code::MESSAGE_ERROR));
    }
    link.body(piece, true);
    Ok(())
}

impl From<ReadError> for Cut {
    fn from(_: ReadError) -> Self {
        Cut::Gone
    }
}
