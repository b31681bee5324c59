//! Merged values, read by path.

use serde_json::{Map, Value};
use std::time::Duration;

/// A value for every key of the table, each of its key's kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    root: Map<String, Value>,
}

/// The values of one object in the settings. Names are those of the table: asking for another
/// name, or for another kind than the key's, is a mistake in the caller and panics.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    object: &'a Map<String, Value>,
}

impl Settings {
    /// Takes values that were merged along the table.
    pub(super) fn new(root: Map<String, Value>) -> Self {
        Settings { root }
    }

    /// The top level.
    pub fn view(&self) -> View<'_> {
        View { object: &self.root }
    }
}

impl<'a> View<'a> {
    /// The raw values by name.
    pub fn values(self) -> &'a Map<String, Value> {
        self.object
    }

    /// A nested object.
    pub fn object(self, name: &str) -> View<'a> {
        let object = self.value(name).as_object().unwrap_or_else(|| wrong(name));
        View { object }
    }

    /// A list of objects.
    pub fn list(self, name: &str) -> impl Iterator<Item = View<'a>> {
        let elements = self.value(name).as_array().unwrap_or_else(|| wrong(name));
        elements.iter().map(|element| View { object: element.as_object().expect("lists are merged from objects") })
    }

    /// True or false.
    pub fn bool(self, name: &str) -> bool {
        self.value(name).as_bool().unwrap_or_else(|| wrong(name))
    }

    /// A number, with its sign.
    pub fn int(self, name: &str) -> i64 {
        self.value(name).as_i64().unwrap_or_else(|| wrong(name))
    }

    /// A count or size: a negative number counts as 0.
    pub fn count(self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(0)
    }

    /// A string.
    pub fn text(self, name: &str) -> &'a str {
        self.value(name).as_str().unwrap_or_else(|| wrong(name))
    }

    /// A list of strings.
    pub fn texts(self, name: &str) -> impl Iterator<Item = &'a str> {
        let texts = self.value(name).as_array().unwrap_or_else(|| wrong(name));
        texts.iter().filter_map(Value::as_str)
    }

    /// A span; a negative one counts as none.
    pub fn duration(self, name: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.int(name)).unwrap_or(0))
    }

    fn value(self, name: &str) -> &'a Value {
        self.object.get(name).unwrap_or_else(|| wrong(name))
    }
}

fn wrong<T>(name: &str) -> T {
    panic!("the table of keys has no {name} of this kind here")
}
