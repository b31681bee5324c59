//! Writes settings as the text of a configuration file, keys in the order of their table.
//!
//! Sections whose keys are not listed in the table are left out. Strings are written as in JSON,
//! which YAML and TOML read alike.

use super::keys::{self, Group, Key, Kind};
use super::{Settings, duration};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Format of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Extension `json`.
    Json,
    /// Extension `toml`.
    Toml,
    /// Extension `yaml` or `yml`.
    Yaml,
}

impl Format {
    /// The format that an extension stands for.
    pub fn from_extension(extension: &str) -> Option<Format> {
        match extension {
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// All settings as a file of this format.
pub fn write(settings: &Settings, format: Format) -> String {
    let object = settings.view().values();
    let mut out = String::new();
    match format {
        Format::Json => {
            json_object(&mut out, keys::ROOT, object, "");
            out.push('\n');
        }
        Format::Toml => toml_table(&mut out, keys::ROOT, object, ""),
        Format::Yaml => yaml_object(&mut out, keys::ROOT, object, ""),
    }
    out
}

/// A value that is neither an object nor a list of objects, as JSON.
pub fn scalar(kind: Kind, value: &Value) -> String {
    match kind {
        Kind::Duration => {
            let text = duration::format(value.as_i64().unwrap_or_default());
            Value::from(text).to_string()
        }
        _ => value.to_string(),
    }
}

/// Keys of a group with their values, without sections that are not listed.
fn rows(group: Group, object: &Map<String, Value>) -> impl Iterator<Item = (&'static Key, &Value)> {
    let known = keys::each(group).filter(|key| !matches!(key.kind, Kind::Any));
    known.map(|key| (key, &object[key.name]))
}

fn objects(list: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    list.as_array().into_iter().flatten().filter_map(Value::as_object)
}

fn json_object(out: &mut String, group: Group, object: &Map<String, Value>, indent: &str) {
    let inner = format!("{indent}  ");
    out.push('{');
    for (index, (key, value)) in rows(group, object).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n{inner}\"{}\": ", key.name);
        match (key.kind, value) {
            (Kind::Object(nested), Value::Object(object)) => {
                json_object(out, nested, object, &inner);
            }
            (Kind::List(nested), list) => json_list(out, nested, list, &inner),
            (kind, value) => out.push_str(&scalar(kind, value)),
        }
    }
    let _ = write!(out, "\n{indent}}}");
}

fn json_list(out: &mut String, group: Group, list: &Value, indent: &str) {
    let inner = format!("{indent}  ");
    out.push('[');
    for (index, object) in objects(list).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n{inner}");
        json_object(out, group, object, &inner);
    }
    if objects(list).next().is_some() {
        let _ = write!(out, "\n{indent}");
    }
    out.push(']');
}

fn yaml_object(out: &mut String, group: Group, object: &Map<String, Value>, indent: &str) {
    let inner = format!("{indent}  ");
    for (key, value) in rows(group, object) {
        let _ = write!(out, "{indent}{}:", key.name);
        match (key.kind, value) {
            (Kind::Object(nested), Value::Object(object)) => {
                out.push('\n');
                yaml_object(out, nested, object, &inner);
            }
            (Kind::List(nested), list) if objects(list).next().is_some() => {
                out.push('\n');
                yaml_list(out, nested, list, &inner);
            }
            (kind, value) => {
                let _ = writeln!(out, " {}", scalar(kind, value));
            }
        }
    }
}

fn yaml_list(out: &mut String, group: Group, list: &Value, indent: &str) {
    for object in objects(list) {
        let mut element = String::new();
        yaml_object(&mut element, group, object, &format!("{indent}  "));
        // The dash takes the place of the first line's last two spaces.
        let _ = write!(out, "{indent}- {}", &element[indent.len() + 2..]);
    }
}

/// Own values first: after the head of a nested table they would belong to that one.
fn toml_table(out: &mut String, group: Group, object: &Map<String, Value>, path: &str) {
    for (key, value) in rows(group, object) {
        let text = match (key.kind, value) {
            (Kind::Object(_), _) => continue,
            (Kind::List(_), list) if objects(list).next().is_some() => continue,
            (Kind::Map, Value::Object(map)) => toml_map(map),
            (kind, value) => scalar(kind, value),
        };
        let _ = writeln!(out, "{} = {text}", key.name);
    }
    for (key, value) in rows(group, object) {
        let path = format!("{path}{}", key.name);
        match (key.kind, value) {
            (Kind::Object(nested), Value::Object(object)) => {
                let _ = writeln!(out, "\n[{path}]");
                toml_table(out, nested, object, &format!("{path}."));
            }
            (Kind::List(nested), list) => {
                for object in objects(list) {
                    let _ = writeln!(out, "\n[[{path}]]");
                    toml_table(out, nested, object, &format!("{path}."));
                }
            }
            _ => {}
        }
    }
}

fn toml_map(map: &Map<String, Value>) -> String {
    let pairs = map.iter().map(|(name, value)| format!("{} = {value}", Value::from(name.as_str())));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, file, merge};
    use serde_json::json;

    fn settings(file: Value) -> Settings {
        let object = file.as_object().expect("an object").clone();
        merge::merge(object, &Environment::default(), &[]).expect("merged").settings
    }

    #[track_caller]
    fn check(file: Value) {
        let settings = settings(file);
        for (format, extension) in [(Format::Json, "json"), (Format::Toml, "toml"), (Format::Yaml, "yaml")] {
            let text = write(&settings, format);
            let read = file::parse(extension, &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(self::settings(read), settings, "{format:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        check(json!({}));
        check(json!({
            "log": {"file": "a \"b\"\\\n: #ü"},
            "client": {"ping_interval": "1m30s", "allowed_origins": ["http://a", "*"]},
            "channel": {"namespaces": [
                {"name": "one", "history_size": 1, "history_ttl": "1s", "map": {"key_ttl": "5s"}},
                {"name": "two", "allowed_delta_types": ["fossil"]},
            ]},
            "proxies": [{
                "name": "backend",
                "http": {
                    "static_headers": {"X-A.b": "c: d", "e": ""},
                    "status_to_code_transforms": [{"status_code": 404, "to_error": {"code": 5}}],
                },
            }],
        }));
    }

    #[test]
    fn keys_stand_in_the_order_of_the_table() {
        let text = write(&settings(json!({})), Format::Json);
        assert!(text.starts_with("{\n  \"http_server\": {\n    \"address\": \"\",\n    \"port\": 8000,"));
        let text = write(&settings(json!({})), Format::Yaml);
        assert!(text.starts_with("http_server:\n  address: \"\"\n  port: 8000\n"));
    }
}
