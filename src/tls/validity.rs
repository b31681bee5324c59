//! From when until when a certificate counts: the one field that rustls checks in others' certificates and does not show
//! of our own. Source: RFC 5280, section 4.1.

/// Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
}

impl Validity {
    /// Of a certificate in DER; `None` if it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut fields, _) = element(certificate, SEQUENCE)?;
        if let Some((_version, rest)) = element(fields, VERSION) {
            fields = rest;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            // Serial number, algorithm, issuer.
            (_, fields) = element(fields, tag)?;
        }
        let (validity, _) = element(fields, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self { not_before, not_after })
    }
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Content of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, short], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn time(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest, century) = match bytes.first()? {
        &UTC_TIME => {
            let (text, rest) = element(bytes, UTC_TIME)?;
            let century = if text.first()? < &b'5' { 2000 } else { 1900 };
            (text, rest, century)
        }
        _ => {
            let (text, rest) = element(bytes, GENERALIZED_TIME)?;
            (text.get(2..)?, rest, number(text, 0)? * 100)
        }
    };
    let part = |index: usize| number(digits, 2 * index);
    let seconds = part(3)? * 3600 + part(4)? * 60 + part(5)?;
    Some((crate::utc::days(century + part(0)?, part(1)?, part(2)?)? * 86_400 + seconds, rest))
}

fn number(digits: &[u8], at: usize) -> Option<u64> {
    std::str::from_utf8(digits.get(at..at + 2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    #[track_caller]
    fn check(from: (i32, u8, u8), until: (i32, u8, u8), want: (&str, &str)) {
        let mut params = CertificateParams::new(vec!["a".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let found = Validity::of(certificate.der()).expect("a certificate");
        let text = crate::utc::rfc3339;
        assert_eq!((&*text(found.not_before), &*text(found.not_after)), want);
        for length in 0..certificate.der().len() {
            // Must not panic.
            let _ = Validity::of(&certificate.der()[..length]);
        }
    }

    #[test]
    fn dates_of_both_forms_are_read() {
        check((1999, 12, 31), (2049, 3, 1), ("1999-12-31T00:00:00Z", "2049-03-01T00:00:00Z"));
        check((2024, 2, 29), (2150, 1, 1), ("2024-02-29T00:00:00Z", "2150-01-01T00:00:00Z"));
    }
}
