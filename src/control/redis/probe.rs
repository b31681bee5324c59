//! Whether a PUB/SUB connection still hears what is published. A server that was replaced, or is cut off from its cluster, goes
//! on answering and never tells anything: so when it has told nothing for a while, a message of our own goes the way that
//! publications go, and must come back.

use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// Silence before a probe. A node hears its own announcements every few seconds, so that few are sent.
const QUIET: Duration = Duration::from_secs(1);

/// Time from Redis having the probe until it must have been told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watches one life of a connection.
pub struct Probe(State);

enum State {
    /// A probe is due at this time unless something is heard.
    Quiet(Instant),
    /// Redis does not have it yet.
    Sent(oneshot::Receiver<()>),
    /// Redis has it; to be heard until then.
    Said(Instant),
    /// Not heard. What the connection answers now comes behind everything that was told to it before.
    Asked,
}

/// What is to be done.
pub enum Due {
    /// Publish a probe, and tell through this once Redis has it.
    Publish(oneshot::Sender<()>),
    /// Redis did not take it, which says nothing about what is heard.
    NotPublished,
    /// Ask the connection for some answer, after which [`Probe::answered`] is to be called.
    Ask,
}

impl Probe {
    pub fn new() -> Self {
        Self(State::Quiet(Instant::now() + QUIET))
    }

    /// Something that was published has come.
    pub fn heard(&mut self) {
        *self = Self::new();
    }

    /// The connection has given an answer; false if it is deaf.
    pub fn answered(&self) -> bool {
        !matches!(self.0, State::Asked)
    }

    /// Ends when something is to be done. Nothing is lost when it is dropped before.
    pub async fn due(&mut self) -> Due {
        match &mut self.0 {
            State::Quiet(at) => {
                sleep_until(*at).await;
                let (sender, receiver) = oneshot::channel();
                self.0 = State::Sent(receiver);
                Due::Publish(sender)
            }
            State::Sent(said) => {
                if said.await.is_err() {
                    self.heard();
                    return Due::NotPublished;
                }
                let until = Instant::now() + PATIENCE;
                self.0 = State::Said(until);
                self.ask_at(until).await
            }
            State::Said(until) => {
                let until = *until;
                self.ask_at(until).await
            }
            State::Asked => std::future::pending().await,
        }
    }

    async fn ask_at(&mut self, until: Instant) -> Due {
        sleep_until(until).await;
        self.0 = State::Asked;
        Due::Ask
    }
}
