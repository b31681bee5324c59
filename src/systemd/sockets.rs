//! Listening sockets that the service manager has bound and hands over: socket activation. Ports below 1024 need no
//! capability then, and connections wait in the socket while the server restarts. And those that an earlier process of the unit
//! had bound and stored there, which keeps connections waiting when the process is killed.

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
    /// Of an earlier process, by the names that it gave them.
    stored: Vec<(String, TcpListener)>,
}

/// How the names of stored sockets begin.
const STORED: &str = "stored ";

/// The name of a socket in the manager's store, which separates names by colons.
pub fn stored_name(name: &str) -> String {
    format!("{STORED}{}", name.replace(':', "|"))
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
            let name = names.next();
            if let Some(stored) = name.and_then(|name| name.strip_prefix(STORED)) {
                let socket = sockets.take_tcp_listener(index)?;
                handed.stored.extend(socket.map(|socket| (stored.replace('|', ":"), socket)));
                continue;
            }
            let socket = sockets.take_tcp_listener(index)?;
            let of_name = match name {
                Some(INTERNAL) => &mut handed.internal,
                Some(_) | None => &mut handed.external,
            };
            of_name.extend(socket);
        }
        Ok(handed)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.external.len() + self.internal.len() + self.stored.len()
    }

    /// Takes the stored sockets of this name out.
    pub fn take_stored(&mut self, name: &str) -> Vec<TcpListener> {
        let (taken, rest) = std::mem::take(&mut self.stored).into_iter().partition(|(known, _)| known == name);
        self.stored = rest;
        let taken: Vec<(String, TcpListener)> = taken;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }

    /// Names of the stored sockets that nobody has taken: of ports that are not configured any more.
    pub fn unwanted(&self) -> Vec<String> {
        let mut names: Vec<String> = self.stored.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }

    /// For the listeners of these names, of which there are one or two, their sockets. Fails when there are some for a listener that
    /// is not configured.
    pub fn for_listeners(&mut self, names: &[String]) -> Result<Vec<Vec<TcpListener>>, &'static str> {
        let (external, internal) = (std::mem::take(&mut self.external), std::mem::take(&mut self.internal));
        if names.len() < 2 && !internal.is_empty() {
            return Err(
                "the service manager hands over a socket named internal and there is no internal port: set http_server.internal_port or remove the socket",
            );
        }
        let of_units = [external, internal].into_iter().zip(names);
        let or_stored =
            of_units.map(|(sockets, name)| if sockets.is_empty() { self.take_stored(name) } else { sockets });
        Ok(or_stored.collect())
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
            let mut handed = Handed { external: sockets(external), internal: sockets(internal), stored: Vec::new() };
            let names: Vec<String> = (0..listeners).map(|number: usize| number.to_string()).collect();
            let counts = handed.for_listeners(&names).ok().map(|all| all.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(counts.as_deref(), want, "{external} {internal} {listeners}");
        };
        check(0, 0, 1, Some(&[0]));
        check(0, 0, 2, Some(&[0, 0]));
        check(1, 0, 1, Some(&[1]));
        check(1, 2, 2, Some(&[1, 2]));
        check(0, 1, 2, Some(&[0, 1]));
        check(1, 1, 1, None);
    }

    #[test]
    fn stored_sockets_go_to_the_ports_of_their_names_unless_a_unit_has_some() {
        let names = ["tcp :8000".to_owned(), "tcp :9000".to_owned()];
        let stored = |count| sockets(count).into_iter().map(|socket| (names[0].clone(), socket)).collect();
        let gone = ("tcp :7000".to_owned(), sockets(1).remove(0));
        let mut handed = Handed { stored: stored(2), ..Handed::default() };
        handed.stored.push(gone);
        let counts = |handed: &mut Handed| {
            let all = handed.for_listeners(&names).expect("both are configured");
            all.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(counts(&mut handed), [2, 0]);
        assert_eq!(handed.unwanted(), ["tcp :7000"]);
        let mut handed = Handed { stored: stored(2), external: sockets(1), internal: Vec::new() };
        assert_eq!((counts(&mut handed), handed.unwanted()), (vec![1, 0], vec![names[0].clone()]));
        assert_eq!(stored_name("tcp [::1]:80"), "stored tcp [||1]|80");
    }
}
