//! The app's own metrics, passed on at a path of their own, `GET /app-metrics`.
//!
//! Not merged into `/metrics`, as Istio's agent does: a family that both have, a line that is none or an app that hangs would take the
//! sidecar's figures with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Frame, Incoming};
use outrigger_api::metrics::AppMetrics;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::live::Live;
use crate::probe::connection;

/// How long the app has for all of its answer: a little less than Prometheus waits by default, so that it is told why there is none.
const MOST_TIME: Duration = Duration::from_secs(9);
/// Bytes of an answer, as they are sent. Prometheus would hold them all; the proxy never has more than some at a time.
const MOST_BYTES: usize = 64 << 20;
/// Readers at a time: each may hold a few hundred kilobytes for as long as [`MOST_TIME`].
const MOST_READERS: usize = 4;

/// What of the request concerns the app. No credentials: these are for the sidecar, if they are for anybody.
const PASSED_ON: [HeaderName; 4] =
    [ACCEPT, ACCEPT_ENCODING, USER_AGENT, HeaderName::from_static("x-prometheus-scrape-timeout-seconds")];
/// What of the app's answer says how to read it.
const PASSED_BACK: [HeaderName; 2] = [CONTENT_TYPE, CONTENT_ENCODING];

#[derive(Clone)]
struct Passing {
    live: Live,
    app: IpAddr,
    readers: Arc<Semaphore>,
}

/// `GET /app-metrics`. `app` is the first of the pod's addresses, where a scrape without the sidecar would go.
pub(crate) fn router(live: Live, app: IpAddr) -> Router {
    let passing = Passing { live, app, readers: Arc::new(Semaphore::new(MOST_READERS)) };
    Router::new().route("/app-metrics", get(answer)).with_state(passing)
}

#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error("failed to connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("failed to make a request for {0:?}: {1}")]
    Request(String, ::http::Error),
    #[error("failed to ask {0}: {1}")]
    Exchange(SocketAddr, hyper::Error),
}

async fn answer(State(passing): State<Passing>, headers: HeaderMap) -> axum::response::Response {
    let Some(metrics) = passing.live.app_metrics() else {
        let why = "the config in force names no metrics of the app: metrics.app in the profile does\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let (begin, answered) = oneshot::channel();
    let (pieces, body) = mpsc::channel(1);
    // Apart from the reader's connection, which is not looked at while its reader takes nothing: the time counts all the same.
    tokio::spawn(async move {
        let gone = pieces.clone();
        tokio::select! {
            () = passing.pass(&metrics, &headers, Outward { begin, pieces }) => {}
            () = tokio::time::sleep(MOST_TIME) => {}
            () = gone.closed() => {}
        }
    });
    match answered.await {
        Ok(Ok(answer)) => answer.map(|()| axum::body::Body::new(Passed(body))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "failed to pass the app's metrics on");
            (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response()
        }
        Err(_) => {
            let why = format!("no answer of the app in {} s\n", MOST_TIME.as_secs());
            (StatusCode::GATEWAY_TIMEOUT, why).into_response()
        }
    }
}

/// Where the app's answer goes: its head, then its body, then the end of it.
struct Outward {
    begin: oneshot::Sender<Result<Response<()>, PassError>>,
    pieces: mpsc::Sender<Piece>,
}

enum Piece {
    Data(Bytes),
    /// That it is whole. Half an answer would be read as one in which series are missing.
    End,
}

impl Passing {
    async fn pass(&self, metrics: &AppMetrics, headers: &HeaderMap, outward: Outward) {
        let Ok(_place) = self.readers.acquire().await else { return };
        let address = SocketAddr::from((self.app, metrics.port));
        let opened = async {
            let request = request(address, &metrics.path, headers)
                .map_err(|error| PassError::Request(metrics.path.clone(), error))?;
            let stream =
                TcpStream::connect(address).await.map_err(|error| PassError::Connect(address, error))?;
            Ok((stream, request))
        };
        let Outward { begin, pieces } = outward;
        let (stream, request) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return drop(begin.send(Err(error))),
        };
        let mut begin = Some(begin);
        let passed = connection::http1(stream, request, async |answer| {
            let (head, body) = outward_bound(answer);
            if let Some(begin) = begin.take() {
                let _ = begin.send(Ok(head));
            }
            send(body, &pieces).await
        });
        let passed = passed.await;
        if let (Err(error), Some(begin)) = (passed, begin) {
            let _ = begin.send(Err(PassError::Exchange(address, error)));
        }
    }
}

fn request(
    address: SocketAddr,
    path: &str,
    headers: &HeaderMap,
) -> Result<Request<Empty<Bytes>>, ::http::Error> {
    let mut request = Request::get(path).header(HOST, address.to_string()).body(Empty::new())?;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    for name in PASSED_ON {
        for value in headers.get_all(&name) {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(request)
}

fn outward_bound(answer: Response<Incoming>) -> (Response<()>, Incoming) {
    let (head, body) = answer.into_parts();
    let mut outward = Response::new(());
    // Of what is no answer, as of a change of protocols, there is none to pass on.
    let is_answer = !head.status.is_informational();
    *outward.status_mut() = if is_answer { head.status } else { StatusCode::BAD_GATEWAY };
    for name in PASSED_BACK {
        if let Some(value) = head.headers.get(&name) {
            outward.headers_mut().insert(name, value.clone());
        }
    }
    (outward, body)
}

async fn send(mut body: Incoming, pieces: &mpsc::Sender<Piece>) -> Result<(), hyper::Error> {
    let mut left = MOST_BYTES;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let Some(rest) = left.checked_sub(data.len()) else { return Ok(()) };
        left = rest;
        if pieces.send(Piece::Data(data)).await.is_err() {
            return Ok(());
        }
    }
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

/// The body on its way to the reader. Without its end it is cut, so that nobody takes it for whole.
struct Passed(mpsc::Receiver<Piece>);

impl hyper::body::Body for Passed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End) => None,
            None => Some(Err(io::Error::other("the app's metrics were not whole in time"))),
        })
    }
}
