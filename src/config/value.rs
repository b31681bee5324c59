//! Turns what an operator wrote into a value of a key's kind.
//!
//! Values are kept as JSON in one form per kind: numbers as integers, durations as integers of
//! nanoseconds, maps as objects of strings. Reading is as lenient as Centrifugo's: a port may be
//! `8000` or `"8000"`, a flag `true`, `1` or `"true"`, a single string stands for a list of one.

use super::duration;
use super::keys::{Key, Kind};
use serde_json::{Map, Value, json};

/// Reads a value found in a file, or inside of JSON from the environment. `None` when it cannot
/// be one of this kind. Objects and lists of objects are not read here.
pub fn read(kind: Kind, raw: &Value) -> Option<Value> {
    match kind {
        Kind::Bool => read_bool(raw).map(Value::from),
        Kind::Int | Kind::Int64 => read_int(raw, i64::MIN, i64::MAX),
        Kind::Int32 => read_int(raw, i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::Uint32 => read_int(raw, 0, i64::from(u32::MAX)),
        Kind::Duration => read_duration(raw),
        Kind::Text | Kind::Pem => read_text(raw).map(Value::from),
        Kind::Texts => read_texts(raw),
        Kind::Map => read_map(raw),
        Kind::Any => Some(raw.clone()),
        Kind::Object(_) | Kind::List(_) => None,
    }
}

/// Reads the text of a variable or flag: lists of strings are split at spaces, maps are JSON.
pub fn read_str(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Texts if text.trim().is_empty() => Some(json!([])),
        Kind::Texts => Some(text.split(' ').collect()),
        Kind::Map | Kind::Any => read(kind, &serde_json::from_str(text).ok()?),
        _ => read(kind, &Value::from(text)),
    }
}

/// The default of a key; `None` when the table holds a broken one, which a test excludes.
pub fn default(key: &Key) -> Option<Value> {
    match key.kind {
        kind if key.default.is_empty() => Some(zero(kind)),
        kind => read_str(kind, key.default),
    }
}

/// What a key of this kind holds when nothing was set.
pub fn zero(kind: Kind) -> Value {
    match kind {
        Kind::Bool => Value::Bool(false),
        Kind::Int | Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Duration => json!(0),
        Kind::Text | Kind::Pem => json!(""),
        Kind::Texts | Kind::List(_) => json!([]),
        Kind::Map | Kind::Object(_) => json!({}),
        Kind::Any => Value::Null,
    }
}

/// How a value is shown in a message: shortened, and without what is inside of it.
pub fn show(raw: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let text = match raw {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn read_bool(raw: &Value) -> Option<bool> {
    match raw {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => number.as_f64().map(|number| number != 0.0),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn read_int(raw: &Value, least: i64, most: i64) -> Option<Value> {
    let number = match raw {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?))?,
        Value::Bool(value) => i64::from(*value),
        Value::String(text) if text.is_empty() => 0,
        Value::String(text) => parse_int(text)?,
        _ => return None,
    };
    (least..=most).contains(&number).then(|| json!(number))
}

/// The integer that a number with a point stands for, as in `1e3`.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// Decimal, or hexadecimal after `0x`.
fn parse_int(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with(['+', '-']) => i64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    }
}

fn read_duration(raw: &Value) -> Option<Value> {
    let nanoseconds = match raw {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?))?,
        Value::String(text) => duration::parse(text)?,
        _ => return None,
    };
    Some(json!(nanoseconds))
}

fn read_text(raw: &Value) -> Option<String> {
    match raw {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(u8::from(*value).to_string()),
        _ => None,
    }
}

fn read_texts(raw: &Value) -> Option<Value> {
    let texts: Option<Vec<String>> = match raw {
        Value::Array(items) => items.iter().map(read_text).collect(),
        Value::String(text) if text.is_empty() => Some(Vec::new()),
        single => read_text(single).map(|text| vec![text]),
    };
    texts.map(Value::from)
}

fn read_map(raw: &Value) -> Option<Value> {
    match raw {
        Value::Object(map) if map.values().all(Value::is_string) => Some(raw.clone()),
        Value::Array(pairs) => {
            let mut map = Map::new();
            for pair in pairs {
                let (key, value) = (pair.get("key")?.as_str()?, pair.get("value")?.as_str()?);
                if map.insert(key.to_owned(), value.into()).is_some() {
                    return None;
                }
            }
            Some(map.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, raw: Value, want: Option<Value>) {
        assert_eq!(read(kind, &raw), want, "{kind:?} from {raw}");
    }

    #[track_caller]
    fn check_str(kind: Kind, text: &str, want: Option<Value>) {
        assert_eq!(read_str(kind, text), want, "{kind:?} from {text:?}");
    }

    #[test]
    fn values_of_a_file_are_read_leniently() {
        check(Kind::Bool, json!(true), Some(json!(true)));
        check(Kind::Bool, json!("True"), Some(json!(true)));
        check(Kind::Bool, json!(0), Some(json!(false)));
        check(Kind::Int, json!("8000"), Some(json!(8000)));
        check(Kind::Int, json!(8000.0), Some(json!(8000)));
        check(Kind::Int, json!(-1), Some(json!(-1)));
        check(Kind::Text, json!(9000), Some(json!("9000")));
        check(Kind::Duration, json!("1m"), Some(json!(60_000_000_000_i64)));
        check(Kind::Duration, json!(1000), Some(json!(1000)));
        check(Kind::Texts, json!("one"), Some(json!(["one"])));
        check(Kind::Texts, json!(["a", 1]), Some(json!(["a", "1"])));
        check(Kind::Texts, json!(""), Some(json!([])));
        check(Kind::Map, json!({"X-A": "b"}), Some(json!({"X-A": "b"})));
        check(Kind::Map, json!([{"key": "X.A", "value": "b"}]), Some(json!({"X.A": "b"})));
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        check(Kind::Bool, json!("yes"), None);
        check(Kind::Bool, json!([]), None);
        check(Kind::Int, json!("80a"), None);
        check(Kind::Int, json!(1.5), None);
        check(Kind::Int, json!(1e300), None);
        check(Kind::Int, json!(u64::MAX), None);
        check(Kind::Int32, json!(i64::from(i32::MAX) + 1), None);
        check(Kind::Uint32, json!(-1), None);
        check(Kind::Text, json!({}), None);
        check(Kind::Duration, json!("5"), None);
        check(Kind::Duration, json!(true), None);
        check(Kind::Texts, json!([{}]), None);
        check(Kind::Map, json!({"a": 1}), None);
        check(Kind::Map, json!([{"key": "a"}]), None);
        check(Kind::Map, json!([{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]), None);
    }

    #[test]
    fn variables_hold_lists_between_spaces_and_maps_in_json() {
        check_str(Kind::Texts, "a b", Some(json!(["a", "b"])));
        check_str(Kind::Texts, " ", Some(json!([])));
        check_str(Kind::Map, r#"{"a":"b"}"#, Some(json!({"a": "b"})));
        check_str(Kind::Map, "a:b", None);
        check_str(Kind::Int, "0x10", Some(json!(16)));
        check_str(Kind::Int, "0x-10", None);
        check_str(Kind::Int, "99999999999999999999", None);
        check_str(Kind::Duration, "10s", Some(json!(10 * duration::SECOND)));
        check_str(Kind::Bool, "yes", None);
    }

    #[test]
    fn long_values_are_shortened_in_messages() {
        assert_eq!(show(&json!("ä".repeat(100))), format!("\"{}...", "ä".repeat(59)));
        assert_eq!(show(&json!({"password": "secret"})), "an object");
    }
}
