//! Slots that are on the move. Once a node has sent an errand of a slot elsewhere, or another node has told that the slot is
//! elsewhere, later errands of the slot wait until all before them are answered, so that a channel's questions keep their order. As
//! long as a slot is neither here nor there it is one at a time: what cannot be done yet at one moment can be at the next.

use super::link::Errand;
use crate::control::redis::options::Address;
use std::collections::{HashMap, VecDeque};
use tokio::time::Instant;

/// All slots on the move.
#[derive(Default)]
pub struct Detours(HashMap<u16, Detour>);

/// Errands of one slot.
#[derive(Default)]
struct Detour {
    /// Came back; with the node to ask next unless that is the owner.
    returned: Vec<(Errand, Option<Address>)>,
    /// Not sent yet.
    waiting: VecDeque<Errand>,
    /// Not before this.
    pause: Option<Instant>,
}

/// What is to be done once no errand of the slot is out.
pub enum Step {
    /// Send these, in this order.
    Send(Vec<(Errand, Option<Address>)>),
    /// The move is over: these are errands like others.
    Over(VecDeque<Errand>),
    /// Look again then.
    Later,
    /// The slot is not on the move.
    Nothing,
}

impl Detours {
    /// Whether the errand has to wait, and does so.
    pub fn hold(&mut self, slot: u16, errand: Errand) -> Option<Errand> {
        match self.0.get_mut(&slot) {
            None => Some(errand),
            Some(detour) => {
                detour.waiting.push_back(errand);
                None
            }
        }
    }

    /// Later errands of a slot that is served elsewhere by now wait for those that are out.
    pub fn begin(&mut self, slot: u16) {
        self.0.entry(slot).or_default();
    }

    /// An errand came back.
    pub fn add(&mut self, slot: u16, errand: Errand, to: Option<Address>, pause: Option<Instant>) {
        let detour = self.0.entry(slot).or_default();
        detour.returned.push((errand, to));
        detour.pause = detour.pause.max(pause);
    }

    /// The next step of a slot of which no errand is out.
    pub fn step(&mut self, slot: u16, now: Instant) -> Step {
        let Some(detour) = self.0.get_mut(&slot) else { return Step::Nothing };
        if detour.returned.is_empty() {
            return Step::Over(self.0.remove(&slot).map_or_else(VecDeque::new, |detour| detour.waiting));
        }
        if detour.pause.is_some_and(|pause| pause > now) {
            return Step::Later;
        }
        detour.returned.sort_by_key(|(errand, _)| errand.number);
        let is_settled = detour.pause.take().is_none() && detour.returned.iter().all(|(_, to)| to.is_none());
        let count = if is_settled { detour.returned.len() } else { 1 };
        Step::Send(detour.returned.drain(..count).collect())
    }

    /// Slots whose pause is over.
    pub fn due(&self, now: Instant) -> Vec<u16> {
        let is_due = |detour: &Detour| detour.pause.is_some_and(|pause| pause <= now);
        self.0.iter().filter(|(_, detour)| is_due(detour)).map(|(slot, _)| *slot).collect()
    }

    /// When the next pause is over.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|detour| detour.pause).min()
    }
}
