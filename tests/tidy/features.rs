//! Features that are finished: a test names each in its doc comment, as `/// R03, O02` above `#[test]`.

use crate::tree;
use std::collections::BTreeSet;

/// Rows of the feature table that are done; the list may only grow.
const FINISHED: &str = "
    R01 R02 R03 R04 R05 R06 R07 R08 R09 R10 R11 R12 R13 R16 R17 R19 R20 R21 R22 R23 R24
    U01 U02 U03 U04 U05 U06 U07 U08 U09 U10 U11 U12 U13 U14 U15 U22 U23 Z11
    C01 C02 C03 C04 C05 C06 C07 C08 C09 C10 C11 C12 C13 S01 S02 S03 S04 S05 S06 S07
    H01 H02 H03 H04 H05 H06 H07 H08 H10 H11 H12 H13 O01 O02 O03 D01 D02 D05
    T01 T02 T03 T04 T05 T06 T07 T08 T09 T10 T11 T12 T13 T14 T15 T16 T17 T18 T19 T20 T21 T22 T23 T24 S08
    Z01 Z02 Z03 Z04
    E02 E03 E04 E05 E06 E11 E12 E13 E14 O04
    B01 A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12 A16
    E07 E08 C20
    X01 X02 X03 X04 X05 X06 X07 X11 X12 X13 X14 X15
    L01 L02 L03 L04 L05 L06 L07 L08 L09 L10 L11
";

#[test]
fn every_finished_feature_is_named_by_a_test() {
    let named: BTreeSet<String> = tree::rust_files().iter().flat_map(|file| named_in(&file.text)).collect();
    let missing = FINISHED.split_whitespace().filter(|id| !named.contains(*id)).map(str::to_owned).collect();
    tree::none("no test names the feature in its doc comment", missing);
}

/// Ids on the first line of a doc comment that stands over a test.
fn named_in(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut first = None;
    for line in text.lines().map(str::trim_start) {
        match line.strip_prefix("/// ") {
            Some(doc) => first = first.or(Some(doc)),
            None if line.starts_with("#[test]") => named.extend(first.take().iter().flat_map(|doc| ids(doc))),
            // The rest of the comment, and other attributes.
            None if line == "///" || line.starts_with("#[") => {}
            None => first = None,
        }
    }
    named
}

fn ids(doc: &str) -> impl Iterator<Item = String> {
    let is_id =
        |word: &&str| word.len() == 3 && word.starts_with(char::is_uppercase) && word[1..].parse::<u8>().is_ok();
    doc.split(", ").take_while(is_id).map(str::to_owned)
}

#[test]
fn ids_stand_first_in_the_comment_over_a_test() {
    let text =
        "/// R03, O02\n/// More.\n#[test]\nfn a() {}\n/// Not H01\n#[test]\nfn b() {}\n/// S01\nfn c() {}\n#[test]\n";
    assert_eq!(named_in(text), ["R03", "O02"]);
}
