//! Commands of a connection: which are legal now, and in which order they are served. Source: protocol §4.

use super::subscribe::Basis;
use super::{Client, Phase, Refusal};
use crate::auth::Proof;
use crate::metrics::{FrameType, micros};
use crate::shard::{Action, Shard};
use crate::{ConnectionId, Now, Pings, Time};
use ringcast_proto::client::{self as wire, Command, Encoding, ReplyResult, Request, decode_commands};
use ringcast_proto::codes::Disconnect;

/// Stands for what could not be decoded. Served in its turn, it closes the connection as an unknown command does, behind
/// the answers to those before.
pub(super) const MALFORMED: Command = Command { id: 1, request: None };

/// A command that is being served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serving {
    /// For the reply.
    pub(crate) id: u32,
    /// What it asks for.
    pub(crate) frame: FrameType,
    /// The turn in which its turn came.
    pub(crate) began_at: Time,
}

/// How a command went.
pub(super) enum Served {
    /// Nothing more will come of it.
    Done,
    /// Likewise, and it counts as no command: a pong, or the connection is past serving.
    Ignored,
    /// `finish_command` is or was called when it is answered.
    Later,
}

pub(super) type Outcome = Result<Served, Refusal>;

impl Shard {
    pub(crate) fn serve_frame(&mut self, now: Now, connection: ConnectionId, frame: &[u8]) {
        let Some(client) = self.clients.get(connection) else { return };
        let encoding = client.encoding;
        if client.is_unidirectional() {
            return self.serve_connect_request(now, connection, frame);
        }
        // A pong asks for nothing and overtakes what waits.
        if self.must_wait(connection) && !(client.is_live() && is_pong(encoding, frame)) {
            return self.put_back(connection, frame);
        }
        let mut commands = decode_commands(encoding, frame);
        while let Some(command) = commands.next() {
            self.is_changing = true;
            self.serve(now, connection, command.unwrap_or(MALFORMED), commands.size());
            self.is_changing = false;
            if let Some(rest) = commands.rest()
                && self.must_wait(connection)
            {
                return self.put_back(connection, rest);
            }
        }
    }

    /// The one message of a unidirectional client; what follows it means nothing.
    fn serve_connect_request(&mut self, now: Now, connection: ConnectionId, body: &[u8]) {
        let Some(client) = self.clients.get(connection).filter(|client| client.is_untouched()) else { return };
        match wire::decode_connect_request(client.encoding, body) {
            Ok(request) => {
                let command = Command { id: 1, request: Some(Request::Connect(Box::new(request))) };
                self.is_changing = true;
                self.serve(now, connection, command, body.len());
                self.is_changing = false;
            }
            Err(_) => self.close(connection, Disconnect::BAD_REQUEST),
        }
    }

    /// Whether commands that come now have to wait for those before.
    fn must_wait(&self, connection: ConnectionId) -> bool {
        let client = self.clients.get(connection);
        client.is_some_and(|client| is_busy(client, self.concurrency()) || client.backlog.is_some())
    }

    fn concurrency(&self) -> u32 {
        self.options.client.concurrency.max(1) as u32
    }

    fn put_back(&mut self, connection: ConnectionId, frame: &[u8]) {
        let bytes_max = self.options.limits.backlog_max_size;
        let Some(client) = self.clients.get_mut(connection).filter(|client| !client.is_closed()) else { return };
        if client.backlog.get_or_insert_default().push(frame, bytes_max) {
            self.actions.push_back(Action::PauseReceive { connection });
        }
    }

    /// A command that was answered later is done with: serves those behind it.
    pub(crate) fn finish_command(&mut self, now: Now, connection: ConnectionId, serving: Serving) {
        self.unwritten.command(&mut self.metrics, serving.frame, serving.began_at, now.at);
        let Some(client) = self.clients.get_mut(connection) else { return };
        client.in_flight -= 1;
        self.serve_waiting(now, connection);
    }

    /// Serves commands of the backlog as long as their turn has come.
    pub(super) fn serve_waiting(&mut self, now: Now, connection: ConnectionId) {
        while let Some((command, size)) = self.take_waiting(connection) {
            self.serve(now, connection, command, size);
        }
    }

    fn take_waiting(&mut self, connection: ConnectionId) -> Option<(Command, usize)> {
        let (concurrency, bytes_max) = (self.concurrency(), self.options.limits.backlog_max_size);
        let client = self.clients.get_mut(connection)?;
        if is_busy(client, concurrency) {
            return None;
        }
        let backlog = client.backlog.as_mut()?;
        let command = backlog.next(client.encoding);
        if backlog.resume(bytes_max) {
            self.actions.push_back(Action::ResumeReceive { connection });
        }
        if backlog.is_empty() {
            client.backlog = None;
        }
        command
    }

    /// `size`: bytes of the command as it came.
    fn serve(&mut self, now: Now, connection: ConnectionId, command: Command, size: usize) {
        let frame = FrameType::of_command(&command);
        if let Some(client) = self.clients.get_mut(connection) {
            client.in_flight += 1;
            // As the reference: what comes before connect is not counted.
            if client.is_live() || frame == FrameType::Connect {
                self.metrics.received(client.shape.kind, frame, size);
            }
        }
        if let Some(command) = self.set_aside(now, connection, command) {
            self.perform(now, connection, command, Proof::Open, now.at);
        }
    }

