//! Values of PEM keys. Source: Centrifugo's `PEMData`: text, base64 of it, or a file with it, tried in this order.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What every PEM begins with.
const MARK: &str = "-----BEGIN ";

/// The PEM that a value names. Says what is wrong, without the value, which may be a key.
pub fn load(value: &str) -> Result<Vec<u8>, String> {
    if value.contains(MARK) {
        return Ok(value.as_bytes().to_vec());
    }
    let decoded = BASE64_STANDARD.decode(value.split_whitespace().collect::<String>());
    if let Some(text) = decoded.ok().filter(|bytes| is_pem(bytes)) {
        return Ok(text);
    }
    let bytes = std::fs::read(value).map_err(|error| match value.len() {
        ..=1024 if !value.contains('\n') => format!("file {value:?} cannot be read ({error})"),
        _ => "is neither PEM, nor base64 of it, nor the path of a file".to_owned(),
    })?;
    match is_pem(&bytes) {
        true => Ok(bytes),
        false => Err(format!("file {value:?} holds no PEM, expected a line -----BEGIN ...")),
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN X-----\nAAAA\n-----END X-----\n";

    #[track_caller]
    fn check_error(value: &str, part: &str) {
        let error = load(value).expect_err("an error");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn value_may_be_text_base64_or_a_file() {
        let path = std::env::temp_dir().join(format!("ringcast-pem-{}", std::process::id()));
        std::fs::write(&path, PEM).expect("written");
        for value in [PEM, &BASE64_STANDARD.encode(PEM), path.to_str().expect("a name")] {
            assert_eq!(load(value).as_deref(), Ok(PEM.as_bytes()), "{value}");
        }
        std::fs::write(&path, "no such thing").expect("written");
        check_error(path.to_str().expect("a name"), "holds no PEM");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn unreadable_value_is_named_but_no_secret_is_shown() {
        check_error("/nowhere/cert.pem", "file \"/nowhere/cert.pem\" cannot be read (No such file");
        let secret = "c2VjcmV0".repeat(200);
        check_error(&secret, "neither PEM");
        assert!(!load(&secret).expect_err("an error").contains("c2Vj"));
    }
}
