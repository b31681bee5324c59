//! What an operator should be told about a configuration that is usable.

use super::keys::{self, Group, Key, Kind, Support};
use super::settings::Settings;
use super::value;
use serde_json::{Map, Value};

/// Things found while loading; each is one warning.
#[derive(Debug, Default)]
pub struct Notices {
    /// Keys of the file that are not in the table.
    pub unknown_keys: Vec<UnknownKey>,
    /// Variables with our prefix that name no key.
    pub unknown_variables: Vec<String>,
    /// Paths of keys that are set but have no effect yet.
    pub unsupported: Vec<String>,
}

/// A key that is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownKey {
    /// Where it stands in the file.
    pub path: String,
    /// The known key that may have been meant.
    pub nearest: Option<String>,
}

/// Paths of keys that are set to something else than their default although they do not work yet:
/// of a section that does not work, only the section. Sections that are switched off (`enabled`
/// is false) are passed over, for there nothing has an effect anyway.
pub fn unsupported(settings: &Settings) -> Vec<String> {
    let mut paths = Vec::new();
    collect(keys::ROOT, settings.view().values(), "", &mut paths);
    paths
}

fn collect(group: Group, object: &Map<String, Value>, path: &str, paths: &mut Vec<String>) {
    if is_off(object) {
        return;
    }
    for key in keys::each(group) {
        let (value, path) = (&object[key.name], format!("{path}{}", key.name));
        match (key.support, key.kind) {
            (Support::Moot, _) => {}
            (Support::Later, _) => paths.extend(is_set(key, value).then_some(path)),
            (Support::Works, Kind::Object(nested)) => {
                let inner = value.as_object().expect("an object by its kind");
                collect(nested, inner, &format!("{path}."), paths);
            }
            (Support::Works, Kind::List(nested)) => {
                let elements = value.as_array().expect("a list by its kind");
                for (index, element) in elements.iter().filter_map(Value::as_object).enumerate() {
                    collect(nested, element, &format!("{path}.[{index}]."), paths);
                }
            }
            (Support::Works, _) => {}
        }
    }
}

fn is_off(object: &Map<String, Value>) -> bool {
    object.get("enabled") == Some(&Value::Bool(false))
}

/// Whether a value differs from its key's default.
fn is_set(key: &Key, value: &Value) -> bool {
    match (key.kind, value) {
        (Kind::Object(nested), Value::Object(inner)) => {
            !is_off(inner) && keys::each(nested).any(|key| is_set(key, &inner[key.name]))
        }
        _ => Some(value) != value::default(key).as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, merge};
    use serde_json::json;

    #[track_caller]
    fn check(file: Value, want: &[&str]) {
        let file = file.as_object().expect("an object").clone();
        let merged = merge::merge(file, &Environment::default(), &[]).expect("merged");
        assert_eq!(unsupported(&merged.settings), want);
    }

    #[test]
    fn only_what_was_set_is_named() {
        check(json!({}), &[]);
        check(json!({"engine": {"type": "memory"}, "client": {"insecure": true}}), &[]);
        check(json!({"websocket": {"use_write_buffer_pool": true}}), &[]);
        check(json!({"engine": {"type": "redis"}}), &[]);
    }

    #[test]
    fn a_section_is_named_once() {
        check(json!({"consumers": [{"name": "a", "type": "kafka"}, {"name": "b", "type": "kafka"}]}), &["consumers"]);
        check(json!({"debug": {"enabled": true, "handler_prefix": "/docs"}}), &["debug"]);
    }

    #[test]
    fn sections_that_are_off_are_passed_over() {
        check(json!({"debug": {"enabled": false, "handler_prefix": "/docs"}}), &[]);
        check(json!({"client": {"proxy": {"connect": {"endpoint": "http://a"}}}}), &[]);
    }
}
