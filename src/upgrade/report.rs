//! What came of an upgrade, told to the command that asked for it. It waits at a socket without a file, whose name says which
//! process it has asked; only that process, or the superuser, is heard.

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, geteuid};
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long the other side of a report may take for its few bytes.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of a report that are read.
const REPORT_BYTES_MAX: u64 = 8 << 10;

/// Between two looks for a report.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// Waits for the report of one process.
pub struct Report {
    listener: UnixListener,
    pid: Pid,
}

impl Report {
    /// Listens, before the process is asked. Fails when somebody else waits for the same process.
    pub fn of(pid: Pid) -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&address(pid.as_raw_nonzero().get() as u32)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, pid })
    }

    /// The process that serves, or why none has taken over. None when there is no report in that time.
    pub fn wait(self, patience: Duration) -> io::Result<Option<Result<u32, String>>> {
        let give_up_at = Instant::now() + patience;
        while Instant::now() < give_up_at {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Some(outcome) = self.read(stream)? {
                        return Ok(Some(outcome));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK_PERIOD),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn read(&self, stream: UnixStream) -> io::Result<Option<Result<u32, String>>> {
        if socket_peercred(&stream)?.pid != self.pid {
            return Ok(None);
        }
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(REPORT_PATIENCE))?;
        let mut text = String::new();
        stream.take(REPORT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(match text.split_once(' ') {
            Some(("serves", pid)) => pid.parse().ok().map(Ok),
            Some(("failed", reason)) => Some(Err(reason.to_owned())),
            Some(_) | None => None,
        })
    }
}

/// Tells whoever waits for the report of this process, which is nobody as a rule.
pub fn tell(outcome: &Result<u32, String>) {
    let text = match outcome {
        Ok(pid) => format!("serves {pid}"),
        Err(reason) => format!("failed {reason}"),
    };
    // The outcome is in the log, too.
    let _ = try_to_tell(&text);
}

fn try_to_tell(text: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect_addr(&address(std::process::id())?)?;
    let peer = socket_peercred(&stream)?.uid;
    if !peer.is_root() && peer != geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_write_timeout(Some(REPORT_PATIENCE))?;
    stream.write_all(text.as_bytes())
}

fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("ringcast-upgrade-{pid}"))
}
