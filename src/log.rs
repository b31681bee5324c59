//! Logs: one line per event, written by a thread of their own.
//!
//! Into a file or pipe go lines of JSON in Centrifugo's shape: `level`, the fields, `time`,
//! `message`. A terminal gets coloured text. Who logs never waits: lines that the writer cannot
//! keep up with are dropped and counted.

use crate::utc;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Target of events that end the process; they are written with level `fatal`.
pub const FATAL: &str = "fatal";

/// Lines waiting for the writer; more are dropped, see [`Logs::dropped`].
const WAITING_LINES_MAX: usize = 8192;

/// Smallest severity that is written; config key `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every protocol frame.
    Trace,
    /// Connections.
    Debug,
    /// The default.
    Info,
    /// Usable, but not as wanted.
    Warn,
    /// Something failed.
    Error,
    /// The last words of the process.
    Fatal,
    /// Nothing.
    None,
}

/// The logger; what is still waiting is written when it is dropped.
#[derive(Debug)]
pub struct Logs {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// See [`Logs::dropped`]; for any thread.
#[derive(Clone, Debug)]
pub struct DroppedLines(ErrorCounter);

impl Level {
    /// The level of this name in any case.
    pub fn from_name(name: &str) -> Option<Level> {
        Some(match name.to_ascii_lowercase().as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            "error" => Level::Error,
            "fatal" => Level::Fatal,
            "none" => Level::None,
            _ => return None,
        })
    }

    fn of(metadata: &Metadata<'_>) -> Level {
        match *metadata.level() {
            _ if metadata.target() == FATAL => Level::Fatal,
            tracing::Level::TRACE => Level::Trace,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::INFO => Level::Info,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::ERROR => Level::Error,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
            Level::None => "none",
        }
    }

    /// Three letters in the colour of the level.
    fn on_terminal(self) -> &'static str {
        match self {
            Level::Trace => "\x1b[35mTRC\x1b[0m",
            Level::Debug => "\x1b[33mDBG\x1b[0m",
            Level::Info => "\x1b[32mINF\x1b[0m",
            Level::Warn => "\x1b[33mWRN\x1b[0m",
            Level::Error => "\x1b[31mERR\x1b[0m",
            Level::Fatal | Level::None => "\x1b[1;31mFTL\x1b[0m",
        }
    }
}

impl Logs {
    /// Starts writing events of this level and above into a file (config key `log.file`), or
    /// with an empty path to the terminal, or to standard error where there is none.
    pub fn start(level: Level, file: &str) -> io::Result<Logs> {
        let on_terminal = file.is_empty() && io::stdout().is_terminal();
        let output: Box<dyn Write + Send> = if !file.is_empty() {
            Box::new(OpenOptions::new().create(true).append(true).open(file)?)
        } else if on_terminal {
            Box::new(io::stdout())
        } else {
            Box::new(io::stderr())
        };
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_LINES_MAX)
            .lossy(true)
            .thread_name("log")
            .finish(output);
        let logs = Logs { dropped: writer.error_counter(), _writer: guard };
        let lines = Lines { level, on_terminal, writer };
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
        Ok(logs)
    }

    /// Counts the lines that are dropped because the writer cannot keep up.
    pub fn dropped(&self) -> DroppedLines {
        DroppedLines(self.dropped.clone())
    }
}

impl DroppedLines {
    /// Lines dropped so far.
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

/// Libraries are heard from warnings on: what h2 says below that is every header it reads, keys and tokens among them.
fn is_ours(target: &str) -> bool {
    target.starts_with("ringcast")
}

struct Lines {
    level: Level,
    on_terminal: bool,
    writer: NonBlocking,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = Level::of(metadata);
        level >= self.level && (level >= Level::Warn || is_ours(metadata.target()))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = Level::of(event.metadata());
        let line = match self.on_terminal {
            true => terminal_line(level, event, utc::now()),
            false => json_line(level, event, utc::now()),
        };
        // A failure is counted by the writer; there is nowhere else to tell it.
        let _ = self.writer.clone().write_all(line.as_bytes());
    }
}

