//! Header fields as HTTP/3 writes them, without the dynamic table: we allow the peer none, so that a field section stands for
//! itself and takes no memory between requests. Source: RFC 9204.

use super::static_table::STATIC_TABLE;
use httlib_huffman::DecoderSpeed;

/// One header field, or a pseudo-header whose name begins with a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Lower case.
    pub name: String,
    /// Any bytes.
    pub value: Vec<u8>,
}

/// Why there are no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Bytes are no field section, or one that needs the dynamic table. The connection ends with `QPACK_DECOMPRESSION_FAILED`.
    Broken,
    /// The fields take more bytes than they may. The request is answered with 431.
    TooLong,
}

/// What counts for a field beside its name and value. Source: RFC 9114 section 4.2.2.
const FIELD_BYTES: usize = 32;

/// The fields of a section, in their order; they take `bytes_max` at most.
pub fn decode(section: &[u8], bytes_max: usize) -> Result<Vec<Field>, DecodeError> {
    let mut reader = Reader { rest: section };
    // Required insert count and base: nothing was inserted, so both mean nothing.
    let insert_count = reader.integer(8)?;
    reader.integer(7)?;
    if insert_count != 0 {
        return Err(DecodeError::Broken);
    }
    let (mut fields, mut bytes) = (Vec::new(), 0);
    while !reader.rest.is_empty() {
        let field = reader.field()?;
        bytes += field.name.len() + field.value.len() + FIELD_BYTES;
        if bytes > bytes_max {
            return Err(DecodeError::TooLong);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Appends a section of these fields.
pub fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
    fields.into_iter().for_each(|(name, value)| encode_field(name, value, out));
}

/// Appends one more field to a section.
pub fn encode_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let known = STATIC_TABLE.iter().position(|(known, text)| *known == name && text.as_bytes() == value);
    if let Some(index) = known {
        return write_integer(0b1100_0000, 6, index, out);
    }
    match STATIC_TABLE.iter().position(|(known, _)| *known == name) {
        Some(index) => write_integer(0b0101_0000, 4, index, out),
        None => {
            write_integer(0b0010_0000, 3, name.len(), out);
            out.extend_from_slice(name.as_bytes());
        }
    }
    write_integer(0, 7, value.len(), out);
    out.extend_from_slice(value);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn field(&mut self) -> Result<Field, DecodeError> {
        let first = *self.rest.first().ok_or(DecodeError::Broken)?;
        let known = |index: usize| STATIC_TABLE.get(index).ok_or(DecodeError::Broken);
        match first {
            // Both by number; the second bit says that the number is of the static table.
            0b1100_0000.. => {
                let (name, value) = known(self.integer(6)?)?;
                Ok(Field { name: (*name).to_owned(), value: value.as_bytes().to_vec() })
            }
            // The name by number.
            0b0101_0000..0b0110_0000 | 0b0111_0000..0b1000_0000 => {
                let (name, _) = known(self.integer(4)?)?;
                Ok(Field { name: (*name).to_owned(), value: self.string(7)? })
            }
            // Both as text.
            0b0010_0000..0b0100_0000 => {
                let name = String::from_utf8(self.string(3)?).map_err(|_| DecodeError::Broken)?;
                Ok(Field { name, value: self.string(7)? })
            }
            // Of the dynamic table.
            _ => Err(DecodeError::Broken),
        }
    }

    /// A number whose first bits share their byte with flags.
    fn integer(&mut self, prefix: u32) -> Result<usize, DecodeError> {
        /// Further bytes of a number: no section has a length or an index beyond them.
        const BYTES_MAX: u32 = 4;
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for index in 0..BYTES_MAX {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Broken)
    }

    /// Text behind its length; the bit above the length says that it is compressed.
    fn string(&mut self, prefix: u32) -> Result<Vec<u8>, DecodeError> {
        let first = *self.rest.first().ok_or(DecodeError::Broken)?;
        let is_compressed = first >> prefix & 1 == 1;
        let length = self.integer(prefix)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Broken)?;
        self.rest = rest;
        if !is_compressed {
            return Ok(bytes.to_vec());
        }
        let mut text = Vec::with_capacity(bytes.len() * 2);
        httlib_huffman::decode(bytes, &mut text, DecoderSpeed::FourBits).map_err(|_| DecodeError::Broken)?;
        Ok(text)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(DecodeError::Broken)?;
        self.rest = rest;
        Ok(*byte)
    }
}

