//! Whether somebody may read a metric: the API server is asked, and its answer holds for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use kube::Client;
use serde_json::{Value, json};

use super::front::Caller;
use super::{GROUP, VERSION};

/// An autoscaler asks every 15 s for each of its objects.
const HOLDS: Duration = Duration::from_secs(30);
/// Answers that are kept; beyond, the API server is asked each time.
const MOST: usize = 4096;

/// Who wants what: the namespace and `pods/<metric>`.
type Wish = (Caller, String, String);

/// What the API server said of late.
#[derive(Debug, Default)]
pub(crate) struct Rights(HashMap<Wish, (Instant, bool)>);

impl Rights {
    /// Whether it said so of this, a short while ago.
    pub(crate) fn known(&self, wish: &Wish, now: Instant) -> Option<bool> {
        self.0.get(wish).filter(|(at, _)| now.duration_since(*at) < HOLDS).map(|(_, allowed)| *allowed)
    }

    /// That it said so.
    pub(crate) fn learn(&mut self, wish: Wish, allowed: bool, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, (at, _)| now.duration_since(*at) < HOLDS);
        }
        if self.0.len() < MOST {
            self.0.insert(wish, (now, allowed));
        }
    }
}

/// Asks the API server, with the very attributes by which it would judge the request itself.
pub(crate) async fn review(client: &Client, (caller, namespace, metric): &Wish) -> kube::Result<bool> {
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": caller.user, "groups": caller.groups, "extra": caller.extra,
            "resourceAttributes": {
                "group": GROUP, "version": VERSION, "resource": "pods", "subresource": metric,
                "namespace": namespace, "name": "*", "verb": "get",
            },
        },
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(CONTENT_TYPE, "application/json")
        .body(question.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Value = client.request(request).await?;
    Ok(answer["status"]["allowed"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_a_while_and_for_nobody_else() {
        let (mut rights, now) = (Rights::default(), Instant::now());
        let wish = |user: &str| {
            let caller = Caller { user: user.to_owned(), ..Caller::default() };
            (caller, "shop".to_owned(), "x".to_owned())
        };
        rights.learn(wish("hpa"), true, now);
        assert_eq!(rights.known(&wish("hpa"), now + Duration::from_secs(29)), Some(true));
        assert_eq!(rights.known(&wish("hpa"), now + Duration::from_secs(30)), None);
        assert_eq!(rights.known(&wish("eve"), now), None);
    }
}
