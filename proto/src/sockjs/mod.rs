//! SockJS: frames in which messages travel where WebSocket does not, the paths of a session and the forms of its receivers.
//! Source: the public SockJS protocol 0.3.3, protocol §16.

mod path;
mod receiver;

pub use path::{Call, Endpoint, parse_path};
pub use receiver::{Form, InvalidCallback, iframe_page};

use crate::DecodeError;
use crate::json::{Reader, text};

/// First frame of a session.
pub const OPEN: &[u8] = b"o";

/// Nothing has happened for a while, and the connection is alive.
pub const HEARTBEAT: &[u8] = b"h";

/// What goes before and behind one escaped message to make a frame of it.
pub const MESSAGE: (&[u8], &[u8]) = (b"a[\"", b"\"]");

/// Appends the frame that ends a session.
pub fn encode_close(code: u32, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"c[");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.extend_from_slice(b",\"");
    escape(reason.as_bytes(), out);
    out.extend_from_slice(b"\"]");
}

/// Appends one frame with a message for each line.
pub fn encode_lines(lines: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"a[");
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (number, line) in lines.enumerate() {
        out.extend_from_slice(if number == 0 { b"\"" } else { b",\"" });
        escape(line, out);
        out.push(b'"');
    }
    out.push(b']');
}

/// Appends the content of a JSON string. Characters that browsers change on their way are escaped, too: the protocol names them.
pub fn escape(message: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    let mut at = 0;
    while at < message.len() {
        let (length, unit) = match message[at] {
            byte if !SPECIAL[usize::from(byte)] => {
                at += 1;
                continue;
            }
            byte @ (b'"' | b'\\') => (1, u16::from(byte)),
            byte @ 0..0x20 => (1, u16::from(byte)),
            _ => match fragile(&message[at..]) {
                Some(unit) => (3, unit),
                None => {
                    at += 1;
                    continue;
                }
            },
        };
        out.extend_from_slice(&message[start..at]);
        at += length;
        start = at;
        write_escape(unit, out);
    }
    out.extend_from_slice(&message[start..]);
}

/// Bytes that may have to be escaped: those of JSON, and the first ones of fragile characters.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        special[byte] = true;
        byte += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[0xe2] = true;
    special[0xef] = true;
    special
};

/// The character at the start if it is one that some browser changes.
fn fragile(text: &[u8]) -> Option<u16> {
    let &[first, second, third, ..] = text else { return None };
    let character = u16::from(first & 0xf) << 12 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f);
    matches!(character, 0x200c..=0x200f | 0x2028..=0x202f | 0x2060..=0x206f | 0xfff0..=0xffff).then_some(character)
}

fn write_escape(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match unit {
        0x22 => out.extend_from_slice(b"\\\""),
        0x5c => out.extend_from_slice(b"\\\\"),
        unit => {
            out.extend_from_slice(b"\\u");
            out.extend([12, 8, 4, 0].map(|shift| DIGITS[usize::from(unit >> shift & 0xf)]));
        }
    }
}

/// The messages that a client sends, one a line: a JSON array of strings, or one string. Empty ones are left out. The result is
/// no longer than the text.
pub fn decode_messages(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(text(body)?);
    let mut lines = Vec::new();
    if reader.peek() == Some(b'"') {
        push_line(&mut lines, &reader.string()?);
    } else {
        reader.array(|reader| {
            push_line(&mut lines, &reader.string()?);
            Ok(())
        })?;
    }
    reader.end()?;
    Ok(lines)
}

fn push_line(lines: &mut Vec<u8>, message: &str) {
    if !lines.is_empty() && !message.is_empty() {
        lines.push(b'\n');
    }
    lines.extend_from_slice(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(message: &str) -> String {
        let mut out = Vec::new();
        escape(message.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_browsers_change_is_escaped() {
        assert_eq!(escaped("{\"a\":\"\\n\"}"), r#"{\"a\":\"\\n\"}"#);
        assert_eq!(escaped("\u{0}\u{1f} \u{7f}é"), "\\u0000\\u001f \u{7f}é");
        assert_eq!(escaped("\u{200b}\u{200c}\u{200f}\u{2010}"), "\u{200b}\\u200c\\u200f\u{2010}");
        assert_eq!(escaped("\u{2027}\u{2028}\u{202f}\u{2030}"), "\u{2027}\\u2028\\u202f\u{2030}");
        assert_eq!(escaped("\u{205f}\u{2060}\u{206f}\u{2070}"), "\u{205f}\\u2060\\u206f\u{2070}");
        assert_eq!(escaped("\u{ffef}\u{fff0}\u{ffff}😀"), "\u{ffef}\\ufff0\\uffff😀");
    }

    #[test]
    fn lines_become_messages_of_one_frame() {
        let frame = |lines: &str| {
            let mut out = Vec::new();
            encode_lines(lines.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(frame("{}\n"), r#"a["{}"]"#);
        assert_eq!(frame("{\"id\":1}\n{}\n"), r#"a["{\"id\":1}","{}"]"#);
    }

    #[test]
    fn close_frame_has_code_and_reason() {
        let mut out = Vec::new();
        encode_close(3001, "shut\"down", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"c[3001,"shut\"down"]"#);
    }

    #[track_caller]
    fn check(body: &str, want: Option<&str>) {
        let got = decode_messages(body.as_bytes()).ok();
        assert_eq!(got.as_deref(), want.map(str::as_bytes), "{body}");
    }

    #[test]
    fn clients_send_arrays_of_strings() {
        check(r#"["a"]"#, Some("a"));
        check(r#" [ "a" , "b\n" , "" , "c" ] "#, Some("a\nb\n\nc"));
        check(r#""a""#, Some("a"));
        check("[]", Some(""));
        check(r#"[""]"#, Some(""));
    }

    #[test]
    fn other_texts_are_refused() {
        for body in ["", "[", "[\"a", "{}", "[1]", "[[\"a\"]]", "[null]", "1", "[\"a\"]x", "[\"a\",]"] {
            check(body, None);
        }
        assert!(decode_messages(b"[\"\xff\"]").is_err());
    }

    proptest! {
        #[test]
        fn any_message_comes_back(message: String) {
            let text = format!("\"{}\"", escaped(&message));
            let back: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, message);
        }

        #[test]
        fn any_lines_come_back_as_messages(messages in proptest::collection::vec("[^\n]{1,20}", 1..5)) {
            let mut frame = Vec::new();
            encode_lines((messages.join("\n") + "\n").as_bytes(), &mut frame);
            let array = frame.strip_prefix(b"a").unwrap();
            let back: Vec<String> = serde_json::from_slice(array).unwrap();
            prop_assert_eq!(&back, &messages);
            let decoded = decode_messages(array).unwrap();
            prop_assert_eq!(decoded, messages.join("\n").into_bytes());
        }

        #[test]
        fn any_body_is_messages_or_an_error(body: Vec<u8>) {
            let decoded = decode_messages(&body);
            prop_assert!(decoded.is_err() || decoded.unwrap().len() <= body.len());
        }
    }
}
