//! A directory for one test, removed at its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An empty directory of its own.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one that holds these files: name and text.
    pub fn with(files: &[(&str, &str)]) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("cli-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a directory for tests");
        let directory = Directory(path);
        for (name, text) in files {
            directory.write(name, text);
        }
        directory
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("a file for a test");
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind lies in the target directory and harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
