//! What a token says.

use super::object::{Object, or_default};
use crate::message::Overrides;
use bytes::Bytes;
use ringcast_proto::api::decode_base64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Claims of connection and subscription tokens. Numbers of time are seconds since 1970.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Claims<'a> {
    #[serde(deserialize_with = "or_default")]
    pub(super) sub: String,
    pub(super) exp: Option<f64>,
    pub(super) nbf: Option<f64>,
    pub(super) iat: Option<f64>,
    #[serde(deserialize_with = "or_default")]
    pub(super) iss: String,
    pub(super) aud: Audience,
    /// Not read; a token whose id is no text is refused all the same.
    #[serde(rename = "jti", deserialize_with = "or_default")]
    _jti: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) channels: Vec<Option<String>>,
    #[serde(borrow, deserialize_with = "or_default")]
    pub(super) subs: BTreeMap<String, Option<Object<Sub<'a>>>>,
    pub(super) expire_at: Option<i64>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    b64info: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    #[serde(rename = "override")]
    pub(super) overrides: Option<Object<OverrideClaims>>,
}

/// `aud` is one string or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Audience::Many(Vec::new())
    }
}

impl Audience {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many,
        };
        all.iter().map(String::as_str)
    }
}

/// An element of the claim `subs`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Sub<'a> {
    #[serde(borrow, deserialize_with = "present")]
    info: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    b64info: String,
    #[serde(borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    #[serde(rename = "override")]
    pub(super) overrides: Option<Object<OverrideClaims>>,
}

/// The claim `override`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct OverrideClaims {
    presence: Option<Object<Flag>>,
    join_leave: Option<Object<Flag>>,
    force_recovery: Option<Object<Flag>>,
    force_positioning: Option<Object<Flag>>,
    force_push_join_leave: Option<Object<Flag>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Flag {
    value: bool,
}

impl OverrideClaims {
    pub(super) fn options(&self) -> Overrides {
        let value = |flag: &Option<Object<Flag>>| flag.as_ref().map(|Object(flag)| flag.value);
        Overrides {
            presence: value(&self.presence),
            join_leave: value(&self.join_leave),
            force_recovery: value(&self.force_recovery),
            force_positioning: value(&self.force_positioning),
            force_push_join_leave: value(&self.force_push_join_leave),
        }
    }
}

/// A payload that is there, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A payload that comes as JSON or in base64; `None` for broken base64.
fn payload(json: Option<&RawValue>, base64: &str) -> Option<Bytes> {
    if !base64.is_empty() {
        return decode_base64(base64);
    }
    Some(json.map_or_else(Bytes::new, |json| Bytes::copy_from_slice(json.get().as_bytes())))
}

impl Claims<'_> {
    /// Data of the connection that clients do not see; empty for none.
    pub(super) fn meta(&self) -> Bytes {
        self.meta.map_or_else(Bytes::new, |meta| Bytes::copy_from_slice(meta.get().as_bytes()))
    }

    pub(super) fn info(&self) -> Option<Bytes> {
        payload(self.info, &self.b64info)
    }

    pub(super) fn data(&self) -> Option<Bytes> {
        payload(self.data, &self.b64data)
    }

    /// When what the token opens ends; `None` for never. `expire_at` wins over `exp`.
    pub(super) fn expire_at(&self) -> Option<i64> {
        let expire_at = self.expire_at.or(self.exp.map(|exp| exp as i64));
        expire_at.filter(|at| *at > 0)
    }
}

impl Sub<'_> {
    pub(super) fn info(&self) -> Option<Bytes> {
        payload(self.info, &self.b64info)
    }

    pub(super) fn data(&self) -> Option<Bytes> {
        payload(self.data, &self.b64data)
    }
}