    /// Carries out a command that is counted as being served.
    pub(super) fn perform(
        &mut self,
        now: Now,
        connection: ConnectionId,
        command: Command,
        proof: Proof,
        began_at: Time,
    ) {
        let serving = Serving { id: command.id, frame: FrameType::of_command(&command), began_at };
        let outcome = self.dispatch(now, connection, command, serving, proof);
        self.conclude(now, connection, serving, outcome);
    }

    /// Does what follows from how a command went. Those behind it are up to the caller.
    pub(super) fn conclude(&mut self, now: Now, connection: ConnectionId, serving: Serving, outcome: Outcome) {
        let mut is_counted = !matches!(serving.frame, FrameType::ClientPong | FrameType::Unknown);
        match outcome {
            Ok(Served::Later) => return,
            Ok(Served::Done) => {}
            Ok(Served::Ignored) => is_counted = false,
            Err(Refusal::Close(disconnect)) => self.close(connection, disconnect),
            Err(Refusal::Error(error)) => {
                self.refuse(connection, serving, error);
                let is_connect = serving.frame == FrameType::Connect;
                if let Some(client) = self.clients.get_mut(connection).filter(|_| is_connect) {
                    client.phase = Phase::Unusable;
                }
            }
        }
        if let Some(client) = self.clients.get_mut(connection) {
            client.in_flight -= 1;
        }
        if is_counted {
            self.unwritten.command(&mut self.metrics, serving.frame, serving.began_at, now.at);
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        connection: ConnectionId,
        command: Command,
        serving: Serving,
        proof: Proof,
    ) -> Outcome {
        let Some(client) = self.clients.get_mut(connection) else { return Ok(Served::Done) };
        let (id, is_connect) = (command.id, serving.frame == FrameType::Connect);
        match client.phase {
            Phase::Closed => return Ok(Served::Ignored),
            // Not even answered: the connection is closed as stale if the client does not leave before.
            Phase::Unusable => return Ok(Served::Ignored),
            Phase::Fresh | Phase::Connecting(_) if !is_connect => return Err(Disconnect::BAD_REQUEST.into()),
            Phase::Fresh | Phase::Connecting(_) | Phase::Live => {}
        }
        if serving.frame == FrameType::ClientPong {
            let options = client.keep_alive_options(&self.options.client);
            let kind = client.shape.kind;
            let pinged_at = Some(client).filter(|client| client.pings == Pings::Messages);
            let pinged_at = pinged_at.and_then(|client| client.keep_alive.handle_pong(&options));
            let Some(pinged_at) = pinged_at else { return Err(Disconnect::BAD_REQUEST.into()) };
            self.metrics.of_mut(kind).ping_pong.record(micros(pinged_at, now.at));
            return Ok(Served::Ignored);
        }
        match command.request {
            None | Some(Request::Ping) => Err(Disconnect::BAD_REQUEST.into()),
            Some(Request::Connect(request)) => self.connect(now, connection, serving, *request, proof),
            Some(Request::Subscribe(request)) => {
                self.subscribe(now, connection, serving, *request, Basis::Proof(proof))
            }
            Some(Request::Unsubscribe(request)) => {
                self.unsubscribe(now, connection, &request.channel)?;
                self.write_result(connection, id, ReplyResult::Unsubscribe);
                Ok(Served::Done)
            }
            Some(Request::Publish(request)) => self.publish(now, connection, serving, request),
            Some(Request::Presence(request)) => self.ask_presence(now, connection, serving, &request.channel, false),
            Some(Request::PresenceStats(request)) => {
                self.ask_presence(now, connection, serving, &request.channel, true)
            }
            Some(Request::History(request)) => self.ask_history(now, connection, serving, request),
            Some(Request::Rpc(request)) => self.rpc(now, connection, serving, request),
            Some(Request::Send(_)) => Err(Disconnect::NOT_AVAILABLE.into()),
            Some(Request::Refresh(request)) => self.refresh(now, connection, id, &request.token, proof),
            Some(Request::SubRefresh(request)) => self.sub_refresh(now, connection, id, request, proof),
        }
    }
}

/// Whether the commands behind those being served have to wait: no more are served at a time, or a connect command is one of
/// them, whose answer everything waits for.
fn is_busy(client: &Client, concurrency: u32) -> bool {
    client.in_flight >= concurrency || client.in_flight > 0 && !client.is_live()
}

/// Whether a frame is a pong and nothing else.
fn is_pong(encoding: Encoding, frame: &[u8]) -> bool {
    /// Longer frames are not decoded to find out.
    const PONG_MAX: usize = 64;
    if frame.len() > PONG_MAX {
        return false;
    }
    let mut commands = decode_commands(encoding, frame);
    let Some(Ok(Command { id: 0, request })) = commands.next() else { return false };
    !matches!(request, Some(Request::Send(_))) && commands.rest().is_none()
}
