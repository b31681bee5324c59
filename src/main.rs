//! Ringcast: a real-time messaging server, thread-per-core on io_uring, a drop-in replacement for
//! Centrifugo 6. This crate is the program: command line, configuration, logs, start and stop.

#![expect(dead_code, reason = "the server starts once the runtime has its pool")]

mod cli;
mod config;
mod log;
mod utc;

use cli::Request;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &mut std::io::stdout()) {
        Ok(Request::Done(code)) => ExitCode::from(code),
        Ok(Request::Run(_)) | Err(_) => ExitCode::FAILURE,
    }
}
