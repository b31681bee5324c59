//! Signatures that a public key made: what has to be found out before a token's claims are looked at, and who waits for it.
//! A shard does not check them on the spot, for that takes 20 us to 1.3 ms, and the key may have to be fetched.

use super::claims::Audience;
use super::endpoint::KeySetAddress;
use super::keys::{KeyAnswer, KeyQuestion, Keys};
use super::object::{Object, or_default};
use super::public_key::{Algorithm, PublicKey};
use crate::options::TokenOptions;
use crate::pending::Pending;
use crate::{ConnectionId, Now, RequestId, Time};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringcast_proto::client::Command;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Longest key id that is looked for.
const KID_BYTES_MAX: usize = 1024;

/// What is known of a token's signature before its claims are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: HMAC may have made it, which is checked at once.
    Open,
    /// A public key of ours made it.
    Right,
    /// No key of ours made it.
    Wrong,
}

/// A signature to check: pure work, anywhere. Tell `Shard::handle_signature` what came of it.
#[derive(Debug)]
pub struct SignatureCheck {
    /// Where the outcome is awaited.
    pub request: RequestId,
    algorithm: Algorithm,
    /// `None` when there is no key that fits, so that refusals are spread over turns like everything else.
    key: Option<Arc<PublicKey>>,
    token: Box<str>,
}

/// What a token needs before it can be judged.
#[derive(Debug, PartialEq)]
pub(crate) enum Need {
    /// A check with this key.
    Check(Algorithm, Arc<PublicKey>),
    /// A key, then a check with it.
    Key(Algorithm, KeyQuestion),
}

/// A command that waits for the proof of its token.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) connection: ConnectionId,
    pub(crate) command: Command,
    /// The turn in which it was set aside.
    pub(crate) began_at: Time,
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// A key.
    Key,
    /// A check: more are asked for than the machine can make.
    Check,
}

/// Commands whose tokens take a public key.
///
/// Bound: `client.concurrency` commands of each connection; each waits `Limits::proof_timeout` for its key, and as long for
/// its check, at most.
#[derive(Debug)]
pub(crate) struct Proofs {
    pub(crate) keys: Keys,
    awaiting_key: Pending<(Unproven, Algorithm, KeyQuestion)>,
    awaiting_check: Pending<(Unproven, Algorithm, Option<Arc<PublicKey>>)>,
    quick: VecDeque<RequestId>,
    slow: VecDeque<RequestId>,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    /// A `String`, for it may be written with escapes.
    #[serde(default, deserialize_with = "or_default")]
    kid: String,
}

/// The claims that an address may be made of.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Origin {
    #[serde(deserialize_with = "or_default")]
    iss: String,
    #[serde(deserialize_with = "or_default")]
    aud: Audience,
}

/// What the token needs; `None` when it can be judged, or refused, at once.
pub(crate) fn need(token: &str, options: &TokenOptions, keys: &Keys, now: Now) -> Option<Need> {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next()?, parts.next()?);
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let Object(header) = serde_json::from_slice::<Object<Header<'_>>>(&header).ok()?;
    let algorithm = Algorithm::from_name(header.alg)?;
    if options.jwks_public_endpoint.is_none() {
        let keys = [&options.rsa_public_key, &options.ecdsa_public_key];
        let key = keys.into_iter().flatten().find(|key| key.fits(algorithm))?;
        return Some(Need::Check(algorithm, key.clone()));
    }
    if header.kid.is_empty() || header.kid.len() > KID_BYTES_MAX {
        return None;
    }
    let question = KeyQuestion { address: address(claims, options)?, kid: header.kid };
    match keys.get(&question, now) {
        Some(key) => key.fits(algorithm).then(|| Need::Check(algorithm, key.clone())),
        None => Some(Need::Key(algorithm, question)),
    }
}

