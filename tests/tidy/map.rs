//! The README's map of the code names what is there.

use std::fs;

use crate::tree;

#[test]
fn every_path_of_the_map_exists() {
    let readme = fs::read_to_string(tree::root().join("README.md")).expect("the repository has a README");
    let paths = paths(&readme);
    assert!(paths.len() >= 5, "no map of the code in the README: a block that opens with ```text and names `proto/`");
    let findings = paths.into_iter().filter(|path| !tree::root().join(path).exists()).collect();
    tree::none("the README's map names what does not exist", findings);
}

/// Paths of the map: the words before the first gap of two spaces; an indented line continues the folder above it.
fn paths(readme: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folder = String::new();
    for line in map(readme) {
        let names = line.trim_start().split("  ").next().unwrap_or_default().split(' ');
        let inside = line.starts_with(' ');
        for name in names.filter(|name| name.ends_with('/') || name.contains('.')) {
            if inside {
                paths.push(format!("{folder}{name}"));
            } else {
                folder = name.to_owned();
                paths.push(name.to_owned());
            }
        }
    }
    paths
}

/// Lines of the first fenced block that names `proto/`.
fn map(readme: &str) -> impl Iterator<Item = &str> {
    let block = readme.split("```").skip(1).step_by(2).find(|block| block.contains("\nproto/"));
    block.unwrap_or_default().lines().skip(1).filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(map: &str, want: &[&str]) {
        assert_eq!(paths(&format!("# Name\n```text\n{map}\n```\n")), want, "{map}");
    }

    #[test]
    fn an_indented_line_continues_the_folder_above() {
        check("proto/   bytes\n  client/ sse.rs   messages", &["proto/", "proto/client/", "proto/sse.rs"]);
    }

    #[test]
    fn words_of_the_explanation_are_no_paths() {
        check("proto/   a/b and c.rs\ntests/  more", &["proto/", "tests/"]);
    }

    #[test]
    fn a_readme_without_a_map_gives_nothing() {
        assert!(paths("# Name\n```sh\nls proto/\n```\n").is_empty());
    }
}
