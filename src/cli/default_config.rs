//! `defaultconfig`: a file with every key at its default, or at its value in another file.

use super::Failure;
use crate::config::document::{self, Format};
use crate::config::{self, EXTENSIONS};
use std::path::Path;

/// Writes `target`, or with `dry_run` prints what would be written.
pub fn run(target: &Path, base: Option<&Path>, dry_run: bool) -> Result<String, Failure> {
    if !dry_run && target.exists() {
        return Err("error: target file already exists".to_owned());
    }
    let settings = super::load_base(base)?.settings;
    let extension = config::extension(target).unwrap_or_default();
    let Some(format) = Format::from_extension(&extension) else {
        let list = EXTENSIONS.join(", ");
        return Err(format!("error: output config file must have one of supported extensions: {list}"));
    };
    let text = document::write(&settings, format);
    if dry_run {
        return Ok(text);
    }
    super::create(target, &text)?;
    Ok(String::new())
}
