//! Requests to an upstream that failed are sent once more, where that is safe.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use outrigger_api::config::{Protocol, SidecarConfig, Upstream};
use outrigger_api::retries::RetriesSpec;
use outrigger_api::traffic::TimeoutsSpec;
use outrigger_proxy::limits::Limits;
use support::app::{Count, serve};
use support::client::Answer;
use support::http2::{call, connect, read, request, run};
use support::{Running, closed_port, config, start_by, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

fn calling_with(target: u16, change: impl FnOnce(&mut Upstream)) -> Running {
    let config = |port| {
        let spec = serde_json::json!({"backoff": "1ms", "grpcStatus": ["UNAVAILABLE"]});
        let mut upstream = Upstream {
            name: "api".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: target,
            protocol: Protocol::Http,
            listen: Some(port),
            retries: Some(serde_json::from_value(spec).expect("retries")),
            ..Upstream::default()
        };
        change(&mut upstream);
        SidecarConfig {
            inbound: Vec::new(),
            upstreams: vec![upstream],
            ..config(Protocol::Http, port, target)
        }
    };
    start_by(config, Path::new("/nonexistent"), Limits::default())
}

fn calling(target: u16) -> Running {
    calling_with(target, |_| {})
}

fn counted(proxy: &Running, family: &str, more: &str) -> u64 {
    let text = proxy.metrics();
    let series = text.lines().filter_map(|line| line.strip_prefix(&format!("outrigger_{family}{{")));
    let found = series.filter(|line| line.contains(more));
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    found.map(|line| value(line).expect("a number")).sum()
}

/// An upstream that gives the first requests another answer, or with none closes; and how often it was asked.
fn failing_first(times: usize, with: Option<&'static str>) -> (u16, Count) {
    let hits = Count::default();
    let counted = hits.clone();
    let port = serve(move |mut connection| {
        while connection.request().is_some() {
            counted.add();
            match (counted.get() > times, with) {
                (true, _) => connection.send(OK),
                (false, Some(answer)) => connection.send(answer),
                (false, None) => return,
            }
        }
    });
    (port, hits)
}

fn posted(proxy: &Running, method: &str) -> Answer {
    let mut client = proxy.connect();
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"));
    client.answer()
}

#[test]
fn a_listed_status_is_tried_again_where_the_method_may_be_repeated() {
    for (method, status, asked) in [("PUT", 200, 2), ("DELETE", 200, 2), ("POST", 503, 1), ("PATCH", 503, 1)]
    {
        let (target, hits) = failing_first(1, Some(BUSY));
        let proxy = calling(target);
        let answer = posted(&proxy, method);
        assert_eq!((answer.status, hits.get()), (status, asked), "{method}");
        wait_until("a try is no request", || counted(&proxy, "http_requests_total", "") == 1);
        assert_eq!(counted(&proxy, "retries_total", "answered"), asked as u64 - 1);
    }
    let (target, hits) = failing_first(1, Some("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!((calling(target).connect().get("/").status, hits.get()), (500, 1));
}

#[test]
fn the_last_answer_stands_when_there_are_no_more_tries() {
    let (target, hits) = failing_first(9, Some(BUSY));
    let proxy = calling(target);
    let answer = proxy.connect().get("/");
    assert_eq!((answer.status, answer.text().as_str(), hits.get()), (503, "busy", 2));
    assert!(!answer.has_header("outrigger-reason"));
}

#[test]
fn a_connection_that_is_cut_is_tried_again_where_the_method_may_be_repeated() {
    for (method, status, asked) in [("PUT", 200, 2), ("POST", 502, 1)] {
        let (target, hits) = failing_first(1, None);
        let answer = posted(&calling(target), method);
        assert_eq!((answer.status, hits.get()), (status, asked), "{method}");
        assert_eq!(answer.has("outrigger-reason: reset"), status == 502);
    }
}

#[test]
fn what_was_never_sent_is_tried_again_whatever_it_is() {
    let proxy = calling(closed_port());
    let answer = posted(&proxy, "POST");
    assert!(answer.status == 502 && answer.has("outrigger-reason: connect_refused"), "{}", answer.head);
    assert_eq!(counted(&proxy, "retries_total", "failed"), 1);
    assert_eq!(counted(&proxy, "upstream_connect_errors_total", "connect_refused"), 2);
}

#[test]
fn the_budget_bounds_them() {
    let (target, hits) = failing_first(usize::MAX, Some(BUSY));
    let proxy = calling_with(target, |upstream| {
        let spec = serde_json::json!({"budget": 0.2, "minPerSecond": 0, "backoff": "1ms"});
        upstream.retries = Some(serde_json::from_value(spec).expect("retries"));
    });
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 503);
    }
    assert_eq!(hits.get(), 24);
    assert_eq!(counted(&proxy, "retries_budget_exhausted_total", ""), 16);
}

#[test]
fn each_try_counts_for_the_circuit_breaker_which_ends_them() {
    let (target, hits) = failing_first(usize::MAX, Some(BUSY));
    let proxy = calling_with(target, |upstream| {
        upstream.retries = Some(RetriesSpec { max: 5, ..upstream.retries.take().unwrap() });
        upstream.circuit_breaker = Some(serde_json::from_value(serde_json::json!({})).unwrap());
    });
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "busy", "the fifth failure opens it: there is no sixth try");
    assert_eq!(hits.get(), 5);
    assert!(client.get("/").has("outrigger-reason: circuit_open"));
}

