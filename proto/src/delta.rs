//! Fossil delta: a patch that makes the next payload of a channel out of the previous one.
//!
//! Source: protocol §9 and the delta format of the Fossil version control system. A patch is the size of the target and a
//! newline, then copies from the base (`length@offset,`) and literals (`length:bytes`) in the order of the target, at last the
//! checksum of the target and a semicolon. Numbers have base 64. `C\n8@0,4:tail3Omy7M;` makes `01234567tail` out of
//! `01234567`.
//!
//! A patch of text is text: [`encode`] cuts a target in UTF-8 between characters only, so that a literal may stand in a
//! JSON string. The reference cuts anywhere, sends U+FFFD for the rest of a character, and the client cannot apply it.
//!
//! Whether a patch is worth sending (shorter than the target) is for the caller to decide.

use crate::{InvalidJson, write_json_string};
use std::fmt;

/// Bytes of the base that are found by their hash.
const BLOCK_LEN: usize = 16;

/// Most places of the base compared with one place of the target. Keeps the time linear whatever the payloads repeat; the
/// longest of the first few is nearly always the longest of all.
const CANDIDATES_MAX: usize = 32;

/// Most blocks that a table keeps memory for between calls: 512 KiB for a base of 1 MiB.
const KEPT_BLOCKS_MAX: usize = 65_536;

/// No block, in a table.
const NONE: u32 = u32::MAX;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Where the blocks of a base are, for [`encode`]. Keep one and use it again: it then allocates nothing for bases of up to
/// 1 MiB.
#[derive(Debug, Default)]
pub struct Table {
    /// First block of each hash.
    first: Vec<u32>,
    /// Next block with the same hash, by block.
    next: Vec<u32>,
}

impl Table {
    /// Fills the table with the whole blocks of `base`. Those of one hash are listed from the front, where a match can be
    /// longest.
    fn index(&mut self, base: &[u8]) {
        let blocks = base.as_chunks::<BLOCK_LEN>().0;
        self.first.clear();
        self.first.resize(blocks.len().next_power_of_two(), NONE);
        self.next.clear();
        self.next.resize(blocks.len(), NONE);
        for (at, block) in blocks.iter().enumerate().rev() {
            let slot = self.slot(block);
            self.next[at] = std::mem::replace(&mut self.first[slot], at as u32);
        }
    }

    /// Offsets in the base that may hold `block`.
    fn candidates(&self, block: &[u8; BLOCK_LEN]) -> impl Iterator<Item = usize> {
        let mut at = self.first[self.slot(block)];
        std::iter::from_fn(move || {
            let found = at;
            at = *self.next.get(found as usize)?;
            Some(found as usize * BLOCK_LEN)
        })
    }

    /// Place of a hash in `first`. Its length is a power of two, so the upper bits of the hash are as many as it takes.
    fn slot(&self, block: &[u8; BLOCK_LEN]) -> usize {
        let word = u128::from_le_bytes(*block);
        let low = (word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let high = ((word >> 64) as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        let hash = u128::from((low ^ high.rotate_left(29)).wrapping_mul(0xff51_afd7_ed55_8ccd));
        ((hash * self.first.len() as u128) >> 64) as usize
    }

    /// Gives back what an unusually long base took.
    fn trim(&mut self) {
        for list in [&mut self.first, &mut self.next] {
            if list.capacity() > KEPT_BLOCKS_MAX {
                list.clear();
                list.shrink_to(KEPT_BLOCKS_MAX);
            }
        }
    }
}

/// Appends to `out` the patch that turns `base` into `target`: never more than 32 bytes longer than the target, and valid
/// UTF-8 if the target is.
pub fn encode(base: &[u8], target: &[u8], table: &mut Table, out: &mut Vec<u8>) {
    write_number(target.len(), out);
    out.push(b'\n');
    table.index(base);
    let is_text = simdutf8::basic::from_utf8(target).is_ok();
    let search = Search { base, target, table, is_text };
    let (mut written, mut base_at) = (0, 0);
    while let Some(copy) = search.next_copy(written, base_at) {
        write_literal(&target[written..copy.target_at], out);
        copy.write(out);
        written = copy.target_at + copy.len;
        base_at = copy.base_at + copy.len;
    }
    write_literal(&target[written..], out);
    write_number(checksum(target) as usize, out);
    out.push(b';');
    table.trim();
}

/// Finds what of the target stands in the base.
struct Search<'a> {
    base: &'a [u8],
    target: &'a [u8],
    table: &'a Table,
    is_text: bool,
}

impl Search<'_> {
    /// The first copy for what follows `written` bytes of the target, the longest at its place. The last copy ended at
    /// `base_at`: where a value was exchanged for one of equal length, the base goes on there.
    fn next_copy(&self, written: usize, base_at: usize) -> Option<Copy> {
        (written..).zip(self.target[written..].windows(BLOCK_LEN)).find_map(|(at, window)| {
            let same_place = base_at + (at - written);
            let elsewhere = self.table.candidates(window.first_chunk()?);
            std::iter::once(same_place)
                .chain(elsewhere.take(CANDIDATES_MAX))
                .filter_map(|candidate| self.copy(written, at, candidate))
                .reduce(|best, copy| if copy.len > best.len { copy } else { best })
        })
    }

