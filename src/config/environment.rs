//! Variables of the environment, and of a `.env` file.
//!
//! A key's variable is its path in capitals after a prefix: `RINGCAST_CLIENT_CONCURRENCY`, or
//! `CENTRIFUGO_CLIENT_CONCURRENCY`; where both are set, ours counts. An empty variable counts as
//! not set.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What stands before the name of a key; the earlier one wins.
pub const PREFIXES: [&str; 2] = ["RINGCAST_", "CENTRIFUGO_"];

/// Variables by name.
#[derive(Debug, Default, Clone)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// A `.env` file that cannot be used.
#[derive(Debug)]
pub enum DotenvError {
    /// It is there but cannot be read.
    Unreadable(io::Error),
    /// This line is no assignment, or a quote that opens on it never closes.
    Line(usize),
}

impl std::fmt::Display for DotenvError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DotenvError::Unreadable(error) => write!(out, "cannot read .env: {error}"),
            DotenvError::Line(line) => {
                write!(out, "line {line} of .env: expected NAME=value, with quotes closed")
            }
        }
    }
}

impl Environment {
    /// The process's own variables. Bytes that are no UTF-8 are replaced.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Environment { variables }
    }

    /// Adds what a `.env` file sets and the environment does not. False when there is no file.
    pub fn add_dotenv(&mut self, path: &Path) -> Result<bool, DotenvError> {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add_assignments(&text).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DotenvError::Unreadable(error)),
        }
    }

    /// The value of a variable by its full name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The variable that sets a key, given the name without prefix: its full name and value.
    pub fn setting(&self, name: &str) -> Option<(String, &str)> {
        PREFIXES.iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            let value = self.get(&full).filter(|value| !value.is_empty())?;
            Some((full, value))
        })
    }

    /// Names of all variables with one of the prefixes that are meant to set a key: neither
    /// `_VAR_`, which values may refer to, nor what Kubernetes adds for a service.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| {
            PREFIXES.iter().any(|prefix| match name.strip_prefix(prefix) {
                Some(rest) => !rest.starts_with("VAR_") && !is_kubernetes(rest),
                None => false,
            })
        })
    }

    /// Replaces `${CENTRIFUGO_VAR_X}` and `${RINGCAST_VAR_X}` by the variables' values; the name
    /// of the variable when there is none.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_reference(rest) {
            expanded.push_str(before);
            match PREFIXES.iter().any(|prefix| is_var(name, prefix)) {
                true => expanded.push_str(self.get(name).ok_or(name)?),
                false => expanded.push_str(&format!("${{{name}}}")),
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn add_assignments(&mut self, text: &str) -> Result<(), DotenvError> {
        for (name, value) in super::dotenv::parse(text).map_err(DotenvError::Line)? {
            self.variables.entry(name).or_insert(value);
        }
        Ok(())
    }
}

#[cfg(test)]
impl<const N: usize> From<&[(&str, &str); N]> for Environment {
    fn from(variables: &[(&str, &str); N]) -> Self {
        Environment::from(variables.as_slice())
    }
}

#[cfg(test)]
impl From<&[(&str, &str)]> for Environment {
    fn from(variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Environment { variables: variables.iter().map(own).collect() }
    }
}

/// Splits text at its first `${name}`.
fn next_reference(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("${")?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

fn is_var(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("VAR_"))
}

/// Whether the rest of a name looks like what Kubernetes sets for a service of that name.
fn is_kubernetes(rest: &str) -> bool {
    ["PORT", "SERVICE_"]
        .iter()
        .any(|word| rest.starts_with(word) || rest.match_indices(word).any(|(at, _)| rest[..at].ends_with('_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_prefix_wins_unless_it_is_empty() {
        let both = Environment::from(&[("RINGCAST_A", "ours"), ("CENTRIFUGO_A", "theirs")]);
        assert_eq!(both.setting("A"), Some(("RINGCAST_A".to_owned(), "ours")));
        let empty = Environment::from(&[("RINGCAST_A", ""), ("CENTRIFUGO_A", "theirs")]);
        assert_eq!(empty.setting("A"), Some(("CENTRIFUGO_A".to_owned(), "theirs")));
        assert_eq!(empty.setting("B"), None);
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let names = [
            "CENTRIFUGO_FOO",
            "CENTRIFUGO_VAR_TOKEN",
            "CENTRIFUGO_PORT",
            "CENTRIFUGO_PORT_8000_TCP",
            "CENTRIFUGO_API_SERVICE_HOST",
            "RINGCAST_BAR",
            "HOME",
        ];
        let set = Environment::from(&names.map(|name| (name, "x")));
        assert_eq!(set.names().collect::<Vec<_>>(), ["CENTRIFUGO_FOO", "RINGCAST_BAR"]);
    }

    /// L03
    #[test]
    fn references_are_expanded() {
        let set = Environment::from(&[("CENTRIFUGO_VAR_A", "1"), ("RINGCAST_VAR_B", "2"), ("HOME", "/")]);
        let check = |text: &str, want: Result<&str, &str>| {
            assert_eq!(set.expand(text), want.map(String::from).map_err(String::from), "{text}");
        };
        check("a${CENTRIFUGO_VAR_A}b${RINGCAST_VAR_B}c", Ok("a1b2c"));
        check("${HOME} ${ $} }", Ok("${HOME} ${ $} }"));
        check("x${CENTRIFUGO_VAR_A", Ok("x${CENTRIFUGO_VAR_A"));
        check("${CENTRIFUGO_VAR_C}", Err("CENTRIFUGO_VAR_C"));
    }

    /// L03
    #[test]
    fn a_dotenv_file_fills_what_is_not_set() {
        let mut set = Environment::from(&[("A", "process")]);
        set.add_assignments("A=file\nB=file").expect("assignments");
        assert_eq!((set.get("A"), set.get("B")), (Some("process"), Some("file")));
    }
}
