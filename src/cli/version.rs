//! `version`

/// Version of ringcast.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The Centrifugo release whose behaviour is the reference.
const REFERENCE: &str = "6.9.1";

/// The answer of the command.
pub fn text() -> String {
    format!("Ringcast v{VERSION} (compatible with Centrifugo v{REFERENCE})\n")
}
