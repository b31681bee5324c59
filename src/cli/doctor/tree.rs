//! Made-up machines for the tests of the checks: files under a folder of their own.

use super::finding::{Finding, Level};
use super::machine::Machine;
use super::wants::Wants;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files of a machine; removed at the end.
pub struct Tree(PathBuf);

impl Tree {
    /// Paths below the root, and texts.
    pub fn with(files: &[(&str, &str)]) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ringcast-doctor-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&root).expect("a folder for a test");
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder for a test");
            std::fs::write(path, text).expect("a file for a test");
        }
        Tree(root)
    }

    /// Where they are.
    pub fn root(&self) -> PathBuf {
        self.0.clone()
    }

    /// What they describe.
    pub fn machine(&self) -> Machine {
        Machine::at(&self.0)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left behind lies among the temporary files and harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a server asks for by default, on a machine with as many CPUs as shards.
pub fn wants(shards: usize, connections: u64) -> Wants {
    Wants { shards, connections, ports: vec![8000], certificates: Vec::new() }
}

/// Runs a check on a made-up machine. Of the finding about `check` (none: "") the level, and that its words hold
/// all of `words`.
#[track_caller]
pub fn expect(
    findings: impl Fn(&Machine, &Wants) -> Vec<Finding>,
    files: &[(&str, &str)],
    wants: &Wants,
    check: &str,
    want: Option<Level>,
    words: &[&str],
) {
    let tree = Tree::with(files);
    let found = findings(&tree.machine(), wants);
    let finding = found.iter().find(|finding| finding.check == check);
    assert_eq!(finding.map(|finding| finding.level), want, "{check} {files:?}: {found:?}");
    for finding in &found {
        let is_whole = finding.level < Level::Warn || !(finding.why.is_empty() || finding.remedy.is_empty());
        assert!(is_whole, "a warning without reason or remedy: {finding:?}");
    }
    let said = finding.map(|f| format!("{}\n{}\n{}", f.found, f.why, f.remedy)).unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}
