//! What a client and its shard say to each other: from the stream to the shard one message at a time, and back.

use super::messages::Messages;
use crate::control::http3::{Streams, code};
use quinn::{RecvStream, SendStream, WriteError};
use ringcast_proto::codes::Disconnect;
use ringcast_runtime::{CarryLine, Ended, Link, Outlet};
use ringcast_state::Transport;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// Bytes read from a stream at a time.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// How long the last bytes have to be written once the shard has ended the client.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a session ends.
pub enum End {
    /// The server closes it.
    Told(Disconnect),
    /// The client is gone, or broke a rule that has no code.
    Gone,
    /// No stream came.
    NoStream,
}

/// The client on its shard, seen from here. Dropping it tells the shard that the client is gone.
pub struct Conversation {
    link: Link,
    /// Bound: one piece is on its way, and a few more right before the end.
    output: mpsc::UnboundedReceiver<Vec<u8>>,
    state: watch::Receiver<State>,
    messages: Messages,
}

/// What the shard has said beside bytes.
#[derive(Default)]
struct State {
    /// Frames taken, and one more for being let in.
    ready: u64,
    paused: bool,
    ended: Option<Ended>,
}

/// Where the shard says it.
struct Ways {
    output: mpsc::UnboundedSender<Vec<u8>>,
    state: watch::Sender<State>,
}

impl Outlet for Ways {
    fn send(&self, bytes: Vec<u8>) {
        // Who has gone need not know.
        let _ = self.output.send(bytes);
    }

    fn end(&self, why: Ended) {
        self.state.send_modify(|state| state.ended = Some(why));
    }

    fn pause(&self, paused: bool) {
        self.state.send_modify(|state| state.paused = paused);
    }

    fn ready(&self) {
        self.state.send_modify(|state| state.ready += 1);
    }
}

impl Conversation {
    /// Opens the client on a shard.
    pub fn open(line: &CarryLine, transport: Transport, messages: Messages) -> Self {
        let (output, outputs) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(State::default());
        let link = line.open(transport, None, Box::new(Ways { output, state }));
        Self { link, output: outputs, state: states, messages }
    }

    /// Whether the limits of `client` allow one more. Waits for the shard.
    pub async fn is_let_in(&mut self) -> bool {
        let known = self.state.wait_for(|state| state.ready > 0 || state.ended.is_some()).await;
        known.is_ok_and(|state| state.ready > 0)
    }

    /// Waits until the shard ends the client.
    pub async fn end(&mut self) -> End {
        ended(&mut self.state.clone()).await
    }

    /// Carries bytes both ways until either side ends. The stream is finished when that was the shard and all is written.
    pub async fn carry(&mut self, (mut output, mut input): Streams) -> End {
        let Self { link, output: outputs, state, messages } = self;
        let mut last = state.clone();
        let end = tokio::select! {
            written = write(link, outputs, &mut output) => match written {
                Ok(()) => ended(&mut last).await,
                Err(_) => End::Gone,
            },
            end = give_up(last.clone()) => {
                let _ = output.reset(code::SESSION_GONE);
                end
            }
            () = read(link, state, messages, &mut input) => End::Gone,
        };
        if output.finish().is_ok() {
            // Its bytes go before the end of the session, which would overtake them.
            let _ = timeout(LAST_WORDS, output.stopped()).await;
        }
        end
    }
}

/// Waits until the shard has ended the client; a shard that has ended itself knows no code.
async fn ended(state: &mut watch::Receiver<State>) -> End {
    match state.wait_for(|state| state.ended.is_some()).await.as_deref() {
        Ok(State { ended: Some(Ended::Disconnect(disconnect)), .. }) => End::Told(disconnect.clone()),
        Ok(_) | Err(_) => End::Gone,
    }
}

/// Waits until the shard has ended the client and the time for the last bytes is over.
async fn give_up(mut state: watch::Receiver<State>) -> End {
    let end = ended(&mut state).await;
    sleep(LAST_WORDS).await;
    end
}

/// Writes what the shard gives, until it has ended the client.
async fn write(
    link: &Link,
    outputs: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    stream: &mut SendStream,
) -> Result<(), WriteError> {
    while let Some(bytes) = outputs.recv().await {
        stream.write_chunk(bytes.into()).await?;
        link.written();
    }
    Ok(())
}

/// Hands the shard what the client sends, until it sends no more or too long a message. Nothing is read while the shard has not
/// taken what came before, or wants nothing.
async fn read(link: &Link, state: &mut watch::Receiver<State>, messages: &mut Messages, stream: &mut RecvStream) {
    let mut handed = 0;
    while let Ok(Some(chunk)) = stream.read_chunk(CHUNK_BYTES_MAX, true).await {
        let Ok(whole) = messages.take(&chunk.bytes) else { return };
        if whole.is_empty() {
            continue;
        }
        handed += 1;
        link.frame(whole);
        // The first one is for being let in. After the end the shard takes nothing, and the client is told.
        if state.wait_for(|state| state.ready > handed && !state.paused).await.is_err() {
            return std::future::pending().await;
        }
    }
}