/// Where the keys of a token are, by what it says of itself; `None` when it is not from where tokens may come.
fn address(claims: &str, options: &TokenOptions) -> Option<KeySetAddress> {
    let endpoint = options.jwks_public_endpoint.as_ref()?;
    if endpoint.groups().next().is_none() {
        return endpoint.address(|_| "");
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let Object(origin) = serde_json::from_slice::<Object<Origin>>(&claims).ok()?;
    let issuer = match &options.issuer_regex {
        Some(regex) => Some(regex.captures(&origin.iss)?),
        None => None,
    };
    let audience = match &options.audience_regex {
        Some(regex) => Some(origin.aud.iter().find_map(|aud| regex.captures(aud))?),
        None => None,
    };
    endpoint.address(|name| {
        let found = [&audience, &issuer].into_iter().flatten().find_map(|captures| captures.name(name));
        found.map_or("", |found| found.as_str())
    })
}

impl SignatureCheck {
    /// Whether the key made the signature.
    pub fn run(&self) -> bool {
        self.key.as_ref().is_some_and(|key| is_signed(&self.token, self.algorithm, key))
    }
}

fn is_signed(token: &str, algorithm: Algorithm, key: &PublicKey) -> bool {
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    key.verify(algorithm, signed.as_bytes(), &signature)
}

/// Proves a token at once, for a caller who has the time.
pub(super) fn prove(
    token: &str,
    options: &TokenOptions,
    find_key: impl FnOnce(&KeyQuestion) -> Option<Arc<PublicKey>>,
) -> Proof {
    let (algorithm, key) = match need(token, options, &Keys::new(0), Now::default()) {
        None => return Proof::Open,
        Some(Need::Check(algorithm, key)) => (algorithm, Some(key)),
        Some(Need::Key(algorithm, question)) => (algorithm, find_key(&question)),
    };
    let is_right = key.is_some_and(|key| is_signed(token, algorithm, &key));
    if is_right { Proof::Right } else { Proof::Wrong }
}

impl Proofs {
    pub(crate) fn new(hash_seed: u64) -> Self {
        Proofs {
            keys: Keys::new(hash_seed),
            awaiting_key: Pending::new(),
            awaiting_check: Pending::new(),
            quick: VecDeque::new(),
            slow: VecDeque::new(),
        }
    }

    /// Sets a command aside until its need is met.
    pub(crate) fn insert(&mut self, unproven: Unproven, need: Need, deadline: Time) {
        match need {
            Need::Check(algorithm, key) => self.await_check(unproven, algorithm, Some(key), deadline),
            Need::Key(algorithm, question) => {
                let request = self.awaiting_key.insert((unproven, algorithm, question.clone()), deadline);
                self.keys.ask(question, request);
            }
        }
    }

    fn await_check(&mut self, unproven: Unproven, algorithm: Algorithm, key: Option<Arc<PublicKey>>, deadline: Time) {
        let is_slow = key.as_ref().is_some_and(|key| key.is_slow());
        let request = self.awaiting_check.insert((unproven, algorithm, key), deadline);
        self.queue(is_slow).push_back(request);
    }

    fn queue(&mut self, is_slow: bool) -> &mut VecDeque<RequestId> {
        if is_slow { &mut self.slow } else { &mut self.quick }
    }

    /// Has those checked that waited for a key.
    pub(crate) fn handle_key(&mut self, now: Now, answer: &KeyAnswer, deadline: Time) {
        for request in self.keys.answer(now, answer) {
            if let Some((unproven, algorithm, _)) = self.awaiting_key.take(request) {
                let key = answer.key.clone().filter(|key| key.fits(algorithm));
                self.await_check(unproven, algorithm, key, deadline);
            }
        }
    }

    pub(crate) fn take_question(&mut self) -> Option<Arc<KeyQuestion>> {
        self.keys.take_question()
    }

    /// The next check, of those that are quick or of the others. Commands of connections that are gone are dropped on the way.
    pub(crate) fn take_check(
        &mut self,
        is_slow: bool,
        is_open: impl Fn(ConnectionId) -> bool,
        token: impl Fn(&Command) -> Option<&str>,
    ) -> Option<SignatureCheck> {
        while let Some(request) = self.queue(is_slow).pop_front() {
            let Some((unproven, algorithm, key)) = self.awaiting_check.get_mut(request) else { continue };
            if let Some(token) = token(&unproven.command)
                && is_open(unproven.connection)
            {
                let (algorithm, key, token) = (*algorithm, key.clone(), token.into());
                return Some(SignatureCheck { request, algorithm, key, token });
            }
            self.awaiting_check.take(request);
        }
        None
    }

    /// Ends the wait for a check; `None` when it was over already.
    pub(crate) fn take_checked(&mut self, request: RequestId) -> Option<Unproven> {
        self.awaiting_check.take(request).map(|(unproven, ..)| unproven)
    }

    /// A wait whose time is over.
    pub(crate) fn take_overdue(&mut self, now: Time) -> Option<(Unproven, Late)> {
        if let Some((request, (unproven, _, question))) = self.awaiting_key.take_overdue(now) {
            self.keys.give_up(&question, request);
            return Some((unproven, Late::Key));
        }
        self.awaiting_check.take_overdue(now).map(|(_, (unproven, ..))| (unproven, Late::Check))
    }

    /// When `take_overdue` has something to give.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        [self.awaiting_key.next_timeout(), self.awaiting_check.next_timeout()].into_iter().flatten().min()
    }
}
