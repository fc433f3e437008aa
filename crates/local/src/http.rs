//! One request by HTTP/1.1 on a connection that is there: all that the demo asks by itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one of our own processes may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Status and body. `request` is method and path; a body is JSON.
pub(crate) async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    body: Option<&str>,
) -> anyhow::Result<(u16, String)> {
    let length = body.map_or(0, str::len);
    let head = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.unwrap_or_default().as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("the answer has no status")?, body.to_owned()))
}

/// The same, in plain HTTP to one of our own processes.
pub(crate) async fn at(address: SocketAddr, request: &str) -> anyhow::Result<(u16, String)> {
    let asked = async { ask(TcpStream::connect(address).await?, request, None).await };
    tokio::time::timeout(PATIENCE, asked).await.context("no answer in time")?
}
