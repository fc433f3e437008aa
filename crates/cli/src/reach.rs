//! The collector, wherever it listens: at an address of this machine, or on the loopback of its pod, to which the API server
//! forwards, as it does for `kubectl port-forward`.

use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::cluster::ClusterArgs;
use crate::error::Hinted;
use crate::flag;
use crate::output::str_at;

/// Where its page is served.
const PORT: u16 = 15195;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which collector.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReachArgs {
    /// Address of a collector that is reached without a cluster, as 127.0.0.1:15195 of `make demo`
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["kubeconfig", "context", "release_namespace"])]
    pub(crate) collector: Option<String>,

    /// Namespace of the release, where the collector's pod is
    #[arg(long, value_name = "NAMESPACE", default_value = "outrigger-system", value_parser = flag::namespace)]
    release_namespace: String,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// A collector that was found.
pub(crate) enum Reach {
    /// At an address.
    At(String),
    /// In a pod of this name.
    In(Box<Api<Pod>>, String),
}

/// A connection to it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl ReachArgs {
    /// Finds it.
    pub(crate) async fn find(&self) -> anyhow::Result<Reach> {
        if let Some(address) = &self.collector {
            return Ok(Reach::At(address.clone()));
        }
        let cluster = self.cluster.connect().await?;
        let namespace = &self.release_namespace;
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let what = format!("find the collector in namespace {namespace}");
        let labels = "app.kubernetes.io/component=collector,app.kubernetes.io/name=outrigger";
        let pods = cluster.list(&path, labels, &what).await.map_err(Hinted::from)?;
        let running = pods.iter().find(|pod| str_at(pod, "/status/phase") == "Running");
        let pod = running.ok_or_else(|| missing(namespace))?;
        Ok(Reach::In(Box::new(cluster.pods(namespace)), str_at(pod, "/metadata/name").to_owned()))
    }
}

fn missing(namespace: &str) -> Hinted {
    Hinted::new(
        format!("there is no collector that runs in namespace {namespace}"),
        "helm upgrade with collector.enabled=true, or --release-namespace; without a cluster, --collector 127.0.0.1:15195",
    )
}

impl Reach {
    /// A connection of its own.
    pub(crate) async fn stream(&self) -> anyhow::Result<Box<dyn Stream>> {
        match self {
            Self::At(address) => {
                let stream = TcpStream::connect(address).await;
                Ok(Box::new(stream.map_err(|error| {
                    let hint = "is it up? make demo starts one at 127.0.0.1:15195";
                    Hinted::new(format!("failed to reach the collector at {address}: {error}"), hint)
                })?))
            }
            Self::In(pods, name) => {
                let mut forwarded = pods.portforward(name, &[PORT]).await.map_err(|error| {
                    let hint =
                        "it takes the right to create pods/portforward there, as kubectl port-forward does";
                    Hinted::new(format!("failed to forward a port to pod {name}: {error}"), hint)
                })?;
                Ok(Box::new(forwarded.take_stream(PORT).context("the port was not forwarded")?))
            }
        }
    }

    /// What the collector says at this path of its API; none where it knows no such thing.
    pub(crate) async fn ask(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let ask = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream().await?)).await?;
            let connection = tokio::spawn(connection);
            let request = Request::get(format!("/api/v1/{path}")).header(HOST, "localhost");
            let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
            let found = answer.status() != http::StatusCode::NOT_FOUND;
            let body = answer.into_body().collect().await?.to_bytes();
            connection.abort();
            let view = serde_json::from_slice(&body).context("the answer is not a collector's")?;
            Ok(found.then_some(view))
        };
        tokio::time::timeout(PATIENCE, ask).await.context("the collector did not answer in time")?
    }
}
