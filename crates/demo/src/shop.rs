//! A small shop: a page that asks two services, and what these say, as slow and as faulty as somebody wishes just now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use futures::future::join_all;

use crate::call;

/// Where the page's services are, and what is wrong now. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shop {
    /// Of the services `api` and `payments`, where this is the frontend.
    api: Option<Uri>,
    payments: Option<Uri>,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    slow_milliseconds: AtomicU64,
    errors_of_100: AtomicU64,
    /// Decides which requests fail, without dice: evenly.
    requests: AtomicU64,
}

impl Shop {
    /// Of 100 requests to its services, so many fail.
    pub(crate) fn new(api: Option<Uri>, payments: Option<Uri>, errors: u64) -> Self {
        let faults = Faults { errors_of_100: AtomicU64::new(errors), ..Faults::default() };
        Self { api, payments, faults: Arc::new(faults) }
    }
}

#[derive(serde::Deserialize)]
struct Wanted {
    #[serde(default)]
    slow: u64,
    #[serde(default)]
    errors: u64,
}

/// `GET /shop/{id}`, the page; `/products`, `/reviews`, `/prices` and `/payments/{id}`, the services; `PUT /fault?slow=MS&errors=PERCENT`
/// sets what is wrong with the services from then on.
pub(crate) fn routes(shop: Shop) -> Router {
    let services = ["products", "reviews", "prices", "payments"];
    let services = services.into_iter().fold(Router::new(), |router, name| {
        router.route(&format!("/{name}/{{id}}"), get(async move |Path(id): Path<u64>| body(name, id)))
    });
    services
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shop.faults), suffer))
        .route("/shop/{id}", get(page))
        .route("/fault", put(set))
        .with_state(shop)
}

/// As long as a small answer is, and not always the same.
fn body(name: &str, id: u64) -> String {
    let length = usize::try_from(200 + id % 7 * 90).unwrap_or(200);
    format!("{{\"{name}\":{id},\"text\":\"{}\"}}\n", "o".repeat(length))
}

async fn suffer(State(faults): State<Arc<Faults>>, request: axum::extract::Request, next: Next) -> Response {
    let number = faults.requests.fetch_add(1, Relaxed);
    // Some work takes longer than other, also where all is well.
    let usual = 4 + number * 7 % 11;
    tokio::time::sleep(Duration::from_millis(usual + faults.slow_milliseconds.load(Relaxed))).await;
    if number * 37 % 100 < faults.errors_of_100.load(Relaxed) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the database is away\n").into_response();
    }
    next.run(request).await
}

async fn set(State(shop): State<Shop>, Query(wanted): Query<Wanted>) -> &'static str {
    shop.faults.slow_milliseconds.store(wanted.slow, Relaxed);
    shop.faults.errors_of_100.store(wanted.errors, Relaxed);
    "ok\n"
}

/// All that the page shows is asked for at the same time. Without products there is no page; what else fails is left out.
async fn page(State(shop): State<Shop>, Path(id): Path<u64>) -> Result<String, (StatusCode, String)> {
    let asked = [
        (&shop.api, "products"),
        (&shop.api, "reviews"),
        (&shop.api, "prices"),
        (&shop.payments, "payments"),
    ];
    let asked = asked.into_iter().filter_map(|(at, name)| Some((at.as_ref()?, name)));
    let answers =
        join_all(asked.map(async |(at, name)| (name, call::get(at, &format!("/{name}/{id}")).await))).await;
    let mut page = vec![format!("shop {id}")];
    for (name, answer) in answers {
        match answer {
            Ok(200) => page.push(format!("{name}: here")),
            Ok(status) if name != "products" => page.push(format!("{name}: not now ({status})")),
            Err(error) if name != "products" => page.push(format!("{name}: not now ({error:#})")),
            Ok(status) => return Err((StatusCode::BAD_GATEWAY, format!("{name} said {status}\n"))),
            Err(error) => return Err((StatusCode::BAD_GATEWAY, format!("{name}: {error:#}\n"))),
        }
    }
    Ok(page.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn status(app: &Router, method: &str, uri: &str) -> u16 {
        let request = axum::http::Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        TowerToHyperService::new(app.clone()).call(request).await.unwrap().status().as_u16()
    }

    #[tokio::test(start_paused = true)]
    async fn faults_come_and_go_as_they_are_told() {
        let app = routes(Shop::default());
        let failed = async || {
            let mut failed = 0;
            for id in 0..100 {
                failed += u64::from(status(&app, "GET", &format!("/payments/{id}")).await == 500);
            }
            failed
        };
        assert_eq!(failed().await, 0);
        assert_eq!(status(&app, "PUT", "/fault?errors=20&slow=300").await, 200);
        let before = tokio::time::Instant::now();
        assert_eq!(failed().await, 20);
        assert!(before.elapsed() > Duration::from_secs(30));
        assert_eq!(status(&app, "PUT", "/fault").await, 200);
        assert_eq!(failed().await, 0);
        assert_eq!(status(&app, "GET", "/shop/7").await, 200, "a page that asks nobody");
    }
}
