//! Which headers of clients' requests backends may hear of.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringcast_state::Headers;

/// Names of headers, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedHeaders(pub BTreeSet<String>);

impl ForwardedHeaders {
    /// Those of the lines that are meant; `None` for none.
    pub fn pick<'a>(&self, lines: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Arc<Headers>> {
        if self.0.is_empty() {
            return None;
        }
        let lower = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
        let picked: Headers = lower.filter(|(name, _)| self.0.contains(name)).collect();
        (!picked.is_empty()).then(|| Arc::new(picked))
    }
}
