//! `configdoc`: every key with its type, default, variable and meaning, from the table of keys.

use super::{Failure, serve};
use crate::config::keys::{self, Group, Key, Kind, Support};
use ringcast_proto::http::write_response;
use std::fmt::Write as _;
use std::io::Write;

/// Deepest heading of Markdown.
const LEVEL_MAX: usize = 6;

/// One key as it is described.
struct Entry {
    /// Path, with `[]` behind lists.
    path: String,
    /// 1 at the top level.
    level: usize,
    key: &'static Key,
    /// Whether this key, or a section it is in, has no effect yet.
    later: bool,
}

/// The text as Markdown: keys whose paths begin with `section`, headings `base_level` deeper.
pub fn markdown(section: &str, base_level: usize) -> String {
    let mut text = String::new();
    for entry in entries(section) {
        let heading = "#".repeat((entry.level + base_level).min(LEVEL_MAX));
        let _ = write!(text, "{heading} `{}`\n\nType: `{}`", entry.path, type_name(entry.key.kind));
        if let Some(default) = default(entry.key) {
            let _ = write!(text, ". Default: `{default}`");
        }
        if let Some(variable) = variable(&entry) {
            let _ = write!(text, "\n\nEnv: `{variable}`");
        }
        let later = if entry.later { " Not supported yet." } else { "" };
        let _ = write!(text, "\n\n{}.{later}\n\n", entry.key.about);
    }
    text
}

/// Serves the same as a page until the process ends.
pub fn run(section: &str, port: u16, out: &mut dyn Write) -> Result<String, Failure> {
    let page = page(section);
    serve::listen("", port, "configuration keys", out, move |_, out| {
        write_response(out, 200, &[("Content-Type", "text/html; charset=utf-8")], page.as_bytes(), false);
    })
}

fn entries(section: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    collect(keys::ROOT, "", 1, false, &mut entries);
    entries.retain(|entry| entry.path.starts_with(section));
    entries
}

fn collect(group: Group, parent: &str, level: usize, later: bool, entries: &mut Vec<Entry>) {
    for key in keys::each(group) {
        let later = later || key.support == Support::Later;
        let path = format!("{parent}{}", key.name);
        entries.push(Entry { path: path.clone(), level, key, later });
        match key.kind {
            Kind::Object(nested) => collect(nested, &format!("{path}."), level + 1, later, entries),
            Kind::List(nested) => collect(nested, &format!("{path}[]."), level + 1, later, entries),
            _ => {}
        }
    }
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Text => "string",
        Kind::Duration => "duration",
        Kind::Pem => "pem",
        Kind::Texts => "[]string",
        Kind::Map => "map",
        Kind::Any => "any",
        Kind::Object(_) => "object",
        Kind::List(_) => "[]object",
    }
}

fn default(key: &Key) -> Option<&'static str> {
    match key.kind {
        _ if !key.default.is_empty() => Some(key.default),
        Kind::Bool => Some("false"),
        Kind::Int | Kind::Int32 | Kind::Int64 | Kind::Uint32 => Some("0"),
        Kind::Duration => Some("0s"),
        Kind::Texts | Kind::List(_) => Some("[]"),
        Kind::Map => Some("{}"),
        Kind::Text | Kind::Pem | Kind::Any | Kind::Object(_) => None,
    }
}

/// The variable that sets the key; elements of a list go by their names, lists in lists have none.
fn variable(entry: &Entry) -> Option<String> {
    if matches!(entry.key.kind, Kind::Object(_) | Kind::Any) || entry.path.matches("[]").count() > 1 {
        return None;
    }
    let name = entry.path.to_uppercase().replace('.', "_").replace("[]", "_<NAME>");
    Some(format!("CENTRIFUGO_{name}"))
}

fn page(section: &str) -> String {
    let mut rows = String::new();
    for entry in entries(section) {
        let _ = writeln!(
            rows,
            "<tr{}><td><code>{}</code><td>{}<td><code>{}</code><td>{}",
            if entry.later { " class=later" } else { "" },
            escape(&entry.path),
            type_name(entry.key.kind),
            escape(default(entry.key).unwrap_or_default()),
            escape(entry.key.about),
        );
    }
    include_str!("config_doc.html").replace("{{rows}}", &rows)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L07
    #[test]
    fn markdown_describes_a_section() {
        let text = markdown("http_server.port", 1);
        let want = "### `http_server.port`\n\nType: `int`. Default: `8000`\n\n\
                    Env: `CENTRIFUGO_HTTP_SERVER_PORT`\n\nPort of the external server.\n\n";
        assert_eq!(text, want);
        assert!(markdown("consumers", 0).starts_with("# `consumers`\n\nType: `[]object`. Default: `[]`\n\nEnv: "));
        assert!(markdown("consumers[].kafka.brokers", 0).contains("`CENTRIFUGO_CONSUMERS_<NAME>_KAFKA_BROKERS`"));
        assert!(markdown("node.info_metrics_aggregate_interval", 0).ends_with("Not supported yet.\n\n"));
        assert_eq!(markdown("nonsense", 0), "");
    }

    #[test]
    fn the_page_holds_every_key() {
        let page = page("");
        assert!(page.contains("<code>channel.namespaces[].history_ttl</code>"));
        assert!(!page.contains("{{rows}}"));
    }
}
