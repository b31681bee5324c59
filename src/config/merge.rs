//! Puts the sources of values on top of each other, along the table of keys.

use super::environment::Environment;
use super::keys::{self, Group, Key, Kind};
use super::notices::UnknownKey;
use super::settings::Settings;
use super::{LoadError, nearest, value};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Lists whose elements can be overridden by variables that hold the element's name.
const NAMED_LISTS: [&str; 4] = ["channel.namespaces", "rpc.namespaces", "proxies", "consumers"];

/// The sources as one, and what in them nobody asked for.
#[derive(Debug)]
pub struct Merged {
    /// A value for every key.
    pub settings: Settings,
    /// What the file alone sets: zero where it is silent.
    pub file: Settings,
    /// Keys of the file that the table does not hold, in order.
    pub unknown_keys: Vec<UnknownKey>,
    /// Variables with our prefix that set nothing.
    pub unknown_variables: Vec<String>,
}

/// Merges defaults, the object of a file, the environment and flags.
pub fn merge(
    file: Map<String, Value>,
    environment: &Environment,
    flags: &[(String, String)],
) -> Result<Merged, LoadError> {
    let mut merge = Merge { environment, flags, known_variables: BTreeSet::new(), unknown_keys: Vec::new() };
    let mut root = merge.read_object(keys::ROOT, &Value::Object(file), "")?;
    let file = Settings::new(root.clone());
    merge.apply_variables(keys::ROOT, &mut root, "", "")?;
    for path in NAMED_LISTS {
        merge.apply_element_variables(path, &mut root)?;
    }
    merge.apply_flags(&mut root)?;
    merge.finish(keys::ROOT, &mut root, "")?;

    merge.unknown_keys.sort();
    let known = &merge.known_variables;
    let unknown = environment.names().filter(|name| !known.contains(without_prefix(name)));
    Ok(Merged {
        settings: Settings::new(root),
        file,
        unknown_variables: unknown.map(str::to_owned).collect(),
        unknown_keys: merge.unknown_keys,
    })
}

struct Merge<'a> {
    environment: &'a Environment,
    flags: &'a [(String, String)],
    /// Names that would set a key, without prefix.
    known_variables: BTreeSet<String>,
    unknown_keys: Vec<UnknownKey>,
}

