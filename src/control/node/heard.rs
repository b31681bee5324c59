//! What other nodes say: commands go to the home of their user, everything else to who keeps the list of nodes.

use crate::control::redis::{Listener, News};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use ringcast_proto::control::{Command, decode};
use tracing::warn;

/// Messages that wait to be worked off; more are lost, as PUB/SUB may lose any. The reference's bound.
const WAITING_MAX: usize = 4096;

/// Takes what other nodes say.
#[derive(Clone)]
pub struct ControlMessages {
    /// Id of this node, whose own messages are passed over.
    node: String,
    sender: Sender<Command>,
}

/// Why a message was not heard.
pub enum Unheard {
    /// It is none.
    Broken,
    /// Too many wait.
    TooMany,
}

impl ControlMessages {
    /// And where what is about nodes comes out.
    pub fn channel(node: &str) -> (Self, Receiver<Command>) {
        let (sender, receiver) = bounded(WAITING_MAX);
        (Self { node: node.to_owned(), sender }, receiver)
    }

    /// Takes a message. What goes wrong is logged.
    pub fn hear(&self, data: &Bytes, listener: &dyn Listener, news: &mut News) -> Result<(), Unheard> {
        let command = decode(data).map_err(|error| {
            warn!(%error, "a control message is none of Centrifugo's");
            Unheard::Broken
        })?;
        if command.uid == self.node {
            return Ok(());
        }
        match command.body {
            Some(body) if body.user().is_some() => {
                let home = listener.home(body.user().unwrap_or_default());
                news.command(home, body);
                Ok(())
            }
            body => self.sender.try_send(Command { body, ..command }).map_err(|_| {
                warn!("control messages come faster than they are worked off");
                Unheard::TooMany
            }),
        }
    }
}
