//! Text of a `.env` file: `NAME=value` in lines, with comments, quotes and references.
//!
//! A value stands bare (to the end of the line or ` #`), in single quotes (as it is) or in double
//! quotes (with `\n`, `\r`, `\"`, `\\`, `\$`); quoted values may span lines. `$NAME` and `${NAME}`
//! outside of single quotes stand for values set earlier in the file.

use std::collections::BTreeMap;

/// Assignments in the order of the file; on failure the number of the line that is none.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut assignments: Vec<(String, String)> = Vec::new();
    let mut known = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = skip_blank(rest);
        if rest.is_empty() {
            return Ok(assignments);
        }
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let (name, value, after) = assignment(rest, &known).ok_or(line)?;
        known.insert(name.to_owned(), value.clone());
        assignments.push((name.to_owned(), value));
        rest = after;
    }
}

/// Drops white space and whole-line comments at the head of the text.
fn skip_blank(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        if !text.starts_with('#') {
            return text;
        }
        text = line_end(text).1;
    }
}

/// Splits a text after its first line, the line without its end.
fn line_end(text: &str) -> (&str, &str) {
    match text.split_once('\n') {
        Some((line, after)) => (line.strip_suffix('\r').unwrap_or(line), after),
        None => (text, ""),
    }
}

/// Name and value at the head of the text, and what follows.
fn assignment<'a>(text: &'a str, known: &BTreeMap<String, String>) -> Option<(&'a str, String, &'a str)> {
    let text = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => text,
    };
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))?;
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix(['=', ':'])?;
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (value, after) = if let Some(quoted) = rest.strip_prefix('\'') {
        let (value, after) = quoted.split_once('\'')?;
        (value.to_owned(), line_end(after).1)
    } else if let Some(quoted) = rest.strip_prefix('"') {
        let end = closing_quote(quoted)?;
        (expand(&unescape(&quoted[..end]), known), line_end(&quoted[end + 1..]).1)
    } else {
        let (line, after) = line_end(rest);
        (expand(bare(line), known), after)
    };
    Some((name, value, after))
}

/// Where the double quote is that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// A value without quotes: up to a comment, without white space around.
fn bare(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let comment = [" #", "\t#"].iter().filter_map(|mark| line.find(mark)).min();
    line[..comment.unwrap_or(line.len())].trim()
}

/// Stands for a `\$`, which is no reference, until references are replaced.
const LITERAL_DOLLAR: char = '\u{1a}';

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('$') => plain.push(LITERAL_DOLLAR),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    plain
}

/// Replaces references to earlier names; an unknown one is empty.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, after) = reference(after);
        match name {
            Some(name) => expanded.push_str(known.get(name).map_or("", String::as_str)),
            None => expanded.push('$'),
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded.replace(LITERAL_DOLLAR, "$")
}

/// The name after a `$`, and what follows.
fn reference(text: &str) -> (Option<&str>, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return (Some(name), after);
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    match end {
        0 => (None, text),
        _ => (Some(&text[..end]), &text[end..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<&[(&str, &str)], usize>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let want = want.map(|pairs| pairs.iter().map(own).collect::<Vec<_>>());
        assert_eq!(parse(text), want, "{text:?}");
    }

    #[test]
    fn assignments_come_in_many_forms() {
        check("A=1\nB = 2 \r\nexport C=3", Ok(&[("A", "1"), ("B", "2"), ("C", "3")]));
        check("# note\n\nA=1 # one\nB=a#b\nC=#none\nD:", Ok(&[("A", "1"), ("B", "a#b"), ("C", ""), ("D", "")]));
        check("A='a $B \\n # c' # note", Ok(&[("A", "a $B \\n # c")]));
        check(r#"A="a\nb\"c\\" # note"#, Ok(&[("A", "a\nb\"c\\")]));
        check("A=\"one\ntwo\"\nB=3", Ok(&[("A", "one\ntwo"), ("B", "3")]));
        check("exported=1", Ok(&[("exported", "1")]));
        check("", Ok(&[]));
    }

    #[test]
    fn references_stand_for_earlier_values() {
        check("A=x\nB=$A-${A}y$Z.", Ok(&[("A", "x"), ("B", "x-xy.")]));
        check("A=\"\\$A $\"", Ok(&[("A", "$A $")]));
        check("A=${B", Ok(&[("A", "${B")]));
    }

    #[test]
    fn broken_lines_are_named() {
        check("A=1\nnonsense", Err(2));
        check("A=1\nnon sense=3", Err(2));
        check("=1", Err(1));
        check("\n\nA=\"open\nB=1", Err(3));
        check("A='open", Err(1));
    }
}