fn json_line(level: Level, event: &Event<'_>, unix_seconds: u64) -> String {
    let mut fields = JsonFields { text: format!("{{\"level\":\"{}\"", level.name()), message: String::new() };
    event.record(&mut fields);
    let JsonFields { mut text, message } = fields;
    text.push_str(",\"time\":\"");
    text.push_str(&utc::rfc3339(unix_seconds));
    text.push_str("\",\"message\":");
    push_json(&mut text, &message);
    text.push_str("}\n");
    text
}

fn terminal_line(level: Level, event: &Event<'_>, unix_seconds: u64) -> String {
    let mut fields = TerminalFields::default();
    event.record(&mut fields);
    let time = utc::date_and_time(unix_seconds);
    format!("\x1b[90m{time}\x1b[0m [{}] {}{}\n", level.on_terminal(), fields.message, fields.text)
}

/// Appends a string as JSON.
fn push_json(text: &mut String, value: &str) {
    text.push_str(&serde_json::Value::from(value).to_string());
}

struct JsonFields {
    text: String,
    message: String,
}

impl JsonFields {
    /// Appends a field whose value is JSON already.
    fn push(&mut self, field: &Field, json: &str) {
        self.text.push(',');
        push_json(&mut self.text, field.name());
        self.text.push(':');
        self.text.push_str(json);
    }
}

impl Visit for JsonFields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, &value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => {
                let json = serde_json::Value::from(value).to_string();
                self.push(field, &json);
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[derive(Default)]
struct TerminalFields {
    text: String,
    message: String,
}

impl Visit for TerminalFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        let colour = if field.name() == "error" { "31" } else { "36" };
        let quoted = value.contains([' ', '"']) || value.is_empty();
        let value = if quoted { format!("{value:?}") } else { value.escape_debug().to_string() };
        let _ = write!(self.text, " \x1b[{colour}m{}=\x1b[0m{value}", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Registry;

    /// Formats every event instead of writing it.
    struct Capture {
        lines: Arc<Mutex<Vec<String>>>,
        format: fn(Level, &Event<'_>, u64) -> String,
    }

    impl Layer<Registry> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
            let line = (self.format)(Level::of(event.metadata()), event, 1_763_745_220);
            self.lines.lock().expect("not poisoned").push(line);
        }
    }

    #[track_caller]
    fn check(format: fn(Level, &Event<'_>, u64) -> String, log: fn(), want: &str) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let capture = Capture { lines: lines.clone(), format };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(capture), log);
        assert_eq!(lines.lock().expect("not poisoned").concat(), want);
    }

    #[test]
    fn json_lines_have_the_order_of_the_reference() {
        check(
            json_line,
            || tracing::info!(engine_type = "memory", "initializing engine"),
            "{\"level\":\"info\",\"engine_type\":\"memory\",\"time\":\"2025-11-21T17:13:40Z\",\"message\":\"initializing engine\"}\n",
        );
        check(
            json_line,
            || tracing::error!(target: FATAL, error = %"a \"b\"\n", code = 7, on = true, "stop: {}", 1),
            "{\"level\":\"fatal\",\"error\":\"a \\\"b\\\"\\n\",\"code\":7,\"on\":true,\"time\":\"2025-11-21T17:13:40Z\",\"message\":\"stop: 1\"}\n",
        );
    }

    #[test]
    fn a_terminal_gets_text() {
        check(
            terminal_line,
            || tracing::warn!(key = "a b", n = 1, "odd"),
            "\x1b[90m2025-11-21 17:13:40\x1b[0m [\x1b[33mWRN\x1b[0m] odd \x1b[36mkey=\x1b[0m\"a b\" \x1b[36mn=\x1b[0m1\n",
        );
    }

    #[test]
    fn levels_are_known_in_any_case() {
        assert_eq!(Level::from_name("WARN"), Some(Level::Warn));
        assert_eq!(Level::from_name("loud"), None);
        assert!(Level::Fatal < Level::None && Level::Trace < Level::Debug);
    }
}
