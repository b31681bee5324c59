//! Rules of the keys that tokens are checked with.

use super::Verdict;
use crate::config::settings::View;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, GroupKind, Visitor, visit};
use ringcast_state::auth::{Endpoint, KeyError, PublicKey};

/// Checks `client.token` and, when it is in force, `client.subscription_token`.
pub(super) fn check(client: View<'_>) -> Verdict {
    check_section("token", client.object("token"))?;
    let own = client.object("subscription_token");
    if own.bool("enabled") { check_section("subscription_token", own) } else { Ok(()) }
}

fn check_section(section: &str, token: View<'_>) -> Verdict {
    check_keys(token).and_then(|()| check_endpoint(token)).map_err(|reason| format!("client.{section}.{reason}"))
}

fn check_keys(token: View<'_>) -> Verdict {
    type Read = fn(&str) -> Result<PublicKey, KeyError>;
    let readers: [(&str, &str, Read); 2] =
        [("rsa_public_key", "RSA", PublicKey::from_rsa_pem), ("ecdsa_public_key", "ECDSA", PublicKey::from_ecdsa_pem)];
    for (name, kind, read) in readers {
        let pem = token.text(name);
        if let Some(error) = Some(pem).filter(|pem| !pem.is_empty()).and_then(|pem| read(pem).err()) {
            return Err(format!("{name}: error parsing {kind} public key: {error}"));
        }
    }
    Ok(())
}

fn check_endpoint(token: View<'_>) -> Verdict {
    let template = token.text("jwks_public_endpoint");
    if template.is_empty() {
        return Ok(());
    }
    let endpoint = Endpoint::parse(template, false).map_err(|error| format!("jwks_public_endpoint: {error}"))?;
    if token.bool("insecure_skip_jwks_endpoint_safety_check") {
        return Ok(());
    }
    check_safety(&endpoint, token)
}

/// Whether the endpoint is a template that only the skipped check lets pass.
pub fn is_unsafe(token: View<'_>) -> bool {
    Endpoint::parse(token.text("jwks_public_endpoint"), false)
        .is_ok_and(|endpoint| check_safety(&endpoint, token).is_err())
}

/// Groups that fill the endpoint may match a list of values and nothing else. They are matched with claims that nobody has vouched
/// for: a pattern would let the maker of a token choose from where its keys are fetched.
fn check_safety(endpoint: &Endpoint, token: View<'_>) -> Verdict {
    let used: Vec<&str> = endpoint.groups().collect();
    if used.is_empty() {
        return Ok(());
    }
    for key in ["issuer_regex", "audience_regex"] {
        let pattern = token.text(key);
        // Broken ones were refused before.
        let Ok(ast) = Parser::new().parse(pattern) else { continue };
        let loose = visit(&ast, Loose { used: &used, depth: 0, groups: Vec::new() });
        if let Err(what) = loose {
            return Err(format!(
                "{key}: {what}, but the JWKS endpoint is made of what it matches: list the values (value1|value2|value3)"
            ));
        }
    }
    Ok(())
}

/// Looks for classes of characters anywhere, and within the groups that are used for everything but fixed texts.
struct Loose<'a> {
    used: &'a [&'a str],
    depth: usize,
    /// Groups in use around this place: their name, and how deep they are.
    groups: Vec<(String, usize)>,
}

