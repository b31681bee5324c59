//! Configuration: keys, where their values come from, and the typed options made of them.
//!
//! Values are merged over the table of [`keys`]: defaults, then the file, then the environment,
//! then flags; each wins over the ones before it. As in Centrifugo, a zero in a file or variable
//! (`0`, `""`, `false`, an empty list) counts as not set for a key whose default is not zero.

pub mod document;
mod dotenv;
pub mod duration;
mod environment;
mod file;
pub mod keys;
pub mod lower;
mod merge;
mod nearest;
mod notices;
pub mod proxies;
mod settings;
mod validate;
mod value;

pub use environment::Environment;
pub use file::{EXTENSIONS, extension};
pub use notices::Notices;
pub use settings::{Settings, View};
pub use validate::token::is_unsafe as has_unsafe_endpoint;
pub use validate::validate;

use std::path::Path;

/// Where values come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The file, if any; one that is missing sets nothing.
    pub file: Option<&'a Path>,
    /// The environment.
    pub environment: &'a Environment,
    /// Flags of the command line: path of a key and the text given for it.
    pub flags: &'a [(String, String)],
}

/// A configuration, not validated yet.
#[derive(Debug)]
pub struct Loaded {
    /// A value for every key.
    pub settings: Settings,
    /// What the file alone sets: zero where it is silent.
    pub file: Settings,
    /// Whether the file was there.
    pub file_found: bool,
    /// What an operator should be told.
    pub notices: Notices,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file is unusable.
    File(file::FileError),
    /// A key was given a value of another kind.
    BadValue {
        /// Where it was set: `key client.ping_interval`, `variable ...`, `flag ...`.
        place: String,
        /// What was written, shortened.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// A value refers to a variable that is not set.
    NoVariable {
        /// Path of the key.
        key: String,
        /// Name of the variable.
        variable: String,
    },
}

impl LoadError {
    /// The same, found inside of something.
    fn inside(self, outer: &str) -> Self {
        match self {
            LoadError::BadValue { place, value, expected } => {
                LoadError::BadValue { place: format!("{outer}, {place}"), value, expected }
            }
            other => other,
        }
    }
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::File(error) => error.fmt(out),
            LoadError::BadValue { place, value, expected } => {
                write!(out, "{place} is {value}, expected {expected}")
            }
            LoadError::NoVariable { key, variable } => {
                write!(out, "key {key}: environment variable {variable:?} not found")
            }
        }
    }
}

/// Reads and merges all sources.
pub fn load(sources: Sources<'_>) -> Result<Loaded, LoadError> {
    let file = sources.file.map(file::read).transpose().map_err(LoadError::File)?.flatten();
    let file_found = file.is_some();
    let merged = merge::merge(file.unwrap_or_default(), sources.environment, sources.flags)?;
    let unsupported = notices::unsupported(&merged.settings);
    let notices =
        Notices { unknown_keys: merged.unknown_keys, unknown_variables: merged.unknown_variables, unsupported };
    Ok(Loaded { settings: merged.settings, file: merged.file, file_found, notices })
}
