//! Probes and lifecycle handlers of the app, answered by asking the app as the kubelet would have.
//!
//! On the admin server's thread: a probe waits for no request, and is not counted as one.

pub(crate) mod connection;
mod grpc;
mod http;
mod redirect;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ::http::{HeaderMap, Response, StatusCode};
use axum::Router;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::Full;
use hyper::body::Bytes;
use outrigger_api::probe::{Probe, ProbeAction};
use outrigger_runtime::admin::HangUp;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::live::Live;

/// The most of an answer that is passed on: more the kubelet does not read.
const MOST_BODY: usize = 10 * 1024;

/// What probes are answered by.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) live: Live,
    /// Where the kubelet asks: the first of the pod's addresses.
    pub(crate) app: IpAddr,
    tls: TlsConnector,
}

impl Prober {
    pub(crate) fn new(live: Live, app: IpAddr) -> Self {
        Self { live, app, tls: connection::tls() }
    }
}

/// `GET /probe/{container}/{kind}`.
pub(crate) fn router(prober: Prober) -> Router {
    Router::new().route("/probe/{container}/{kind}", get(answer)).with_state(prober)
}

type Answer = Response<Full<Bytes>>;

/// Why the app gave no answer that could be passed on.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("failed to connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("failed to open TLS with {0}: {1}")]
    Tls(SocketAddr, io::Error),
    #[error("failed to ask {0}: {1}")]
    Exchange(SocketAddr, hyper::Error),
    #[error("failed to make a request for {0:?}: {1}")]
    Request(String, ::http::Error),
    #[error("more than {} redirects", redirect::MOST)]
    TooManyRedirects,
    #[error("health of service {service:?} is {status}, not SERVING")]
    NotServing { service: String, status: String },
    #[error("no answer in {0} s")]
    Timeout(u32),
}

impl ProbeError {
    /// One status for each thing to be done about it: the kubelet's event shows the status and not the text.
    fn status(&self) -> StatusCode {
        match self {
            Self::NotServing { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

async fn answer(
    State(prober): State<Prober>,
    Path((container, kind)): Path<(String, String)>,
    headers: HeaderMap,
) -> axum::response::Response {
    let Some(probe) = prober.live.probe(&container, &kind) else {
        let text = format!("the config in force has no probe {kind} of container {container}\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    match prober.ask_in_time(&probe, &headers).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            tracing::debug!(%error, path = probe.path(), "probe failed");
            let answer = (error.status(), format!("{error}\n"));
            // Any answer at all is a success of a handler to the kubelet. Only no answer is what it would have got.
            if probe.kind.is_handler() { HangUp.into_response() } else { answer.into_response() }
        }
    }
}

impl Prober {
    async fn ask_in_time(&self, probe: &Probe, headers: &HeaderMap) -> Result<Answer, ProbeError> {
        let asked = self.ask(&probe.action, headers);
        match probe.timeout_seconds {
            Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds.into()), asked)
                .await
                .map_err(|_| ProbeError::Timeout(seconds))?,
            None => asked.await,
        }
    }

    async fn ask(&self, action: &ProbeAction, headers: &HeaderMap) -> Result<Answer, ProbeError> {
        match action {
            ProbeAction::Http(probe) => http::ask(self.app, probe, headers, &self.tls).await,
            ProbeAction::Tcp { port } => {
                connect((self.app, *port).into()).await?;
                Ok(Response::new(Full::from("connected\n")))
            }
            ProbeAction::Grpc { port, service } => {
                grpc::ask((self.app, *port).into(), service, headers).await?;
                Ok(Response::new(Full::from("SERVING\n")))
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(address).await.map_err(|error| ProbeError::Connect(address, error))
}
