//! Masking, which is its own inverse.

/// Applies the mask to bytes that start `offset` bytes into the payload. Eight bytes at a time, which the compiler widens
/// further.
pub(super) fn apply(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let shifted: [u8; 4] = std::array::from_fn(|index| mask[(index + offset) % 4]);
    let word = u32::from_ne_bytes(shifted);
    let wide = u64::from(word) << 32 | u64::from(word);
    let (chunks, tail) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (index, byte) in tail.iter_mut().enumerate() {
        *byte ^= shifted[index % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_is_masked_byte_by_byte() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        for length in 0..40 {
            for offset in 0..9 {
                let plain: Vec<u8> = (0..length).collect();
                let mut masked = plain.clone();
                apply(&mut masked, mask, offset);
                let want: Vec<u8> =
                    plain.iter().enumerate().map(|(index, byte)| byte ^ mask[(index + offset) % 4]).collect();
                assert_eq!(masked, want, "length {length}, offset {offset}");
            }
        }
    }
}