#[test]
fn all_tries_together_have_the_time_of_one_request() {
    let silent = serve(|mut connection| {
        if connection.request().is_some() && connection.number > 0 {
            connection.wait_for_close();
        }
    });
    let proxy = calling_with(silent, |upstream| {
        upstream.timeouts =
            TimeoutsSpec { request: Some("50ms".parse().unwrap()), ..TimeoutsSpec::default() };
    });
    let answer = proxy.connect().get("/");
    assert!(answer.status == 504 && answer.has("outrigger-reason: request_timeout"), "{}", answer.head);
}

#[test]
fn without_retries_in_the_profile_there_are_none() {
    let (target, hits) = failing_first(1, Some(BUSY));
    let proxy = calling_with(target, |upstream| upstream.retries = None);
    assert_eq!((proxy.connect().get("/").status, hits.get()), (503, 1));
}

#[test]
fn by_http2_it_is_the_same_and_bodies_are_sent_again() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let app = support::http2::serve(async |mut call| {
        let (body, _) = call.read().await;
        let is_first = ASKED.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if is_first {
            let busy = http::Response::builder().status(503).body(()).unwrap();
            let _ = call.respond.send_response(busy, true);
        } else {
            call.answer(body);
        }
    });
    let proxy = calling(app);
    run(async {
        let client = connect(proxy.port).await;
        let send = async |method: &str, body: Bytes| {
            let (answer, mut stream) = client.send(request(method, "/").body(()).unwrap(), false).await;
            support::http2::send(&mut stream, body).await.unwrap();
            stream.send_data(Bytes::new(), true).unwrap();
            let (head, mut body) = answer.await.unwrap().into_parts();
            (head.status.as_u16(), read(&mut body).await.0.len())
        };
        assert_eq!(send("PUT", Bytes::from(vec![7; 50_000])).await, (200, 50_000));
        assert_eq!(send("POST", Bytes::from_static(b"once")).await, (503, 0));
        ASKED.store(0, Ordering::SeqCst);
        assert_eq!(send("PUT", Bytes::from(vec![7; 70_000])).await, (503, 0), "more than is kept");
    });
}

#[test]
fn calls_by_grpc_are_by_their_status() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let app = support::http2::serve(async |mut call| {
        let (body, _) = call.read().await;
        let head = http::Response::builder().header("content-type", "application/grpc");
        if ASKED.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = call.respond.send_response(head.header("grpc-status", "14").body(()).unwrap(), true);
            return;
        }
        let mut stream = call.respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.send_data(body.into(), false).unwrap();
        let trailers = http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
        stream.send_trailers(trailers).unwrap();
    });
    let proxy = calling(app);
    run(async {
        let client = connect(proxy.port).await;
        let (answer, mut stream) = client.send(call(), false).await;
        stream.send_data(Bytes::from_static(b"message"), true).unwrap();
        let (_, mut body) = answer.await.unwrap().into_parts();
        let (message, trailers) = read(&mut body).await;
        assert_eq!(
            (message, &trailers.unwrap()["grpc-status"]),
            (b"message".to_vec(), &"14".parse().unwrap())
        );
        assert_eq!(ASKED.load(Ordering::SeqCst), 2, "what has sent a message is not asked again");
    });
}
