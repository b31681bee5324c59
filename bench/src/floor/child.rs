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
    pub fn writer(sockets: usize, core: Option<usize>) -> io::Result<Self> {
        let mut child = Self::start(&["--serve", "--subscribers", &sockets.to_string()], core)?;
        child.learn_port()?;
        Ok(child)
    }

    /// Starts a process that answers requests on `core`, tells it what it has to know, and learns its port.
    pub fn answerer(setup: &[u8], core: Option<usize>) -> io::Result<Self> {
        let mut child = Self::start(&["--answer"], core)?;
        child.write(setup)?;
        child.learn_port()?;
        Ok(child)
    }

    /// Starts a process that lets clients in on `core`, tells it what it has to know, and learns its port.
    pub fn greeter(setup: &[u8], core: Option<usize>) -> io::Result<Self> {
        let mut child = Self::start(&["--greet"], core)?;
        child.write(setup)?;
        child.learn_port()?;
        Ok(child)
    }

    fn backend(address: SocketAddr, core: Option<usize>) -> io::Result<Self> {
        let mut child = Self::start(&["--back", &address.to_string()], core)?;
        child.learn_port()?;
        Ok(child)
    }

    fn start(arguments: &[&str], core: Option<usize>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor").args(arguments);
        if let Some(core) = core {
            command.args(["--pin", &core.to_string()]);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().expect("standard output is piped");
        Ok(Self { process, input, output: BufReader::new(output), port: 0 })
    }

    fn learn_port(&mut self) -> io::Result<()> {
        let port = self.line()?.parse();
        self.port = port.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has accepted all sockets that are written to.
    pub fn await_ready(&mut self) -> io::Result<()> {
        self.line().map(drop)
    }

    /// Hands it a block: the writer writes it to all sockets.
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

/// The process that proxies ask; ended with the run.
pub struct Backend(Child);

impl Backend {
    /// Starts it on `core`, and waits until it listens.
    pub fn start(address: SocketAddr, core: Option<usize>) -> io::Result<Self> {
        Child::backend(address, core).map(Self)
    }

    /// How many requests it has answered.
    pub fn answered(&mut self) -> io::Result<u64> {
        self.0.write(&[])?;
        self.0.line()?.parse().map_err(|_| ErrorKind::InvalidData.into())
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
