//! The files of the repository, found by walking it: a checkout without its history is judged the same way.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what tools made, not what people wrote.
const MADE: &[&str] = &["target", "node_modules", ".git", ".venv", "__pycache__", "artifacts", "corpus", "coverage"];

/// One file with its text.
pub struct Source {
    /// Path from the root of the repository, with `/` between its parts.
    pub path: String,
    /// Whole content.
    pub text: String,
}

/// Root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file, in the order of its path.
pub fn rust_files() -> Vec<Source> {
    text_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Every file that is text, in the order of its path.
pub fn text_files() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            Some(Source { path: relative(&path), text })
        })
        .collect()
}

/// Fails with all findings at once, so that one run shows the whole list.
#[track_caller]
pub fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let entry = entry.expect("a folder of the repository is readable");
        let kind = entry.file_type().expect("the file system tells the type");
        let name = entry.file_name();
        // In a worktree `.git` is a file.
        if MADE.iter().any(|made| name == *made) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("walked from the root");
    inside.to_string_lossy().replace('\\', "/")
}
