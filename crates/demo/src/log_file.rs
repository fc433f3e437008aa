//! A log of requests in a file, in a form that many apps write: `2026-11-22 10:00:00,123 ERROR [web] GET /products/7 500 12ms`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use jiff::Timestamp;

/// The app, with a line for each request but probes.
pub(crate) fn logged(app: Router, path: &Path) -> anyhow::Result<Router> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.with_context(|| format!("failed to open {}", path.display()))?;
    Ok(app.layer(middleware::from_fn_with_state(Arc::new(Mutex::new(file)), log)))
}

async fn log(State(file): State<Arc<Mutex<File>>>, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let begun = Instant::now();
    let response = next.run(request).await;
    if !asked.ends_with("/healthz") {
        let status = response.status();
        let level = if status.is_server_error() { "ERROR" } else { "INFO" };
        let time = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S,%3f");
        let line =
            format!("{time} {level} [web] {asked} {} {}ms\n", status.as_u16(), begun.elapsed().as_millis());
        // A full disk is no reason not to answer.
        let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
    response
}
