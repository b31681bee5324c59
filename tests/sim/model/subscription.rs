//! A subscription as its client sees it.

use super::{Log, Moment};
use crate::content::{PublicationId, Wanted};
use ringcast_proto::client::{Encoding, Publication};
use ringcast_proto::delta;
use ringcast_state::Time;
use std::collections::BTreeSet;

/// Longest payload; generous.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// From the reply that made it live until its end.
#[derive(Debug, Default)]
pub struct Subscription {
    /// When it was asked for.
    pub asked: Moment,
    /// When the client learnt that it is live.
    pub live: Moment,
    pub server_side: bool,
    /// The connection token brought it.
    pub is_from_token: bool,
    /// Last offset and its epoch, when the subscription is positioned.
    pub position: Option<(u64, String)>,
    /// A call of the API made it: what it recovers comes like any other publication.
    pub by_call: bool,
    /// The first publication may stand anywhere: what was recovered was not told.
    pub may_jump: bool,
    /// Last offset without position.
    pub(super) loose_offset: u64,
    /// The last publication that came by itself.
    pub(super) last: Option<PublicationId>,
    pub(super) seen: BTreeSet<PublicationId>,
    /// Publications up to this one were looked at with the world at rest.
    pub(super) looked_at: PublicationId,
    /// What came by offset, over all subscriptions that went on from one another; for positioned ones.
    pub log: Log,
    /// Only these publications.
    pub wanted: Option<Wanted>,
    /// Publications may be patches of the one before.
    pub has_deltas: bool,
    /// The last payload, when they may.
    base: Option<Vec<u8>>,
    /// Joins and leaves come.
    pub sees_members: bool,
    /// Clients that were seen to join and not to leave.
    pub members: BTreeSet<String>,
    /// Clients that were seen to leave.
    pub(super) gone: BTreeSet<String>,
    /// Everybody who is there, from a presence reply and what came since.
    pub roster: Option<BTreeSet<String>>,
    /// When it ends unless it is refreshed, without the delay of grace.
    pub expire_at: Option<Time>,
}

/// What a client asked to recover from.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub recover: bool,
    pub offset: u64,
    pub epoch: String,
}

impl Subscription {
    /// A client asked for it.
    pub fn asked(moment: Moment) -> Self {
        Subscription { asked: moment, ..Subscription::default() }
    }

    /// The server made it.
    pub fn server_side() -> Self {
        Subscription { server_side: true, ..Subscription::default() }
    }

    /// Puts the whole payload where a delta subscription has its text or a patch.
    pub fn make_whole(&mut self, encoding: Encoding, publication: &mut Publication) {
        if !self.has_deltas {
            assert!(!publication.delta, "a patch without being asked for");
            return;
        }
        let text = match encoding {
            Encoding::Json => {
                let text: String = serde_json::from_slice(&publication.data).expect("a payload in a string");
                text.into_bytes()
            }
            Encoding::Protobuf => publication.data.to_vec(),
        };
        let mut whole = Vec::new();
        if publication.delta {
            let base = self.base.as_deref().expect("a patch comes behind what it changes");
            delta::decode(base, &text, PAYLOAD_BYTES_MAX, &mut whole).expect("a patch of the payload before");
        } else {
            whole = text;
        }
        publication.data = whole.clone().into();
        self.base = Some(whole);
    }

    /// Somebody came.
    pub fn joined(&mut self, name: &str, client: &str) {
        assert!(self.members.insert(client.to_owned()), "{name}: {client} joined twice");
        if let Some(roster) = &mut self.roster {
            assert!(roster.insert(client.to_owned()), "{name}: {client} joined and was there before");
        }
    }

    /// Somebody went. `may_be_older`: it may have come before this subscription was live.
    pub fn left(&mut self, name: &str, client: &str, may_be_older: bool) {
        let was_known = self.members.remove(client);
        let is_again = !self.gone.insert(client.to_owned());
        assert!(was_known || may_be_older && !is_again, "{name}: {client} left and never joined");
        if let Some(roster) = &mut self.roster {
            assert!(roster.remove(client), "{name}: {client} left and was not there");
        }
    }
}
