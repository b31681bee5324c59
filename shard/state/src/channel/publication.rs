//! A publication with its encoded forms.

use super::Epoch;
use crate::Time;
use crate::variant::{Form, Variant};
use bytes::Bytes;
use ringcast_proto::client::{self as wire, Encoding};
use ringcast_proto::delta;
use std::sync::Arc;

/// What was published, and what of it is encoded already. Immutable, so shards share it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Position in the stream; 0 when it is in none.
    pub offset: u64,
    /// Epoch of the stream; empty when it is in none.
    pub epoch: Epoch,
    /// The turn in which the shard of its publisher took it in.
    pub accepted_at: Time,
    /// When the home put it in order.
    pub ordered_at: Time,
    content: wire::Publication,
    forms: [Encoded; Form::COUNT],
}

/// One encoded form of a publication, without the envelope that names the channel.
#[derive(Clone, Debug, Default)]
pub enum Encoded {
    /// Nobody needed it yet; for a patch: it would not be shorter, or there is nothing to patch.
    #[default]
    Absent,
    /// The encoded message.
    Body(Bytes),
    /// The payload is not JSON: a JSON client that should get it is closed with `INAPPROPRIATE_PROTOCOL`.
    Impossible,
}

impl Publication {
    pub(crate) fn new(content: wire::Publication, epoch: Epoch, accepted_at: Time, ordered_at: Time) -> Self {
        Publication { offset: content.offset, epoch, accepted_at, ordered_at, content, forms: Default::default() }
    }

    /// Makes a form present that carries the payload whole.
    pub(crate) fn encode(&mut self, form: Form) {
        if !self.is_absent(form) {
            return;
        }
        self.forms[form as usize] = match form {
            Form::Json | Form::Protobuf => encoded(form.encoding(), &self.content),
            Form::JsonText => match json_string(&self.content.data) {
                Some(data) => encoded(Encoding::Json, &self.reduced(data, false)),
                None => Encoded::Impossible,
            },
            Form::JsonPatch | Form::ProtobufPatch => return,
        };
    }

    /// The patch that makes the payload of `base`; `None` when it would not be shorter.
    pub(crate) fn patch(&self, base: &[u8], table: &mut delta::Table) -> Option<Bytes> {
        let mut patch = Vec::new();
        delta::encode(base, &self.content.data, table, &mut patch);
        (patch.len() < self.content.data.len()).then(|| patch.into())
    }

    /// Makes the patch form of a delta variant present, if there is a patch.
    pub(crate) fn encode_patch(&mut self, variant: Variant, patch: Option<&Bytes>) {
        let (Some(form), Some(patch)) = (variant.patch(), patch) else { return };
        let data = match form.encoding() {
            Encoding::Protobuf => Some(patch.clone()),
            Encoding::Json => json_string(patch),
        };
        // What cannot be written as text is sent whole.
        if let Some(data) = data {
            self.forms[form as usize] = encoded(form.encoding(), &self.reduced(data, true));
        }
    }

    /// As delta subscribers see it: without version.
    fn reduced(&self, data: Bytes, delta: bool) -> wire::Publication {
        wire::Publication { data, delta, version: 0, ..self.content.clone() }
    }

    fn is_absent(&self, form: Form) -> bool {
        matches!(self.forms[form as usize], Encoded::Absent)
    }

    /// One form.
    pub fn encoded(&self, form: Form) -> &Encoded {
        &self.forms[form as usize]
    }

    /// The form for a subscriber: a patch if it holds the payload before and there is one, else whole.
    pub(crate) fn form_for(&self, variant: Variant, has_base: bool) -> Form {
        let patch = variant.patch().filter(|form| has_base && !self.is_absent(*form));
        patch.unwrap_or(variant.whole())
    }

    /// Payload, publisher and tags.
    pub fn content(&self) -> &wire::Publication {
        &self.content
    }

    /// Bytes that it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        let body = |form: &Encoded| if let Encoded::Body(bytes) = form { bytes.len() } else { 0 };
        self.content.data.len() + self.forms.iter().map(body).sum::<usize>()
    }
}

fn encoded(encoding: Encoding, content: &wire::Publication) -> Encoded {
    match wire::encode_publication(encoding, content) {
        Ok(body) => Encoded::Body(body),
        Err(_) => Encoded::Impossible,
    }
}

fn json_string(text: &[u8]) -> Option<Bytes> {
    let mut out = Vec::with_capacity(text.len() + 16);
    delta::json_string(text, &mut out).ok()?;
    Some(out.into())
}

/// Gives each publication but the first the patch against the one before it in the list, which need not be the one before
/// it in the stream. Does nothing for a variant without patches.
pub(crate) fn patch_chain(publications: &mut [Arc<Publication>], variant: Variant, table: &mut delta::Table) {
    let Some(form) = variant.patch() else { return };
    for at in 1..publications.len() {
        let patch = publications[at].patch(&publications[at - 1].content.data, table);
        let publication = Arc::make_mut(&mut publications[at]);
        publication.forms[form as usize] = Encoded::Absent;
        publication.encode_patch(variant, patch.as_ref());
    }
}

/// Makes sure that a stored publication carries a whole form; a new copy takes its place if it was shared without.
pub(crate) fn ensure_encoded(stored: &mut Arc<Publication>, form: Form) {
    if stored.is_absent(form) {
        Arc::make_mut(stored).encode(form);
    }
}

/// The same for the patch against `base`, the payload before it.
pub(crate) fn ensure_patched(stored: &mut Arc<Publication>, variant: Variant, base: &[u8], table: &mut delta::Table) {
    if variant.patch().is_some_and(|form| stored.is_absent(form)) {
        let patch = stored.patch(base, table);
        Arc::make_mut(stored).encode_patch(variant, patch.as_ref());
    }
}
