//! The name of one life of a stream.

use std::ops::Deref;
use std::sync::Arc;

/// Tells the lives of a stream apart: it changes when offsets begin anew. Opaque to all; empty where there is no stream,
/// which costs no memory.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Option<Arc<str>>);

impl Deref for Epoch {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }
}

impl From<&str> for Epoch {
    fn from(name: &str) -> Self {
        Epoch(Some(name).filter(|name| !name.is_empty()).map(Arc::from))
    }
}

impl PartialEq for Epoch {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Epoch {}
