//! Which web pages may connect: glob patterns against the Origin header.

use ringcast_proto::http::Head;

/// Config key `client.allowed_origins`, ready to match.
pub struct AllowedOrigins {
    patterns: Vec<String>,
}

impl AllowedOrigins {
    /// `*` any run of characters, `?` any one, `[ab]`, `[a-z]` and `[!a]` one of a set, `{a,b}` either, `\` takes the
    /// next one literally.
    pub fn new(patterns: &[String]) -> Self {
        Self { patterns: patterns.to_vec() }
    }

    /// A request without Origin does not come from a page, and is allowed.
    pub fn allow(&self, origin: Option<&[u8]>) -> bool {
        let Some(origin) = origin.filter(|origin| !origin.is_empty()) else {
            return true;
        };
        if self.patterns == ["*"] {
            return true;
        }
        let Ok(origin) = str::from_utf8(origin) else {
            return false;
        };
        let origin: Vec<char> = origin.to_lowercase().chars().collect();
        self.patterns.iter().any(|pattern| {
            let pattern: Vec<char> = pattern.chars().collect();
            alternatives(&pattern).iter().any(|pattern| matches(pattern, &origin))
        })
    }
}

/// Headers that let a page of an allowed origin read a response; none for others.
#[derive(Debug, Default)]
pub struct Cors(Vec<(&'static str, String)>);

impl Cors {
    /// What the request asks for, of a page of an allowed origin. Without an origin the header is there and empty, as the reference
    /// sends it.
    pub fn new(head: &Head<'_>) -> Self {
        let text = |name| head.header(name).map(|value| str::from_utf8(value).unwrap_or_default().to_owned());
        let origin = text("Origin").unwrap_or_default();
        let mut headers = vec![(ALLOW_ORIGIN, origin), ("Access-Control-Allow-Credentials", "true".to_owned())];
        headers.extend(text("Access-Control-Request-Headers").map(|wanted| ("Access-Control-Allow-Headers", wanted)));
        Self(headers)
    }

    /// The same, but that of a request without origin any page may read, as SockJS has it.
    pub fn or_any(mut self) -> Self {
        for (_, origin) in self.0.iter_mut().filter(|(name, value)| *name == ALLOW_ORIGIN && value.is_empty()) {
            origin.push('*');
        }
        self
    }

    /// As they are written.
    pub fn headers(&self) -> Vec<(&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

/// Bound of what the braces of one pattern multiply to.
const ALTERNATIVES_MAX: usize = 1024;

/// The pattern without braces: one for each way through them.
fn alternatives(pattern: &[char]) -> Vec<Vec<char>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_vec()];
    while let Some(pattern) = open.pop() {
        match braces(&pattern) {
            Some((start, commas, end)) if open.len() + done.len() < ALTERNATIVES_MAX => {
                let ends = commas.iter().copied().chain([end]);
                let mut from = start + 1;
                for to in ends {
                    open.push([&pattern[..start], &pattern[from..to], &pattern[end + 1..]].concat());
                    from = to + 1;
                }
            }
            Some(_) | None => done.push(pattern),
        }
    }
    done
}

/// The first outermost pair of braces and the commas between its alternatives.
fn braces(pattern: &[char]) -> Option<(usize, Vec<usize>, usize)> {
    let (mut start, mut depth, mut commas) = (0, 0, Vec::new());
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' => at += 1,
            '{' => {
                depth += 1;
                if depth == 1 {
                    start = at;
                }
            }
            ',' if depth == 1 => commas.push(at),
            '}' if depth == 1 => return Some((start, commas, at)),
            '}' if depth > 0 => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Backtracks to the latest star only, so time is bounded by the product of the lengths.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, t));
            p += 1;
        } else if t == text.len() && p == pattern.len() {
            return true;
        } else if let Some(used) = text.get(t).and_then(|c| match_one(&pattern[p..], *c)) {
            p += used;
            t += 1;
        } else {
            match star {
                Some((behind, from)) if from < text.len() => {
                    star = Some((behind, from + 1));
                    (p, t) = (behind, from + 1);
                }
                Some(_) | None => return false,
            }
        }
    }
}

/// How much of the pattern stands for this one character, if it matches.
fn match_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['?', ..] => Some(1),
        ['[', set @ ..] => {
            let end = set.iter().position(|c| *c == ']')?;
            let (set, negated) = match &set[..end] {
                ['!' | '^', rest @ ..] => (rest, true),
                set => (set, false),
            };
            (is_in(set, c) != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

fn is_in(mut set: &[char], c: char) -> bool {
    loop {
        match set {
            [from, '-', to, rest @ ..] => {
                if (*from..=*to).contains(&c) {
                    return true;
                }
                set = rest;
            }
            [one, rest @ ..] => {
                if *one == c {
                    return true;
                }
                set = rest;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], origin: &str, want: bool) {
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let allowed = AllowedOrigins::new(&patterns).allow(Some(origin.as_bytes()));
        assert_eq!(allowed, want, "{patterns:?} {origin}");
    }

    /// U22
    #[test]
    fn no_origin_is_allowed_and_any_origin_refused_without_patterns() {
        let none = AllowedOrigins::new(&[]);
        assert!(none.allow(None) && none.allow(Some(b"")));
        assert!(!none.allow(Some(b"http://localhost")));
        check(&["*"], "null", true);
        assert!(AllowedOrigins::new(&["*".to_owned()]).allow(Some(b"\xff")));
    }

    /// U22
    #[test]
    fn patterns_are_globs_over_the_lower_cased_origin() {
        check(&["http://ok.example"], "http://ok.example", true);
        check(&["http://ok.example"], "HTTP://OK.example", true);
        check(&["http://OK.example"], "http://ok.example", false);
        check(&["http://ok.example"], "http://ok.example.evil", false);
        check(&["http://ok.example"], "http://ok.exampl", false);
        check(&["https://*.example.com"], "https://a.b.example.com", true);
        check(&["https://*.example.com"], "https://example.com", false);
        check(&["*://example.com"], "https://example.com", true);
        check(&["http://a", "http://b:*"], "http://b:8080", true);
        check(&["http://h?st"], "http://host", true);
        check(&["http://h?st"], "http://hst", false);
        check(&["http://[a-c]x"], "http://bx", true);
        check(&["http://[!a-c]x"], "http://bx", false);
        check(&["http://[!a-c]x"], "http://dx", true);
        check(&["http{,s}://{a,b{c,d}}.com"], "https://bd.com", true);
        check(&["http{,s}://{a,b{c,d}}.com"], "http://a.com", true);
        check(&["http{,s}://{a,b{c,d}}.com"], "http://b.com", false);
        check(&[r"http://\*"], "http://*", true);
        check(&[r"http://\*"], "http://x", false);
        check(&[""], "x", false);
        check(&["**"], "x", true);
        check(&["["], "[", false);
    }

    #[test]
    fn hostile_origin_is_answered_in_time() {
        let pattern = "*a".repeat(20) + "b";
        check(&[&pattern], &"a".repeat(20_000), false);
    }
}
