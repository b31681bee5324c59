//! Patterns of channel names as the `channels` method takes them: `*`, `?`, `[a-z]`, `[!a]`, `{one,two}`, `\` before a
//! character that is meant itself. `*` does not stop at separators.

use regex::Regex;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Glob(Option<Regex>);

/// Longest pattern that is compiled, bytes.
const PATTERN_BYTES_MAX: usize = 4096;

impl Glob {
    /// `None` when the pattern is broken. An empty one matches everything.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        if pattern.is_empty() {
            return Some(Glob(None));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let expression = expression(pattern)?;
        // The regex crate has its own bound on the size of what it compiles.
        Regex::new(&expression).ok().map(|regex| Glob(Some(regex)))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

/// The same as a regular expression.
fn expression(pattern: &str) -> Option<String> {
    let mut out = String::from("(?s)^");
    let mut depth = 0_u32;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '\\' => {
                if let Some(c) = chars.next() {
                    push_literal(&mut out, c);
                }
            }
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '[' => push_class(&mut out, &mut chars)?,
            c => push_literal(&mut out, c),
        }
    }
    // What is left open ends with the pattern.
    out.extend((0..depth).map(|_| ')'));
    out.push('$');
    Some(out)
}

fn push_literal(out: &mut String, c: char) {
    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

/// `[abc]`, `[a-z]`, each maybe behind a `!`. A class is one range or a list of characters, in which `-` is one of them.
fn push_class(out: &mut String, chars: &mut std::str::Chars<'_>) -> Option<()> {
    out.push('[');
    if let Some(rest) = chars.as_str().strip_prefix('!') {
        *chars = rest.chars();
        out.push('^');
    }
    let mut ahead = chars.clone();
    if let (Some(low), Some('-')) = (ahead.next(), ahead.next()) {
        push_literal(out, low);
        out.push('-');
        push_literal(out, ahead.next()?);
        ahead.next().filter(|c| *c == ']')?;
        *chars = ahead;
    } else {
        push_list(out, chars)?;
    }
    out.push(']');
    Some(())
}

/// The characters up to the end of the class; at least one.
fn push_list(out: &mut String, chars: &mut std::str::Chars<'_>) -> Option<()> {
    let start = out.len();
    loop {
        match chars.next()? {
            ']' => break,
            '\\' => push_literal(out, chars.next()?),
            c => push_literal(out, c),
        }
    }
    (out.len() > start).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &str, want: bool) {
        let glob = Glob::new(pattern).expect("a pattern");
        assert_eq!(glob.matches(name), want, "{pattern} {name}");
    }

    #[test]
    fn star_does_not_stop_at_separators() {
        check("news:*", "news:a:b/c", true);
        check("*", "", true);
        check("a*c", "abbb", false);
    }

    #[test]
    fn classes_and_alternatives_match_one_of_theirs() {
        check("[a-c]1", "b1", true);
        check("[!a-c]1", "b1", false);
        check("{one,two}:?", "two:x", true);
        check("{one,two}:?", "three:x", false);
        check(r"\*", "*", true);
        check("a.b", "axb", false);
    }

    #[test]
    fn class_is_one_range_or_a_list() {
        check("[xa-c]", "-", true);
        check("[xa-c]", "b", false);
        check("[!xa-c]", "b", true);
        check(r"[\]^]", "]", true);
        check(r"[\]^]", "^", true);
        check("[!!]", "!", false);
    }

    #[test]
    fn what_is_left_open_ends_with_the_pattern() {
        check("a{b,c", "ac", true);
        check("a{", "a", true);
        check("a{", "ab", false);
        check("a\\", "a", true);
        check("a}", "a}", true);
    }

    #[test]
    fn broken_pattern_is_refused() {
        for pattern in ["[", "[a", "[]", "[]a]", "[!]", "[a-", "[a-]", "[a-cx]", "[z-a]"] {
            assert!(Glob::new(pattern).is_none(), "{pattern}");
        }
    }
}
