//! Listening sockets that the service manager has bound and hands over: socket activation. Ports below 1024 need no
//! capability then, and connections wait in the socket while the server restarts.

use listenfd::ListenFd;
use std::io;
use std::net::TcpListener;

/// Name of the sockets for what is not for the outside; `FileDescriptorName=` of the socket unit.
const INTERNAL: &str = "internal";

/// The sockets that were handed over.
#[derive(Default)]
pub struct Handed {
    /// For the first listener: `http_server.port` and `http_server.address`, whose values do not count then.
    external: Vec<TcpListener>,
    /// For the second one: `http_server.internal_port` and `http_server.internal_address`.
    internal: Vec<TcpListener>,
}

impl Handed {
    /// Takes them, as `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` say. Fails when one is no TCP socket.
    ///
    /// Must come before any thread: the variables are removed. Without `LISTEN_PID` they are for us, as tools for
    /// development want it.
    pub fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut handed = Handed::default();
        for index in 0..sockets.len() {
            let socket = sockets.take_tcp_listener(index)?;
            let of_name = match names.next() {
                Some(INTERNAL) => &mut handed.internal,
                Some(_) | None => &mut handed.external,
            };
            of_name.extend(socket);
        }
        Ok(handed)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.external.len() + self.internal.len()
    }

    /// For each of `listeners` listeners its sockets. Fails when there are some for a listener that is not configured.
    pub fn for_listeners(self, listeners: usize) -> Result<Vec<Vec<TcpListener>>, &'static str> {
        match (listeners, self.internal.is_empty()) {
            (2, _) => Ok(vec![self.external, self.internal]),
            (_, true) => Ok(vec![self.external]),
            (_, false) => Err(
                "the service manager hands over a socket named internal and there is no internal port: set http_server.internal_port or remove the socket",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect()
    }

    #[test]
    fn sockets_go_to_the_listeners_of_their_names() {
        let check = |external, internal, listeners, want: Option<&[usize]>| {
            let handed = Handed { external: sockets(external), internal: sockets(internal) };
            let counts = handed.for_listeners(listeners).ok().map(|all| all.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(counts.as_deref(), want, "{external} {internal} {listeners}");
        };
        check(0, 0, 1, Some(&[0]));
        check(0, 0, 2, Some(&[0, 0]));
        check(1, 0, 1, Some(&[1]));
        check(1, 2, 2, Some(&[1, 2]));
        check(0, 1, 2, Some(&[0, 1]));
        check(1, 1, 1, None);
    }
}
