//! What a token says.

use crate::message::Overrides;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Claims of connection and subscription tokens. Numbers of time are seconds since 1970.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Claims<'a> {
    pub(super) sub: String,
    pub(super) exp: Option<f64>,
    pub(super) nbf: Option<f64>,
    pub(super) iat: Option<f64>,
    pub(super) iss: String,
    pub(super) aud: Audience,
    pub(super) channel: String,
    pub(super) client: String,
    pub(super) channels: Vec<String>,
    #[serde(borrow)]
    pub(super) subs: BTreeMap<String, Sub<'a>>,
    pub(super) expire_at: Option<i64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: String,
    #[serde(rename = "override")]
    pub(super) overrides: Option<OverrideClaims>,
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
    pub(super) fn any(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        match self {
            Audience::One(one) => is_wanted(one),
            Audience::Many(many) => many.iter().any(|one| is_wanted(one)),
        }
    }
}

/// An element of the claim `subs`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Sub<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: String,
    #[serde(rename = "override")]
    pub(super) overrides: Option<OverrideClaims>,
}

/// The claim `override`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct OverrideClaims {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_recovery: Option<Flag>,
    force_positioning: Option<Flag>,
    force_push_join_leave: Option<Flag>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Flag {
    value: bool,
}

impl OverrideClaims {
    pub(super) fn options(&self) -> Overrides {
        let value = |flag: &Option<Flag>| flag.as_ref().map(|flag| flag.value);
        Overrides {
            presence: value(&self.presence),
            join_leave: value(&self.join_leave),
            force_recovery: value(&self.force_recovery),
            force_positioning: value(&self.force_positioning),
            force_push_join_leave: value(&self.force_push_join_leave),
        }
    }
}

/// A payload that comes as JSON or in base64; `None` for broken base64.
fn payload(json: Option<&RawValue>, base64: &str) -> Option<Bytes> {
    if !base64.is_empty() {
        return STANDARD.decode(base64).ok().map(Bytes::from);
    }
    // A `null` is no payload, as an absent one.
    let json = json.map(RawValue::get).filter(|json| *json != "null");
    Some(json.map_or_else(Bytes::new, |json| Bytes::copy_from_slice(json.as_bytes())))
}

impl Claims<'_> {
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
