//! Ringcast: a real-time messaging server, thread-per-core on io_uring, a drop-in replacement for
//! Centrifugo 6. This crate is the program: command line, configuration, logs, start and stop.

mod cli;
mod config;
mod log;
mod run;
mod utc;

use cli::Request;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), &mut std::io::stdout()) {
        Ok(Request::Run(request)) => run::run(&request),
        Ok(Request::Done(code)) => ExitCode::from(code),
        // Standard output is closed: there is nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}
