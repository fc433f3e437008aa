//! What browsers and `outrigger top` ask: the page, snapshots as JSON, and the same as server-sent events.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use futures::{Stream, StreamExt, stream};
use outrigger_runtime::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval};

use crate::guard::guard;
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::page;
use crate::pod::Key;
use crate::shared::Shared;
use crate::view;

/// From one event to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Streams at a time. Each is a page that somebody looks at.
const MOST_STREAMS: usize = 32;
/// The description of all this.
pub(crate) const OPENAPI: &str = include_str!("openapi.json");

/// What the routes work on.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    shared: Shared,
    metrics: Metrics,
    shutdown: Shutdown,
    streams: Arc<Semaphore>,
}

/// All routes, behind the guard.
pub(crate) fn router(shared: Shared, metrics: Metrics, shutdown: Shutdown, listen: SocketAddr) -> Router {
    let served = Served { shared, metrics, shutdown, streams: Arc::new(Semaphore::new(MOST_STREAMS)) };
    let api = Router::new()
        .route("/mesh", get(mesh))
        .route("/services/{namespace}/{name}", get(service))
        .route("/pods/{namespace}/{name}", get(pod))
        .route("/events/mesh", get(mesh_events))
        .route("/events/services/{namespace}/{name}", get(service_events))
        .route("/events/pods/{namespace}/{name}", get(pod_events))
        .route("/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPENAPI)));
    page::routes()
        .nest("/api/v1", api)
        .with_state(served)
        .layer(middleware::from_fn_with_state(listen, guard))
}

type Named = Path<(String, String)>;

fn key(Path((namespace, name)): Named) -> Key {
    Key { namespace, name }
}

async fn mesh(State(served): State<Served>) -> Response {
    Json(served.shared.look(|mesh| view::mesh(mesh, Instant::now()))).into_response()
}

async fn service(State(served): State<Served>, named: Named) -> Response {
    let key = key(named);
    found(served.shared.look(|mesh| view::service(mesh, &key, Instant::now())), "service")
}

async fn pod(State(served): State<Served>, named: Named) -> Response {
    let key = key(named);
    found(served.shared.look(|mesh| view::pod(mesh, &key, Instant::now())), "pod")
}

fn found(view: Option<impl serde::Serialize>, what: &str) -> Response {
    match view {
        Some(view) => Json(view).into_response(),
        None => {
            (StatusCode::NOT_FOUND, Json(view::problem(&format!("there is no such {what}")))).into_response()
        }
    }
}

async fn mesh_events(State(served): State<Served>) -> Response {
    events(served, |mesh| serde_json::to_string(&view::mesh(mesh, Instant::now())).ok())
}

async fn service_events(State(served): State<Served>, named: Named) -> Response {
    let key = key(named);
    events(served, move |mesh| serde_json::to_string(&view::service(mesh, &key, Instant::now())?).ok())
}

async fn pod_events(State(served): State<Served>, named: Named) -> Response {
    let key = key(named);
    events(served, move |mesh| serde_json::to_string(&view::pod(mesh, &key, Instant::now())?).ok())
}

/// `view` once a second, as JSON; an event `absent` where there is no such thing, now.
fn events(served: Served, view: impl Fn(&Mesh) -> Option<String> + Send + 'static) -> Response {
    let Ok(permit) = Arc::clone(&served.streams).try_acquire_owned() else {
        let message = view::problem("too many pages are open");
        return (StatusCode::SERVICE_UNAVAILABLE, Json(message)).into_response();
    };
    Sse::new(stream_of(served, permit, view)).into_response()
}

fn stream_of(
    served: Served,
    permit: OwnedSemaphorePermit,
    view: impl Fn(&Mesh) -> Option<String>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let viewer = served.metrics.viewer();
    let shutdown = served.shutdown.clone();
    // The permit and the viewer go when the stream does.
    let events = stream::unfold((ticks, permit, viewer, view), move |(mut ticks, permit, viewer, view)| {
        let shared = served.shared.clone();
        async move {
            ticks.tick().await;
            let event = match shared.look(&view) {
                Some(json) => Event::default().data(json),
                None => Event::default().event("absent").data("{}"),
            };
            Some((Ok(event), (ticks, permit, viewer, view)))
        }
    });
    events.take_until(async move { shutdown.requested().await })
}
