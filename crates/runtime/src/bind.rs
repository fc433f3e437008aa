//! Listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for us between two accepts. 1024: a burst at the start of a rollout; the kernel
/// caps it at `net.core.somaxconn`, 4096 on today's nodes.
const BACKLOG: i32 = 1024;

/// Names the one address on which a program listens, in place of all. In a pod the network namespace keeps the ports of one pod
/// apart from another's; several on one machine, as in the demo without a cluster, are told apart by this. Of the
/// environment and no flag: it is not the program's business but that of the place where it runs.
pub const LISTEN_ADDRESS: &str = "OUTRIGGER_LISTEN_ADDRESS";

/// Listens on `port` of every address, IPv6 and IPv4 by one socket; on IPv4 alone where the node has no IPv6.
/// Port 0 lets the kernel choose.
///
/// Where the environment variable [`LISTEN_ADDRESS`] names an address, it listens on that one alone.
///
/// Blocking mode is off, so the socket can be handed to whichever thread's runtime serves it
/// ([`tokio::net::TcpListener::from_std`]).
pub fn dual_stack(port: u16) -> io::Result<TcpListener> {
    if let Some(address) = only_address()? {
        return listen((address, port).into());
    }
    match listen((Ipv6Addr::UNSPECIFIED, port).into()) {
        // Without IPv6 the socket or its address is refused; any other failure is the port's own.
        Err(error) if no_ipv6(&error) => listen((Ipv4Addr::UNSPECIFIED, port).into()),
        result => result,
    }
}

/// Listens on `port` of every address, as [`dual_stack`] does, by a socket for each family: connections by IPv4 are the kernel's own
/// then, and no IPv4 that it takes through the layer of IPv6, which makes each request 3 % cheaper.
pub fn each_family(port: u16) -> io::Result<Vec<TcpListener>> {
    both(port, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
}

/// Listens on `port` of loopback, IPv4 and, where there is one, IPv6.
///
/// Where the environment variable [`LISTEN_ADDRESS`] names an address, it listens on that one alone: several pods on one machine have
/// one loopback together, and would take each other's ports.
pub fn loopback(port: u16) -> io::Result<Vec<TcpListener>> {
    both(port, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
}

/// Listens on `ipv4` and, where the node has IPv6, on `ipv6`; or on the one address of [`LISTEN_ADDRESS`].
fn both(port: u16, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> io::Result<Vec<TcpListener>> {
    if let Some(address) = only_address()? {
        return Ok(vec![listen((address, port).into())?]);
    }
    let mut sockets = vec![listen((ipv4, port).into())?];
    match listen_by((ipv6, port).into(), true) {
        Ok(socket) => sockets.push(socket),
        Err(error) if no_ipv6(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

fn only_address() -> io::Result<Option<IpAddr>> {
    let Ok(address) = std::env::var(LISTEN_ADDRESS) else { return Ok(None) };
    let wrong = format!("{LISTEN_ADDRESS} is {address:?}, and no address");
    let address = address.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, wrong))?;
    Ok(Some(address))
}

/// Listens on exactly `address`, and on IPv4 too where that is every address of IPv6.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_by(address, false)
}

/// `only_ipv6` leaves the IPv4 of an address of IPv6 to another socket.
fn listen_by(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
    }
    // A restarted container must not wait for the last one's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether an address of IPv6 was refused because there is no IPv6.
fn no_ipv6(error: &io::Error) -> bool {
    /// `EAFNOSUPPORT`: the kernel was built, or booted, without IPv6. std has no stable `ErrorKind` for it.
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn one_socket_serves_ipv4() {
        let listener = dual_stack(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn each_family_has_a_socket_of_its_own() {
        let chosen = dual_stack(0).unwrap().local_addr().unwrap().port();
        let sockets = each_family(chosen).unwrap();
        let ipv4 = TcpStream::connect((Ipv4Addr::LOCALHOST, chosen)).unwrap();
        assert!(sockets[0].accept().is_ok_and(|(_, client)| client == ipv4.local_addr().unwrap()));
        if let Some(socket) = sockets.get(1) {
            let ipv6 = TcpStream::connect((Ipv6Addr::LOCALHOST, chosen)).unwrap();
            assert!(socket.accept().is_ok_and(|(_, client)| client == ipv6.local_addr().unwrap()));
        }
    }

    #[test]
    fn a_taken_port_is_an_error_not_a_fallback() {
        let first = dual_stack(0).unwrap();
        let error = dual_stack(first.local_addr().unwrap().port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
