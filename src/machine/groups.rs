//! Control groups, version 1 and 2.

use super::Machine;

/// Version 1 says "no limit" with a number beyond every machine.
pub const NO_LIMIT: u64 = 1 << 60;

/// A control group's folder.
pub enum Group {
    /// Version 1, a folder for each controller.
    V1(String),
    /// Version 2.
    V2(String),
}

/// The groups that bind us, ours and all above it. In a container the path may be the host's; then only its root is found.
pub fn folders(machine: &Machine, controller: &str) -> Vec<Group> {
    let text = machine.text("proc/self/cgroup").unwrap_or_default();
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            groups.extend(upwards(path).map(|path| Group::V2(format!("sys/fs/cgroup{path}"))));
            groups.extend(upwards(path).map(|path| Group::V2(format!("sys/fs/cgroup/unified{path}"))));
        } else if controllers.split(',').any(|name| name == controller) {
            groups.extend(upwards(path).map(|path| Group::V1(format!("sys/fs/cgroup/{controllers}{path}"))));
            if controllers != controller {
                groups.extend(upwards(path).map(|path| Group::V1(format!("sys/fs/cgroup/{controller}{path}"))));
            }
        }
    }
    groups
}

/// A path and all above it; the root is empty.
fn upwards(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path.trim_end_matches('/')), |path| Some(&path[..path.rfind('/')?]))
}
