//! What a profile says of how long and how much: each limit refuses with a reason of its own.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

mod support;

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::traffic::{LimitsSpec, RateSpec, TimeoutsSpec};
use outrigger_proxy::limits::Limits;
use support::app::{answering, serve};
use support::client::Client;
use support::http2::{connect, run};
use support::{Running, config, start_by, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn proxy(target: u16, limits: LimitsSpec, timeouts: TimeoutsSpec) -> Running {
    speaking(Protocol::Http, target, limits, timeouts)
}

fn speaking(protocol: Protocol, target: u16, limits: LimitsSpec, timeouts: TimeoutsSpec) -> Running {
    let config = move |port| {
        let mut config: SidecarConfig = config(protocol, port, target);
        (config.inbound[0].limits, config.inbound[0].timeouts) = (limits, timeouts);
        config
    };
    start_by(config, Path::new("/nonexistent"), Limits::default())
}

#[test]
fn requests_beyond_the_rate_get_a_429_and_keep_their_connection() {
    let rate = RateSpec { requests: 1, per: "1h".parse().unwrap(), burst: Some(3) };
    let limits = LimitsSpec { rate: Some(rate), ..LimitsSpec::default() };
    let proxy = proxy(answering(OK), limits, TimeoutsSpec::default());
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    for _ in 0..2 {
        let answer = client.get("/");
        assert!(answer.status == 429 && answer.has("outrigger-reason: rate_limited"), "{}", answer.head);
        let after = answer.head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap();
        assert!((3590..=3600).contains(&after.parse::<u32>().unwrap()), "{after}");
    }
    assert_eq!(proxy.requests("GET", "429", "rate_limited"), 2);
}

/// A port without a name may speak anything. What was not seen to be HTTP at once was passed on as bytes, past the limits.
#[test]
fn limits_of_a_port_that_may_speak_anything_are_not_walked_around() {
    let rate = RateSpec { requests: 1, per: "1h".parse().unwrap(), burst: Some(1) };
    let limits = LimitsSpec { rate: Some(rate), ..LimitsSpec::default() };
    let proxy = speaking(Protocol::Auto, answering(OK), limits, TimeoutsSpec::default());
    assert_eq!(proxy.connect().get("/").status, 200);
    for (begins, status) in [
        ("\r\nGET / HTTP/1.1\r\n", 429),
        ("get / HTTP/1.1\r\n", 429),
        ("A_METHOD_LONGER_THAN_ANY_OTHER / HTTP/1.1\r\n", 429),
        ("GET / HTTP/1.1 \r\n", 400),
        ("GET /\r\n", 400),
        ("\x16\x03\x01\x02", 400),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{begins}Host: a\r\n\r\n"));
        assert_eq!(client.answer().status, status, "{begins:?}");
    }
    // Nor by a silence: the app would have been called, which may speak first, and heard.
    let mut client = proxy.connect();
    std::thread::park_timeout(std::time::Duration::from_millis(30));
    assert_eq!(client.get("/").status, 429);
}

#[test]
fn requests_beyond_those_at_a_time_get_a_503() {
    let (app, answer_now) = answering_when_told();
    let limits = LimitsSpec { max_requests: Some(1), ..LimitsSpec::default() };
    let proxy = proxy(app, limits, TimeoutsSpec::default());
    let (mut first, mut second) = (under_way(&proxy), proxy.connect());
    let answer = second.get("/");
    assert!(answer.status == 503 && answer.has("outrigger-reason: too_many_requests"), "{}", answer.head);
    answer_now.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    wait_until("it has ended", || proxy.active() == 0);
    answer_now.send(()).unwrap();
    assert_eq!(second.get("/").status, 200);
}

/// One request at a time, and so many that wait for so long.
fn one_at_a_time(waiting: u32, patience: &str) -> LimitsSpec {
    LimitsSpec {
        max_requests: Some(1),
        max_pending: Some(waiting),
        pending_timeout: Some(patience.parse().unwrap()),
        ..LimitsSpec::default()
    }
}

/// A client whose request is under way, and the only one.
fn under_way(proxy: &Running) -> Client {
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it is under way", || proxy.active() == 1);
    client
}

/// An app that answers one request for each message, and the messages' channel.
fn answering_when_told() -> (u16, std::sync::mpsc::Sender<()>) {
    let (answer_now, when) = channel::<()>();
    let when = Mutex::new(when);
    let app = serve(move |mut connection| {
        while connection.request().is_some() {
            when.lock().unwrap().recv().unwrap();
            connection.send(OK);
        }
    });
    (app, answer_now)
}

#[test]
fn requests_wait_in_a_line_that_has_an_end() {
    let (app, answer_now) = answering_when_told();
    let proxy = proxy(app, one_at_a_time(1, "1h"), TimeoutsSpec::default());
    let mut first = under_way(&proxy);
    let (mut second, mut third) = (proxy.connect(), proxy.connect());
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it waits", || proxy.of_port("http_pending_requests") == 1);
    let answer = third.get("/");
    assert!(answer.status == 503 && answer.has("outrigger-reason: too_many_pending"), "{}", answer.head);
    answer_now.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    wait_until("it waits no more", || proxy.of_port("http_pending_requests") == 0);
    answer_now.send(()).unwrap();
    assert_eq!(second.answer().status, 200);
}

#[test]
fn a_request_whose_turn_does_not_come_in_time_gets_a_503_and_leaves_the_line() {
    let (app, answer_now) = answering_when_told();
    let proxy = proxy(app, one_at_a_time(5, "20ms"), TimeoutsSpec::default());
    let (mut first, mut second) = (under_way(&proxy), proxy.connect());
    let answer = second.get("/");
    assert!(answer.status == 503 && answer.has("outrigger-reason: pending_timeout"), "{}", answer.head);
    assert_eq!(proxy.of_port("http_pending_requests"), 0);
    answer_now.send(()).unwrap();
    assert_eq!(first.answer().status, 200);
    answer_now.send(()).unwrap();
    wait_until("there is room again", || second.get("/").status == 200);
}

/// An app by HTTP/2 that answers all but `/never`.
fn silent_at_never() -> u16 {
    support::http2::serve(async |call| {
        if call.head.uri.path() == "/never" {
            std::future::pending::<()>().await;
        }
        call.answer("ok");
    })
}

/// A client by HTTP/2 that gives up what it asked gives back its place, be it in the line or under way.
#[test]
fn who_gives_up_leaves_the_line() {
    let app = silent_at_never();
    let proxy = proxy(app, one_at_a_time(5, "1h"), TimeoutsSpec::default());
    run(async {
        let (client, other) = (connect(proxy.port).await, connect(proxy.port).await);
        let ask = async || {
            let request = support::http2::request("GET", "/never").body(()).unwrap();
            client.send(request, true).await
        };
        let under_way = ask().await;
        // Not by blocking: the client is a task of this thread.
        while proxy.active() != 1 {
            tokio::task::yield_now().await;
        }
        drop(under_way);
        assert_eq!(other.get("/").await.1, b"ok");
    });
}

#[test]
fn an_answer_that_does_not_begin_in_time_is_a_504_and_one_that_goes_on_is_not() {
    let app = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.starts_with("GET /begins") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
                std::thread::park_timeout(std::time::Duration::from_secs(3));
                connection.send("k");
            }
        }
    });
    let timeouts = TimeoutsSpec { request: Some("2s".parse().unwrap()), ..TimeoutsSpec::default() };
    let proxy = proxy(app, LimitsSpec::default(), timeouts);
    let mut client = proxy.connect();
    let answer = client.get("/");
    assert!(answer.status == 504 && answer.has("outrigger-reason: request_timeout"), "{}", answer.head);
    assert_eq!(client.get("/begins").text(), "ok");
    assert_eq!(proxy.requests("GET", "504", "request_timeout"), 1);
}

#[test]
fn by_http2_it_is_the_same() {
    let app = silent_at_never();
    let timeouts = TimeoutsSpec { request: Some("2s".parse().unwrap()), ..TimeoutsSpec::default() };
    let rate = RateSpec { requests: 2, per: "1h".parse().unwrap(), burst: None };
    let proxy = proxy(app, LimitsSpec { rate: Some(rate), ..LimitsSpec::default() }, timeouts);
    run(async {
        let client = connect(proxy.port).await;
        let (head, _) = client.get("/never").await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["outrigger-reason"]),
            (504, &"request_timeout".parse().unwrap())
        );
        assert_eq!(client.get("/").await.1, b"ok");
        let (head, _) = client.get("/").await;
        assert_eq!((head.status.as_u16(), head.headers.contains_key("retry-after")), (429, true));
    });
}

#[test]
fn a_client_that_asks_no_more_is_let_go_after_the_idle_time() {
    let timeouts = TimeoutsSpec { idle: Some("1ms".parse().unwrap()), ..TimeoutsSpec::default() };
    let proxy = proxy(answering(OK), LimitsSpec::default(), timeouts);
    let mut client = proxy.connect();
    client.get("/");
    assert!(client.is_closed_by_peer());
}
