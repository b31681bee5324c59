//! What must hold before a shard runs, and what to tell the operator when it does not: each error is one line
//! with its remedy.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;

use crate::placement::PlacementError;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// First kernel with everything the sockets' ring needs (IORING_SETUP_DEFER_TASKRUN).
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Locked memory that glommio asks for before it makes an executor, bytes.
pub const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// Descriptors below which a shard cannot even start: its rings, listeners and a few clients.
pub const DESCRIPTORS_MIN: u64 = 64;

/// Why the shards did not start.
#[derive(Debug)]
pub enum StartError {
    /// Older than Linux 6.1.
    Kernel {
        /// As `uname -r` says.
        release: String,
    },
    /// The kernel, a seccomp filter or a container forbids io_uring.
    IoUringRefused {
        /// Value of `kernel.io_uring_disabled`, where the kernel has it.
        disabled: Option<String>,
        /// EPERM or ENOSYS as a rule.
        source: io::Error,
    },
    /// The limit of locked memory (RLIMIT_MEMLOCK) is too low.
    LockedMemory {
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// The limit of open files (RLIMIT_NOFILE) is too low.
    Descriptors {
        /// The hard limit.
        limit: u64,
    },
    /// `shard_placement` does not fit the machine.
    Placement(PlacementError),
    /// The threads of the control plane may not be moved to the CPUs left to them.
    Affinity {
        /// The CPUs.
        cpus: Vec<usize>,
        /// Of sched_setaffinity.
        source: io::Error,
    },
    /// /sys, by which shards are placed on CPUs, is not mounted.
    Sysfs {
        /// Of the look.
        source: io::Error,
    },
    /// The address is not one.
    Address {
        /// As configured.
        address: String,
        /// Of the lookup.
        source: io::Error,
    },
    /// Another server listens there.
    PortInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The address is not ours, the port is privileged, and the like.
    Bind {
        /// Where.
        address: SocketAddr,
        /// Of bind or listen.
        source: io::Error,
    },
    /// Anything else that kept a shard from starting.
    Shard {
        /// Which one, from 0.
        shard: usize,
        /// The system's answer.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { release } => write!(
                f,
                "Linux {release} is too old: Linux {}.{} or newer is needed, upgrade the kernel",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
            Self::IoUringRefused { disabled: Some(value), source } if value != "0" => write!(
                f,
                "io_uring is switched off by kernel.io_uring_disabled = {value} ({source}): run \
                 `sysctl kernel.io_uring_disabled=0`"
            ),
            Self::IoUringRefused { source, .. } => write!(
                f,
                "io_uring is refused ({source}), as a rule by the seccomp filter of a container: allow \
                 io_uring_setup, io_uring_enter and io_uring_register in its profile (Docker: --security-opt \
                 seccomp=tuning/seccomp.json of this repository)"
            ),
            Self::LockedMemory { limit_bytes } => write!(
                f,
                "the limit of locked memory is {limit_bytes} bytes, at least {MEMLOCK_BYTES_MIN} are needed: set \
                 LimitMEMLOCK=8M in the systemd unit or run `ulimit -l 8192`"
            ),
            Self::Descriptors { limit } => write!(
                f,
                "the hard limit of open files is {limit}, at least {DESCRIPTORS_MIN} are needed and one for every \
                 client: set LimitNOFILE=1048576 in the systemd unit or run `ulimit -Hn 1048576`"
            ),
            Self::Placement(error) => error.fmt(f),
            Self::Affinity { cpus, source } => write!(
                f,
                "the control plane may not run on CPUs {cpus:?} alone ({source}): allow sched_setaffinity, or set neither \
                 shard_placement.reserve nor shard_placement.cpus"
            ),
            Self::Sysfs { source } => write!(
                f,
                "/sys does not describe the CPUs ({source}), and shards are placed by it: run `mount -t sysfs -o ro sysfs \
                 /sys` or do not hide it from the container"
            ),
            Self::Address { address, source } => {
                write!(f, "cannot listen on {address:?} ({source}): give an IP address or a host name of this machine")
            }
            Self::PortInUse { address } => write!(
                f,
                "{address} is in use by another server: stop it (`ss -ltnp sport = :{}` names it) or choose \
                 another port",
                address.port()
            ),
            Self::Bind { address, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "may not listen on {address} ({source}): choose a port above 1023 or grant CAP_NET_BIND_SERVICE"
                )
            }
            Self::Bind { address, source } => {
                write!(f, "cannot listen on {address} ({source}): is it an address of this machine?")
            }
            Self::Shard { shard, source } => write!(f, "shard {shard} did not start: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::IoUringRefused { source, .. }
            | Self::Affinity { source, .. }
            | Self::Sysfs { source }
            | Self::Address { source, .. }
            | Self::Bind { source, .. }
            | Self::Shard { source, .. } => Some(source),
            Self::Kernel { .. }
            | Self::LockedMemory { .. }
            | Self::Descriptors { .. }
            | Self::Placement(_)
            | Self::PortInUse { .. } => None,
        }
    }
}

