//! Keeps the threads of the control plane where the placement wants them.

use std::fs;
use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Moves every thread of this process to these CPUs. Threads that they start later stay there, too, but for the shards, which
/// pin themselves. Call it before the first shard starts.
pub(crate) fn keep_control_plane_on(cpus: &[usize]) -> io::Result<()> {
    let mut mask = CpuSet::new();
    cpus.iter().for_each(|cpu| mask.set(*cpu));
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.file_name();
        let Some(thread) = task.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        match sched_setaffinity(Some(thread), &mask) {
            // It has ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