    /// The copy that has byte `base_at` of the base at `target_at`, unless it would take more bytes than it saves.
    fn copy(&self, written: usize, target_at: usize, base_at: usize) -> Option<Copy> {
        let ahead = common_prefix(self.base.get(base_at..)?, &self.target[target_at..]);
        if ahead < BLOCK_LEN {
            return None;
        }
        let behind = common_suffix(&self.base[..base_at], &self.target[written..target_at]);
        let mut copy = Copy { base_at: base_at - behind, target_at: target_at - behind, len: behind + ahead };
        if self.is_text {
            copy.keep_whole_characters(self.target);
        }
        let literal_len = copy.target_at - written;
        let overhead = digits(literal_len) + digits(copy.len) + digits(copy.base_at) + b":@,".len();
        (copy.len >= overhead).then_some(copy)
    }
}

/// Bytes that base and target have in common.
struct Copy {
    base_at: usize,
    target_at: usize,
    len: usize,
}

impl Copy {
    /// Leaves the parts of characters at both ends to the literals around.
    fn keep_whole_characters(&mut self, target: &[u8]) {
        let starts_inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        while self.len > 0 && starts_inside(self.target_at) {
            self.target_at += 1;
            self.base_at += 1;
            self.len -= 1;
        }
        while self.len > 0 && starts_inside(self.target_at + self.len) {
            self.len -= 1;
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_number(self.len, out);
        out.push(b'@');
        write_number(self.base_at, out);
        out.push(b',');
    }
}

/// Bytes equal at the start of both.
fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let blocks = left.as_chunks::<BLOCK_LEN>().0.iter().zip(right.as_chunks::<BLOCK_LEN>().0);
    let equal = blocks.take_while(|(left, right)| left == right).count() * BLOCK_LEN;
    let rest = left[equal..].iter().zip(&right[equal..]);
    equal + rest.take_while(|(left, right)| left == right).count()
}

/// Bytes equal at the end of both.
fn common_suffix(left: &[u8], right: &[u8]) -> usize {
    left.iter().rev().zip(right.iter().rev()).take_while(|(left, right)| left == right).count()
}

fn write_literal(bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        write_number(bytes.len(), out);
        out.push(b':');
        out.extend_from_slice(bytes);
    }
}

fn write_number(number: usize, out: &mut Vec<u8>) {
    for place in (0..digits(number)).rev() {
        out.push(DIGITS[number >> (6 * place) & 63]);
    }
}

/// Digits that a number takes.
fn digits(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(6) as usize
}

/// Sum of the 32-bit big-endian words, the last filled up with zeros.
fn checksum(target: &[u8]) -> u32 {
    let (words, rest) = target.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(0, |sum, word| u32::wrapping_add(sum, u32::from_be_bytes(*word)))
}

/// Why a patch cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// Not a patch: cut off, an unknown command, a number too large, bytes after the end.
    Malformed,
    /// The target is longer than the caller allows.
    TooLong,
    /// A copy from beyond the end of the base: it is another base.
    OutsideBase,
    /// The target has not the size that the patch announces.
    WrongSize,
    /// The target is not the one that was encoded: it is another base, or the patch was damaged.
    WrongChecksum,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a fossil delta",
            Self::TooLong => "the target of the delta is too long",
            Self::OutsideBase => "the delta copies from beyond the end of its base",
            Self::WrongSize => "the delta does not give the size it announces",
            Self::WrongChecksum => "the delta does not give the checksum it announces",
        })
    }
}

impl std::error::Error for DeltaError {}

