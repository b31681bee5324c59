//! In which form a subscriber gets publications: its encoding, and whole or as deltas.

use ringcast_proto::client::Encoding;

/// What a subscriber can read. Homes count subscribers by it, so that nothing is encoded that nobody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// JSON, payloads as they are.
    Json,
    /// Protobuf, payloads whole.
    Protobuf,
    /// JSON with the text of the payload or of a fossil patch in a string.
    JsonDelta,
    /// Protobuf with the payload or a fossil patch.
    ProtobufDelta,
}

impl Variant {
    /// All of them, in the order of [`Variant::index`].
    pub(crate) const ALL: [Variant; 4] = [Variant::Json, Variant::Protobuf, Variant::JsonDelta, Variant::ProtobufDelta];

    pub(crate) fn new(encoding: Encoding, delta: bool) -> Self {
        match (encoding, delta) {
            (Encoding::Json, false) => Variant::Json,
            (Encoding::Protobuf, false) => Variant::Protobuf,
            (Encoding::Json, true) => Variant::JsonDelta,
            (Encoding::Protobuf, true) => Variant::ProtobufDelta,
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Variant::Json | Variant::JsonDelta => Encoding::Json,
            Variant::Protobuf | Variant::ProtobufDelta => Encoding::Protobuf,
        }
    }

    pub(crate) fn is_delta(self) -> bool {
        matches!(self, Variant::JsonDelta | Variant::ProtobufDelta)
    }

    /// The form of a publication for a subscriber that cannot use a patch.
    pub(crate) fn whole(self) -> Form {
        match self {
            Variant::Json => Form::Json,
            Variant::Protobuf | Variant::ProtobufDelta => Form::Protobuf,
            Variant::JsonDelta => Form::JsonText,
        }
    }

    /// The form of a publication for a subscriber that holds the payload before; `None` without deltas.
    pub(crate) fn patch(self) -> Option<Form> {
        match self {
            Variant::Json | Variant::Protobuf => None,
            Variant::JsonDelta => Some(Form::JsonPatch),
            Variant::ProtobufDelta => Some(Form::ProtobufPatch),
        }
    }
}

/// One encoded form of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, the payload as it is.
    Json,
    /// Protobuf, the payload whole.
    Protobuf,
    /// JSON, the text of the payload in a string.
    JsonText,
    /// JSON, a patch in a string.
    JsonPatch,
    /// Protobuf, a patch.
    ProtobufPatch,
}

impl Form {
    /// How many there are.
    pub(crate) const COUNT: usize = 5;

    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Form::Json | Form::JsonText | Form::JsonPatch => Encoding::Json,
            Form::Protobuf | Form::ProtobufPatch => Encoding::Protobuf,
        }
    }
}
