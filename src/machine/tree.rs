//! Made-up machines for tests: files under a folder of their own.

use super::Machine;
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