impl StartError {
    /// What a failed attempt to make a ring or an executor means.
    pub(crate) fn of_ring(shard: usize, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => {
                Self::IoUringRefused { disabled: read_trimmed("/proc/sys/kernel/io_uring_disabled"), source }
            }
            Some(libc::ENOMEM) => match getrlimit(Resource::Memlock).current {
                Some(limit_bytes) => Self::LockedMemory { limit_bytes },
                None => Self::Shard { shard, source },
            },
            _ => Self::Shard { shard, source },
        }
    }
}

/// Checks what can be known before the first shard starts, and raises the soft limit of descriptors to the
/// hard one. Returns that limit.
pub fn check_machine() -> Result<u64, StartError> {
    let release = read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !is_new_enough(&release) {
        return Err(StartError::Kernel { release });
    }
    match getrlimit(Resource::Memlock).current {
        Some(limit_bytes) if limit_bytes < MEMLOCK_BYTES_MIN => {
            return Err(StartError::LockedMemory { limit_bytes });
        }
        Some(_) | None => {}
    }
    // glommio unwraps what it reads there.
    fs::metadata("/sys/devices/system/cpu/online").map_err(|source| StartError::Sysfs { source })?;
    match raise_descriptor_limit() {
        limit if limit < DESCRIPTORS_MIN => Err(StartError::Descriptors { limit }),
        limit => Ok(limit),
    }
}

fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // A process may always raise its soft limit to the hard one; if a sandbox says no, the soft one holds.
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

/// Whether a release, as `uname -r` says, is of [`KERNEL_MIN`] or newer. One nobody can read passes: the ring itself is the
/// better judge.
pub fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= KERNEL_MIN,
        _ => true,
    }
}

fn read_trimmed(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_1_pass() {
        let check = |release, want| assert_eq!(is_new_enough(release), want, "{release:?}");
        check("6.1.0-13-amd64", true);
        check("6.18.44", true);
        check("10.0-rc1", true);
        check("6.0.19", false);
        check("5.15.0-91-generic", false);
        check("4.18.0-513.el8.x86_64", false);
        check("", true);
        check("custom", true);
    }

    #[test]
    fn this_machine_passes_and_its_soft_descriptor_limit_is_raised() {
        let limit = check_machine().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.current), (now.maximum, now.maximum.and(Some(limit))));
    }

    #[test]
    fn every_error_is_one_line_with_a_remedy() {
        let check = |error: StartError, remedy: &str| {
            let line = error.to_string();
            assert!(line.contains(remedy) && !line.contains('\n') && !line.contains("  "), "{line}");
        };
        let refused = |disabled: Option<&str>| StartError::IoUringRefused {
            disabled: disabled.map(str::to_owned),
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        check(StartError::Kernel { release: "5.10".into() }, "upgrade the kernel");
        check(refused(Some("2")), "sysctl kernel.io_uring_disabled=0");
        check(refused(Some("0")), "seccomp");
        check(refused(None), "seccomp");
        check(StartError::LockedMemory { limit_bytes: 65536 }, "LimitMEMLOCK=8M");
        check(StartError::Sysfs { source: io::ErrorKind::NotFound.into() }, "mount -t sysfs");
        check(StartError::Descriptors { limit: 10 }, "LimitNOFILE");
        check(StartError::PortInUse { address }, "ss -ltnp sport = :80");
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        check(StartError::Bind { address, source: denied }, "CAP_NET_BIND_SERVICE");
        let missing = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        check(StartError::Bind { address, source: missing }, "address of this machine");
        let unknown = io::Error::other("no such host");
        check(StartError::Address { address: "x y".into(), source: unknown }, "host name of this machine");
    }

    #[test]
    fn refused_ring_is_told_from_other_failures() {
        let refused = StartError::of_ring(0, io::Error::from_raw_os_error(libc::ENOSYS));
        assert!(matches!(refused, StartError::IoUringRefused { .. }));
        let other = StartError::of_ring(3, io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(other, StartError::Shard { shard: 3, .. }));
    }
}
