//! Listening sockets: one per shard and port, so that the kernel spreads the connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::start::StartError;

/// Connections that wait to be accepted, per shard; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// How long a port may stay in use before that is an error.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Between two looks at it.
const PROBE_PAUSE: Duration = Duration::from_millis(10);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// IP address or host name; empty for every address of the machine, IPv6 and IPv4. Config key
    /// `http_server.address`, default empty.
    pub address: String,
    /// 0 for a free one. Config key `http_server.port`, default 8000.
    pub port: u16,
}

/// Where one shard accepts connections of one port.
#[derive(Debug)]
pub struct ShardSocket {
    /// The port, by its index in `Options::listeners`.
    pub listener: usize,
    /// Bound; `listen` makes it listen.
    pub socket: Socket,
    /// Other shards accept from the same socket.
    pub shared: bool,
}

/// Binds `sockets` sockets to the same port; they do not listen yet.
///
/// With SO_REUSEPORT a second server would bind the same port without an error and take half of the
/// connections, so a plain bind asks first.
pub fn bind(listen: &Listen, sockets: usize) -> Result<Vec<Socket>, StartError> {
    let mut address = resolve(listen)?;
    if address.port() != 0 {
        drop(probe(&mut address)?);
    }
    (0..sockets).map(|_| bind_one(&mut address, Sharing::WithTheOtherShards)).collect()
}

/// Deals out sockets of one port that others have bound, not empty: the service manager, or the process before this one.
///
/// Each is served, for the kernel sends connections to each: where there are more than shards, some shards have several. Where
/// there are fewer and the port is shared by SO_REUSEPORT, siblings are bound for the others, which needs the same user as
/// those before; else the shards take turns, as they do at the single socket of a manager.
pub fn deal(handed: &[TcpListener], listener: usize, shards: usize) -> io::Result<Vec<Vec<ShardSocket>>> {
    let mut sockets =
        handed.iter().map(|socket| Ok(Socket::from(socket.try_clone()?))).collect::<io::Result<Vec<_>>>()?;
    if sockets.len() < shards {
        sockets.extend(siblings(&sockets, shards - sockets.len()).unwrap_or_default());
    }
    let shared = sockets.len() < shards;
    let mut dealt: Vec<Vec<ShardSocket>> = (0..shards).map(|_| Vec::new()).collect();
    for turn in 0..sockets.len().max(shards) {
        let socket = sockets[turn % sockets.len()].try_clone()?;
        socket.set_nonblocking(false)?;
        dealt[turn % shards].push(ShardSocket { listener, socket, shared });
    }
    Ok(dealt)
}

/// More sockets at the port of these, if it may have some.
fn siblings(sockets: &[Socket], count: usize) -> io::Result<Vec<Socket>> {
    for socket in sockets {
        if !socket.reuse_port()? {
            return Err(io::ErrorKind::Unsupported.into());
        }
    }
    let address = local_address(&sockets[0])?;
    (0..count).map(|_| try_bind(address, Sharing::WithTheOtherShards)).collect()
}

/// Fails if another server has the port. One that was killed keeps it for some 10 ms after its process is gone, until the
/// kernel has taken its rings down: a supervisor that restarts at once must not meet an error for that.
fn probe(address: &mut SocketAddr) -> Result<Socket, StartError> {
    let give_up_at = Instant::now() + PROBE_PATIENCE;
    loop {
        match bind_one(address, Sharing::Alone) {
            Err(StartError::PortInUse { .. }) if Instant::now() < give_up_at => thread::sleep(PROBE_PAUSE),
            bound => return bound,
        }
    }
}

/// A socket that listens, for one thread alone and not for a shard.
pub fn listen_alone(at: &Listen) -> Result<TcpListener, StartError> {
    let mut address = resolve(at)?;
    let socket = probe(&mut address)?;
    listen(&socket)?;
    Ok(socket.into())
}

/// Starts listening. Accepted sockets inherit TCP_NODELAY.
pub fn listen(socket: &Socket) -> Result<(), StartError> {
    let listening = socket.set_tcp_nodelay(true).and_then(|()| socket.listen(BACKLOG));
    listening.map_err(|source| {
        let address = local_address(socket).unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        bind_error(address, source)
    })
}

/// Prefers this socket, of those that share its port, for connections whose packets this CPU takes from the network.
pub fn follow_interrupts(socket: &Socket, cpu: usize) -> Result<(), StartError> {
    let failed = |source| StartError::Bind { address: (Ipv4Addr::UNSPECIFIED, 0).into(), source };
    socket.set_cpu_affinity(cpu).map_err(failed)
}

/// The address a socket is bound to.
pub fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("not an internet address"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithTheOtherShards,
}

fn resolve(listen: &Listen) -> Result<SocketAddr, StartError> {
    if listen.address.is_empty() {
        return Ok((Ipv6Addr::UNSPECIFIED, listen.port).into());
    }
    let bare = listen.address.trim_start_matches('[').trim_end_matches(']');
    let unknown = |source| StartError::Address { address: listen.address.clone(), source };
    let mut found = (bare, listen.port).to_socket_addrs().map_err(unknown)?;
    found.next().ok_or_else(|| unknown(io::Error::other("the name has no address")))
}

