//! Commands of a connection: which are legal now, and in which order they are served. Source: protocol §4.

use super::{Phase, Refusal};
use crate::shard::{Action, Shard};
use crate::{ConnectionId, Now, Pings};
use ringcast_proto::client::{Command, ReplyResult, Request, decode_commands};
use ringcast_proto::codes::Disconnect;
use std::collections::VecDeque;

/// Commands that wait until those before them are answered.
///
/// Bound: `Limits::backlog_max_size`, bytes, beyond which receiving is paused; what was received by then still comes
/// in. At half of it receiving goes on.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    commands: VecDeque<Command>,
    bytes: usize,
    is_paused: bool,
}

/// Stands for what could not be decoded. Served in its turn, it closes the connection as an unknown command does, behind
/// the answers to those before.
const MALFORMED: Command = Command { id: 1, request: None };

/// How a command went.
pub(super) enum Served {
    /// Nothing more will come of it.
    Done,
    /// `finish_command` is or was called when it is answered.
    Later,
}

pub(super) type Outcome = Result<Served, Refusal>;

impl Shard {
    pub(crate) fn serve_frame(&mut self, now: Now, connection: ConnectionId, frame: &[u8]) {
        let Some(client) = self.clients.get(connection) else { return };
        for command in decode_commands(client.encoding, frame) {
            let command = command.unwrap_or(MALFORMED);
            self.is_changing = true;
            self.receive_command(now, connection, command);
            self.is_changing = false;
        }
    }

    fn receive_command(&mut self, now: Now, connection: ConnectionId, command: Command) {
        let Some(client) = self.clients.get(connection) else { return };
        let is_pong = command.id == 0 && !matches!(command.request, Some(Request::Send(_)));
        let must_wait = client.in_flight >= self.concurrency() || client.backlog.is_some();
        // A pong asks for nothing and overtakes what waits.
        if must_wait && !(is_pong && client.is_live()) {
            return self.put_back(connection, command);
        }
        self.serve(now, connection, command);
    }

    fn concurrency(&self) -> u32 {
        self.options.client.concurrency.max(1) as u32
    }

    fn put_back(&mut self, connection: ConnectionId, command: Command) {
        let bytes_max = self.options.limits.backlog_max_size;
        let Some(client) = self.clients.get_mut(connection) else { return };
        if client.is_closed() {
            return;
        }
        let backlog = client.backlog.get_or_insert_default();
        backlog.bytes += weight(&command);
        backlog.commands.push_back(command);
        if backlog.bytes > bytes_max && !backlog.is_paused {
            backlog.is_paused = true;
            self.actions.push_back(Action::PauseReceive { connection });
        }
    }

    /// A command that was answered later is done with: serves those behind it.
    pub(crate) fn finish_command(&mut self, now: Now, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(connection) else { return };
        client.in_flight -= 1;
        while let Some(command) = self.take_waiting(connection) {
            self.serve(now, connection, command);
        }
    }

    fn take_waiting(&mut self, connection: ConnectionId) -> Option<Command> {
        let (concurrency, bytes_max) = (self.concurrency(), self.options.limits.backlog_max_size);
        let client = self.clients.get_mut(connection)?;
        if client.in_flight >= concurrency {
            return None;
        }
        let backlog = client.backlog.as_mut()?;
        let command = backlog.commands.pop_front();
        backlog.bytes -= command.as_ref().map_or(0, weight);
        if backlog.is_paused && backlog.bytes <= bytes_max / 2 {
            backlog.is_paused = false;
            self.actions.push_back(Action::ResumeReceive { connection });
        }
        if backlog.commands.is_empty() {
            client.backlog = None;
        }
        command
    }

    fn serve(&mut self, now: Now, connection: ConnectionId, command: Command) {
        let id = command.id;
        let is_connect = matches!(command.request, Some(Request::Connect(_)));
        if let Some(client) = self.clients.get_mut(connection) {
            client.in_flight += 1;
        }
        match self.dispatch(now, connection, command) {
            Ok(Served::Later) => return,
            Ok(Served::Done) => {}
            Err(Refusal::Close(disconnect)) => self.close(connection, disconnect),
            Err(Refusal::Error(error)) => {
                self.write_error(connection, id, error);
                if let Some(client) = self.clients.get_mut(connection).filter(|_| is_connect) {
                    client.phase = Phase::Unusable;
                }
            }
        }
        if let Some(client) = self.clients.get_mut(connection) {
            client.in_flight -= 1;
        }
    }

    fn dispatch(&mut self, now: Now, connection: ConnectionId, command: Command) -> Outcome {
        let Some(client) = self.clients.get_mut(connection) else { return Ok(Served::Done) };
        let is_connect = matches!(command.request, Some(Request::Connect(_)));
        match client.phase {
            Phase::Closed => return Ok(Served::Done),
            // Not even answered: the connection is closed as stale if the client does not leave before.
            Phase::Unusable => return Ok(Served::Done),
            Phase::Fresh | Phase::Connecting(_) if !is_connect => return Err(Disconnect::BAD_REQUEST.into()),
            Phase::Fresh | Phase::Connecting(_) | Phase::Live => {}
        }
        let id = command.id;
        if id == 0 && !matches!(command.request, Some(Request::Send(_))) {
            let options = client.keep_alive_options(&self.options.client);
            let is_expected = client.pings == Pings::Messages && client.keep_alive.handle_pong(&options);
            return if is_expected { Ok(Served::Done) } else { Err(Disconnect::BAD_REQUEST.into()) };
        }
        match command.request {
            None | Some(Request::Ping) => Err(Disconnect::BAD_REQUEST.into()),
            Some(Request::Connect(request)) => self.connect(now, connection, id, *request),
            Some(Request::Subscribe(request)) => self.subscribe(now, connection, id, *request),
            Some(Request::Unsubscribe(request)) => {
                self.unsubscribe(connection, &request.channel)?;
                self.write_result(connection, id, ReplyResult::Unsubscribe);
                Ok(Served::Done)
            }
            Some(Request::Publish(request)) => self.publish(now, connection, id, request),
            Some(Request::Presence(request)) => self.ask_presence(now, connection, id, &request.channel, false),
            Some(Request::PresenceStats(request)) => self.ask_presence(now, connection, id, &request.channel, true),
            Some(Request::History(request)) => self.ask_history(now, connection, id, request),
            Some(Request::Rpc(request)) => self.rpc(connection, id, &request.method),
            Some(Request::Send(_)) => Err(Disconnect::NOT_AVAILABLE.into()),
            Some(Request::Refresh(request)) => self.refresh(now, connection, id, &request.token),
            Some(Request::SubRefresh(request)) => self.sub_refresh(now, connection, id, request),
        }
    }
}

/// Bytes that a waiting command holds, roughly.
fn weight(command: &Command) -> usize {
    const BASE: usize = 128;
    BASE + match &command.request {
        Some(Request::Publish(request)) => request.data.len() + request.channel.len(),
        Some(Request::Rpc(request)) => request.data.len(),
        Some(Request::Send(request)) => request.data.len(),
        Some(Request::Subscribe(request)) => request.data.len() + request.token.len() + request.channel.len(),
        Some(Request::Connect(request)) => request.data.len() + request.token.len(),
        Some(Request::Refresh(request)) => request.token.len(),
        Some(Request::SubRefresh(request)) => request.token.len(),
        _ => 0,
    }
}
