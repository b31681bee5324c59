//! How the fields of messages are read and written.

use super::{InvalidJson, Reader, Writer};
use crate::DecodeError;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A message or a field of one.
pub(crate) trait Value {
    /// Most of these in one list or map. Plain values are bounded well enough by their text.
    const ENTRIES_MAX: usize = usize::MAX;

    /// Reads over what is there, so that a key that comes twice ends as in the reference: the last one wins, messages merge.
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError>;

    /// Fails when a payload is not JSON.
    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson>;

    /// Encodes a message in which the field of that name is encoded already.
    fn encode_with(&self, encoded: (&str, Encoded<'_>), writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        let _ = encoded;
        self.encode(writer)
    }

    /// Left out when written, unless the field is always there.
    fn is_zero(&self) -> bool;
}

/// A field whose values are encoded already.
#[derive(Clone, Copy)]
pub(crate) enum Encoded<'a> {
    List(&'a [&'a [u8]]),
    Map(&'a BTreeMap<String, Vec<u8>>),
}

impl Encoded<'_> {
    pub(crate) fn is_empty(self) -> bool {
        match self {
            Self::List(values) => values.is_empty(),
            Self::Map(values) => values.is_empty(),
        }
    }

    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        match self {
            Self::List(values) => {
                writer.text(b"[");
                for value in values {
                    writer.separate();
                    writer.text(value);
                }
                writer.text(b"]");
            }
            Self::Map(values) => {
                writer.text(b"{");
                for (key, value) in values {
                    writer.separate();
                    writer.string(key);
                    writer.text(b":");
                    writer.text(value);
                }
                writer.text(b"}");
            }
        }
    }
}

/// Lists the keys of a message once, in the order they are written: `"key" => field`, or `"key" (always) => field` for one
/// that is written even when zero. Keys match exactly or else without regard to ASCII case; unknown ones are passed over.
macro_rules! json_message {
    ($message:ident { $($name:literal $(($always:ident))? => $field:ident),* $(,)? }) => {
        impl $crate::json::Value for $message {
            const ENTRIES_MAX: usize = $crate::json::LIST_LEN_MAX;

            fn decode(&mut self, reader: &mut $crate::json::Reader<'_>) -> Result<(), $crate::DecodeError> {
                if reader.null() {
                    return Ok(());
                }
                reader.object(|reader, key| {
                    let _ = &key;
                    $(if key == $name {
                        return $crate::json::Value::decode(&mut self.$field, reader);
                    })*
                    $(if key.eq_ignore_ascii_case($name) {
                        return $crate::json::Value::decode(&mut self.$field, reader);
                    })*
                    reader.raw().map(drop)
                })
            }

            #[inline]
            fn encode_with(
                &self,
                encoded: (&str, $crate::json::Encoded<'_>),
                writer: &mut $crate::json::Writer<'_>,
            ) -> Result<(), $crate::json::InvalidJson> {
                let _ = encoded;
                writer.text(b"{");
                $(if encoded.0 == $name {
                    if json_message!(@always $($always)?) || !encoded.1.is_empty() {
                        writer.key(concat!("\"", $name, "\":"));
                        encoded.1.write(writer);
                    }
                } else if json_message!(@always $($always)?) || !$crate::json::Value::is_zero(&self.$field) {
                    writer.key(concat!("\"", $name, "\":"));
                    $crate::json::Value::encode(&self.$field, writer)?;
                })*
                writer.text(b"}");
                Ok(())
            }

            fn encode(&self, writer: &mut $crate::json::Writer<'_>) -> Result<(), $crate::json::InvalidJson> {
                self.encode_with(("", $crate::json::Encoded::List(&[])), writer)
            }

            fn is_zero(&self) -> bool {
                false
            }
        }
    };
    (@always) => { false };
    (@always always) => { true };
}

pub(crate) use json_message;

impl Value for bool {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if !reader.null() {
            *self = reader.bool()?;
        }
        Ok(())
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.text(if *self { b"true" } else { b"false" });
        Ok(())
    }

    fn is_zero(&self) -> bool {
        !self
    }
}

macro_rules! integer_value {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
                if !reader.null() {
                    *self = reader.number()?.parse().map_err(|_| reader.error("integer out of range or with a fraction"))?;
                }
                Ok(())
            }

            fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
                writer.integer(*self);
                Ok(())
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }
        }
    )*};
}

integer_value!(i32, u32, i64, u64);

impl Value for f64 {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if !reader.null() {
            let number = reader.number()?.parse().ok().filter(|number: &f64| number.is_finite());
            *self = number.ok_or(reader.error("number out of range"))?;
        }
        Ok(())
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.float(*self);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        *self == 0.0
    }
}

impl Value for String {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if !reader.null() {
            *self = reader.string()?.into_owned();
        }
        Ok(())
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.string(self);
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// A payload: the text of any value. `null` is a payload like any other, as in the reference.
impl Value for Bytes {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self = reader.payload()?;
        Ok(())
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.payload(self)
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<V: Value> Value for Box<V> {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        (**self).decode(reader)
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        (**self).encode(writer)
    }

    fn is_zero(&self) -> bool {
        (**self).is_zero()
    }
}

impl<V: Value + Default> Value for Option<V> {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.null() {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().decode(reader)
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        match self {
            Some(value) => value.encode(writer),
            None => {
                writer.text(b"null");
                Ok(())
            }
        }
    }

    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

/// Bound: [`Value::ENTRIES_MAX`] entries.
impl<V: Value + Default> Value for Vec<V> {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.clear();
        if reader.null() {
            return Ok(());
        }
        reader.array(|reader| {
            if self.len() == V::ENTRIES_MAX {
                return Err(reader.error("too many entries in a list"));
            }
            let mut value = V::default();
            value.decode(reader)?;
            self.push(value);
            Ok(())
        })
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.text(b"[");
        for value in self {
            writer.separate();
            value.encode(writer)?;
        }
        writer.text(b"]");
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

/// Bound: [`Value::ENTRIES_MAX`] entries.
impl<V: Value + Default> Value for BTreeMap<String, V> {
    fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if reader.null() {
            self.clear();
            return Ok(());
        }
        reader.object(|reader, key| {
            if self.len() == V::ENTRIES_MAX {
                return Err(reader.error("too many entries in a map"));
            }
            let mut value = V::default();
            value.decode(reader)?;
            self.insert(key.into_owned(), value);
            Ok(())
        })
    }

    fn encode(&self, writer: &mut Writer<'_>) -> Result<(), InvalidJson> {
        writer.text(b"{");
        for (key, value) in self {
            writer.separate();
            writer.string(key);
            writer.text(b":");
            value.encode(writer)?;
        }
        writer.text(b"}");
        Ok(())
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}
