//! The proxy's own routes on the admin server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use outrigger_runtime::admin::{Forbidden, Loopback};
use outrigger_runtime::bearer::{self, Unauthorized};
use outrigger_runtime::shutdown::Trigger;

use crate::live::{Live, Running};
use crate::metrics::Ports;
use crate::stats::Stats;
use crate::tap::{Question, Taps};

/// What the proxy's routes work on.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(crate) ports: Ports,
    pub(crate) live: Live,
    pub(crate) trigger: Trigger,
    pub(crate) leaving: Arc<AtomicBool>,
    pub(crate) taps: Taps,
}

/// `/stats` and `/tap` for holders of the token; `/config` and `POST /drain` for loopback peers; `POST /shutdown` for both.
pub(crate) fn router(exposed: Exposed) -> Router {
    Router::new()
        .route("/stats", get(stats))
        .route("/tap", get(tap))
        .route("/config", get(config))
        .route("/drain", post(drain))
        .route("/shutdown", post(shutdown))
        .with_state(exposed)
}

async fn stats(State(exposed): State<Exposed>, headers: HeaderMap) -> Result<Json<Stats>, Unauthorized> {
    authorize(&exposed, &headers)?;
    Ok(Json(Stats::of(&exposed.ports)))
}

async fn tap(
    State(exposed): State<Exposed>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    question: Result<Query<Question>, QueryRejection>,
) -> Response {
    if let Err(unauthorized) = authorize(&exposed, &headers) {
        return unauthorized.into_response();
    }
    match question {
        Ok(Query(question)) => exposed.taps.open(exposed.live.tap(), question, peer),
        Err(rejection) => rejection.into_response(),
    }
}

async fn config(_: Loopback, State(exposed): State<Exposed>) -> Json<Running> {
    Json(exposed.live.running())
}

async fn drain(_: Loopback, State(exposed): State<Exposed>) -> &'static str {
    tracing::info!("draining: the pod goes, clients are told to connect elsewhere");
    exposed.leaving.store(true, Ordering::Relaxed);
    "draining\n"
}

/// With the token too: the webhook ends the proxy of a Job whose containers are plain, when the work is done.
async fn shutdown(
    loopback: Result<Loopback, Forbidden>,
    State(exposed): State<Exposed>,
    headers: HeaderMap,
) -> Result<&'static str, Unauthorized> {
    if loopback.is_err() {
        authorize(&exposed, &headers)?;
    }
    tracing::info!("stopping: asked by POST /shutdown");
    exposed.trigger.request();
    Ok("stopping\n")
}

fn authorize(exposed: &Exposed, headers: &HeaderMap) -> Result<(), Unauthorized> {
    exposed.live.with_token(|token| bearer::authorize(headers, token))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::header::AUTHORIZATION;
    use axum::http::{Request, StatusCode};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn shutdown_asked_by(peer: &str, authorization: &str) -> (StatusCode, bool) {
        let (trigger, stop) = outrigger_runtime::shutdown::channel();
        let text = r#"{"version":1,"profile":"a/b","token":"secret"}"#.to_owned();
        let loaded = crate::config::parse(Path::new("config.json"), text).unwrap();
        let app = router(Exposed {
            ports: Ports::default(),
            live: Live::new(&loaded, crate::secrets::Served::default()),
            trigger,
            leaving: Arc::default(),
            taps: crate::tap::channel().0,
        });
        let mut request = Request::post("/shutdown").header(AUTHORIZATION, authorization);
        request = request.extension(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = TowerToHyperService::new(app).call(request).await.unwrap();
        (response.status(), stop.is_requested())
    }

    #[tokio::test]
    async fn shutdown_is_for_loopback_and_for_the_token() {
        for (peer, authorization, status) in [
            ("127.0.0.1:1", "", StatusCode::OK),
            ("10.0.0.9:1", "Bearer secret", StatusCode::OK),
            ("10.0.0.9:1", "Bearer guess", StatusCode::UNAUTHORIZED),
            ("10.0.0.9:1", "", StatusCode::UNAUTHORIZED),
        ] {
            let wanted = (status, status == StatusCode::OK);
            assert_eq!(shutdown_asked_by(peer, authorization).await, wanted, "{peer} {authorization}");
        }
    }
}
