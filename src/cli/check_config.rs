//! `checkconfig`: whether the server would start with a file.

use super::Failure;
use crate::config;
use std::path::Path;

/// Says nothing about a good file. `strict` fails on unknown keys too.
pub fn run(file: &Path, strict: bool) -> Result<String, Failure> {
    let loaded = super::load(file)?;
    if !loaded.file_found {
        return Err("config file not found".to_owned());
    }
    config::validate(&loaded.settings).map_err(|error| format!("error validating config: {error}"))?;
    if strict && !loaded.notices.unknown_keys.is_empty() {
        let unknown = loaded.notices.unknown_keys.iter().map(|key| key.path.as_str());
        let list = unknown.collect::<Vec<_>>().join(", ");
        return Err(format!("unknown keys in config: {list}"));
    }
    Ok(String::new())
}
