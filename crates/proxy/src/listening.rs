//! Who listens in the pod, from /proc: its containers share one network namespace, whose table shows the sockets of all.
//!
//! Connecting would tell it too, but an app would see connections that nobody means.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use outrigger_api::names::{LOGS_ADMIN_PORT, SYNC_ADMIN_PORT};

/// `TCP_LISTEN` of the kernel, as the table writes it.
const LISTEN: &str = "0A";

/// One line of the tables, as `proc_pid_net(5)` has it.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    port: u16,
    listens: bool,
    user: u32,
    /// What the kernel keeps for a while of a connection that was closed belongs to nobody.
    is_open: bool,
}

/// The TCP ports that somebody listens on; empty where the tables can't be read.
pub(crate) fn ports() -> BTreeSet<u16> {
    sockets().into_iter().filter(|socket| socket.listens).map(|socket| socket.port).collect()
}

/// Whether another user than ours has a TCP socket here. The log adapter, which runs as the app's user, does not count.
pub(crate) fn others_have_sockets() -> bool {
    let own = fs::metadata("/proc/self").map(|process| process.uid());
    let is_apps = |socket: &Socket| {
        socket.is_open
            && ![LOGS_ADMIN_PORT, SYNC_ADMIN_PORT].contains(&socket.port)
            && own.as_ref().is_ok_and(|own| *own != socket.user)
    };
    sockets().iter().any(is_apps)
}

fn sockets() -> Vec<Socket> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(socket).collect()
}

/// Number, local address, remote address, state, queues, timer, retransmissions, user, timeout, inode.
fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Socket { port, listens: state == LISTEN, user, is_open: inode != "0" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn lines_are_read() {
        let listening = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 23151 1 0000000000000000 100 0 0 10 0";
        let wanted = Socket { port: 8080, listens: true, user: 1001, is_open: true };
        assert_eq!(socket(listening), Some(wanted));
        let closed = "   1: 0100007F:1F90 0100007F:C350 06 00000000:00000000 03:00000A2B 00000000     0        0 0 3 0000000000000000";
        assert_eq!(socket(closed), Some(Socket { port: 8080, listens: false, user: 0, is_open: false }));
        assert_eq!(socket("  sl  local_address rem_address   st tx_queue rx_queue"), None);
    }

    #[test]
    fn a_port_is_there_as_long_as_somebody_listens() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(ports().contains(&port), "{address}");
            assert!(!ports().contains(&client.local_addr().unwrap().port()), "a client does not listen");
            let (served, _) = listener.accept().unwrap();
            drop(listener);
            assert!(!ports().contains(&port), "what is served still is not listening");
            drop(served);
        }
    }
}
