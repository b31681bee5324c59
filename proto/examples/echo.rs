//! An echo server over the WebSocket codec of the server, for Autobahn: `dev/autobahn` starts it. It prints its address.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, clippy::print_stdout, reason = "a server of its own")]

use ringcast_proto::http::{Limits, parse_head};
use ringcast_proto::websocket::{
    Decoder, Deflater, Event, Inflater, Opcode, Role, Strictness, accept, encode_close, encode_deflated_header,
    encode_frame, write_refusal, write_response,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;

/// Largest message: Autobahn sends 16 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Level of what is sent back deflated.
const LEVEL: u8 = 1;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        // A peer that goes away in the middle is none of our business.
        std::thread::spawn(move || drop(serve(stream)));
    }
    Ok(())
}

/// One connection, from its first byte to the end of its last.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut piece, mut out) = (Vec::new(), vec![0; 64 << 10], Vec::new());
    let (head_len, deflate) = loop {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        input.extend_from_slice(&piece[..len]);
        let status = match parse_head(&input, &Limits::default()) {
            Ok(None) => continue,
            Ok(Some((head, head_len))) => match accept(&head, Strictness::Strict) {
                Ok(accepted) => {
                    write_response(&mut out, &accepted.accept_key, None, accepted.deflate);
                    stream.write_all(&out)?;
                    break (head_len, accepted.deflate);
                }
                Err(error) => error.status,
            },
            Err(error) => error.status,
        };
        write_refusal(&mut out, status, &[]);
        return stream.write_all(&out);
    };
    let mut decoder = Decoder::new(Role::Server, MESSAGE_BYTES_MAX);
    if deflate.is_some() {
        decoder = decoder.with_deflate(MESSAGE_BYTES_MAX);
    }
    let mut echo = Echo {
        inflater: Inflater::default(),
        deflater: deflate.filter(|deflate| deflate.inflates_ours()).map(|_| Deflater::default()),
        deflated: Vec::new(),
    };
    let mut bytes = input.split_off(head_len);
    loop {
        out.clear();
        let flow = echo.answer(&mut decoder, &mut bytes, &mut out);
        stream.write_all(&out)?;
        if flow.is_break() {
            break;
        }
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        bytes.clear();
        bytes.extend_from_slice(&piece[..len]);
    }
    // As the server does: what still comes is read, so that no reset overtakes the close frame.
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

struct Echo {
    inflater: Inflater,
    /// When the peer takes deflated messages.
    deflater: Option<Deflater>,
    deflated: Vec<u8>,
}

impl Echo {
    /// Writes the answers to what came; breaks behind a close frame.
    fn answer(&mut self, decoder: &mut Decoder, bytes: &mut [u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        let (deflater, deflated) = (&mut self.deflater, &mut self.deflated);
        let mut send = |out: &mut Vec<u8>, opcode, message: &[u8]| {
            if deflater.as_mut().is_some_and(|deflater| deflater.deflate(LEVEL, message, deflated)) {
                encode_deflated_header(out, opcode, deflated.len());
                out.extend_from_slice(deflated);
            } else {
                encode_frame(out, opcode, message);
            }
        };
        let decoded = decoder.decode_with(bytes, &mut self.inflater, &mut |event| {
            match event {
                Event::Text(message) => send(out, Opcode::Text, message),
                Event::Binary(message) => send(out, Opcode::Binary, message),
                Event::Ping(payload) => encode_frame(out, Opcode::Pong, payload),
                Event::Pong(_) => {}
                Event::Close { code: Some(code), .. } => encode_close(out, code, ""),
                Event::Close { code: None, .. } => encode_frame(out, Opcode::Close, b""),
            }
            ControlFlow::Continue(())
        });
        decoded.unwrap_or_else(|error| {
            encode_close(out, error.close_code(), &error.to_string());
            ControlFlow::Break(())
        })
    }
}