impl Visitor for Loose<'_> {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        self.depth += 1;
        match ast {
            Ast::ClassBracketed(_) | Ast::ClassPerl(_) | Ast::ClassUnicode(_) => {
                return Err("it has a class of characters".to_owned());
            }
            Ast::Dot(_) | Ast::Repetition(_) | Ast::Assertion(_) => {
                if let Some((name, _)) = self.groups.last() {
                    return Err(format!("its group \"{name}\" matches more than a list of values"));
                }
            }
            Ast::Group(group) => {
                if let GroupKind::CaptureName { name, .. } = &group.kind
                    && self.used.contains(&&*name.name)
                {
                    self.groups.push((name.name.clone(), self.depth));
                }
            }
            Ast::Empty(_) | Ast::Flags(_) | Ast::Literal(_) | Ast::Alternation(_) | Ast::Concat(_) => {}
        }
        Ok(())
    }

    fn visit_post(&mut self, _: &Ast) -> Result<(), String> {
        self.groups.pop_if(|(_, depth)| *depth == self.depth);
        self.depth -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate;
    use crate::config::{Environment, merge};
    use serde_json::{Value, json};

    const RSA: &str = include_str!("../../../shard/state/src/auth/fixtures/rsa.pub.pem");
    const RSA_1024: &str = include_str!("../../../shard/state/src/auth/fixtures/rsa1024.pub.pem");

    /// Checks keys of `client.token`; an empty `want` is a valid configuration.
    #[track_caller]
    fn check(token: Value, want: &str) {
        check_client(json!({"token": token}), want);
    }

    #[track_caller]
    fn check_client(client: Value, want: &str) {
        let file = json!({"client": client});
        let object = file.as_object().expect("an object").clone();
        let merged = merge::merge(object, &Environment::default(), &[]).expect("merged");
        let failure = validate(&merged.settings).err().map_or(String::new(), |error| error.0);
        assert_eq!(failure, want, "{file}");
    }

    /// U02
    #[test]
    fn public_keys_are_read_before_the_start() {
        check(json!({"rsa_public_key": RSA}), "");
        check(
            json!({"rsa_public_key": "garbage"}),
            "client.token.rsa_public_key: error parsing RSA public key: key must be PEM encoded",
        );
        check(
            json!({"ecdsa_public_key": RSA}),
            "client.token.ecdsa_public_key: error parsing ECDSA public key: key is not a valid ECDSA public key",
        );
        check(
            json!({"rsa_public_key": RSA_1024}),
            "client.token.rsa_public_key: error parsing RSA public key: the RSA key has 1024 bits, 2048 to 8192 can be used",
        );
        check_client(json!({"subscription_token": {"rsa_public_key": "garbage"}}), "");
        check_client(
            json!({"subscription_token": {"enabled": true, "rsa_public_key": "garbage"}}),
            "client.subscription_token.rsa_public_key: error parsing RSA public key: key must be PEM encoded",
        );
    }

    /// U04
    #[test]
    fn endpoints_are_urls() {
        check(json!({"jwks_public_endpoint": "http://h/x"}), "");
        check(
            json!({"jwks_public_endpoint": "ftp://h/x"}),
            "client.token.jwks_public_endpoint: endpoint must have http:// or https:// scheme",
        );
        check(
            json!({"jwks_public_endpoint": "http://h/{{x"}),
            "client.token.jwks_public_endpoint: endpoint has a {{ without }}",
        );
    }

    /// Checks an `issuer_regex` beside an endpoint with the place `t`; `want` is what is said of it.
    #[track_caller]
    fn check_pattern(pattern: &str, want: &str) {
        let tail = "but the JWKS endpoint is made of what it matches: list the values (value1|value2|value3)";
        for (key, endpoint) in [("issuer_regex", "https://h/{{t}}/x"), ("audience_regex", "https://{{t}}.h/x")] {
            let token = json!({"jwks_public_endpoint": endpoint, key: pattern});
            let want = if want.is_empty() { String::new() } else { format!("client.token.{key}: {want}, {tail}") };
            check(token.clone(), &want);
            let mut skipped = token;
            skipped["insecure_skip_jwks_endpoint_safety_check"] = json!(true);
            check(skipped, "");
        }
    }

    /// U04
    #[test]
    fn groups_that_fill_the_endpoint_list_their_values() {
        for pattern in [
            "",
            "^(?P<t>acme|globex|initech)$",
            "^(?P<t>acme)$",
            r"^https://(?P<t>a\.b|c\.d|)\.example\.com/.*$",
            "^(?P<t>(?:a|b)c|(d|e))(?P<other>.+)$",
            "^(?i)(?P<t>a)$",
            "^.+$",
        ] {
            check_pattern(pattern, "");
        }
        let class = "it has a class of characters";
        let group = "its group \"t\" matches more than a list of values";
        for (pattern, want) in [
            ("^(?P<t>[a-z])$", class),
            ("^(?P<t>[a-z]+)$", group),
            (r"^(?P<t>\w)$", class),
            (r"^(?P<t>\pL)$", class),
            ("^(?P<t>a)[0-9]$", class),
            ("^(?P<t>.+)$", group),
            ("^(?P<t>.)$", group),
            ("^(?P<t>ab?)$", group),
            ("^(?P<t>a{2})$", group),
            ("^(?P<t>a|(?:b|c*))$", group),
            ("^(?P<t>(?P<inner>a)|.)$", group),
            ("^(?P<t>a$)", group),
        ] {
            check_pattern(pattern, want);
        }
    }

    /// U04
    #[test]
    fn patterns_are_free_where_the_endpoint_has_no_place_for_them() {
        check(json!({"jwks_public_endpoint": "http://h/x", "issuer_regex": "^(?P<t>.*[a-z])$"}), "");
        check(json!({"issuer_regex": "^(?P<t>.*)$"}), "");
    }
}
