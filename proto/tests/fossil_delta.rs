//! Patches of random payloads, applied by us and by another implementation of the format, and its patches by us.

use proptest::collection::vec;
use proptest::prelude::*;
use ringcast_proto::delta::{Table, decode, encode};

fn patch(base: &[u8], target: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(base, target, &mut Table::default(), &mut out);
    out
}

#[track_caller]
fn check(base: &[u8], target: &[u8]) {
    let patch = patch(base, target);
    assert!(patch.len() <= target.len() + 32, "a patch of {} bytes for {}", patch.len(), target.len());
    assert!(str::from_utf8(target).is_err() || str::from_utf8(&patch).is_ok(), "a patch of text is not text");
    let mut out = Vec::new();
    assert_eq!(decode(base, &patch, target.len(), &mut out), Ok(()));
    assert!(out == target, "another target");
    let theirs = fossil_delta::apply(base, &patch).expect("the other implementation reads our patch");
    assert!(theirs == target, "another target for the other implementation");
    out.clear();
    assert_eq!(decode(base, &fossil_delta::delta(target, base), target.len(), &mut out), Ok(()));
    assert!(out == target, "another target from the other implementation");
}

/// Bytes that look random, the same on every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn long_and_repeating_payloads_come_back() {
    let (million, other) = (noise(1 << 20), noise((1 << 20) + 7)[7..].to_vec());
    let moved = [&million[500_000..], &million[..500_000]].concat();
    let runs: Vec<u8> = (0..1 << 20).map(|at: usize| if at.is_multiple_of(17) { b'b' } else { b'a' }).collect();
    let period_16 = b"0123456789abcdef".repeat(1 << 12);
    let period_15 = b"0123456789abcde".repeat(1 << 12);
    let zeros = vec![0; 1 << 20];
    let pairs: [(&[u8], &[u8]); 14] = [
        (b"", &million),
        (&million, b""),
        (&million, &million),
        (&million, &moved),
        (&million, &other),
        (&zeros, &zeros),
        (&zeros, &zeros[1..]),
        (&zeros[1..], &zeros),
        (&zeros, &runs),
        (&runs, &zeros),
        (&runs, &runs[5..]),
        (&period_16, &period_15),
        (&period_15, &period_16),
        (&period_16, &period_16[1..]),
    ];
    for (base, target) in pairs {
        check(base, target);
    }
}

#[test]
fn payloads_about_the_length_of_a_block_come_back() {
    let bytes = noise(64);
    for base_len in 0..50 {
        for target_len in 0..50 {
            check(&bytes[..base_len], &bytes[..target_len]);
            check(&bytes[..base_len], &bytes[3..3 + target_len]);
        }
    }
}

/// A payload as applications send them, with one thing changed.
fn json_edits() -> Vec<(String, String)> {
    let row = |id: u32, price: &str| {
        format!(r#"{{"id":{id},"name":"item number {id}","price":{price},"tags":["new","sale"],"open":true}}"#)
    };
    let rows: Vec<String> = (0..40).map(|id| row(id * 7919, "12.50")).collect();
    let list = |rows: &[String]| format!(r#"{{"type":"list","seq":1041,"rows":[{}]}}"#, rows.join(","));
    let whole = list(&rows);
    let without_one = list(&[&rows[..20], &rows[21..]].concat());
    let one_more = list(&[&rows[..20], &[row(5, "1.99")], &rows[20..]].concat());
    let pushed = list(&[&rows[..], &[row(5, "1.99")]].concat());
    let one_price = whole.replacen("12.50", "13", 11).replacen("\"price\":13,", "\"price\":12.50,", 10);
    let text = whole.replace("item number 79190", "Überraschung für 5 €");
    vec![
        (row(1, "12.50"), row(1, "12.51")),
        (row(1, "12.50"), row(1, "112.5")),
        (row(1, "12.50"), row(1, "null")),
        (row(1, "12.50"), row(2, "7")),
        (whole.clone(), whole.replace("1041", "1042")),
        (whole.clone(), whole.replace("1041", "10420")),
        (whole.clone(), whole.replace("12.50", "12.75")),
        (whole.clone(), whole.replace("12.50", "9")),
        (whole.clone(), whole.replace("\"sale\"", "\"sale\",\"last\"")),
        (whole.clone(), one_price),
        (whole.clone(), text),
        (whole.clone(), without_one.clone()),
        (without_one, whole.clone()),
        (whole.clone(), one_more),
        (whole.clone(), pushed),
        (whole, r#"{"type":"empty"}"#.to_owned()),
    ]
}

#[test]
fn patches_of_json_are_no_longer_than_those_of_fossil() {
    for (base, target) in json_edits() {
        check(base.as_bytes(), target.as_bytes());
        let ours = patch(base.as_bytes(), target.as_bytes()).len();
        let theirs = fossil_delta::delta(&target, &base).len();
        assert!(ours * 10 <= theirs * 11, "{ours} bytes, fossil {theirs}: {target}");
    }
}

/// Pieces that payloads share, with characters of all lengths.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "a",
        "1",
        "\"",
        "é",
        "è",
        "€",
        "₭",
        "😀",
        "😁",
        "\u{2028}",
        "0123456789abcdef",
        "lorem ipsum dolor sit amet ",
        "äöüßäöüßäöüß",
        "€€€€€€€€€€€€",
        "😀😀😀😀😀😀😀😀",
    ]);
    vec(piece, 0..60)
}

proptest! {
    #[test]
    fn random_bytes_come_back(base: Vec<u8>, target: Vec<u8>) {
        check(&base, &target);
    }

    #[test]
    fn bytes_of_a_small_alphabet_come_back(base in vec(0u8..2, 0..400), target in vec(0u8..2, 0..400)) {
        check(&base, &target);
    }

    #[test]
    fn edited_bytes_come_back(base in vec(any::<u8>(), 0..600), from: prop::sample::Index, len in 0usize..40, new: Vec<u8>) {
        let from = from.index(base.len() + 1);
        let to = (from + len).min(base.len());
        check(&base, &[&base[..from], &new, &base[to..]].concat());
    }

    #[test]
    fn texts_come_back_through_patches_of_text(base in pieces(), target in pieces()) {
        check(base.concat().as_bytes(), target.concat().as_bytes());
    }

    #[test]
    fn edited_texts_come_back_through_patches_of_text(base in pieces(), at: prop::sample::Index, new in pieces()) {
        let at = at.index(base.len() + 1);
        let target = [&base[..at], &new[..new.len().min(3)], &base[(at + 1).min(base.len())..]].concat().concat();
        check(base.concat().as_bytes(), target.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_patch_or_an_error(base: Vec<u8>, delta: Vec<u8>) {
        let mut out = Vec::new();
        prop_assert!(decode(&base, &delta, 4096, &mut out).is_ok() || out.is_empty());
        prop_assert!(out.len() <= 4096);
    }
}
