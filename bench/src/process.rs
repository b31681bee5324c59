//! What a process costs: CPU time and resident memory of the server, the floor and this tool; cores and descriptors.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The kernel's greatest process id (`PID_MAX_LIMIT`). A clock id has no room for greater ones and would be another clock's.
const PID_MAX: i32 = 1 << 22;

/// A process that is measured.
pub struct Process {
    pid: u32,
    clock: ClockId,
}

/// Why a process cannot be measured.
#[derive(Debug)]
pub struct ProcessError {
    pid: u32,
    source: io::Error,
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} cannot be measured: {}", self.pid, self.source)
    }
}

impl std::error::Error for ProcessError {}

impl Process {
    /// Fails when there is no such process.
    pub fn open(pid: u32) -> Result<Self, ProcessError> {
        let known = i32::try_from(pid).ok().filter(|id| *id <= PID_MAX);
        let clock = known
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
            .and_then(|id| Ok(clock_getcpuclockid(Pid::from_raw(id))?));
        match clock {
            Ok(clock) => Ok(Self { pid, clock }),
            Err(source) => Err(ProcessError { pid, source }),
        }
    }

    /// This tool itself.
    pub fn own() -> Result<Self, ProcessError> {
        Self::open(std::process::id())
    }

    /// User and system time of all threads, also of those that have ended.
    ///
    /// The kernel's clock of the process: nanoseconds, up to date also for running threads. The clock ticks of
    /// `/proc/PID/stat` are 10 ms, and `/proc/PID/task/*/schedstat` lags behind by up to a tick and forgets threads that end.
    pub fn cpu(&self) -> Result<Duration, ProcessError> {
        clock_gettime(self.clock).map(Duration::from).map_err(|error| self.error(error.into()))
    }

    /// Time for which threads that could have run had to wait for a core, all threads that live now together.
    ///
    /// From `/proc/PID/task/*/schedstat`. Threads of one process that share a core also wait for each other.
    pub fn waited(&self) -> Result<Duration, ProcessError> {
        let path = format!("/proc/{}/task", self.pid);
        let tasks = fs::read_dir(path).map_err(|source| self.error(source))?;
        let waited = tasks.flatten().filter_map(|task| {
            // A thread that has ended meanwhile is no longer there to be read.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            waited_ns(&text)
        });
        Ok(Duration::from_nanos(waited.sum()))
    }

    /// Resident memory in bytes, from `smaps_rollup`: `VmRSS` of `status` is summed up lazily per core.
    pub fn resident_bytes(&self) -> Result<u64, ProcessError> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = fs::read_to_string(path).map_err(|source| self.error(source))?;
        resident_bytes(&text).ok_or_else(|| self.error(io::ErrorKind::InvalidData.into()))
    }

    /// The one core that the process is pinned to, if it is.
    pub fn pinned_to(&self) -> Option<usize> {
        let set = sched_getaffinity(Pid::from_raw(i32::try_from(self.pid).ok()?)).ok()?;
        let mut cores = (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false));
        cores.next().filter(|_| cores.next().is_none())
    }

    fn error(&self, source: io::Error) -> ProcessError {
        ProcessError { pid: self.pid, source }
    }
}

/// How often this tool has gone to sleep so far. Each time, the next write to one of its sockets pays for waking it.
pub fn own_sleeps() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.voluntary_context_switches().unsigned_abs())
}

/// Pins the calling thread, which is the only one of this tool, to a core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Second of the three numbers: run, waited, slices.
fn waited_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn resident_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rollup: &str, want: Option<u64>) {
        assert_eq!(resident_bytes(rollup), want, "{rollup}");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        check("55d-7ffe ---p 0 00:00 0 [rollup]\nRss:      1912 kB\nPss:  604 kB\n", Some(1_957_888));
    }

    #[test]
    fn unreadable_rollup_gives_nothing() {
        for rollup in ["", "Pss: 1 kB\n", "Rss: x kB\n", "Rss: 1\n", "Rss: 99999999999999999999 kB\n"] {
            check(rollup, None);
        }
    }

    #[test]
    fn waited_time_is_the_second_number() {
        assert_eq!(waited_ns("207892852 1500 12\n"), Some(1500));
        for broken in ["", "1", "1 x 2"] {
            assert_eq!(waited_ns(broken), None, "{broken}");
        }
    }

    #[test]
    fn unknown_process_is_an_error() {
        for pid in [u32::MAX, i32::MAX as u32, PID_MAX as u32] {
            assert!(Process::open(pid).is_err());
        }
    }
}
