//! Negotiation of permessage-deflate. Source: RFC 7692 §7.1.
//!
//! Neither side keeps a window between messages: we answer every offer with both `no_context_takeover`, as the reference does.

use std::fmt;

/// Name of the extension, in this case of letters only.
const NAME: &str = "permessage-deflate";

/// Bits of the largest window of DEFLATE.
const WINDOW_BITS_MAX: u8 = 15;

/// Value of `Sec-WebSocket-Extensions` in a client's request.
pub(super) const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Messages may be deflated, each by itself. Written, it is the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// What the client wants as the largest window for what it gets.
    server_max_window_bits: Option<u8>,
}

impl Deflate {
    /// The client inflates what is deflated with the window that we use; else it gets all messages as they are.
    #[must_use]
    pub fn inflates_ours(self) -> bool {
        self.server_max_window_bits.is_none_or(|bits| bits == WINDOW_BITS_MAX)
    }
}

impl fmt::Display for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate; server_no_context_takeover; client_no_context_takeover")?;
        self.server_max_window_bits.map_or(Ok(()), |bits| write!(f, "; server_max_window_bits={bits}"))
    }
}

/// The first offer of a client that can be accepted. `lines` are the values of `Sec-WebSocket-Extensions`; from what cannot
/// be read on, a line is ignored, as in the reference.
pub fn negotiate<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Deflate> {
    lines.into_iter().find_map(|line| Extensions { rest: line.trim_ascii(), done: false }.find_map(accept))
}

/// Whether a server accepted [`OFFER`]. `None` when it answered something else.
pub(super) fn check_answer<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<bool> {
    let mut lines = lines.into_iter();
    let Some(line) = lines.next() else { return Some(false) };
    let mut answers = Extensions { rest: line.trim_ascii(), done: false };
    let answer = accept(answers.next()?)?;
    (answers.next().is_none() && lines.next().is_none() && answer.inflates_ours()).then_some(true)
}

/// An extension as it is offered.
struct Extension<'a> {
    name: &'a [u8],
    parameters: Vec<(&'a [u8], Option<Vec<u8>>)>,
}

/// RFC 7692 has an offer declined for one parameter that is unknown, comes twice or has a wrong value.
fn accept(extension: Extension<'_>) -> Option<Deflate> {
    if extension.name != NAME.as_bytes() {
        return None;
    }
    let mut deflate = Deflate { server_max_window_bits: None };
    for (number, (name, value)) in extension.parameters.iter().enumerate() {
        if extension.parameters[..number].iter().any(|(before, _)| before == name) {
            return None;
        }
        match (*name, value.as_deref()) {
            (b"server_no_context_takeover" | b"client_no_context_takeover" | b"client_max_window_bits", None) => {}
            // A client that deflates with a small window is understood with a large one.
            (b"client_max_window_bits", Some(value)) => drop(window_bits(value)?),
            (b"server_max_window_bits", Some(value)) => deflate.server_max_window_bits = Some(window_bits(value)?),
            _ => return None,
        }
    }
    Some(deflate)
}

/// 8 to 15, without a zero before it.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Cuts a header line. Source: RFC 6455 §9.1.
struct Extensions<'a> {
    rest: &'a [u8],
    done: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        let extension = if self.done { None } else { self.extension() };
        self.done = extension.is_none() || !self.skip(b',');
        extension
    }
}

impl<'a> Extensions<'a> {
    fn extension(&mut self) -> Option<Extension<'a>> {
        let mut extension = Extension { name: self.token()?, parameters: Vec::new() };
        while self.skip(b';') {
            let name = self.token()?;
            let value = if self.skip(b'=') { Some(self.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        matches!(self.rest.first(), None | Some(b',')).then_some(extension)
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest.trim_ascii_start();
        Some(token).filter(|token| !token.is_empty())
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Option<Vec<u8>> {
        if self.rest.first() != Some(&b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        let mut bytes = self.rest[1..].iter();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => value.push(*bytes.next()?),
                byte => value.push(*byte),
            }
        }
        self.rest = bytes.as_slice().trim_ascii_start();
        Some(value)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else { return false };
        self.rest = rest.trim_ascii_start();
        true
    }
}

/// Source: RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// The answer to these header lines.
    #[track_caller]
    fn check(lines: &[&str], want: Option<&str>) {
        let got = negotiate(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(got.map(|deflate| deflate.to_string()).as_deref(), want, "{lines:?}");
    }

    #[test]
    fn every_good_offer_is_accepted_without_context_takeover() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits = 9 ; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits=\"15\"; client_no_context_takeover",
            "other; a=b; c, permessage-deflate",
            "other; a=\"x, \\\"permessage-deflate\", permessage-deflate , more",
            OFFER,
        ] {
            check(&[offer], Some(PLAIN));
        }
        check(&["other", "permessage-deflate"], Some(PLAIN));
    }

    #[test]
    fn window_that_the_client_wants_is_promised_and_met_by_deflating_nothing() {
        for (offer, bits, inflates_ours) in
            [("8", 8, false), ("\"1\\0\"", 10, false), ("14", 14, false), ("15", 15, true)]
        {
            let offer = format!("permessage-deflate; server_max_window_bits={offer}");
            check(&[&offer], Some(&format!("{PLAIN}; server_max_window_bits={bits}")));
            assert_eq!(negotiate([offer.as_bytes()]).map(Deflate::inflates_ours), Some(inflates_ours));
        }
    }

    #[test]
    fn offer_with_a_wrong_parameter_is_declined_and_the_next_one_tried() {
        for parameter in [
            "unknown",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=10",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=\"\"",
            "client_max_window_bits=x",
        ] {
            let offer = format!("permessage-deflate; {parameter}");
            check(&[&offer], None);
            check(
                &[&format!("{offer}, permessage-deflate; server_max_window_bits=15")],
                Some(&format!("{PLAIN}; server_max_window_bits=15")),
            );
        }
    }

    #[test]
    fn line_is_ignored_from_what_cannot_be_read_on() {
        for line in [
            "",
            ",permessage-deflate",
            "permessage-deflate;",
            "permessage-deflate;;",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate x",
            "foo=1, permessage-deflate",
            "PERMESSAGE-DEFLATE",
            "x-webkit-deflate-frame",
            "permessage-deflate\u{e9}",
        ] {
            check(&[line], None);
        }
        check(&["permessage-deflate, ;"], Some(PLAIN));
        check(&[";", "permessage-deflate"], Some(PLAIN));
    }

    #[test]
    fn client_takes_no_answer_but_that_to_its_offer() {
        let answer = |lines: &[&'static str]| check_answer(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(answer(&[]), Some(false));
        assert_eq!(answer(&[PLAIN]), Some(true));
        for bad in
            ["", "other", "permessage-deflate; server_max_window_bits=10", "permessage-deflate, permessage-deflate"]
        {
            assert_eq!(answer(&[bad]), None, "{bad}");
        }
        assert_eq!(answer(&[PLAIN, "other"]), None);
    }
}
