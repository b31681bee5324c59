//! A histogram in HdrHistogram's own format, V2 compressed, for its tools: header, counts as ZigZag LEB128 with runs of zeros as
//! negative numbers, all of it as a zlib stream. Source: HdrHistogram, "V2 encoding".
//!
//! The stream is of stored blocks: a histogram takes some KiB, and the page is for one reader now and then.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringcast_state::metrics::{Histogram, VALUE_MAX};

const COOKIE: u32 = 0x1c84_9303 | 0x10;
const COMPRESSED_COOKIE: u32 = 0x1c84_9304 | 0x10;

/// Digits that the scale keeps.
const SIGNIFICANT_DIGITS: u32 = 3;

/// Longest stored block of zlib.
const BLOCK_MAX: usize = 0xffff;

/// Base64 of the histogram.
pub fn encode(histogram: &Histogram) -> String {
    let stream = zlib(&plain(histogram));
    let mut out = Vec::with_capacity(stream.len() + 8);
    out.extend(COMPRESSED_COOKIE.to_be_bytes());
    out.extend((stream.len() as u32).to_be_bytes());
    out.extend(stream);
    STANDARD.encode(out)
}

fn plain(histogram: &Histogram) -> Vec<u8> {
    let mut counts = Vec::new();
    let mut next = 0;
    for bucket in histogram.buckets() {
        let zeros = (bucket.index - next) as i64;
        if zeros > 0 {
            put_zigzag(&mut counts, -zeros);
        }
        put_zigzag(&mut counts, bucket.count as i64);
        next = bucket.index + 1;
    }
    let mut out = Vec::with_capacity(counts.len() + 40);
    for number in [COOKIE, counts.len() as u32, 0, SIGNIFICANT_DIGITS] {
        out.extend(number.to_be_bytes());
    }
    for number in [1, VALUE_MAX, 1f64.to_bits()] {
        out.extend(number.to_be_bytes());
    }
    out.extend(counts);
    out
}

/// LEB128, but for a ninth byte that is whole.
fn put_zigzag(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    for _ in 0..8 {
        if rest < 0x80 {
            break;
        }
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let last = bytes.len().div_ceil(BLOCK_MAX).saturating_sub(1);
    for (number, block) in bytes.chunks(BLOCK_MAX).enumerate() {
        out.push(u8::from(number == last));
        out.extend((block.len() as u16).to_le_bytes());
        out.extend((!(block.len() as u16)).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(bytes).to_be_bytes());
    out
}

fn adler32(bytes: &[u8]) -> u32 {
    let step = |(a, b): (u32, u32), byte: &u8| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    };
    let (a, b) = bytes.iter().fold((1, 0), step);
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_zigzag(number: i64, want: &[u8]) {
        let mut out = Vec::new();
        put_zigzag(&mut out, number);
        assert_eq!(out, want, "{number}");
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        check_zigzag(0, &[0]);
        check_zigzag(-1, &[1]);
        check_zigzag(1, &[2]);
        check_zigzag(64, &[0x80, 1]);
        check_zigzag(-8192, &[0xff, 0x7f]);
        check_zigzag(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn checksum_is_that_of_zlib() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    /// Counts by place, as a reader of the format finds them.
    fn read(text: &str) -> Vec<(usize, i64)> {
        let bytes = STANDARD.decode(text).expect("base64");
        assert_eq!(bytes[..4], COMPRESSED_COOKIE.to_be_bytes());
        // One stored block: its head takes 7 bytes, the checksum 4.
        let plain = &bytes[8 + 7..bytes.len() - 4];
        assert_eq!(plain[..4], COOKIE.to_be_bytes());
        let (mut found, mut place, mut rest) = (Vec::new(), 0, &plain[40..]);
        while !rest.is_empty() {
            let length = rest.iter().position(|byte| byte & 0x80 == 0).expect("an end") + 1;
            let raw = rest[..length].iter().rev().fold(0u64, |raw, byte| raw << 7 | u64::from(byte & 0x7f));
            let number = (raw >> 1) as i64 ^ -((raw & 1) as i64);
            if number < 0 {
                place += (-number) as usize;
            } else {
                found.push((place, number));
                place += 1;
            }
            rest = &rest[length..];
        }
        found
    }

    #[test]
    fn all_places_come_back() {
        let mut histogram = Histogram::default();
        for (value, times) in [(0, 1), (1, 300), (2047, 2), (60_000_000, 70_000)] {
            histogram.record_n(value, times);
        }
        let want: Vec<_> = histogram.buckets().map(|bucket| (bucket.index, bucket.count as i64)).collect();
        assert_eq!(read(&encode(&histogram)), want);
        assert_eq!(read(&encode(&Histogram::default())), []);
    }
}
