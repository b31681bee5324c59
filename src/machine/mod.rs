//! The machine as its files under `/proc` and `/sys` describe it. What cannot be read is absent, never an error: a
//! container hides much, and so do old kernels.

pub mod groups;
#[cfg(test)]
pub mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A machine, ours or one whose files were copied.
pub struct Machine {
    root: PathBuf,
    is_this_one: bool,
}

impl Machine {
    /// With its files under `root`; `/` for the one we run on.
    pub fn at(root: &Path) -> Self {
        Machine { root: root.to_owned(), is_this_one: root == Path::new("/") }
    }

    /// Text of a file, without white space around it. The path has no slash at its start.
    pub fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Numbers of a file, as far as there are any.
    pub fn numbers(&self, path: &str) -> Vec<u64> {
        let text = self.text(path).unwrap_or_default();
        text.split_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    /// CPUs in a file such as `0-3,8`.
    pub fn cpus(&self, path: &str) -> Vec<usize> {
        cpu_list(&self.text(path).unwrap_or_default())
    }

    /// Names in a folder, in order.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().map_while(Result::ok);
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The value behind `name:` in a file of such lines, without a unit.
    pub fn field(&self, path: &str, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// A field of `/proc/meminfo`, bytes.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let field = self.field("proc/meminfo", name)?;
        Some(field.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    }

    /// Soft and hard limit of this process, as `/proc/self/limits` names it; `u64::MAX` for none.
    pub fn limits(&self, name: &str) -> Option<(u64, u64)> {
        let text = self.text("proc/self/limits")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace();
        let mut limit = || match words.next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        };
        Some((limit()?, limit()?))
    }

    /// CPUs that this process may use, which a cpuset narrows; CPU 0 if nobody says.
    pub fn allowed_cpus(&self) -> Vec<usize> {
        let list = self.field("proc/self/status", "Cpus_allowed_list").unwrap_or_default();
        let cpus = cpu_list(&list);
        if cpus.is_empty() { vec![0] } else { cpus }
    }

    /// Makes a ring as a shard does. `None` for a machine that is not ours.
    pub fn try_io_uring(&self) -> Option<io::Result<()>> {
        self.is_this_one.then(ringcast_runtime::uring::probe)
    }
}

/// CPUs in a list such as `0-3,8`; empty if it is none.
fn cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().take(CPUS_MAX).collect()
}

/// CPUs that are looked at; the kernel has no more.
const CPUS_MAX: usize = 8192;

/// Few words for some CPUs.
pub fn cpu_text(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|one, next| one + 1 == *next);
    let texts: Vec<_> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::tree::Tree;
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        for (text, cpus) in [("0-3,8", &[0, 1, 2, 3, 8][..]), ("5", &[5]), ("", &[]), ("x,1-", &[])] {
            assert_eq!(cpu_list(text), cpus, "{text:?}");
        }
        assert_eq!(cpu_text(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(cpu_list("0-18446744073709551615").len(), CPUS_MAX);
    }

    #[test]
    fn limits_fields_and_memory_are_read() {
        let tree = Tree::with(&[
            (
                "proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                unlimited            files\n",
            ),
            ("proc/self/status", "Cpus_allowed:\t5\nCpus_allowed_list:\t0,2\n"),
            ("proc/meminfo", "MemTotal:  4 kB\nMemAvailable:       2 kB\n"),
        ]);
        let machine = tree.machine();
        assert_eq!(machine.limits("Max open files"), Some((1024, u64::MAX)));
        assert_eq!(machine.limits("Max locked memory"), None);
        assert_eq!(machine.allowed_cpus(), [0, 2]);
        assert_eq!(machine.memory("MemAvailable"), Some(2048));
    }
}
