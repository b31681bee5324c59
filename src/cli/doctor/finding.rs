//! One thing that was looked at: how it is, why that matters, and the command that mends it.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know; some would change it.
    Note,
    /// Costs speed, or fails under load.
    Warn,
    /// The server does not start.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What, in a word or two.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// How it is, with its value.
    pub found: String,
    /// Why that matters; empty if it is as it should be.
    pub why: String,
    /// The command, or the key or line to set; empty if there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Finding { check, level: Level::Ok, found: found.into(), why: String::new(), remedy: String::new() }
    }

    /// Good to know.
    pub fn note(check: &'static str, found: impl Into<String>) -> Self {
        Finding { level: Level::Note, ..Finding::ok(check, found) }
    }

    /// Costs speed, or fails under load.
    pub fn warn(check: &'static str, found: impl Into<String>) -> Self {
        Finding { level: Level::Warn, ..Finding::ok(check, found) }
    }

    /// The server does not start.
    pub fn fail(check: &'static str, found: impl Into<String>) -> Self {
        Finding { level: Level::Fail, ..Finding::ok(check, found) }
    }

    /// Adds why it matters.
    pub fn why(self, why: impl Into<String>) -> Self {
        Finding { why: why.into(), ..self }
    }

    /// Adds what mends it.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Finding { remedy: remedy.into(), ..self }
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "check": self.check, "level": self.level.name(),
            "found": self.found, "why": self.why, "remedy": self.remedy,
        })
    }
}

impl Level {
    /// Word in the report.
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}