impl Merge<'_> {
    /// Reads an object of the file: every key of the group gets a value of its kind, its zero
    /// where the file is silent. `path` ends in a dot or is empty.
    fn read_object(&mut self, group: Group, raw: &Value, path: &str) -> Result<Map<String, Value>, LoadError> {
        let raw = match raw {
            Value::Object(object) => nest(group, object),
            Value::Null => Map::new(),
            other => {
                return Err(bad_key(path.trim_end_matches('.'), other, Kind::Object(group)));
            }
        };
        let mut object = zeros(group);
        for (name, raw) in &raw {
            match keys::find(group, &name.to_lowercase()) {
                Some(key) => {
                    let path = format!("{path}{}", key.name);
                    let value = self.read_value(key.kind, raw, &path)?;
                    object.insert(key.name.to_owned(), value);
                }
                None => self.unknown_keys.push(UnknownKey {
                    path: format!("{path}{}", name.to_lowercase()),
                    nearest: nearest::nearest(&name.to_lowercase(), path, group),
                }),
            }
        }
        Ok(object)
    }

    fn read_value(&mut self, kind: Kind, raw: &Value, path: &str) -> Result<Value, LoadError> {
        match kind {
            _ if raw.is_null() => Ok(match kind {
                Kind::Object(group) => Value::Object(zeros(group)),
                _ => value::zero(kind),
            }),
            Kind::Object(group) => self.read_object(group, raw, &format!("{path}.")).map(Value::Object),
            Kind::List(group) => {
                let elements = match raw {
                    Value::Array(elements) => elements.as_slice(),
                    // A list of one may do without brackets, as in the reference.
                    Value::Object(single) if !single.is_empty() => std::slice::from_ref(raw),
                    Value::Object(_) => &[],
                    _ => return Err(bad_key(path, raw, kind)),
                };
                let read = |(index, raw): (usize, &Value)| {
                    self.read_object(group, raw, &format!("{path}.[{index}].")).map(Value::Object)
                };
                elements.iter().enumerate().map(read).collect()
            }
            _ => value::read(kind, raw).ok_or_else(|| bad_key(path, raw, kind)),
        }
    }

    /// Overrides values by variables whose names begin with `prefix` (without ours, with `_`).
    fn apply_variables(
        &mut self,
        group: Group,
        object: &mut Map<String, Value>,
        path: &str,
        prefix: &str,
    ) -> Result<(), LoadError> {
        for key in keys::each(group) {
            let variable = format!("{prefix}{}", key.name.to_uppercase());
            let path = format!("{path}{}", key.name);
            if let (Kind::Object(nested), Some(Value::Object(inner))) = (key.kind, object.get_mut(key.name)) {
                self.apply_variables(nested, inner, &format!("{path}."), &format!("{variable}_"))?;
            } else if !self.is_flag(&path) {
                if let Some((name, text)) = self.environment.setting(&variable) {
                    let value = object.get_mut(key.name).expect("every key has a value");
                    self.read_variable(key, &name, text, value)?;
                }
                self.known_variables.insert(variable);
            } else {
                self.known_variables.insert(variable);
            }
        }
        Ok(())
    }

    fn read_variable(&mut self, key: &Key, name: &str, text: &str, value: &mut Value) -> Result<(), LoadError> {
        let place = || format!("variable {name}");
        let Kind::List(group) = key.kind else {
            let read = value::read_str(key.kind, text);
            *value = read.ok_or_else(|| bad(place(), &Value::from(text), key.kind))?;
            return Ok(());
        };
        if text.starts_with('[') {
            // What is broken in it is not shown: it may hold passwords.
            let no_json =
                |_| LoadError::BadValue { place: place(), value: "no JSON".to_owned(), expected: key.kind.expected() };
            let raw: Value = serde_json::from_str(text).map_err(no_json)?;
            *value = self.read_value(key.kind, &raw, key.name).map_err(|error| error.inside(&place()))?;
            return Ok(());
        }
        // Names of further elements, whose keys have variables of their own.
        let elements = value.as_array_mut().filter(|_| keys::find(group, "name").is_some());
        let elements = elements.ok_or_else(|| bad(place(), &Value::from(text), key.kind))?;
        for name in text.split(' ') {
            let mut element = zeros(group);
            element.insert("name".to_owned(), name.into());
            elements.push(element.into());
        }
        Ok(())
    }

    /// Overrides keys of the elements of a list: `CHANNEL_NAMESPACES_<NAME>_<KEY>`.
    fn apply_element_variables(&mut self, path: &str, root: &mut Map<String, Value>) -> Result<(), LoadError> {
        let Some(Kind::List(group)) = keys::at(path).map(|key| key.kind) else {
            return Ok(());
        };
        let Some(Value::Array(elements)) = locate(root, path) else {
            return Ok(());
        };
        for (index, element) in elements.iter_mut().filter_map(Value::as_object_mut).enumerate() {
            let name = element.get("name").and_then(Value::as_str).unwrap_or_default();
            let name = name.to_uppercase().replace(['.', '-'], "_");
            let prefix = format!("{}_{name}_", path.to_uppercase().replace('.', "_"));
            self.apply_variables(group, element, &format!("{path}.[{index}]."), &prefix)?;
        }
        Ok(())
    }

    fn is_flag(&self, path: &str) -> bool {
        self.flags.iter().any(|(key, _)| key == path)
    }

    fn apply_flags(&self, root: &mut Map<String, Value>) -> Result<(), LoadError> {
        for (path, text) in self.flags {
            let key = keys::at(path).expect("flags are made from keys of the table");
            let value = value::read_str(key.kind, text)
                .ok_or_else(|| bad(format!("flag --{path}"), &Value::from(text.as_str()), key.kind))?;
            *locate(root, path).expect("every key has a value") = value;
        }
        Ok(())
    }

    /// Fills in defaults where a value is zero and no flag wanted it so, and expands references
    /// to variables in maps.
    fn finish(&self, group: Group, object: &mut Map<String, Value>, path: &str) -> Result<(), LoadError> {
        for key in keys::each(group) {
            let path = format!("{path}{}", key.name);
            let value = object.get_mut(key.name).expect("every key has a value");
            match key.kind {
                Kind::Object(nested) => {
                    let inner = value.as_object_mut().expect("an object by its kind");
                    self.finish(nested, inner, &format!("{path}."))?;
                }
                Kind::List(nested) => {
                    let elements = value.as_array_mut().expect("a list by its kind");
                    for (index, element) in elements.iter_mut().enumerate() {
                        let element = element.as_object_mut().expect("an object by its kind");
                        self.finish(nested, element, &format!("{path}.[{index}]."))?;
                    }
                }
                Kind::Map => self.expand(value, &path)?,
                kind if *value == value::zero(kind) && !self.is_flag(&path) => {
                    *value = value::default(key).expect("defaults are values of their kind");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn expand(&self, map: &mut Value, path: &str) -> Result<(), LoadError> {
        let map = map.as_object_mut().expect("an object by its kind");
        for text in map.values_mut() {
            let expanded = self.environment.expand(text.as_str().expect("a string by its kind"));
            *text = Value::from(expanded.map_err(|variable| LoadError::NoVariable { key: path.to_owned(), variable })?);
        }
        Ok(())
    }
}

/// Puts keys that are written as paths (`client.insecure`) into the objects that they name.
fn nest(group: Group, object: &Map<String, Value>) -> Map<String, Value> {
    let is_path = |name: &str| name.contains('.') && keys::find(group, name).is_none();
    let (paths, plain): (Vec<_>, Vec<_>) = object.clone().into_iter().partition(|(name, _)| is_path(name));
    let mut nested: Map<String, Value> = plain.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    for (path, value) in paths {
        let (head, rest) = path.split_once('.').expect("a path has a dot");
        let inner = nested.entry(head.to_lowercase()).or_insert_with(|| Map::new().into());
        match inner {
            Value::Object(inner) => inner.insert(rest.to_owned(), value),
            _ => nested.insert(path, value),
        };
    }
    nested
}

/// An object with the zero of every key.
fn zeros(group: Group) -> Map<String, Value> {
    let zero = |key: &Key| match key.kind {
        Kind::Object(nested) => Value::Object(zeros(nested)),
        kind => value::zero(kind),
    };
    keys::each(group).map(|key| (key.name.to_owned(), zero(key))).collect()
}

/// The value at a path of objects.
fn locate<'a>(root: &'a mut Map<String, Value>, path: &str) -> Option<&'a mut Value> {
    match path.split_once('.') {
        Some((name, rest)) => locate(root.get_mut(name)?.as_object_mut()?, rest),
        None => root.get_mut(path),
    }
}

fn without_prefix(name: &str) -> &str {
    let prefixes = super::environment::PREFIXES;
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

fn bad_key(path: &str, raw: &Value, kind: Kind) -> LoadError {
    bad(format!("key {path}"), raw, kind)
}

fn bad(place: String, raw: &Value, kind: Kind) -> LoadError {
    LoadError::BadValue { place, value: value::show(raw), expected: kind.expected() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Case<'a> {
        file: Value,
        variables: &'a [(&'a str, &'a str)],
        flags: &'a [(&'a str, &'a str)],
    }

    fn case(file: Value) -> Case<'static> {
        Case { file, variables: &[], flags: &[] }
    }

    fn merged(case: &Case<'_>) -> Result<Merged, LoadError> {
        let flags: Vec<_> = case.flags.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        let file = case.file.as_object().expect("an object").clone();
        merge(file, &Environment::from(case.variables), &flags)
    }

    /// Merges and compares the value at a path; numbers in it enter lists.
    #[track_caller]
    fn check(case: &Case<'_>, path: &str, want: Value) {
        let merged = merged(case).unwrap_or_else(|error| panic!("{path}: {error}"));
        let pointer = format!("/{}", path.replace('.', "/"));
        let root = Value::Object(merged.settings.view().values().clone());
        assert_eq!(root.pointer(&pointer), Some(&want), "{path}");
    }

    #[track_caller]
    fn check_error(case: &Case<'_>, want: &str) {
        assert_eq!(merged(case).expect_err(want).to_string(), want);
    }

    const SECOND: i64 = crate::config::duration::SECOND;

    /// L02, L04
    #[test]
    fn later_sources_win() {
        let file = json!({"http_server": {"port": 1}, "shards": 1, "log": {"level": "debug"}});
        let all = Case {
            file: file.clone(),
            variables: &[("CENTRIFUGO_HTTP_SERVER_PORT", "2"), ("RINGCAST_SHARDS", "2")],
            flags: &[("http_server.port", "3")],
        };
        check(&all, "http_server.port", json!(3));
        check(&all, "shards", json!(2));
        check(&all, "log.level", json!("debug"));
        check(&all, "client.channel_limit", json!(128));
        check(&case(json!({})), "http_server.port", json!(8000));
    }

    #[test]
    fn our_variables_win_over_the_old_names() {
        let both = Case {
            file: json!({}),
            variables: &[("CENTRIFUGO_NODE_NAME", "old"), ("RINGCAST_NODE_NAME", "new")],
            flags: &[],
        };
        check(&both, "node.name", json!("new"));
    }

    #[test]
    fn keys_are_read_in_any_case() {
        let file = json!({"Client": {"PING_Interval": "3s"}});
        check(&case(file), "client.ping_interval", json!(3 * SECOND));
    }

    #[test]
    fn a_zero_counts_as_not_set_where_the_default_is_none() {
        let file = json!({
            "client": {"ping_interval": 0, "channel_limit": 0, "insecure": false},
            "engine": {"type": ""},
            "channel": {"namespaces": null},
        });
        check(&case(file.clone()), "client.ping_interval", json!(25 * SECOND));
        check(&case(file.clone()), "client.channel_limit", json!(128));
        check(&case(file.clone()), "engine.type", json!("memory"));
        check(&case(file), "channel.namespaces", json!([]));
    }

    #[test]
    fn a_zero_in_a_flag_is_meant() {
        let flags = Case { file: json!({}), variables: &[], flags: &[("http_server.port", "0")] };
        check(&flags, "http_server.port", json!(0));
        let flags = Case {
            file: json!({"health": {"enabled": true}}),
            variables: &[("CENTRIFUGO_HEALTH_ENABLED", "true")],
            flags: &[("health.enabled", "false")],
        };
        check(&flags, "health.enabled", json!(false));
    }

    #[test]
    fn elements_of_lists_have_defaults_and_variables() {
        let names = Case {
            file: json!({"channel": {"namespaces": [
                {"name": "chat-room.a", "history_size": 1},
                {"name": "news"},
            ]}}),
            variables: &[
                ("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_ROOM_A_HISTORY_TTL", "60s"),
                ("RINGCAST_CHANNEL_NAMESPACES_NEWS_PRESENCE", "true"),
                ("CENTRIFUGO_CHANNEL_WITHOUT_NAMESPACE_PRESENCE", "1"),
            ],
            flags: &[],
        };
        check(&names, "channel.namespaces.0.history_ttl", json!(60 * SECOND));
        check(&names, "channel.namespaces.0.history_size", json!(1));
        check(&names, "channel.namespaces.0.publish_proxy_name", json!("default"));
        check(&names, "channel.namespaces.0.presence", json!(false));
        check(&names, "channel.namespaces.1.presence", json!(true));
        check(&names, "channel.without_namespace.presence", json!(true));
        assert_eq!(merged(&names).expect("merged").unknown_variables, Vec::<String>::new());
    }

    #[test]
    fn whole_lists_and_maps_come_as_json() {
        let lists = Case {
            file: json!({"channel": {"namespaces": [{"name": "old"}]}}),
            variables: &[
                ("CENTRIFUGO_CHANNEL_NAMESPACES", r#"[{"name":"new","history_ttl":"5s"}]"#),
                ("CENTRIFUGO_CHANNEL_NAMESPACES_NEW_HISTORY_SIZE", "7"),
                ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "http://a http://b"),
                ("CENTRIFUGO_CLIENT_PROXY_CONNECT_HTTP_STATIC_HEADERS", r#"{"X-A":"${CENTRIFUGO_VAR_A}"}"#),
                ("CENTRIFUGO_VAR_A", "secret"),
            ],
            flags: &[],
        };
        check(&lists, "channel.namespaces.0.name", json!("new"));
        check(&lists, "channel.namespaces.0.history_ttl", json!(5 * SECOND));
        check(&lists, "channel.namespaces.0.history_size", json!(7));
        check(&lists, "client.allowed_origins", json!(["http://a", "http://b"]));
        check(&lists, "client.proxy.connect.http.static_headers", json!({"X-A": "secret"}));
        assert_eq!(merged(&lists).expect("merged").unknown_variables, Vec::<String>::new());
    }

    #[test]
    fn names_add_elements() {
        let names = Case {
            file: json!({"channel": {"namespaces": [{"name": "old"}]}}),
            variables: &[
                ("CENTRIFUGO_CHANNEL_NAMESPACES", "a-b cc"),
                ("CENTRIFUGO_CHANNEL_NAMESPACES_A_B_PRESENCE", "true"),
            ],
            flags: &[],
        };
        check(&names, "channel.namespaces.0.name", json!("old"));
        check(&names, "channel.namespaces.1.name", json!("a-b"));
        check(&names, "channel.namespaces.1.presence", json!(true));
        check(&names, "channel.namespaces.2.subscribe_proxy_name", json!("default"));
    }

    #[test]
    fn keys_may_be_written_as_paths() {
        let paths = json!({
            "client.insecure": true,
            "Client": {"token.audience": "a"},
            "channel.namespaces": {"name": "one"},
            "client.nonsense": 1,
        });
        check(&case(paths.clone()), "client.insecure", json!(true));
        check(&case(paths.clone()), "client.token.audience", json!("a"));
        check(&case(paths.clone()), "channel.namespaces.0.name", json!("one"));
        let merged = merged(&case(paths)).expect("merged");
        let unknown: Vec<_> = merged.unknown_keys.iter().map(|key| key.path.as_str()).collect();
        assert_eq!(unknown, ["client.nonsense"]);
    }

    #[test]
    fn bad_values_are_named_with_their_place() {
        check_error(
            &case(json!({"client": {"ping_interval": "25"}})),
            "key client.ping_interval is \"25\", expected a duration such as \"1h30m\", or a number of nanoseconds",
        );
        check_error(
            &case(json!({"channel": {"namespaces": [{"history_size": "many"}]}})),
            "key channel.namespaces.[0].history_size is \"many\", expected a whole number",
        );
        check_error(&case(json!({"client": []})), "key client is a list, expected an object");
        check_error(
            &case(json!({"channel": {"namespaces": 5}})),
            "key channel.namespaces is 5, expected a list of objects",
        );
        check_error(
            &case(json!({"channel": {"namespaces": ["a"]}})),
            "key channel.namespaces.[0] is \"a\", expected an object",
        );
        check_error(
            &Case { file: json!({}), variables: &[("RINGCAST_SHARDS", "two")], flags: &[] },
            "variable RINGCAST_SHARDS is \"two\", expected a whole number",
        );
        check_error(
            &Case { file: json!({}), variables: &[("CENTRIFUGO_CONSUMERS", "[{")], flags: &[] },
            "variable CENTRIFUGO_CONSUMERS is no JSON, expected a list of objects",
        );
        check_error(
            &Case { file: json!({}), variables: &[("CENTRIFUGO_PROXIES", r#"[{"timeout":"x"}]"#)], flags: &[] },
            "variable CENTRIFUGO_PROXIES, key proxies.[0].timeout is \"x\", expected a duration such as \"1h30m\", or a number of nanoseconds",
        );
        check_error(
            &Case { file: json!({}), variables: &[], flags: &[("health.enabled", "maybe")] },
            "flag --health.enabled is \"maybe\", expected true or false",
        );
        check_error(
            &case(json!({"proxies": [{"http": {"static_headers": {"A": "${RINGCAST_VAR_B}"}}}]})),
            "key proxies.[0].http.static_headers: environment variable \"RINGCAST_VAR_B\" not found",
        );
    }

    #[test]
    fn unknown_names_are_reported() {
        let unknown = Case {
            file: json!({
                "zzzz": 1,
                "client": {"ping_intervall": "1s"},
                "channel": {"namespaces": [{"name": "a", "historysize": 1}]},
            }),
            variables: &[("CENTRIFUGO_FOO", "x"), ("RINGCAST_SHARDS", "1"), ("HOME", "/")],
            flags: &[],
        };
        let merged = merged(&unknown).expect("merged");
        let keys: Vec<_> =
            merged.unknown_keys.iter().map(|key| (key.path.as_str(), key.nearest.as_deref().unwrap_or("-"))).collect();
        assert_eq!(
            keys,
            [
                ("channel.namespaces.[0].historysize", "channel.namespaces.[0].history_size"),
                ("client.ping_intervall", "client.ping_interval"),
                ("zzzz", "-"),
            ]
        );
        assert_eq!(merged.unknown_variables, ["CENTRIFUGO_FOO"]);
    }
}
