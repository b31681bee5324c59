//! Who may depend on whom. An arrow between parts of the house is a line in a `Cargo.toml`; this page holds the allowed ones.

use std::process::Command;

use serde_json::Value;

use crate::tree;

/// Crates of this workspace: folder, and the crates of this workspace that it may name.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("ringcast-proto", "proto", &[]),
    ("ringcast-state", "shard/state", &["ringcast-proto"]),
    ("ringcast-runtime", "shard/runtime", &["ringcast-proto", "ringcast-state"]),
    ("ringcast-bench", "bench", &["ringcast-proto"]),
    ("ringcast", ".", &["ringcast-proto", "ringcast-state", "ringcast-runtime"]),
];

/// Dependencies that only some crates may name: the executors and the ring of the shards, the runtime of the control plane.
const RESERVED: &[(&str, &[&str])] = &[
    ("glommio", &["ringcast-runtime", "ringcast-bench"]),
    ("io-uring", &["ringcast-runtime"]),
    ("tokio", &["ringcast", "ringcast-runtime"]),
    ("tokio-util", &["ringcast"]),
    ("hyper", &["ringcast"]),
    ("tonic", &["ringcast"]),
];

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let mut findings = Vec::new();
    for package in packages() {
        let Some((_, _, allowed)) = ARROWS.iter().find(|(name, ..)| *name == package.name) else {
            findings.push(format!("{} is not in the list of crates", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.name.starts_with("ringcast")) {
            if !allowed.contains(&dependency.name.as_str()) {
                findings.push(format!("{} -> {}", package.name, dependency.name));
            }
        }
    }
    tree::none("an arrow that the house does not have", findings);
}

#[test]
fn executors_and_rings_stay_in_their_crates() {
    let mut findings = Vec::new();
    for package in packages() {
        for dependency in &package.dependencies {
            let reserved = RESERVED.iter().find(|(name, _)| *name == dependency.name);
            if reserved.is_some_and(|(_, crates)| !crates.contains(&package.name.as_str())) {
                findings.push(format!("{} -> {}", package.name, dependency.name));
            }
        }
    }
    tree::none("a reserved dependency in a crate that may not name it", findings);
}

#[test]
fn runtime_names_of_tokio_only_the_io_traits() {
    let findings = packages()
        .iter()
        .filter(|package| package.name == "ringcast-runtime")
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| dependency.name == "tokio" && (dependency.default_features || dependency.features != 0))
        .map(|_| "shard/runtime/Cargo.toml: tokio with features".to_owned())
        .collect();
    tree::none("the shards run no tokio", findings);
}

#[test]
fn every_crate_takes_the_shared_lints() {
    let mut findings = Vec::new();
    for (name, folder, _) in ARROWS {
        let path = tree::root().join(folder).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).expect("every crate has a manifest");
        let own = "[lints.rust]\nmissing_docs = \"warn\"\nunsafe_code = \"deny\"";
        let shared = "[lints]\nworkspace = true";
        let wanted = if *name == "ringcast-runtime" { own } else { shared };
        if !manifest.contains(wanted) {
            findings.push(format!("{name}: no `{}`", wanted.replace('\n', " ")));
        }
    }
    let workspace = std::fs::read_to_string(tree::root().join("Cargo.toml")).expect("the workspace has a manifest");
    if !workspace.contains("unsafe_code = \"forbid\"") {
        findings.push("the workspace does not forbid unsafe code".to_owned());
    }
    tree::none("a crate without the lints of the house", findings);
}

struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    default_features: bool,
    features: usize,
}

/// The manifests as cargo reads them: ordinary, build and development dependencies alike.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(tree::root())
        .output()
        .expect("cargo started this test and can be started by it");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    array(&metadata, "packages").iter().map(package).collect()
}

fn package(value: &Value) -> Package {
    Package {
        name: text(value, "name"),
        dependencies: array(value, "dependencies")
            .iter()
            .map(|dependency| Dependency {
                name: text(dependency, "name"),
                default_features: dependency["uses_default_features"] == true,
                features: array(dependency, "features").len(),
            })
            .collect(),
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("the metadata format is stable")
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().expect("the metadata format is stable").to_owned()
}
