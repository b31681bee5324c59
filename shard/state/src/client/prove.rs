//! Commands with tokens that take a public key: they are set aside until the signature is known, then served like any other,
//! all checks in their usual order. The clients behind them do not notice; the client itself may have to wait.

use super::Phase;
use crate::auth::{KeyAnswer, KeyQuestion, Late, Proof, SignatureCheck, TokenKind, Unproven, need};
use crate::shard::Shard;
use crate::{ConnectionId, Now, RequestId, Time};
use ringcast_proto::client::{Command, Request};
use ringcast_proto::codes::Disconnect;
use std::sync::Arc;

impl Shard {
    /// Sets a command aside whose token takes a public key. Gives back every other one.
    pub(super) fn set_aside(&mut self, now: Now, connection: ConnectionId, command: Command) -> Option<Command> {
        if !self.uses_public_keys {
            return Some(command);
        }
        let Some(client) = self.clients.get(connection) else { return Some(command) };
        let is_connect = matches!(command.request, Some(Request::Connect(_)));
        // What its phase forbids is refused without looking at tokens.
        let is_allowed = match client.phase {
            Phase::Fresh => is_connect,
            Phase::Live => !is_connect,
            Phase::Connecting(_) | Phase::Unusable | Phase::Closed => false,
        };
        let Some((token, kind)) = token_of(&command).filter(|_| is_allowed) else { return Some(command) };
        let Some(need) = need(token, kind.options(&self.options), &self.proofs.keys, now) else { return Some(command) };
        let deadline = self.proof_deadline(now);
        self.proofs.insert(Unproven { connection, command, began_at: now.at }, need, deadline);
        None
    }

    fn proof_deadline(&self, now: Now) -> Time {
        now.at + self.options.limits.proof_timeout
    }

    /// A signature to check, of those that take less than a third of a millisecond. Take them out until there are none,
    /// in this turn or in the next.
    pub fn take_signature_check(&mut self) -> Option<SignatureCheck> {
        self.take_check(false)
    }

    /// A signature that takes longer to check: for another thread.
    pub fn take_slow_signature_check(&mut self) -> Option<SignatureCheck> {
        self.take_check(true)
    }

    fn take_check(&mut self, is_slow: bool) -> Option<SignatureCheck> {
        let Shard { proofs, clients, .. } = self;
        let is_open = |connection| clients.get(connection).is_some_and(|client| !client.is_closed());
        proofs.take_check(is_slow, is_open, |command| token_of(command).map(|(token, _)| token))
    }

    /// What came of a signature check.
    pub fn handle_signature(&mut self, now: Now, request: RequestId, is_right: bool) {
        let Some(unproven) = self.proofs.take_checked(request) else { return };
        self.serve_proven(now, unproven, if is_right { Proof::Right } else { Proof::Wrong });
        self.handle_local(now);
    }

    /// A key to find out; the answer is awaited by `handle_key`. Asked once however many clients wait for it.
    pub fn take_key_question(&mut self) -> Option<Arc<KeyQuestion>> {
        self.proofs.take_question()
    }

    /// The answer to a key question.
    pub fn handle_key(&mut self, now: Now, answer: &KeyAnswer) {
        let deadline = self.proof_deadline(now);
        self.proofs.handle_key(now, answer, deadline);
    }

    /// Ends waits that took too long.
    pub(crate) fn give_up_proofs(&mut self, now: Now) {
        while let Some((unproven, late)) = self.proofs.take_overdue(now.at) {
            match late {
                // As the reference does when it cannot get a key.
                Late::Key => self.serve_proven(now, unproven, Proof::Wrong),
                // Nothing is wrong with the token: the client comes back later.
                Late::Check => self.close(unproven.connection, Disconnect::SERVER_ERROR),
            }
        }
    }

    fn serve_proven(&mut self, now: Now, unproven: Unproven, proof: Proof) {
        self.perform(now, unproven.connection, unproven.command, proof, unproven.began_at);
        self.serve_waiting(now, unproven.connection);
    }
}

/// The token of a command; `None` for a command without one.
fn token_of(command: &Command) -> Option<(&str, TokenKind)> {
    let (token, kind) = match command.request.as_ref()? {
        Request::Connect(request) => (&request.token, TokenKind::Connection),
        Request::Refresh(request) => (&request.token, TokenKind::Connection),
        Request::Subscribe(request) => (&request.token, TokenKind::Subscription),
        Request::SubRefresh(request) => (&request.token, TokenKind::Subscription),
        _ => return None,
    };
    Some((&**token, kind)).filter(|(token, _)| !token.is_empty())
}
