//! Names of subjects, and which channels have one. Source: behaviour §10.4.

/// How subjects are made.
#[derive(Clone, Debug)]
pub struct Subjects {
    prefix: String,
    raw: Option<RawMode>,
    allow_wildcards: bool,
}

/// Config group `broker.nats.raw_mode`, where it is enabled.
#[derive(Clone, Debug, Default)]
pub struct RawMode {
    /// Key `prefix`: stands before the channel. Default empty.
    pub prefix: String,
    /// Key `channel_replacements`. Default none.
    pub channel_replacements: Replacements,
}

/// Texts in a channel that are written otherwise in its subject. At each place the longest that fits is taken.
#[derive(Clone, Debug, Default)]
pub struct Replacements(Vec<(String, String)>);

impl Replacements {
    /// From pairs of a text and what stands for it. Empty texts are nowhere.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(old, _)| !old.is_empty()).collect();
        pairs.sort_by_key(|(old, _)| std::cmp::Reverse(old.len()));
        Self(pairs)
    }

    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            match self.0.iter().find(|(old, _)| rest.starts_with(old.as_str())) {
                Some((old, new)) => {
                    out.push_str(new);
                    rest = &rest[old.len()..];
                }
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }
}

impl Subjects {
    /// `prefix`: config key `broker.nats.prefix`. `allow_wildcards`: the key of that name.
    pub fn new(prefix: &str, raw: Option<RawMode>, allow_wildcards: bool) -> Self {
        Self { prefix: prefix.to_owned(), raw, allow_wildcards }
    }

    /// Messages are payloads, without anything around them.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Channels may be patterns, so that what is published is in another channel than who hears it.
    pub fn allow_wildcards(&self) -> bool {
        self.allow_wildcards
    }

    /// Where the channel's messages are published; nothing for a channel that can have none.
    pub fn to_publish(&self, channel: &str) -> Option<String> {
        let subject = self.of(channel);
        (!has_wildcard(channel) && is_subject(&subject)).then_some(subject)
    }

    /// Where they are heard; nothing for a channel that cannot be subscribed.
    pub fn to_subscribe(&self, channel: &str) -> Option<String> {
        let subject = self.of(channel);
        let is_allowed = self.allow_wildcards || !has_wildcard(channel);
        (is_allowed && is_subject(&subject)).then_some(subject)
    }

    fn of(&self, channel: &str) -> String {
        match &self.raw {
            Some(raw) => raw.prefix.clone() + &raw.channel_replacements.apply(channel),
            None => format!("{}.client.{channel}", self.prefix),
        }
    }

    /// In raw mode, what clients are told about where a message was published.
    pub fn raw_name<'a>(&self, subject: &'a str) -> &'a str {
        let prefix = self.raw.as_ref().map_or("", |raw| &raw.prefix);
        subject.strip_prefix(prefix).unwrap_or(subject)
    }

    /// For all nodes.
    pub fn control(&self) -> String {
        format!("{}.control", self.prefix)
    }

    /// For one node.
    pub fn node(&self, id: &str) -> String {
        format!("{}.node.{id}", self.prefix)
    }
}

/// Whether something in the channel may be a wildcard.
pub fn has_wildcard(channel: &str) -> bool {
    channel.contains(['*', '>'])
}

/// Parts between dots that are not empty, nothing that would end the word on its line, and `>` as the last part alone.
fn is_subject(subject: &str) -> bool {
    let is_word = !subject.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    let mut parts = subject.split('.').rev();
    let is_last_good = parts.next().is_some_and(|last| !last.is_empty());
    is_word && is_last_good && parts.all(|part| !part.is_empty() && part != ">")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(prefix: &str, pairs: &[(&str, &str)]) -> Subjects {
        let pairs = pairs.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
        let raw = RawMode { prefix: prefix.into(), channel_replacements: Replacements::new(pairs) };
        Subjects::new("p", Some(raw), false)
    }

    #[track_caller]
    fn check(subjects: &Subjects, channel: &str, publish: Option<&str>, subscribe: Option<&str>) {
        let got = (subjects.to_publish(channel), subjects.to_subscribe(channel));
        assert_eq!((got.0.as_deref(), got.1.as_deref()), (publish, subscribe), "{channel:?}");
    }

    /// E07, C20
    #[test]
    fn channels_have_subjects_and_patterns_only_where_they_are_allowed() {
        let subjects = Subjects::new("p", None, false);
        assert_eq!((subjects.control(), subjects.node("n")), ("p.control".into(), "p.node.n".into()));
        check(&subjects, "chat:1", Some("p.client.chat:1"), Some("p.client.chat:1"));
        for channel in ["a.*", "a*", ">", "", "a..b", "a.", ".a", "a b", "a\r\nPUB b", "a\tb", "a\0b"] {
            check(&subjects, channel, None, None);
        }
        let subjects = Subjects::new("p", None, true);
        check(&subjects, "a.b", Some("p.client.a.b"), Some("p.client.a.b"));
        check(&subjects, "a.*", None, Some("p.client.a.*"));
        check(&subjects, "a.>", None, Some("p.client.a.>"));
        for channel in ["a.>.b", "a..*", "* *"] {
            check(&subjects, channel, None, None);
        }
    }

    /// E08
    #[test]
    fn raw_subjects_are_the_channel_with_replacements() {
        check(&raw("", &[]), "a:b", Some("a:b"), Some("a:b"));
        let subjects = raw("x.", &[(":", "."), ("::", "/"), ("", "!")]);
        check(&subjects, "a:b::c", Some("x.a.b/c"), Some("x.a.b/c"));
        check(&subjects, "a:", None, None);
        assert_eq!(subjects.raw_name("x.a.b"), "a.b");
    }
}
