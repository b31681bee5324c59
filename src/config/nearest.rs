//! Guesses which key an operator meant.

use super::keys::{self, Group, Kind};

/// The path of the known key nearest to an unknown one, given its name, the path of the object
/// it was found in (with a dot, or empty), and that object's keys.
pub fn nearest(name: &str, parent: &str, group: Group) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let sibling = keys::each(group)
        .map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= typing_errors_max(name));
    if let Some((_, sibling)) = sibling {
        return Some(format!("{parent}{sibling}"));
    }
    let mut best: Option<(usize, usize, String)> = None;
    visit(keys::ROOT, "", &mut |path| {
        let score = (distance_to(name, path), path.len(), path.to_owned());
        if best.as_ref().is_none_or(|best| score < *best) {
            best = Some(score);
        }
    });
    best.filter(|(distance, ..)| *distance <= typing_errors_max(name)).map(|(.., path)| path)
}

/// A third of a name may be mistyped, up to three letters.
fn typing_errors_max(name: &str) -> usize {
    (name.len() / 3).clamp(1, 3)
}

/// How far a name is from a key elsewhere: as its last word, or as the path in one word, which is
/// how keys were named before version 6 (`token_hmac_secret_key`).
fn distance_to(name: &str, path: &str) -> usize {
    let last = path.rsplit('.').next().unwrap_or(path);
    let flat = path.replace('.', "_");
    let tail = flat.get(flat.len().saturating_sub(name.len())..).unwrap_or(&flat);
    [last, &flat, tail].iter().map(|candidate| strsim::damerau_levenshtein(name, candidate)).min().unwrap_or(usize::MAX)
}

/// Every key that is not inside of a list, by path.
fn visit(group: Group, parent: &str, on: &mut impl FnMut(&str)) {
    for key in keys::each(group) {
        let path = format!("{parent}{}", key.name);
        on(&path);
        if let Kind::Object(nested) = key.kind {
            visit(nested, &format!("{path}."), on);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, want: Option<&str>) {
        let (parent, name) = path.rsplit_once('.').map_or(("", path), |(a, b)| (&path[..=a.len()], b));
        let group = match keys::at(parent.trim_end_matches('.')).map(|key| key.kind) {
            Some(Kind::Object(group) | Kind::List(group)) => group,
            _ => keys::ROOT,
        };
        assert_eq!(nearest(name, parent, group).as_deref(), want, "{path}");
    }

    #[test]
    fn a_slip_is_found_beside_it() {
        check("clinet", Some("client"));
        check("client.ping_intervall", Some("client.ping_interval"));
        check("client.alowed_orgins", Some("client.allowed_origins"));
        check("channel.namespace", Some("channel.namespaces"));
    }

    #[test]
    fn a_key_in_the_wrong_place_is_found_elsewhere() {
        check("allowed_origins", Some("client.allowed_origins"));
        check("token_hmac_secret_key", Some("client.token.hmac_secret_key"));
        check("client.message_size_limit", Some("websocket.message_size_limit"));
    }

    #[test]
    fn nothing_is_guessed_for_a_stranger() {
        check("", None);
        check("zzzzzzzz", None);
        check("client.ünïcödé", None);
    }
}
