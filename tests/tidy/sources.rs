//! What may stand in a file: its opening, its length, where `unsafe` and the outside world are allowed, no leftovers.

use crate::tree::{self, Source};

/// Lines of a Rust file; past that, look for the second idea that moved in.
const LINES_MAX: usize = 800;

/// Files that are longer, with the length they must not pass. The list may only shrink.
const LONG_FILES: &[(&str, usize)] = &[];

/// The only folder with unsafe code.
const UNSAFE_FOLDER: &str = "shard/runtime/src/uring/";

/// The folders that are pure: no I/O, clocks, randomness, threads, locks, async.
const PURE_FOLDERS: &[&str] = &["proto/src/", "shard/state/src/"];

/// Names that a pure folder may not use.
const IMPURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::io::Read",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "Mutex",
    "RwLock",
    "Condvar",
    "mpsc",
    "Atomic",
    "Instant",
    "SystemTime",
    "RandomState",
    "thread_local!",
    "async fn",
    "async move",
    ".await",
    "println!",
    "eprintln!",
    "tokio",
    "glommio",
];

#[test]
fn every_rust_file_opens_with_its_purpose() {
    let opening = |file: &Source| !file.text.starts_with("//!");
    let findings = tree::rust_files().into_iter().filter(opening).map(|file| file.path).collect();
    tree::none("a file does not open with `//!`", findings);
}

#[test]
fn files_hold_one_idea() {
    let mut findings = Vec::new();
    for file in tree::rust_files() {
        let lines = file.text.lines().count();
        let known = LONG_FILES.iter().find(|(path, _)| *path == file.path);
        match known {
            None if lines > LINES_MAX => findings.push(format!("{}: {lines} lines, at most {LINES_MAX}", file.path)),
            Some((_, max)) if lines > *max => findings.push(format!("{}: grew to {lines}, was {max}", file.path)),
            Some(_) if lines <= LINES_MAX => findings.push(format!("{}: short now, take it off the list", file.path)),
            None | Some(_) => {}
        }
    }
    for (path, _) in LONG_FILES {
        if !tree::root().join(path).exists() {
            findings.push(format!("{path}: gone, take it off the list"));
        }
    }
    tree::none("a file is too long", findings);
}

#[test]
fn unsafe_code_stands_in_one_folder_under_a_safety_comment() {
    let mut findings = Vec::new();
    for file in tree::rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            if !has_word(code_of(line), "unsafe") {
                continue;
            }
            if !file.path.starts_with(UNSAFE_FOLDER) {
                findings.push(format!("{place}: unsafe outside of {UNSAFE_FOLDER}"));
            } else if !code_of(line).contains("unsafe fn") && !explained(&lines[..index]) {
                findings.push(format!("{place}: no SAFETY comment"));
            }
        }
    }
    tree::none("unsafe code", findings);
}

#[test]
fn pure_crates_do_not_touch_the_outside() {
    let mut findings = Vec::new();
    for file in tree::rust_files() {
        if !PURE_FOLDERS.iter().any(|folder| file.path.starts_with(folder)) {
            continue;
        }
        let shipped = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in shipped.lines().enumerate() {
            for name in IMPURE.iter().filter(|name| has_word(code_of(line), name)) {
                findings.push(format!("{}:{}: {name}", file.path, index + 1));
            }
        }
    }
    tree::none("proto and state are pure", findings);
}

#[test]
fn tokio_stands_outside_of_the_shards() {
    let mut findings = Vec::new();
    for file in tree::rust_files() {
        if !file.path.starts_with("shard/runtime/src/") || file.path.starts_with("shard/runtime/src/http/") {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            if has_word(code_of(line), "tokio") {
                findings.push(format!("{}:{}", file.path, index + 1));
            }
        }
    }
    tree::none("only shard/runtime/src/http may name tokio's I/O traits", findings);
}

#[test]
fn nothing_is_left_behind() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let calls = [concat!("to", "do!"), concat!("unimplement", "ed!"), concat!("db", "g!")];
    let mut findings = Vec::new();
    for file in tree::rust_files() {
        for (index, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, index + 1);
            let marked = marks.iter().any(|mark| has_word(line, mark));
            if marked || calls.iter().any(|call| has_word(code_of(line), call)) {
                findings.push(format!("{place}: {}", line.trim()));
            } else if is_code_in_comment(line) {
                findings.push(format!("{place}: commented-out code: {}", line.trim()));
            }
        }
    }
    tree::none("something is left behind", findings);
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/ho", "me/")];
    let mut findings = Vec::new();
    for file in tree::text_files().iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (index, line) in file.text.lines().enumerate() {
            let names = |folder: &&str| starts_path(line, folder);
            if folders.iter().any(names) {
                findings.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    tree::none("a path of somebody's machine", findings);
}

/// The line without a trailing comment and without the content of its string literals.
fn code_of(line: &str) -> &str {
    let line = line.trim_start();
    let end = ["//", "\""].iter().filter_map(|mark| line.find(mark)).min();
    &line[..end.unwrap_or(line.len())]
}

/// Whether `word` stands in the text with no letter, digit or underscore right before or behind it.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let behind = text[start + word.len()..].chars().next();
        let opens = word.starts_with(part_of_name) && before.is_some_and(part_of_name);
        let closes = word.ends_with(part_of_name) && behind.is_some_and(part_of_name) && word != "Atomic";
        !opens && !closes
    })
}

/// Whether the lines right above, comments and attributes only, hold a SAFETY comment; one comment may explain the lines of one block.
fn explained(above: &[&str]) -> bool {
    above.iter().rev().take(12).any(|line| line.trim_start().starts_with("// SAFETY:"))
}

/// A comment that reads like a statement: it ends as code ends and holds what only code holds.
fn is_code_in_comment(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("// ") else {
        return false;
    };
    let comment = comment.trim_end();
    let opens = ["let ", "if ", "for ", "while ", "fn ", "pub ", "use ", "return ", "match ", "}"];
    let starts = opens.iter().any(|word| comment.starts_with(word));
    let calls = comment.split(' ').next().is_some_and(|first| first.contains('('));
    let ends = comment.ends_with(';') || comment.ends_with('{') || comment == "}";
    ends && (starts || calls || comment.contains(" = "))
}

/// Whether an absolute path under `folder` stands in the line: the folder is not the middle of a longer path or of an address.
fn starts_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-$})~*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_comment(line: &str, want: bool) {
        assert_eq!(is_code_in_comment(line), want, "{line}");
    }

    #[test]
    fn statements_in_comments_are_found_and_prose_is_not() {
        check_comment("    // let x = 5;", true);
        check_comment("// self.close(now);", true);
        check_comment("// if done {", true);
        check_comment("// The peer may be gone; then nothing is left to do.", false);
        check_comment("// A close with unread input sends RST (see `close`);", false);
        check_comment("/// let x = 5;", false);
        check_comment("let x = 5; // as it was", false);
    }

    #[test]
    fn words_are_found_whole_and_only_in_code() {
        assert!(has_word("unsafe { read() }", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
        assert!(!has_word(code_of("let x = 1; // unsafe"), "unsafe"));
        assert!(!has_word(code_of("check(\"unsafe\");"), "unsafe"));
        assert!(has_word("x: AtomicU64", "Atomic"));
        assert!(!has_word("tokio_like", "tokio"));
    }

    #[test]
    fn only_absolute_paths_of_a_person_are_found() {
        let home = concat!("/ho", "me/");
        assert!(starts_path(&format!("cd {home}ada"), home));
        assert!(!starts_path(&format!("https://example.com{home}page"), home));
    }
}
