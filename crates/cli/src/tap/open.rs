//! A connection to a pod's sidecar, and the lines that come by it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::pods::Tapped;
use crate::cluster::Cluster;
use crate::error::Hinted;
use crate::reach::Stream;

/// Until the sidecar has answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line; a proxy's is much shorter.
const LONGEST: usize = 64 * 1024;

/// What a sidecar tells.
pub(super) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

/// Asks the pod's sidecar for its requests.
pub(super) async fn open(cluster: &Cluster, pod: &Tapped, query: &str) -> anyhow::Result<Lines> {
    let ask = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(connect(cluster, pod).await?)).await?;
        tokio::spawn(connection);
        let request = Request::get(format!("/tap?{query}")).header(HOST, "localhost");
        let request = request.header(AUTHORIZATION, format!("Bearer {}", pod.token));
        anyhow::Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    };
    let answer =
        tokio::time::timeout(PATIENCE, ask).await.context("its sidecar did not answer in time")??;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(Lines { body: answer.into_body(), rest: Vec::new() });
    }
    let said =
        Limited::new(answer.into_body(), LONGEST).collect().await.map(http_body_util::Collected::to_bytes);
    Err(refusal(pod, status, String::from_utf8_lossy(&said.unwrap_or_default()).trim()).into())
}

/// By the API server, as `kubectl port-forward` does. Only the demo that runs without a cluster has pods on loopback, which are
/// reached there.
async fn connect(cluster: &Cluster, pod: &Tapped) -> anyhow::Result<Box<dyn Stream>> {
    if let Some(address) = pod.address.filter(std::net::IpAddr::is_loopback) {
        return Ok(Box::new(TcpStream::connect((address, pod.admin_port)).await?));
    }
    let mut forwarded =
        cluster.pods(&pod.namespace).portforward(&pod.name, &[pod.admin_port]).await.map_err(|error| {
            let hint = "it takes the right to create pods/portforward there, as kubectl port-forward does";
            Hinted::new(format!("failed to forward a port: {error}"), hint)
        })?;
    Ok(Box::new(forwarded.take_stream(pod.admin_port).context("the port was not forwarded")?))
}

fn refusal(pod: &Tapped, status: StatusCode, said: &str) -> Hinted {
    let (namespace, profile) = pod.profile.split_once('/').unwrap_or(("", &pod.profile));
    let (message, hint) = match status {
        StatusCode::FORBIDDEN => (
            format!("its profile {} does not allow it", pod.profile),
            format!(
                "kubectl -n {namespace} patch sidecarprofile {profile} --type merge -p '{{\"spec\":{{\"proxy\":{{\"tap\":{{\"enabled\":true}}}}}}}}', \
                 then outrigger reconfigure ns/{}",
                pod.namespace
            ),
        ),
        StatusCode::NOT_FOUND => (
            "its sidecar knows no tap".to_owned(),
            "restart the pod: its sidecar is of an older version".to_owned(),
        ),
        StatusCode::UNAUTHORIZED => (
            "its sidecar does not take the token of its annotation".to_owned(),
            "the annotation outrigger.dev/config has changed a moment ago, or is refused: outrigger explain"
                .to_owned(),
        ),
        _ => (
            format!("its sidecar says {}: {said}", status.as_u16()),
            "outrigger tap --help explains the flags".to_owned(),
        ),
    };
    Hinted::new(message, hint)
}

impl Lines {
    /// The next request; none when the sidecar ends its answer.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.rest.drain(..=end).collect();
                if line.len() > 1 {
                    return serde_json::from_slice(&line).map(Some).context("its sidecar's line is no JSON");
                }
                continue;
            }
            if self.rest.len() > LONGEST {
                bail!("its sidecar's line is too long");
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Some(data) = frame.context("the connection broke off")?.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}
