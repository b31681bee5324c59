//! News for the service manager, by the protocol of sd_notify(3): readiness, reloads, the end, a line of status, and
//! signs of life for its watchdog.

use super::sockets::stored_name;
use ringcast_runtime::Pulse;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};
use tracing::warn;

/// Longest time between two calls of [`Service::tick`].
const TICK_MAX: Duration = Duration::from_secs(1);

/// Shortest one, for a manager that asks for nonsense.
const TICK_MIN: Duration = Duration::from_millis(10);

/// Signs of life in the time after which the manager kills the process: some may come late.
const TICKS_PER_WATCHDOG: u32 = 4;

/// Shortest time between two lines of status. The manager wakes for each.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// The line to the service manager.
pub struct Service {
    /// Time without a sign of life after which the manager kills the process; `WatchdogSec` of the unit.
    watchdog: Option<Duration>,
    /// Told once that the manager cannot be reached.
    is_lost: bool,
    status: String,
    status_at: Option<Instant>,
}

impl Service {
    /// Reads `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn of_process() -> Self {
        Service { watchdog: sd_notify::watchdog_enabled(), is_lost: false, status: String::new(), status_at: None }
    }

    /// How often to call `tick`.
    pub fn tick_period(&self) -> Duration {
        self.watchdog.map_or(TICK_MAX, |watchdog| (watchdog / TICKS_PER_WATCHDOG).clamp(TICK_MIN, TICK_MAX))
    }

    /// All shards accept connections.
    pub fn ready(&mut self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// A reload begins; `ready` ends it.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            // A manager that waits for the time would wait in vain, so it hears nothing of this reload.
            Err(error) => warn!(%error, "cannot read the clock for the service manager"),
        }
    }

    /// Another process serves in place of this one: it is the main one from now on, and what this one does says nothing any more.
    pub fn replaced(&mut self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    }

    /// Leaves copies of the listening sockets with the manager, which hands them to the next process of the unit, so that connections
    /// wait for it even if this one is killed; `FileDescriptorStoreMax=` of the unit allows it. Those of the second list go.
    pub fn store<'a>(&mut self, sockets: impl Iterator<Item = &'a (String, OwnedFd)>, unwanted: &[String]) {
        let Some(manager) = std::env::var_os("NOTIFY_SOCKET") else { return };
        let removed = unwanted.iter().map(|name| (format!("FDSTOREREMOVE=1\nFDNAME={}\n", stored_name(name)), None));
        let stored =
            sockets.map(|(name, socket)| (format!("FDSTORE=1\nFDNAME={}\n", stored_name(name)), Some(socket.as_fd())));
        for (news, socket) in removed.chain(stored) {
            if let Err(error) = send(&manager, &news, socket) {
                warn!(%error, "cannot store the listening sockets with the service manager");
                return;
            }
        }
    }

    /// The end begins. The watchdog does not wait for signs of life any more.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("closing connections")]);
    }

    /// Gives a sign of life if every shard has made a turn since the last one, and says how many connections each
    /// shard has when that has changed.
    pub fn tick(&mut self, pulse: &mut Pulse, connections: &[usize], now: Instant) {
        if self.watchdog.is_some() && pulse.beat() {
            self.tell(&[NotifyState::Watchdog]);
        }
        let status = status(connections);
        if status != self.status && self.status_at.is_none_or(|at| now >= at + STATUS_PERIOD) {
            self.tell(&[NotifyState::Status(&status)]);
            (self.status, self.status_at) = (status, Some(now));
        }
    }

    fn tell(&mut self, news: &[NotifyState<'_>]) {
        match sd_notify::notify(news) {
            Ok(()) => self.is_lost = false,
            Err(_) if self.is_lost => {}
            Err(error) => {
                warn!(%error, "cannot tell the service manager how the server does");
                self.is_lost = true;
            }
        }
    }
}

/// Sends news with a descriptor beside them.
fn send(manager: &OsStr, news: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match manager.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(manager)?,
    };
    socket.connect_addr(&address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(&socket, &[IoSlice::new(news.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn status(connections: &[usize]) -> String {
    format!("{} connections on {} shards", connections.iter().sum::<usize>(), connections.len())
}