fn write_integer(flags: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        Field { name: name.to_owned(), value: value.as_bytes().to_vec() }
    }

    fn encoded(fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(fields.iter().map(|field| (field.name.as_str(), field.value.as_slice())), &mut out);
        out
    }

    #[track_caller]
    fn check(section: &[u8], want: &[Field]) {
        assert_eq!(decode(section, 1 << 16).as_deref(), Ok(want), "{section:02x?}");
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(5000);
        let fields = [
            field(":method", "CONNECT"),
            field(":path", "/connection/webtransport?a=b"),
            field("origin", &long),
            field("x-mine", ""),
            field(&"n".repeat(300), "v"),
        ];
        check(&encoded(&fields), &fields);
    }

    /// RFC 9204, appendix B.1, and the examples of compressed text in RFC 7541, appendix C.4.
    #[test]
    fn examples_of_the_rfc_are_read() {
        check(b"\x00\x00\x51\x0b/index.html", &[field(":path", "/index.html")]);
        let compressed = b"\x00\x00\x50\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        check(compressed, &[field(":authority", "www.example.com")]);
        check(b"\x00\x00\xd1\xd7", &[field(":method", "GET"), field(":scheme", "https")]);
    }

    #[test]
    fn other_writers_and_we_understand_each_other() {
        use wtransport::proto::headers::Headers;
        let theirs: Headers =
            [(":method", "CONNECT"), (":protocol", "webtransport"), ("cookie", "a=%20b; c")].into_iter().collect();
        let mut read = decode(theirs.generate_frame().payload(), 1 << 16).expect("readable");
        read.sort_by(|a, b| a.name.cmp(&b.name));
        let want = [field(":method", "CONNECT"), field(":protocol", "webtransport"), field("cookie", "a=%20b; c")];
        assert_eq!(read, want);
    }

    #[test]
    fn broken_and_dynamic_sections_are_refused() {
        let broken: [&[u8]; 12] = [
            b"",
            b"\x00",
            b"\x02\x00\x80",
            b"\x00\x00\x80",
            b"\x00\x00\x10",
            b"\x00\x00\x00\x01a",
            b"\x00\x00\x40\x01a",
            b"\x00\x00\xff\x7f",
            b"\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x00\x00\x51\x0b/index",
            b"\x00\x00\x51\x84\xff\xff\xff\xff",
            b"\x00\x00\x21\xff\x00",
        ];
        for section in broken {
            assert_eq!(decode(section, 1 << 16), Err(DecodeError::Broken), "{section:02x?}");
        }
    }

    #[test]
    fn short_bytes_of_long_fields_are_bounded() {
        let section = [&[0, 0][..], &[0xd1; 100]].concat();
        let bytes = 100 * (":method".len() + "GET".len() + FIELD_BYTES);
        assert_eq!(decode(&section, bytes).map(|fields| fields.len()), Ok(100));
        assert_eq!(decode(&section, bytes - 1), Err(DecodeError::TooLong));
    }

    #[test]
    fn no_bytes_make_the_reader_fall() {
        let mut state = 1_u32;
        for length in 0..4000 {
            let bytes = (0..length % 64).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            let section: Vec<u8> = [0, 0].into_iter().chain(bytes).collect();
            let fields = decode(&section, 1 << 16).unwrap_or_default();
            assert!(fields.len() <= section.len());
        }
    }
}
