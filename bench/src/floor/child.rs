//! The writer process as this tool sees it: started from the same program, spoken to through pipes, ended with the run.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

/// A running writer.
pub struct Child {
    process: process::Child,
    /// `None` only while the writer is being ended.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Child {
    /// Starts a writer for so many sockets on `core`, and learns its port.
    pub fn start(sockets: usize, core: Option<usize>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "--serve", "--subscribers", &sockets.to_string()]);
        if let Some(core) = core {
            command.args(["--pin", &core.to_string()]);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().expect("standard output is piped");
        let mut child = Self { process, input, output: BufReader::new(output), port: 0 };
        let port = child.line()?.parse();
        child.port = port.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        Ok(child)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has accepted all sockets.
    pub fn await_ready(&mut self) -> io::Result<()> {
        self.line().map(drop)
    }

    /// Has it write a block to all sockets.
    pub fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let input = self.input.as_mut().expect("the writer is not being ended");
        let length = u32::try_from(block.len()).map_err(|_| ErrorKind::InvalidInput)?;
        input.write_all(&length.to_le_bytes())?;
        input.write_all(block)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Child {
    /// The writer ends with its input.
    fn drop(&mut self) {
        self.input = None;
        if let Err(error) = self.process.wait() {
            debug_assert!(false, "the writer was not ours to wait for: {error}");
        }
    }
}