/// Falls back to IPv4 where the host has no IPv6; `address` then says so. A free port, once chosen, stays.
fn bind_one(address: &mut SocketAddr, sharing: Sharing) -> Result<Socket, StartError> {
    let mut bound = try_bind(*address, sharing);
    let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
    if everywhere && matches!(&bound, Err(error) if is_without_ipv6(error)) {
        *address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
        bound = try_bind(*address, sharing);
    }
    let socket = bound.map_err(|source| bind_error(*address, source))?;
    *address = local_address(&socket).map_err(|source| bind_error(*address, source))?;
    Ok(socket)
}

fn try_bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the TIME_WAIT of the connections before it.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::WithTheOtherShards {
        socket.set_reuse_port(true)?;
    }
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn bind_error(address: SocketAddr, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ => StartError::Bind { address, source },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn at(address: &str, port: u16) -> Listen {
        Listen { address: address.to_owned(), port }
    }

    #[test]
    fn sockets_of_all_shards_share_a_free_port() {
        let sockets = bind(&at("127.0.0.1", 0), 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|socket| local_address(socket).unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        for socket in &sockets {
            listen(socket).unwrap();
        }
        TcpStream::connect(("127.0.0.1", ports[0])).unwrap();
    }

    #[test]
    fn empty_address_is_ipv4_and_where_there_is_one_ipv6() {
        let sockets = bind(&at("", 0), 1).unwrap();
        listen(&sockets[0]).unwrap();
        let address = local_address(&sockets[0]).unwrap();
        TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        if address.is_ipv6() {
            TcpStream::connect(("::1", address.port())).unwrap();
        }
    }

    #[test]
    fn socket_that_follows_interrupts_names_its_cpu_to_the_kernel() {
        let sockets = bind(&at("127.0.0.1", 0), 2).unwrap();
        follow_interrupts(&sockets[1], 3).unwrap();
        listen(&sockets[1]).unwrap();
        assert_eq!(sockets[1].cpu_affinity().unwrap(), 3);
    }

    #[test]
    fn socket_for_one_thread_keeps_its_port_to_itself() {
        let alone = listen_alone(&at("127.0.0.1", 0)).unwrap();
        let address = alone.local_addr().unwrap();
        TcpStream::connect(address).unwrap();
        let error = listen_alone(&at("127.0.0.1", address.port())).unwrap_err();
        assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
    }

    #[test]
    fn port_of_another_server_is_refused_even_if_that_one_shares() {
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let sharing = bind(&at("127.0.0.1", 0), 1).unwrap();
        listen(&sharing[0]).unwrap();
        for port in [alone.local_addr().unwrap().port(), local_address(&sharing[0]).unwrap().port()] {
            let error = bind(&at("127.0.0.1", port), 2).unwrap_err();
            assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
        }
    }

    #[track_caller]
    fn check_dealt(handed: &[TcpListener], shards: usize, counts: &[usize], shared: bool) {
        let dealt = deal(handed, 7, shards).unwrap();
        assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), counts);
        assert!(dealt.iter().flatten().all(|socket| (socket.listener, socket.shared) == (7, shared)));
        let mut ports: Vec<_> = dealt.iter().flatten().map(|s| local_address(&s.socket).unwrap().port()).collect();
        let mut wanted: Vec<_> = handed.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        for ports in [&mut ports, &mut wanted] {
            ports.sort_unstable();
            ports.dedup();
        }
        assert_eq!(ports, wanted);
    }

    #[test]
    fn every_handed_socket_is_served_and_shards_share_where_there_are_fewer() {
        let handed: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        check_dealt(&handed[..1], 1, &[1], false);
        check_dealt(&handed[..1], 3, &[1, 1, 1], true);
        check_dealt(&handed[..2], 3, &[1, 1, 1], true);
        check_dealt(&handed, 3, &[1, 1, 1], false);
        check_dealt(&handed, 2, &[2, 1], false);
        check_dealt(&handed, 1, &[3], false);
    }

    #[test]
    fn shared_port_gets_a_socket_for_every_shard() {
        let bound = bind(&at("127.0.0.1", 0), 2).unwrap();
        bound.iter().for_each(|socket| listen(socket).unwrap());
        let handed: Vec<TcpListener> = bound.into_iter().map(TcpListener::from).collect();
        check_dealt(&handed, 4, &[1, 1, 1, 1], false);
        check_dealt(&handed, 1, &[2], false);
    }

    #[test]
    fn bad_addresses_are_told_apart() {
        let name = bind(&at("no such host", 0), 1).unwrap_err();
        assert!(matches!(name, StartError::Address { .. }), "{name}");
        let foreign = bind(&at("192.0.2.1", 0), 1).unwrap_err();
        assert!(matches!(foreign, StartError::Bind { .. }), "{foreign}");
    }

    #[test]
    fn ipv6_address_may_stand_in_brackets() {
        let bracketed = resolve(&at("[::1]", 80)).unwrap();
        assert_eq!(bracketed, "[::1]:80".parse().unwrap());
    }
}
