//! The client, run as the program that it is.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};

/// Once the first look for a pod that had just gone took the system's two minutes, whatever `--wait` said.
#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for_longer_than_told() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = socket.listen(0).unwrap();
    let address = silent.local_addr().unwrap();
    // There is room for one that nobody accepts; who comes then gets no answer.
    let _first = TcpStream::connect(address).await.unwrap();
    let asked = Instant::now();
    let program = Command::new(env!("CARGO_BIN_EXE_outrigger-demo"))
        .args(["fetch", &format!("http://{address}/"), "--wait=1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&program.stderr);
    assert!(program.status.code() == Some(2) && said.contains("waited in vain"), "{said}");
    assert!(asked.elapsed() < Duration::from_mins(1), "{:?}", asked.elapsed());
}
