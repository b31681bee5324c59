//! `genconfig`: a small configuration with secrets of its own.

use super::Failure;
use crate::config::{self, EXTENSIONS};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of a signing key or API key, before base64.
const KEY_BYTES: usize = 64;

/// Bytes of a password, before base64.
const PASSWORD_BYTES: usize = 16;

struct Secrets {
    token: String,
    password: String,
    admin: String,
    api: String,
}

/// Writes the file; its extension picks the format. One that exists is left alone.
pub fn run(file: &Path) -> Result<String, Failure> {
    if file.exists() {
        return Err(format!("error: output config file already exists: {}", file.display()));
    }
    let text = match config::extension(file).as_deref() {
        Some("json") => json(&secrets()?),
        Some("toml") => toml(&secrets()?),
        Some("yaml" | "yml") => yaml(&secrets()?),
        _ => {
            let list = EXTENSIONS.join(", ");
            return Err(format!("error: output config file must have one of supported extensions: {list}"));
        }
    };
    write(file, &text).map_err(|error| format!("error: {}: {error}", file.display()))?;
    Ok(String::new())
}

/// Creates the file, readable to its owner alone.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}

fn secrets() -> Result<Secrets, Failure> {
    Ok(Secrets {
        token: secret::<KEY_BYTES>()?,
        password: secret::<PASSWORD_BYTES>()?,
        admin: secret::<KEY_BYTES>()?,
        api: secret::<KEY_BYTES>()?,
    })
}

fn secret<const BYTES: usize>() -> Result<String, Failure> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "error: the system has no random numbers".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn json(secrets: &Secrets) -> String {
    let Secrets { token, password, admin, api } = secrets;
    format!(
        r#"{{
  "client": {{
    "token": {{
      "hmac_secret_key": "{token}"
    }},
    "allowed_origins": []
  }},
  "admin": {{
    "enabled": false,
    "password": "{password}",
    "secret": "{admin}"
  }},
  "http_api": {{
    "key": "{api}"
  }}
}}
"#
    )
}

fn toml(secrets: &Secrets) -> String {
    let Secrets { token, password, admin, api } = secrets;
    format!(
        r#"[client]
  allowed_origins = []

  [client.token]
    hmac_secret_key = "{token}"

[admin]
  enabled = false
  password = "{password}"
  secret = "{admin}"

[http_api]
  key = "{api}"
"#
    )
}

fn yaml(secrets: &Secrets) -> String {
    let Secrets { token, password, admin, api } = secrets;
    format!(
        r#"client:
  token:
    hmac_secret_key: "{token}"
  allowed_origins: []

admin:
  enabled: false
  password: "{password}"
  secret: "{admin}"

http_api:
  key: "{api}"
"#
    )
}
