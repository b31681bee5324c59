//! Decimal numbers in tags: exact at any length, never a float.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Longest text taken for a number, in bytes; as in the reference.
const TEXT_LEN_MAX: usize = 200;

/// Most digits behind the point; as in the reference.
const FRACTION_LEN_MAX: usize = 19;

/// A decimal number. Equal numbers are equal values: zeros that change nothing, and the sign of zero, are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    integer: Cow<'a, str>,
    /// Digits behind the point, without trailing zeros.
    fraction: Cow<'a, str>,
}

impl<'a> Decimal<'a> {
    /// Reads an optional sign, digits and, behind a point, more digits. There is no exponent.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > TEXT_LEN_MAX {
            return None;
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        if !is_digits(integer) || !is_digits(fraction) || fraction.len() > FRACTION_LEN_MAX {
            return None;
        }
        let (integer, fraction) = (integer.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let is_zero = integer.is_empty() && fraction.is_empty();
        let negative = text.starts_with('-') && !is_zero;
        Some(Self { negative, integer: integer.into(), fraction: fraction.into() })
    }

    pub(super) fn into_owned(self) -> Decimal<'static> {
        Decimal {
            negative: self.negative,
            integer: self.integer.into_owned().into(),
            fraction: self.fraction.into_owned().into(),
        }
    }

    fn cmp_magnitude(&self, other: &Decimal<'_>) -> Ordering {
        let length = self.integer.len().cmp(&other.integer.len());
        length.then_with(|| self.integer.cmp(&other.integer)).then_with(|| self.fraction.cmp(&other.fraction))
    }

    /// Compares by value.
    pub(super) fn compare(&self, other: &Decimal<'_>) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_magnitude(other),
            (true, true) => other.cmp_magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[track_caller]
    fn check(left: &str, want: Ordering, right: &str) {
        let (left, right) = (decimal(left), decimal(right));
        assert_eq!(left.compare(&right), want, "{left:?} {right:?}");
        assert_eq!(right.compare(&left), want.reverse(), "{left:?} {right:?}");
        assert_eq!(left == right, want == Ordering::Equal, "{left:?} {right:?}");
        assert_eq!(left.clone().into_owned(), left);
    }

    #[test]
    fn numbers_written_differently_are_equal() {
        for (left, right) in [
            ("0", "-0"),
            ("0", "+0.000"),
            ("1.0", "1.00"),
            ("1", "+1"),
            ("00012", "12"),
            ("-007.50", "-7.5"),
            ("10", "10.0000000000000000000"),
        ] {
            check(left, Ordering::Equal, right);
        }
    }

    #[test]
    fn numbers_are_ordered_by_value_at_any_length() {
        let ascending = [
            "-9999999999999999999999999999999999999999.5",
            "-100",
            "-99.9999999999999999999",
            "-2",
            "-1.10",
            "-1.0999999999999999999",
            "-0.0000000000000000001",
            "0",
            "0.0000000000000000001",
            "0.10",
            "0.11",
            "0.2",
            "2",
            "10",
            "9007199254740992",
            "9007199254740993",
            "9999999999999999999999999999999999999999",
            "9999999999999999999999999999999999999999.0000000000000000001",
            "10000000000000000000000000000000000000000",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for right in &ascending[at + 1..] {
                check(left, Ordering::Less, right);
            }
        }
    }

    #[test]
    fn what_the_reference_does_not_take_is_no_number() {
        for text in [
            "",
            "-",
            "+",
            ".",
            "-.",
            ".5",
            "-.5",
            "+.5",
            "5.",
            "-5.",
            "1.2.3",
            "1..2",
            "1e3",
            "1E3",
            "0x10",
            "1_000",
            "1,5",
            " 1",
            "1 ",
            "--1",
            "+-1",
            "-+1",
            "NaN",
            "Inf",
            "١",
            "1.00000000000000000000",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_has_at_most_200_bytes() {
        assert!(Decimal::parse(&"9".repeat(200)).is_some());
        assert!(Decimal::parse(&"9".repeat(201)).is_none());
        assert!(Decimal::parse(&"0".repeat(201)).is_none());
    }
}
