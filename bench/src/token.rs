//! Connection tokens signed with HS256, for servers that want one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// Tokens of all clients of a run: one user each, or none where the server takes anonymous clients.
pub struct Tokens(Option<Signer>);

impl Tokens {
    /// `secret` is the server's `client.token.hmac_secret_key`; without one there are no tokens.
    pub fn new(secret: Option<&str>) -> Self {
        Self(secret.map(Signer::new))
    }

    /// The token of a client; empty where there are none.
    pub fn of(&self, client: usize) -> String {
        match &self.0 {
            Some(signer) => signer.token(&format!("bench-{client}")),
            None => String::new(),
        }
    }
}

struct Signer(hmac::Key);

impl Signer {
    fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// A token of `user` that does not expire. The user is made of characters that JSON need not escape.
    fn token(&self, user: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{user}"}}"#));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_signature_that_other_tools_compute() {
        // printf '%s' "$header.$claims" | openssl dgst -sha256 -hmac secret -binary | basenc --base64url
        assert_eq!(
            Tokens::new(Some("secret")).of(1),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiZW5jaC0xIn0.DDg9dWB7A40Db-rj7f8pzKnAlgI_sE7pkebA80rtDoY"
        );
    }
    #[test]
    fn without_a_secret_clients_are_anonymous() {
        assert_eq!(Tokens::new(None).of(1), "");
    }
}
