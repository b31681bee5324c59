//! Reads a configuration file; the extension of its name picks the format.

use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};

/// Extensions that name a format.
pub const EXTENSIONS: [&str; 4] = ["json", "toml", "yaml", "yml"];

/// Why a file is no configuration.
#[derive(Debug)]
pub enum FileError {
    /// It is there but cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its name does not end in one of [`EXTENSIONS`].
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// It breaks the rules of its format.
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// It holds something else than an object.
    NoObject {
        /// The file.
        path: PathBuf,
    },
}

impl std::fmt::Display for FileError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileError::Unreadable { path, source } => {
                write!(out, "error reading config file {}: {source}", path.display())
            }
            FileError::Extension { path } => write!(
                out,
                "config file {} must have one of supported extensions: {}",
                path.display(),
                EXTENSIONS.join(", ")
            ),
            FileError::Syntax { path, message } => {
                write!(out, "error reading config file {}: {message}", path.display())
            }
            FileError::NoObject { path } => {
                write!(out, "config file {} does not hold an object", path.display())
            }
        }
    }
}

/// Reads a file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<Map<String, Value>>, FileError> {
    let extension = extension(path).filter(|extension| EXTENSIONS.contains(&extension.as_str()));
    let extension = extension.ok_or_else(|| FileError::Extension { path: path.to_owned() })?;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(FileError::Unreadable { path: path.to_owned(), source });
        }
    };
    match parse(&extension, &text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(Value::Null) => Ok(Some(Map::new())),
        Ok(_) => Err(FileError::NoObject { path: path.to_owned() }),
        Err(message) => Err(FileError::Syntax { path: path.to_owned(), message }),
    }
}

/// Extension of a path in lower case.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Parses the text of a file whose name has this extension; the message of the parser on failure.
pub fn parse(extension: &str, text: &str) -> Result<Value, String> {
    match extension {
        "toml" => toml::from_str(text).map_err(|error| error.to_string()),
        "yaml" | "yml" => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        _ => serde_json::from_str(text).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(name: &str, text: &str, want: Option<Value>) {
        let extension = extension(Path::new(name)).expect("a known extension");
        assert_eq!(parse(&extension, text).ok(), want, "{name}: {text}");
    }

    /// L01
    #[test]
    fn the_same_in_three_formats() {
        let want = Some(json!({"client": {"ping_interval": "5s", "allowed_origins": ["*"]}, "shards": 2}));
        check("a.json", r#"{"client": {"ping_interval": "5s", "allowed_origins": ["*"]}, "shards": 2}"#, want.clone());
        check("a.toml", "shards = 2\n[client]\nping_interval = \"5s\"\nallowed_origins = [\"*\"]\n", want.clone());
        check("a.YAML", "client:\n  ping_interval: 5s\n  allowed_origins: ['*']\nshards: 2\n", want.clone());
        check("a.yml", "{client: {ping_interval: 5s, allowed_origins: ['*']}, shards: 2}", want);
    }

    #[test]
    fn broken_text_is_an_error() {
        for (name, text) in [
            ("a.json", "{"),
            ("a.json", "{} x"),
            ("a.json", ""),
            ("a.toml", "a = "),
            ("a.toml", "a = 1\na = 2"),
            ("a.yaml", "a: [1"),
            ("a.yaml", "a: b: c"),
        ] {
            check(name, text, None);
        }
    }

    #[test]
    fn other_extensions_are_refused() {
        for name in ["config", "config.ini", "json"] {
            let error = read(Path::new(name)).expect_err(name);
            assert!(matches!(error, FileError::Extension { .. }), "{error}");
        }
    }
}
