//! How this process was started, to start another one like it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Tells a process that its standard input is a line to the process before it, whose id this is.
pub const FROM_VARIABLE: &str = "HANDOVER_FROM_PID";

/// What a service manager says to one process and not to its children.
const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The program, and the CPUs that it may use.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    cpus: Option<CpuSet>,
}

impl Program {
    /// Of this process. Ask at the start: later the file may be another one, and threads have been placed.
    pub fn of_process() -> io::Result<Self> {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let running = std::env::current_exe()?;
        // A name may be a link, which leads elsewhere after the program was replaced; the running file stays what it was.
        let named = arguments.first().and_then(find);
        let leads_here = |named: &PathBuf| named.canonicalize().is_ok_and(|file| file == running);
        let path = named.filter(leads_here).unwrap_or(running);
        let path = std::path::absolute(path)?;
        Ok(Self { path, arguments, cpus: sched_getaffinity(None).ok() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts it, with a descriptor as its standard input. The calling thread may then run where the process could at its start.
    pub fn start(&self, standard_input: OwnedFd) -> io::Result<Child> {
        if let Some(cpus) = &self.cpus {
            // The child inherits it, and places its threads itself. Where that is forbidden it gets what we have.
            let _ = sched_setaffinity(None, cpus);
        }
        let mut command = Command::new(&self.path);
        if let Some((name, rest)) = self.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        for name in OF_THIS_PROCESS {
            command.env_remove(name);
        }
        command.env(FROM_VARIABLE, std::process::id().to_string()).stdin(Stdio::from(standard_input)).spawn()
    }
}

/// The file that a shell would run by this name.
fn find(name: &OsString) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return Some(path.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(path)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_program_is_found() {
        let program = Program::of_process().expect("a process has a program");
        assert!(program.path().is_file() && program.path().is_absolute(), "{}", program.path().display());
        assert!(find(&OsString::from("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(&OsString::from("./sh")), Some(PathBuf::from("./sh")));
        assert_eq!(find(&OsString::from("no-such-program")), None);
    }
}
