//! Brings many clients in, as fast as the server takes them but only so many at once.

use std::time::Duration;

use crate::engine::{Engine, Event, Login, Peer};
use crate::failure::Failure;
use crate::watch::Watch;

/// Connections under way at once: more only fill the server's backlog.
pub const UNDER_WAY_MAX: usize = 64;

/// Longest turn while there is something to wait for.
pub const TURN: Duration = Duration::from_millis(100);

/// Opens `count` clients and waits until all are ready; returns their indices. One that is refused ends it.
pub fn gather(
    engine: &mut Engine,
    peer: &Peer,
    count: usize,
    login: impl Fn(usize) -> Option<Login>,
) -> Result<Vec<usize>, Failure> {
    gather_and_tell(engine, peer, count, login, |_| {})
}

/// As [`gather`], telling what happens besides.
pub fn gather_and_tell(
    engine: &mut Engine,
    peer: &Peer,
    count: usize,
    login: impl Fn(usize) -> Option<Login>,
    mut on: impl FnMut(Event),
) -> Result<Vec<usize>, Failure> {
    let mut opened = Vec::with_capacity(count);
    let mut ready = 0;
    let mut refused = Vec::new();
    let mut watch = Watch::new(engine);
    while ready < count {
        while opened.len() < count && opened.len() - ready < UNDER_WAY_MAX {
            let client = engine.open(peer, login(opened.len()));
            opened.push(client.map_err(Failure::dialing)?);
        }
        let turned = engine.turn(TURN, &mut |event| match event {
            Event::Ready { .. } => ready += 1,
            Event::Closed { why, .. } => refused.push(why.to_string()),
            other => on(other),
        });
        turned.map_err(Failure::system("waiting for connections"))?;
        let now_ns = engine.now_ns();
        engine.live().show(now_ns, ready as u64, "clients in", None);
        if let Some(first) = refused.first() {
            return Err(Failure::Refused { problems: refused.len() as u64, first: first.clone() });
        }
        if watch.is_over(engine, ready as u64) {
            return Err(Failure::Stalled { waiting_for: format!("{ready} of {count} clients were in") });
        }
    }
    Ok(opened)
}

/// Sends clients away and waits until they are gone. Those that the server cuts meanwhile are gone, too.
pub fn dismiss(engine: &mut Engine, clients: Vec<usize>) -> Result<(), Failure> {
    let mut left = clients.len();
    for client in clients {
        engine.close(client);
    }
    let mut watch = Watch::new(engine);
    while left > 0 {
        let turned = engine.turn(TURN, &mut |event| left -= usize::from(matches!(event, Event::Closed { .. })));
        turned.map_err(Failure::system("waiting for connections to end"))?;
        if watch.is_over(engine, left as u64) {
            return Err(Failure::Stalled { waiting_for: format!("{left} clients were still there") });
        }
    }
    Ok(())
}
