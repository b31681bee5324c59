//! `defaultenv`: a line for every variable, with its default or its value in a file.

use super::Failure;
use crate::config::document;
use crate::config::keys::{self, Group, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Prefix of the variables: that of Centrifugo, which both programs read.
const PREFIX: &str = "CENTRIFUGO_";

/// Variables sorted by name. `non_zero_only` leaves out
/// what has no value in it.
pub fn run(base: Option<&Path>, non_zero_only: bool) -> Result<String, Failure> {
    let loaded = super::load_base(base)?;
    let settings = if non_zero_only { loaded.file } else { loaded.settings };
    let mut lines = BTreeMap::new();
    collect(keys::ROOT, settings.view().values(), PREFIX, &mut lines);
    if non_zero_only {
        lines.retain(|_, value| !is_zero(value));
    }
    Ok(lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect())
}

fn is_zero(value: &str) -> bool {
    ["", "\"\"", "\"{}\"", "\"[]\"", "0", "0s", "false"].contains(&value)
}

fn collect(group: Group, object: &Map<String, Value>, prefix: &str, lines: &mut BTreeMap<String, String>) {
    for key in keys::each(group) {
        let name = format!("{prefix}{}", key.name.to_uppercase());
        match (key.kind, &object[key.name]) {
            (Kind::Object(nested), Value::Object(inner)) => {
                collect(nested, inner, &format!("{name}_"), lines);
            }
            (Kind::List(nested), Value::Array(elements)) if is_named(nested) => {
                let mut names = Vec::new();
                for element in elements.iter().filter_map(Value::as_object) {
                    let element_name = element["name"].as_str().unwrap_or_default();
                    let part = element_name.to_uppercase().replace(['.', '-'], "_");
                    collect(nested, element, &format!("{name}_{part}_"), lines);
                    names.push(element_name);
                }
                lines.insert(name, quote(&names.join(" ")));
            }
            (Kind::Any, _) => {}
            (kind, value) => {
                lines.insert(name, text(kind, value));
            }
        }
    }
}

/// Whether elements of a list have variables of their own.
fn is_named(group: Group) -> bool {
    keys::find(group, "name").is_some()
}

fn text(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Texts, Value::Array(texts)) if texts.is_empty() => quote(""),
        (Kind::Texts, Value::Array(texts)) => {
            let texts = texts.iter().filter_map(Value::as_str);
            quote(&texts.collect::<Vec<_>>().join(" "))
        }
        (Kind::Map | Kind::List(_), value) => quote(&value.to_string()),
        (Kind::Duration, value) => document::scalar(kind, value).replace('"', ""),
        (_, Value::String(text)) => quote(text),
        (_, value) => value.to_string(),
    }
}

/// In double quotes, as a shell or a `.env` file reads it.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let refers = |next: &char| next.is_ascii_alphanumeric() || ['_', '{', '('].contains(next);
        match character {
            '\n' => quoted.push_str("\\n"),
            '\\' | '"' => quoted.extend(['\\', character]),
            '$' if characters.peek().is_some_and(refers) => quoted.push_str("\\$"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
