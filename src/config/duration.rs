//! Durations as Centrifugo writes them: `1h30m`, `1.5s`, `100ms`, with units from `ns` to `h`.
//!
//! Held as whole nanoseconds in an `i64`, so about 292 years each way, as in Go's `time`.

const UNITS: &[(&str, i64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// Reads nanoseconds from text; `None` where Go's `time.ParseDuration` fails.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = parse_part(rest)?;
        total = total.checked_add(nanoseconds)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// One number with its unit at the head of `text`, and what follows.
fn parse_part(text: &str) -> Option<(i128, &str)> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let scale = i128::from(UNITS.iter().find(|(name, _)| *name == unit)?.1);

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { i128::from(whole.parse::<i64>().ok()?) };
    Some((whole.checked_mul(scale)? + fraction_of(fraction, scale), rest))
}

/// `scale` times the digits after the point; digits below a nanosecond are dropped.
fn fraction_of(digits: &str, scale: i128) -> i128 {
    // No unit has more than 13 digits of nanoseconds, so the digits after these do not count.
    let digits = &digits[..digits.len().min(18)];
    let length = u32::try_from(digits.len()).expect("at most 18");
    digits.parse::<i128>().unwrap_or(0) * scale / 10_i128.pow(length)
}

/// Writes nanoseconds as Go does: `168h0m0s`, `1.5s`, `100ms`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let second = SECOND.unsigned_abs();
    if total < second {
        return match total {
            0 => "0s".to_owned(),
            1..1_000 => format!("{sign}{total}ns"),
            1_000..1_000_000 => format!("{sign}{}µs", decimal(total, 1_000)),
            _ => format!("{sign}{}ms", decimal(total, 1_000_000)),
        };
    }
    let (hours, minutes) = (total / second / 3600, total / second / 60 % 60);
    let seconds = decimal(total % (60 * second), second);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many digits after the point as it takes.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, nanoseconds: Option<i64>) {
        assert_eq!(parse(text), nanoseconds, "{text}");
    }

    #[test]
    fn spans_are_read_as_go_reads_them() {
        check("25s", Some(25 * SECOND));
        check("1h30m", Some(5400 * SECOND));
        check("1.5s", Some(SECOND + SECOND / 2));
        check(".5s", Some(SECOND / 2));
        check("1.s", Some(SECOND));
        check("100ms", Some(SECOND / 10));
        check("1us1µs1μs", Some(3000));
        check("0", Some(0));
        check("-1", None);
        check("-1s", Some(-SECOND));
        check("+2m", Some(120 * SECOND));
        check("0.1234567891234567891234s", Some(123_456_789));
        check("2562047h47m16.854775807s", Some(i64::MAX));
    }

    #[test]
    fn what_is_no_span_is_refused() {
        let broken = ["", "-", "+", "5", "s", ".s", "1.2.3s", "1 s", "1d", "1S", "5s3", "ns", "1e3s"];
        broken.iter().for_each(|text| check(text, None));
        check("2562047h47m16.854775808s", None);
        check("99999999999999999999h", None);
        check("1ß", None);
    }

    #[test]
    fn spans_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (SECOND + SECOND / 2, "1.5s"),
            (120 * SECOND, "2m0s"),
            (604_800 * SECOND, "168h0m0s"),
            (-SECOND, "-1s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(format(nanoseconds), text);
        }
    }
}
