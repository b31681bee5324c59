//! The writer process: accepts the sockets, then writes each block that comes on standard input to all of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// Largest block; a longer one ends the writer.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Serves until standard input ends. Prints the port, and an empty line when all sockets are there.
pub fn serve(sockets: usize) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let sockets = accept(&listener, sockets)?;
    writeln!(out)?;
    out.flush()?;
    write_blocks(&mut io::stdin().lock(), &sockets)
}

/// Accepts so many sockets and makes them nonblocking.
pub fn accept(listener: &TcpListener, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn write_blocks(input: &mut impl Read, sockets: &[TcpStream]) -> io::Result<()> {
    let mut block = Vec::new();
    while read_block(input, &mut block)? {
        for mut socket in sockets {
            write_all(&mut socket, &block)?;
        }
    }
    Ok(())
}

/// Reads the next block into `block`: its length in four bytes, little end first, and that many bytes. False at the end.
pub fn read_block(input: &mut impl Read, block: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > BLOCK_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    block.resize(length, 0);
    input.read_exact(block)?;
    Ok(true)
}

/// One send, as a rule: the receivers have taken everything before. A full socket is tried again.
pub fn write_all(socket: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
