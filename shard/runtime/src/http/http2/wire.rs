//! The bytes between a socket and the HTTP/2 library: two bounded buffers behind the traits that it reads and writes by. Nobody
//! is woken; whoever fills or drains a buffer polls the connection afterwards.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait for the socket. Full: nothing more is written, and with that nothing more read.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Received bytes from which on the socket is not read; a receive that was under way still fits.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// One handle of the two buffers.
#[derive(Clone, Default)]
pub struct Wire(Rc<RefCell<Buffers>>);

#[derive(Default)]
struct Buffers {
    input: Vec<u8>,
    /// Bytes of the input that have been read.
    read: usize,
    output: Vec<u8>,
}

impl Wire {
    /// Hands over what came.
    pub fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(bytes);
    }

    /// So much came that the socket should not be read.
    pub fn is_full(&self) -> bool {
        let buffers = self.0.borrow();
        buffers.input.len() - buffers.read > INPUT_BYTES_MAX
    }

    /// Whether bytes wait for the socket.
    pub fn has_output(&self) -> bool {
        !self.0.borrow().output.is_empty()
    }

    /// What waits for the socket; `empty` is filled next.
    pub fn take_output(&self, empty: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.0.borrow_mut().output, empty)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffers = self.0.borrow_mut();
        let waiting = &buffers.input[buffers.read..];
        if waiting.is_empty() {
            return Poll::Pending;
        }
        let taken = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..taken]);
        buffers.read += taken;
        if buffers.read == buffers.input.len() {
            (buffers.input, buffers.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let output = &mut self.0.borrow_mut().output;
        let taken = bytes.len().min(OUTPUT_BYTES_MAX.saturating_sub(output.len()));
        if taken == 0 {
            return Poll::Pending;
        }
        output.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn write(wire: &mut Wire, bytes: &[u8]) -> Option<usize> {
        match Pin::new(wire).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(written) => Some(written.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn output_is_bounded_until_it_is_taken() {
        let mut wire = Wire::default();
        assert_eq!(write(&mut wire, &[0; OUTPUT_BYTES_MAX - 1]), Some(OUTPUT_BYTES_MAX - 1));
        assert_eq!((write(&mut wire, &[0; 9]), write(&mut wire, &[0; 9])), (Some(1), None));
        assert_eq!(wire.take_output(Vec::new()).len(), OUTPUT_BYTES_MAX);
        assert_eq!((wire.has_output(), write(&mut wire, &[0; 9])), (false, Some(9)));
    }

    #[test]
    fn input_is_read_in_its_order() {
        let mut wire = Wire::default();
        wire.push(b"ab");
        wire.push(b"c");
        let (mut read, mut room) = (Vec::new(), [0; 2]);
        loop {
            let mut into = ReadBuf::new(&mut room);
            match Pin::new(&mut wire).poll_read(&mut Context::from_waker(Waker::noop()), &mut into) {
                Poll::Ready(done) => done.unwrap(),
                Poll::Pending => break,
            }
            read.extend_from_slice(into.filled());
        }
        assert_eq!(read, b"abc");
        wire.push(&[0; INPUT_BYTES_MAX + 1]);
        assert!(wire.is_full());
    }
}
