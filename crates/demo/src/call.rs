//! One request on a connection of its own.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long it may take in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status of a GET of this path, its answer read to the end.
pub(crate) async fn get(at: &Uri, path: &str) -> anyhow::Result<u16> {
    tokio::time::timeout(PATIENCE, patiently(at, path)).await.context("no answer in time")?
}

async fn patiently(at: &Uri, path: &str) -> anyhow::Result<u16> {
    let host = at.authority().context("the URL names no host")?.as_str();
    let stream = TcpStream::connect((at.host().unwrap_or_default(), at.port_u16().unwrap_or(80)))
        .await
        .with_context(|| format!("failed to reach {host}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    drop(sender);
    connection.abort();
    Ok(status)
}
