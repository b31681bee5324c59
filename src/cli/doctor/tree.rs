//! Made-up machines for the tests of the checks: files under a folder of their own.

use super::finding::{Finding, Level};
use super::machine::Machine;
pub use super::machine::tree::Tree;
use super::wants::Wants;

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