/// Appends to `out` the target that `delta` makes of `base`, of at most `target_bytes_max` bytes. After an error `out` is
/// as before.
pub fn decode(base: &[u8], delta: &[u8], target_bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    let start = out.len();
    let result = Patch { rest: delta }.apply(base, target_bytes_max, start, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// What is left of a patch to read.
struct Patch<'a> {
    rest: &'a [u8],
}

impl<'a> Patch<'a> {
    /// Appends the target to `out`, where it starts at `start`.
    fn apply(
        &mut self,
        base: &[u8],
        target_bytes_max: usize,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DeltaError> {
        let size = self.number()?;
        self.expect(b'\n')?;
        if size > target_bytes_max {
            return Err(DeltaError::TooLong);
        }
        loop {
            let number = self.number()?;
            let piece = match self.byte()? {
                b'@' => self.copied(base, number)?,
                b':' => self.take(number)?,
                b';' => return self.end(&out[start..], size, number),
                _ => return Err(DeltaError::Malformed),
            };
            if piece.len() > size - (out.len() - start) {
                return Err(DeltaError::WrongSize);
            }
            out.extend_from_slice(piece);
        }
    }

    /// The bytes of the base that a copy names; its length and `@` are read.
    fn copied<'b>(&mut self, base: &'b [u8], len: usize) -> Result<&'b [u8], DeltaError> {
        let offset = self.number()?;
        self.expect(b',')?;
        base.get(offset..).and_then(|base| base.get(..len)).ok_or(DeltaError::OutsideBase)
    }

    fn end(&self, target: &[u8], size: usize, sum: usize) -> Result<(), DeltaError> {
        if !self.rest.is_empty() {
            Err(DeltaError::Malformed)
        } else if target.len() != size {
            Err(DeltaError::WrongSize)
        } else if checksum(target) as usize != sum {
            Err(DeltaError::WrongChecksum)
        } else {
            Ok(())
        }
    }

    /// Reads a number of at least one digit and at most 32 bits, as all decoders have them.
    fn number(&mut self) -> Result<usize, DeltaError> {
        let mut number = 0u32;
        let mut length = 0;
        while let Some(digit) = self.rest.get(length).and_then(|byte| digit_value(*byte)) {
            if number >> 26 != 0 {
                return Err(DeltaError::Malformed);
            }
            number = number << 6 | digit;
            length += 1;
        }
        self.rest = &self.rest[length..];
        if length == 0 { Err(DeltaError::Malformed) } else { Ok(number as usize) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        let (piece, rest) = self.rest.split_at_checked(len).ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(piece)
    }

    fn byte(&mut self) -> Result<u8, DeltaError> {
        Ok(self.take(1)?[0])
    }

    fn expect(&mut self, byte: u8) -> Result<(), DeltaError> {
        if self.byte()? == byte { Ok(()) } else { Err(DeltaError::Malformed) }
    }
}

/// What a digit counts; `None` if it is none.
fn digit_value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        b'_' => 36,
        b'a'..=b'z' => byte - b'a' + 37,
        b'~' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Appends a payload, or a patch of one, as the JSON string that `data` is on a delta subscription in JSON. Source:
/// protocol §9.
///
/// Fails when it is not UTF-8 and so cannot stand in a text frame. A patch fails only if its target does: send the client
/// no replacement characters, they would make its next base another than ours.
pub fn json_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidJson> {
    write_json_string(simdutf8::basic::from_utf8(text).map_err(|_| InvalidJson)?, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(base: &[u8], target: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(base, target, &mut Table::default(), &mut out);
        out
    }

    fn apply(base: &[u8], delta: &[u8], target_bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
        let mut out = b"before".to_vec();
        let result = decode(base, delta, target_bytes_max, &mut out);
        let rest = out.strip_prefix(b"before").expect("what stood there stays").to_vec();
        assert!(result.is_ok() || rest.is_empty());
        result.map(|()| rest)
    }

    #[track_caller]
    fn check(base: &str, target: &str, want: &str) {
        let patch = patch(base.as_bytes(), target.as_bytes());
        assert_eq!(String::from_utf8_lossy(&patch), want);
        assert_eq!(apply(base.as_bytes(), &patch, target.len()).as_deref(), Ok(target.as_bytes()));
    }

    // Checksums are from another implementation.
    #[test]
    fn patches_have_the_form_of_fossil() {
        check("", "", "0\n0;");
        check("", "tail", "4\n4:tail1pOMah;");
        check("abc", "abc", "3\n3:abc1XObC0;");
        check("0123456789abcdef", "0123456789abcdef", "G\nG@0,12xn;");
        check("0123456789abcdef and more", "> 0123456789abcdef <", "K\n2:> H@0,1:<1iKn0~;");
        let base = "a text that says the same again and again: 1, and so on to the very end of it";
        check(base, &base.replace('1', "2"), "1D\ng@0,1:2X@h,ee8CG;");
    }

    #[test]
    fn literals_of_a_text_are_whole_characters() {
        let base = "ein Text, der sich kaum verändert: é und was noch hinter dem Zeichen kömmt";
        check(base, &base.replace('é', "è"), "1D\n_@0,2:èc@b,3YwhSX;");
        check(base, &base.replace('é', "€"), "1E\n_@0,3:€c@b,1yBHfR;");
        check(base, &base.replace('é', "😀"), "1F\n_@0,4:😀c@b,4mMg4;");
    }

    #[test]
    fn a_target_that_is_not_text_is_cut_anywhere() {
        assert_eq!(patch(&[0x80; 64], &[0x80; 64]), b"10\n10@0,820W0;");
    }

    #[test]
    fn a_table_serves_bases_of_any_length_and_keeps_little() {
        let long = "0123456789abcdef".repeat(2 * KEPT_BLOCKS_MAX);
        let mut table = Table::default();
        for base in [&long, "", "0123456789abcdef", &long[..1000], &long] {
            let mut out = Vec::new();
            encode(base.as_bytes(), base.as_bytes(), &mut table, &mut out);
            assert_eq!(apply(base.as_bytes(), &out, base.len()).as_deref(), Ok(base.as_bytes()));
            assert!(table.first.capacity() <= KEPT_BLOCKS_MAX && table.next.capacity() <= KEPT_BLOCKS_MAX);
        }
    }

    #[track_caller]
    fn check_refused(delta: &str, want: DeltaError) {
        assert_eq!(apply(b"01234567", delta.as_bytes(), 12), Err(want), "{delta:?}");
    }

    #[test]
    fn broken_patches_are_refused() {
        let whole = "C\n8@0,4:tail3Omy7M;";
        assert_eq!(apply(b"01234567", whole.as_bytes(), 12).as_deref(), Ok(&b"01234567tail"[..]));
        for len in 0..whole.len() {
            check_refused(&whole[..len], DeltaError::Malformed);
        }
        for delta in
            ["\n0;", "0 0;", "0\n;", "0\n0", "0\n0!", "0\n@0,0;", "0\n0@,0;", "0\n0@0;", "0\n0:0;x", "4000000\n0;"]
        {
            check_refused(delta, DeltaError::Malformed);
        }
    }

    #[test]
    fn a_patch_gives_no_more_than_is_allowed_and_announced() {
        assert_eq!(apply(b"01234567", b"C\n8@0,4:tail3Omy7M;", 11), Err(DeltaError::TooLong));
        check_refused("3~~~~~\n0;", DeltaError::TooLong);
        check_refused("C\n8@0,8@0,8@0,8@0,0;", DeltaError::WrongSize);
        check_refused("C\n3:abc1XObC0;", DeltaError::WrongSize);
        check_refused("C\n8@1,0;", DeltaError::OutsideBase);
        check_refused("C\n0@9,0;", DeltaError::OutsideBase);
        check_refused("C\n3~~~~~@3~~~~~,0;", DeltaError::OutsideBase);
        check_refused("C\n3~~~~~:0;", DeltaError::Malformed);
    }

    #[test]
    fn a_patch_of_another_base_is_noticed() {
        assert_eq!(apply(b"0123456_", b"C\n8@0,4:tail3Omy7M;", 12), Err(DeltaError::WrongChecksum));
    }

    #[test]
    fn payloads_and_patches_are_strings_in_json() {
        let mut out = Vec::new();
        assert_eq!(json_string("19\n_@0,2:èZ@b,2Z09NS;".as_bytes(), &mut out), Ok(()));
        assert_eq!(String::from_utf8_lossy(&out), r#""19\n_@0,2:èZ@b,2Z09NS;""#);
        out.clear();
        assert_eq!(json_string(b"{\"a\": \"<\xe2\x80\xa8\"}", &mut out), Ok(()));
        assert_eq!(String::from_utf8_lossy(&out), r#""{\"a\": \"\u003c\u2028\"}""#);
        out.clear();
        assert_eq!(json_string(b"\"\xff\"", &mut out), Err(InvalidJson));
        assert!(out.is_empty());
    }
}
