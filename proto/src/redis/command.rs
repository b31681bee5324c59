//! Commands to Redis, written straight into the buffer that is sent.

/// An argument that is made of parts, so that nothing is put together first.
pub trait Argument {
    /// Bytes that `write` will add.
    fn length(&self) -> usize;
    /// Adds the bytes.
    fn write(&self, out: &mut Vec<u8>);
}

impl Argument for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Argument for &str {
    fn length(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Argument for u64 {
    fn length(&self) -> usize {
        itoa::Buffer::new().format(*self).len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
    }
}

/// The protobuf message, without its length.
impl<M: prost::Message> Argument for Encoded<'_, M> {
    fn length(&self) -> usize {
        self.0.encoded_len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.encode_raw(out);
    }
}

/// A protobuf message as an argument.
pub struct Encoded<'a, M>(pub &'a M);

/// Writes one command after the other.
pub struct CommandWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Arguments still to come of the command that was begun.
    left: usize,
}

impl<'a> CommandWriter<'a> {
    /// Adds to what is there.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, left: 0 }
    }

    /// A command of so many words, its name among them.
    pub fn begin(&mut self, words: usize) -> &mut Self {
        debug_assert_eq!(self.left, 0, "the command before is not whole");
        self.left = words;
        self.head(b'*', words)
    }

    /// Its next word.
    pub fn word(&mut self, argument: impl Argument) -> &mut Self {
        debug_assert!(self.left > 0, "more words than were announced");
        self.left -= 1;
        self.head(b'$', argument.length());
        argument.write(self.out);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// A whole command of plain words.
    pub fn command(&mut self, words: &[&[u8]]) -> &mut Self {
        self.begin(words.len());
        for word in words {
            self.word(*word);
        }
        self
    }

    fn head(&mut self, kind: u8, number: usize) -> &mut Self {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E02
    #[test]
    fn commands_are_written_as_arrays_of_strings() {
        let mut out = Vec::new();
        CommandWriter::new(&mut out).command(&[b"GET", b"a"]).begin(2).word("DECR").word(12_u64);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nDECR\r\n$2\r\n12\r\n");
    }
}
