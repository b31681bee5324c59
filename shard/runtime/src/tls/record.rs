//! Heads of TLS records, as far as they must be known before rustls sees them.

/// Type, version, length.
const HEAD_BYTES: usize = 5;

/// Longest body of a record that can be legal: RFC 5246, section 6.2.3.
const BODY_BYTES_MAX: usize = (16 << 10) + 2048;

/// Whether rustls can make something of the bytes: a whole record, or a head that is wrong already. Asking it with every
/// byte of a record that comes slowly would be for nothing.
pub fn is_ready(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return false;
    };
    let body = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let is_wrong = !(0x14..=0x18).contains(&head[0]) || head[1] != 3 || body > BODY_BYTES_MAX;
    is_wrong || bytes.len() >= HEAD_BYTES + body
}

/// Whether a peer speaks HTTP where TLS was expected. Source: the same five letters as Go's `net/http`.
pub fn looks_like_http(bytes: &[u8]) -> bool {
    [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"].iter().any(|start| bytes.starts_with(*start))
}

/// Bytes that `plain` bytes take as records, at most: a head, a type, a tag and an explicit nonce each.
pub fn sealed_bytes_max(plain: usize) -> usize {
    const OVERHEAD: usize = HEAD_BYTES + 1 + 16 + 8;
    const FRAGMENT: usize = 16 << 10;
    plain + (plain / FRAGMENT + 1) * OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_ready_when_it_is_whole_or_wrong() {
        let whole = [&[0x17, 3, 3, 0, 3][..], b"abc"].concat();
        assert!((0..whole.len()).all(|length| !is_ready(&whole[..length])));
        assert!(is_ready(&whole));
        assert!(is_ready(b"GET / HTTP"), "no type of a record");
        assert!(is_ready(&[0x16, 2, 0, 0, 1]), "no version");
        assert!(is_ready(&[0x16, 3, 1, 0x48, 1]), "too long");
        assert!(!is_ready(&[0x16, 3, 1, 0x48, 0]));
    }

    #[test]
    fn requests_without_tls_are_recognised_by_their_method() {
        assert!(looks_like_http(b"GET / HTTP/1.1") && looks_like_http(b"POST /api"));
        assert!(!looks_like_http(b"GET") && !looks_like_http(&[0x16, 3, 1, 0, 5]));
    }
}
