//! What is answered: pure, from the mesh as it is known.

use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::labels::Selector;
use super::{GROUP, VERSION};
use crate::mesh::Mesh;
use crate::watched::Watched;

/// An answer of a sidecar that is older says nothing about now.
const FRESH: Duration = Duration::from_secs(2);

/// A metric by its name, and how it is read off a pod: none where there is nothing to say, which is not 0.
type Metric = (&'static str, fn(&Watched, Instant) -> Option<f64>);

/// What there is of each pod. The names are those that Prometheus' adapter makes of the same metrics with docs/autoscaling.md, so
/// that an autoscaler need not know who answers.
const METRICS: [Metric; 3] = [
    ("outrigger_http_requests_per_second", |pod, now| Some(pod.figures(now)?.rate)),
    ("outrigger_http_active_requests", |pod, _| pod.in_flight()),
    ("outrigger_http_request_duration_p95_seconds", |pod, now| {
        Some(pod.figures(now)?.durations.quantile(0.95)? / 1000.0)
    }),
];

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which metrics there are.
    Discovery,
    /// One metric of one pod, or of all (`*`) that a selector names.
    Metric {
        /// Of the pods.
        namespace: String,
        /// Of the pod, or `*`.
        pod: String,
        /// Of the metric.
        metric: String,
    },
}

impl Question {
    /// By the path of the request; none where nothing is there.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        (parts.next() == Some("apis") && parts.next() == Some(GROUP) && parts.next() == Some(VERSION))
            .then_some(())?;
        match parts.collect::<Vec<_>>()[..] {
            [] => Some(Self::Discovery),
            ["namespaces", namespace, "pods", pod, metric] => Some(Self::Metric {
                namespace: namespace.to_owned(),
                pod: pod.replace("%2A", "*"),
                metric: metric.to_owned(),
            }),
            _ => None,
        }
    }
}

/// The metrics, as `kubectl get --raw` and the autoscaler find them.
pub(crate) fn discovery() -> Value {
    let resource = |(name, _): Metric| json!({"name": format!("pods/{name}"), "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]});
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": METRICS.map(resource),
    })
}

/// The metric of one pod, or of those that `selector` names.
pub(crate) fn values(
    mesh: &Mesh,
    (namespace, pod, metric): (&str, &str, &str),
    selector: &Selector,
    now: Instant,
) -> Result<String, (StatusCode, String)> {
    let not_found = |what: String| Err((StatusCode::NOT_FOUND, what));
    let Some((_, read)) = METRICS.into_iter().find(|(name, _)| *name == metric) else {
        let names = METRICS.map(|(name, _)| name).join(", ");
        return not_found(format!("there is no metric {metric} of pods: there are {names}"));
    };
    let meant = |watched: &&Watched| {
        let own = &watched.pod.key;
        own.namespace == namespace && (pod == "*" || own.name == pod) && selector.matches(&watched.pod.labels)
    };
    let clock = SystemTime::now();
    let items: Vec<_> = mesh
        .pods()
        .filter(meant)
        .filter_map(|watched| {
            let age = watched.last_answer(now).filter(|age| *age <= FRESH)?;
            Some(MetricValue::of(watched, metric, read(watched, now)?, clock - age))
        })
        .collect();
    if items.is_empty() && pod != "*" {
        return not_found(format!(
            "pod {namespace}/{pod} has no {metric} now: no sidecar, no answer of it, or no requests"
        ));
    }
    let list = MetricValueList {
        kind: "MetricValueList",
        api_version: format!("{GROUP}/{VERSION}"),
        metadata: Empty {},
        items,
    };
    Ok(serde_json::to_string(&list).expect("texts and lists of them"))
}

/// <https://github.com/kubernetes/metrics/blob/v0.34.0/pkg/apis/custom_metrics/v1beta2/types.go>
///
/// A type and no `Value`, which for 2,000 pods took 8 ms and not 1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetricValueList<'a> {
    kind: &'static str,
    api_version: String,
    metadata: Empty,
    items: Vec<MetricValue<'a>>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue<'a> {
    described_object: ObjectReference<'a>,
    metric: MetricIdentifier<'a>,
    timestamp: Timestamp,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference<'a> {
    kind: &'static str,
    api_version: &'static str,
    namespace: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct MetricIdentifier<'a> {
    name: &'a str,
    selector: Option<Empty>,
}

impl<'a> MetricValue<'a> {
    fn of(watched: &'a Watched, metric: &'a str, value: f64, at: SystemTime) -> Self {
        let key = &watched.pod.key;
        Self {
            described_object: ObjectReference {
                kind: "Pod",
                api_version: "/v1",
                namespace: &key.namespace,
                name: &key.name,
            },
            metric: MetricIdentifier { name: metric, selector: None },
            timestamp: whole_seconds(at),
            value: quantity(value),
        }
    }
}

