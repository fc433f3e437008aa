//! Who listens in the pod, from /proc: its containers share one network namespace, whose table shows the sockets of all.
//!
//! Connecting would tell it too, but an app would see connections that nobody means.

use std::collections::BTreeSet;
use std::fs;

/// `TCP_LISTEN` of the kernel, as the table writes it.
const LISTEN: &str = "0A";

/// The TCP ports that somebody listens on; empty where the tables can't be read.
pub(crate) fn ports() -> BTreeSet<u16> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(listened_on).collect()
}

/// `proc_pid_net(5)`: number, local address, remote address, state.
fn listened_on(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    u16::from_str_radix(port, 16).ok().filter(|_| state == LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

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
