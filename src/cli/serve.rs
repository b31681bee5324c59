//! `serve`: a static file server for development. One request per connection, a few at a time; not for the outside.

use super::Failure;
use ringcast_proto::http::{Limits, decode_percent, parse_head, write_response};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Requests served at a time; more wait to be accepted.
const THREADS: usize = 8;

/// How long accepting rests when the system has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// How long a peer may take to send a request, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Content types by extension; anything else is bytes.
const CONTENT_TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("ico", "image/x-icon"),
    ("wasm", "application/wasm"),
    ("woff2", "font/woff2"),
];

/// Serves the files below a folder until the process ends. An empty address is every address of the machine.
pub fn run(address: &str, port: u16, folder: &Path, out: &mut dyn Write) -> Result<String, Failure> {
    let what = folder.display().to_string();
    listen(address, port, &what, out, |path, out| respond(path, folder, out))
}

/// Answers GET requests until the process ends: `respond` writes a response for a path.
pub fn listen(
    address: &str,
    port: u16,
    what: &str,
    out: &mut dyn Write,
    respond: impl Fn(&str, &mut Vec<u8>) + Sync,
) -> Result<String, Failure> {
    let listener = bind(address, port).map_err(|error| format!("listen tcp {address}:{port}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let told = writeln!(out, "start serving {what} on {bound}").and_then(|()| out.flush());
    told.map_err(|error| error.to_string())?;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| accept(&listener, &respond));
        }
    });
    Ok(String::new())
}

fn bind(address: &str, port: u16) -> io::Result<TcpListener> {
    match address {
        "" => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
        address => TcpListener::bind((address, port)),
    }
}

fn accept(listener: &TcpListener, respond: &impl Fn(&str, &mut Vec<u8>)) {
    for stream in listener.incoming() {
        match stream {
            // A peer that is gone, or that is too slow, concerns nobody else.
            Ok(stream) => drop(answer(stream, respond)),
            Err(_) => thread::sleep(REST),
        }
    }
}

fn answer(mut stream: TcpStream, respond: impl Fn(&str, &mut Vec<u8>)) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    let mut out = Vec::new();
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..count]);
        match parse_head(&received, &Limits::default()) {
            Ok(None) => continue,
            Ok(Some((head, _))) if head.method() == "GET" => respond(head.path(), &mut out),
            Ok(Some(_)) => write_response(&mut out, 405, &[("Allow", "GET")], b"", false),
            Err(error) => write_response(&mut out, error.status, &[], error.reason.as_bytes(), false),
        }
        return stream.write_all(&out);
    }
}

fn respond(path: &str, folder: &Path, out: &mut Vec<u8>) {
    let content = locate(path, folder).and_then(|file| Some((content_type(&file), std::fs::read(file).ok()?)));
    match content {
        Some((content_type, bytes)) => {
            let headers = [("Content-Type", content_type), ("Cache-Control", "no-cache")];
            write_response(out, 200, &headers, &bytes, false);
        }
        None => write_response(out, 404, &[("Content-Type", "text/plain")], b"404 page not found\n", false),
    }
}

/// The file that a path of a request names: inside of the folder, hidden ones and `..` excluded.
fn locate(path: &str, folder: &Path) -> Option<PathBuf> {
    let path = decode_percent(path)?;
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    });
    let file = folder.join(relative);
    let file = if file.is_dir() { file.join("index.html") } else { file };
    plain.then_some(file)
}

fn content_type(file: &Path) -> &'static str {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = CONTENT_TYPES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, want: Option<&str>) {
        let found = locate(path, Path::new("/no/such/folder"));
        assert_eq!(found.as_deref(), want.map(Path::new), "{path}");
    }

    /// L08
    #[test]
    fn paths_stay_inside_of_the_folder() {
        check("/a.html", Some("/no/such/folder/a.html"));
        check("/a/b%20c.js", Some("/no/such/folder/a/b c.js"));
        check("//a", Some("/no/such/folder/a"));
        for path in ["/../a", "/a/../../b", "/%2e%2e/a", "/.env", "/.git/config", "/%zz"] {
            check(path, None);
        }
    }

    #[test]
    fn content_types_follow_extensions() {
        assert_eq!(content_type(Path::new("a.HTML")), "text/html; charset=utf-8");
        assert_eq!(content_type(Path::new("a")), "application/octet-stream");
    }
}