/// Kubernetes' times have no more.
fn whole_seconds(at: SystemTime) -> Timestamp {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// As Kubernetes writes amounts: in thousandths, for a rate of 1.5 is `1500m`.
#[allow(clippy::cast_possible_truncation)] // requests a second, far below 2^63
fn quantity(value: f64) -> String {
    let thousandths = (value * 1000.0).round() as i64;
    if thousandths % 1000 == 0 { (thousandths / 1000).to_string() } else { format!("{thousandths}m") }
}

/// What goes wrong, as API servers say it.
pub(crate) fn failure(status: StatusCode, message: &str) -> Value {
    let reason = match status {
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::pod::Pod;
    use crate::pod::tests::object;
    use crate::stats::Stats;

    use super::*;

    const RATE: &str = "outrigger_http_requests_per_second";

    fn stats(requests: u64) -> Stats {
        let document = json!({"ports": [{"port": "http", "direction": "inbound", "http": {
            "requests": requests, "inFlight": 3, "duration": {"sumSeconds": 1.0, "buckets": [[100_000, requests]]},
        }}]});
        Stats::parse(document.to_string().as_bytes()).unwrap()
    }

    /// Two pods of `web`: of the first 100 requests in 10 s were counted until now, the second has never answered.
    fn mesh(now: Instant) -> Mesh {
        let mut mesh = Mesh::default();
        let pod = |number| Arc::new(Pod::of(&object("shop", "web", number, "10.0.0.7")).unwrap());
        let pods: Vec<_> = (1..=2).map(pod).collect();
        let key = pods[0].key.clone();
        for pod in pods {
            mesh.put(pod, now);
        }
        mesh.answered(&key, stats(0), now);
        mesh.answered(&key, stats(100), now + Duration::from_secs(10));
        mesh
    }

    fn asked(pod: &str, metric: &str, selector: &str, later: u64) -> Result<Vec<Value>, u16> {
        let begin = Instant::now();
        let selector = Selector::parse(selector).unwrap();
        let now = begin + Duration::from_secs(10 + later);
        let list = values(&mesh(begin), ("shop", pod, metric), &selector, now)
            .map_err(|(status, _)| status.as_u16())?;
        let list: Value = serde_json::from_str(&list).unwrap();
        let list_of = (list["kind"].as_str(), list["apiVersion"].as_str());
        assert_eq!(list_of, (Some("MetricValueList"), Some("custom.metrics.k8s.io/v1beta2")));
        Ok(list["items"].as_array().unwrap().clone())
    }

    #[test]
    fn a_pod_with_answers_has_a_value_and_one_without_is_missing() {
        let items = asked("*", RATE, "pod-template-hash=5d9f", 0).unwrap();
        assert_eq!(items.len(), 1, "{items:?}");
        assert_eq!(items[0]["describedObject"]["name"], "web-5d9f-1");
        assert_eq!(items[0]["value"], "10");
        assert_eq!(items[0]["metric"], json!({"name": RATE, "selector": null}));
        let timestamp = items[0]["timestamp"].as_str().unwrap();
        // 2026-11-22T04:05:06Z
        assert_eq!((timestamp.len(), &timestamp[19..]), (20, "Z"), "{timestamp}");
        assert_eq!(asked("web-5d9f-1", "outrigger_http_active_requests", "", 0).unwrap()[0]["value"], "3");
        assert_eq!(asked("web-5d9f-2", RATE, "", 0), Err(404));
    }

    #[test]
    fn an_old_answer_is_no_value() {
        assert_eq!(asked("*", RATE, "", 2).unwrap().len(), 1);
        assert_eq!(asked("*", RATE, "", 3).unwrap().len(), 0);
    }

    #[test]
    fn others_are_left_out_and_what_is_not_there_is_said() {
        assert_eq!(asked("*", RATE, "app=api", 0).unwrap().len(), 0);
        assert_eq!(asked("*", "outrigger_cpu", "", 0), Err(404));
        let name = Question::parse("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/%2A/x");
        assert!(matches!(name, Some(Question::Metric { pod, .. }) if pod == "*"));
        assert_eq!(Question::parse("/apis/custom.metrics.k8s.io/v1beta2"), Some(Question::Discovery));
        for nothing in [
            "/",
            "/apis/custom.metrics.k8s.io/v1beta1",
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/a/x",
        ] {
            assert_eq!(Question::parse(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn amounts_are_whole_or_in_thousandths() {
        assert_eq!([20.0, 1.5, 0.0, 0.0004].map(quantity), ["20", "1500m", "0", "0"]);
    }

    /// What an autoscaler waits for, but for TLS and the API server: 2,000 pods in 100 workloads, one workload asked for.
    #[test]
    #[ignore = "a measurement: make bench-custom-metrics"]
    fn how_long_an_answer_takes() {
        let begin = Instant::now();
        let pods = (0..2000).map(|number| {
            let mut pod = object("shop", &format!("web{}", number % 100), number, "10.0.0.7");
            pod["metadata"]["labels"]["app"] = format!("web{}", number % 100).into();
            Arc::new(Pod::of(&pod).unwrap())
        });
        let (mut mesh, pods) = (Mesh::default(), pods.collect::<Vec<_>>());
        let keys: Vec<_> = pods.iter().map(|pod| pod.key.clone()).collect();
        for pod in pods {
            mesh.put(pod, begin);
        }
        let now = begin + Duration::from_secs(10);
        for key in &keys {
            mesh.answered(key, stats(0), begin);
            mesh.answered(key, stats(100), now);
        }
        for (which, selector) in [("of 20 of 2,000 pods", "app=web7"), ("of all 2,000 pods", "")] {
            let mut times: Vec<_> = (0..1000)
                .map(|_| {
                    let start = Instant::now();
                    let selector = Selector::parse(selector).unwrap();
                    let answer = values(&mesh, ("shop", "*", RATE), &selector, now).unwrap();
                    assert!(answer.len() > 4000);
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            println!("{which}: p50 {:.2?}, p99 {:.2?}", times[500], times[990]);
        }
    }
}
