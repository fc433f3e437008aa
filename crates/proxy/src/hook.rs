//! What the pod's lifecycle hooks run in the proxy's container: they ask the proxy there.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use outrigger_api::config::{Interception, SidecarConfig};

use crate::listening;

/// The proxy is in the same container: it answers at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks the proxy behind this admin port to drain: its clients connect elsewhere from now on.
///
/// A native sidecar gets SIGTERM only after the app has ended. By then, clients with open connections have sent requests to
/// an app that is gone; without the proxy, the app itself would have closed those connections. Hooks run at the beginning.
pub fn drain(admin_port: u16) -> io::Result<()> {
    ask(admin_port, "POST", "/drain")
}

/// Waits until the proxy behind this admin port is ready. As a postStart hook it holds the start of the containers that
/// follow, where no native sidecar does that.
pub fn wait(admin_port: u16, at_most: Duration) -> io::Result<()> {
    let deadline = Instant::now() + at_most;
    loop {
        match ask(admin_port, "GET", "/ready") {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => sleep(PAUSE),
        }
    }
}

/// Waits until the app has ended. A plain container gets SIGTERM together with the app, which may go on for a while; the kubelet sends it
/// when this hook has ended.
///
/// Where ports are taken over, it is there as long as somebody listens on one of them. Where all traffic comes by the proxy, an app may have no port and
/// still call others: it is there as long as it has a socket at all. One that has none cannot be seen, and is waited for as long as may be.
pub fn wait_for_end(config: &SidecarConfig, at_most: Duration) {
    let deadline = Instant::now() + at_most;
    let ports = config.inbound.iter().map(|inbound| inbound.target).collect();
    let is_there = || match config.interception {
        Interception::Ports => !listening::ports().is_disjoint(&ports),
        Interception::Redirect => listening::others_have_sockets(),
    };
    let is_hidden = config.interception == Interception::Redirect && !is_there();
    while Instant::now() < deadline && (is_hidden || is_there()) {
        sleep(PAUSE);
    }
}

/// One request without a body. A client library would be a dependency for it.
fn ask(admin_port: u16, method: &str, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin_port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let text = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    let status = answer.lines().next().unwrap_or("no answer");
    Err(io::Error::other(if text.is_empty() { status.to_owned() } else { text.to_owned() }))
}
