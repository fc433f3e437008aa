//! `POST /mutate`: the body, parsing, the decision, the answer, and a word about each in metrics, log and Events.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt;
use outrigger_inject::Outcome;

use crate::answer;
use crate::body::{Bodies, BodyError};
use crate::decision::{Decider, DecisionError, INJECTED};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::review::{Request, ReviewError};

/// What the handler works on.
pub struct Mutate {
    /// Decides about pods.
    pub decider: Decider,
    /// What bodies may take.
    pub bodies: Bodies,
    /// Where it tells owners of pods.
    pub events: Events,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Why a request gets no review back.
#[derive(Debug, thiserror::Error)]
enum MutateError {
    #[error("content type is not understood: it takes application/json")]
    ContentType,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Review(#[from] ReviewError),
    #[error(transparent)]
    Decision(#[from] DecisionError),
    #[error("failed to encode answer: {0}")]
    Encode(serde_json::Error),
    #[error("failed to decide: this is a bug, and the log says where")]
    Panic,
}

/// The one route of the TLS port. How long it may take, its body included, is [`crate::server`]'s to limit.
pub fn router(mutate: Mutate) -> Router {
    Router::new().route("/mutate", post(answer)).with_state(Arc::new(mutate))
}

async fn answer(State(mutate): State<Arc<Mutate>>, headers: HeaderMap, body: Body) -> Response {
    let reviewed = AssertUnwindSafe(mutate.review(&headers, body)).catch_unwind();
    match reviewed.await.unwrap_or(Err(MutateError::Panic)) {
        Ok(body) => {
            let json = HeaderValue::from_static("application/json");
            ([(CONTENT_TYPE, json)], body).into_response()
        }
        Err(error) => {
            let reason = error.code();
            mutate.metrics.count("error", reason, "unknown");
            tracing::warn!(result = "error", reason, %error, "admission");
            let mut response = (error.status(), format!("{error}\n")).into_response();
            if error.status() == StatusCode::TOO_MANY_REQUESTS {
                // API servers then ask again by themselves, as long as their own time limit allows.
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

impl Mutate {
    async fn review(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, MutateError> {
        if !is_json(headers) {
            return Err(MutateError::ContentType);
        }
        // Held to the end: what is made of the body is larger than the body.
        let body = self.bodies.read(body).await?;
        let begin = Instant::now();
        let request = Request::parse(&body.bytes)?;
        let answer = self.answer(&request, begin).await;
        self.metrics.admission_duration.observe(begin.elapsed().as_secs_f64());
        answer
    }

    async fn answer(&self, request: &Request, begin: Instant) -> Result<Vec<u8>, MutateError> {
        if let Some(why) = request.out_of_scope() {
            const REASON: &str = "NotAPodCreation";
            self.record(request, "skipped", REASON, None, begin);
            let answer = answer::Response::left_alone(&request.uid, REASON, &why);
            return answer.encode().map_err(MutateError::Encode);
        }
        if request.namespace.is_empty() {
            return Err(ReviewError::Missing("request.namespace").into());
        }
        let outcome = self.decider.decide(&request.object, &request.namespace).await?;
        let answer = answer::Response::decided(&request.uid, &outcome);
        let answer = answer.and_then(|answer| answer.encode()).map_err(MutateError::Encode)?;
        let (result, reason, profile) = match &outcome {
            Outcome::Injected { report, .. } => ("injected", INJECTED, Some(report.profile.as_str())),
            Outcome::Skipped { reason, .. } => ("skipped", reason.code(), None),
            Outcome::Rejected { reason, .. } => ("rejected", reason.code(), None),
        };
        self.record(request, result, reason, profile, begin);
        self.events.decided(request, &outcome);
        Ok(answer)
    }

    fn record(
        &self,
        request: &Request,
        result: &'static str,
        reason: &'static str,
        profile: Option<&str>,
        begin: Instant,
    ) {
        let dry_run = request.dry_run == Some(true);
        self.metrics.count(result, reason, if dry_run { "true" } else { "false" });
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (namespace, pod) = (&request.namespace, request.pod_name());
        tracing::info!(namespace, pod, result, reason, profile, dry_run, micros, "admission");
    }
}

impl MutateError {
    /// The code in metrics and log; one of [`crate::metrics::ERRORS`].
    fn code(&self) -> &'static str {
        match self {
            Self::ContentType => "WrongContentType",
            Self::Body(BodyError::TooLarge) => "BodyTooLarge",
            Self::Body(BodyError::Overloaded) => "Overloaded",
            Self::Body(BodyError::Broken(_)) => "UnreadableBody",
            Self::Review(_) => "MalformedReview",
            Self::Decision(_) => "NoDecision",
            Self::Encode(_) | Self::Panic => "Bug",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Overloaded) => StatusCode::TOO_MANY_REQUESTS,
            Self::Body(BodyError::Broken(_)) | Self::Review(_) => StatusCode::BAD_REQUEST,
            Self::Decision(_) | Self::Encode(_) | Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// With or without parameters, such as a charset.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
