//! Brings what clients of response streams say to the emulation endpoint, over a few connections of all of them together.
//!
//! Each client of the real world has a connection of its own; one kept for each would be idle between two pongs and would
//! double the sockets of a run.

use std::collections::VecDeque;

use mio::event::Event as Readiness;

use super::exchange::{Exchange, Response};
use super::socket::Socket;

/// Connections for all clients; browsers have six for each server.
pub const COURIERS_MAX: usize = 6;

/// All couriers and what waits for them.
#[derive(Default)]
pub struct Couriers {
    list: Vec<Courier>,
    /// Whole requests. Bound: a command and a pong of each client.
    waiting: VecDeque<Vec<u8>>,
}

struct Courier {
    exchange: Exchange,
    /// Under way, or the last one.
    errand: Vec<u8>,
}

/// Who needs a socket before it can go.
pub enum Wanting {
    /// A courier more, of this index.
    Another(usize),
    /// One whose connection the server closed.
    Fresh(usize),
}

impl Couriers {
    /// Takes a request along.
    pub fn add(&mut self, errand: Vec<u8>) {
        self.waiting.push_back(errand);
    }

    /// Sends out who is there and idle; tells of a socket that would help, for [`Self::equip`]. Call until it tells of none.
    pub fn send_out(&mut self) -> Option<Wanting> {
        for courier in &mut self.list {
            if courier.exchange.is_idle()
                && let Some(errand) = self.waiting.pop_front()
            {
                courier.errand = errand;
                courier.exchange.send(&courier.errand);
            }
        }
        if self.waiting.is_empty() {
            return None;
        }
        match self.list.iter().position(|courier| courier.exchange.is_retired()) {
            Some(retired) => Some(Wanting::Fresh(retired)),
            None => (self.list.len() < COURIERS_MAX).then_some(Wanting::Another(self.list.len())),
        }
    }

    /// A socket for who wanted one.
    pub fn equip(&mut self, wanting: Wanting, socket: Socket) {
        match wanting {
            Wanting::Fresh(index) => self.list[index].exchange.replace(socket),
            Wanting::Another(_) => self.list.push(Courier { exchange: Exchange::new(socket), errand: Vec::new() }),
        }
    }

    /// Writes and reads what the socket of a courier is ready for. An error ends that courier.
    pub fn handle_ready(&mut self, index: usize, readiness: &Readiness, buffer: &mut [u8]) -> Result<(), String> {
        let Courier { exchange, errand } = &mut self.list[index];
        let refused = match exchange.handle_ready(readiness, errand, buffer) {
            Ok(None | Some(Response { status: 204, .. })) => return Ok(()),
            Ok(Some(Response { status, .. })) => format!("answered {status}"),
            Err(reason) => reason,
        };
        Err(exchange.broken(format!("emulation endpoint: {refused}")))
    }
}
