//! Answers http-01 challenges; sends everybody else to HTTPS. Source: `autocert.Manager.HTTPHandler`.

use super::store::Store;
use ringcast_proto::http::{Limits, parse_head};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Path of a challenge, before the token.
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Connections at the same time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// For a request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest head.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Serves in the background. The socket must not block.
pub fn serve(socket: TcpListener, store: Arc<Store>) -> io::Result<()> {
    let socket = tokio::net::TcpListener::from_std(socket)?;
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Ok(place) = places.clone().acquire_owned().await {
            let Ok((stream, _)) = socket.accept().await else {
                // Descriptors have run out.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let store = store.clone();
            tokio::spawn(async move {
                let _place = place;
                // A peer that goes away or says nothing is its own affair.
                let _ = timeout(PATIENCE, answer(stream, &store)).await;
            });
        }
    });
    Ok(())
}

async fn answer(mut stream: TcpStream, store: &Store) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let response = loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        if let Some(response) = respond(&head, store) {
            break response;
        }
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// None as long as the head is not complete.
fn respond(head: &[u8], store: &Store) -> Option<String> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let target = String::from_utf8_lossy(line.split(|byte| *byte == b' ').nth(1).unwrap_or(b"/")).into_owned();
    let head = match parse_head(head, &Limits::default()) {
        Ok(Some((head, _))) => head,
        Ok(None) if head.len() < HEAD_BYTES_MAX => return None,
        Ok(None) | Err(_) => return Some(text("400 Bad Request", "bad request\n")),
    };
    if let Some(token) = head.path().strip_prefix(CHALLENGE) {
        return Some(match store.token(token) {
            Some(answer) => text("200 OK", &answer),
            None => text("404 Not Found", "no such challenge\n"),
        });
    }
    let host = head.header("host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    if !matches!(head.method(), "GET" | "HEAD") || store.allowed(host).is_none() {
        return Some(text("400 Bad Request", "Use HTTPS\n"));
    }
    Some(format!(
        "HTTP/1.1 302 Found\r\nLocation: https://{host}{target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

fn text(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
