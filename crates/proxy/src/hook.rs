//! What the pod's `preStop` hook runs: tells the proxy in the same container that the pod goes.
//!
//! A native sidecar gets SIGTERM only after the app has ended. By then, clients with open connections have sent requests to
//! an app that is gone; without the proxy, the app itself would have closed those connections. Hooks run at the beginning.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The proxy is in the same container: it answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the proxy behind this admin port to drain. A client library would be a dependency for one request without body.
pub fn drain(admin_port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin_port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(
        b"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.strip_prefix("HTTP/1.1 200 ") {
        Some(_) => Ok(()),
        None => Err(io::Error::other(answer.lines().next().unwrap_or("no answer").to_owned())),
    }
}
