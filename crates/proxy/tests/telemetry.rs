//! What is counted, to the request and to the byte.

#[path = "../../runtime/tests/support/asked_for.rs"]
mod asked_for;
mod support;

use std::sync::mpsc;
use std::time::Duration;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::app::{answering, serve};
use support::client::Client;
use support::{Running, client, closed_port, http, start, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Long enough to be told from the time that a request takes here.
const WAIT: Duration = Duration::from_millis(200);

fn bodies(proxy: &Running) -> (u64, u64) {
    let count = |family| proxy.of_port(family);
    (count("http_request_body_bytes_total"), count("http_response_body_bytes_total"))
}

#[test]
fn requests_in_one_packet_are_counted_and_timed_each() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".repeat(5));
    for _ in 0..5 {
        assert_eq!(client.answer().text(), "ok");
    }
    assert_eq!(proxy.requests("POST", "200", ""), 5);
    assert_eq!(bodies(&proxy), (15, 10));
    let timed = r#"http_request_duration_seconds_count{direction="inbound",port="web",method="POST",code_class="2xx"}"#;
    assert_eq!(proxy.metric(timed), 5);
    assert_eq!(proxy.of_port("http_proxy_overhead_seconds_count"), 5);
}

#[test]
fn chunks_count_without_their_framing() {
    let proxy = http(serve(|mut connection| {
        connection.head();
        connection.read_until("0\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send("5\r\nhello\r\n6\r\n world\r\n0\r\nSum: 1\r\n\r\n");
    }));
    let mut client = proxy.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    wait_until("the first chunk is counted while the second is not there", || bodies(&proxy).0 == 1);
    client.send("2;name=value\r\nbc\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "hello world");
    assert_eq!(proxy.requests("PUT", "200", ""), 1);
    assert_eq!(bodies(&proxy), (3, 11));
}

#[test]
fn what_was_given_up_counts_with_what_has_passed() {
    let proxy = http(serve(|mut connection| {
        connection.head();
        connection.read_until("abc");
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab");
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
    client.head();
    client.read_exact(2);
    drop(client);
    wait_until("it is in flight no more", || proxy.active() == 0);
    assert_eq!(proxy.requests("POST", "200", "client_closed"), 1);
    assert_eq!(bodies(&proxy), (3, 2));
}

#[test]
fn streamed_bodies_count_while_they_run() {
    let (go_on, when) = mpsc::channel();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        for piece in ["one", "two"] {
            connection.send(piece);
            let _ = when.lock().unwrap().recv();
        }
    }));
    let mut client = proxy.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    for (piece, bytes) in [("one", 3), ("two", 6)] {
        assert_eq!(client.read_exact(3), piece.as_bytes());
        assert_eq!((bodies(&proxy), proxy.active()), ((0, bytes), 1));
        go_on.send(()).unwrap();
    }
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}

/// Waits for an app that thinks, an app that pauses within its answer, a client that pauses within its body, and one that
/// does not read.
#[test]
fn time_of_the_proxy_leaves_out_the_waits_for_either_side() {
    const LARGE: usize = 16 << 20;
    let (_nobody, never) = mpsc::channel::<()>();
    let never = std::sync::Mutex::new(never);
    let proxy = http(serve(move |mut connection| {
        let wait = || {
            let _ = never.lock().unwrap().recv_timeout(WAIT);
        };
        connection.request();
        wait();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        wait();
        connection.send(vec![b'x'; LARGE]);
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    wait_until("the request is in flight", || proxy.active() == 1);
    std::thread::sleep(WAIT);
    client.send("cd");
    client.head();
    wait_until("what the sockets hold is full", || {
        let before = bodies(&proxy).1;
        std::thread::sleep(WAIT);
        before > 0 && bodies(&proxy).1 == before
    });
    client.read_exact(LARGE);
    assert_eq!(proxy.requests("POST", "200", ""), 1);
    let labels = r#"{direction="inbound",port="web",method="POST",code_class="2xx"}"#;
    let total = proxy.seconds(&format!("http_request_duration_seconds_sum{labels}"));
    let own = proxy.seconds(r#"http_proxy_overhead_seconds_sum{direction="inbound",port="web"}"#);
    assert!(total >= WAIT.as_secs_f64() * 4.0, "{total}");
    assert!(own > 0.0 && own < total - WAIT.as_secs_f64() * 4.0, "{own} of {total}");
}

fn upstream(proxy: &Running) -> [u64; 4] {
    let state =
        |state| format!(r#"upstream_pool_connections{{direction="inbound",port="web",state="{state}"}}"#);
    [
        proxy.of_port("upstream_connect_duration_seconds_count"),
        proxy.of_port("upstream_reuses_total"),
        proxy.metric(&state("active")),
        proxy.metric(&state("idle")),
    ]
}

#[test]
fn connections_to_the_app_are_counted_as_made_used_again_in_use_and_idle() {
    let (answer_now, when) = mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let app = serve(move |mut connection| {
        while connection.request().is_some() {
            let _ = when.lock().unwrap().recv();
            connection.send(OK);
        }
    });
    let limits = Limits { pool_idle: Duration::from_millis(50), ..Limits::default() };
    let proxy = start(Protocol::Http, app, Limits { pool_idle: support::PATIENCE, ..limits });
    let mut clients = [proxy.connect(), proxy.connect()];
    let ask = |client: &mut Client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    clients.iter_mut().for_each(ask);
    wait_until("both are in use", || upstream(&proxy) == [2, 0, 2, 0]);
    for _ in 0..2 {
        answer_now.send(()).unwrap();
    }
    for client in &mut clients {
        client.answer();
    }
    wait_until("both are idle", || upstream(&proxy) == [2, 0, 0, 2]);
    ask(&mut clients[0]);
    wait_until("one is used again", || upstream(&proxy) == [2, 1, 1, 1]);
    answer_now.send(()).unwrap();
    clients[0].answer();

    let proxy = start(Protocol::Http, answering(OK), limits);
    proxy.connect().get("/");
    wait_until("what was idle for long is closed", || upstream(&proxy) == [1, 0, 0, 0]);
    let proxy = http(closed_port());
    proxy.connect().get("/");
    let refused = r#"upstream_connect_errors_total{direction="inbound",port="web",reason="connect_refused"}"#;
    assert_eq!(proxy.metric(refused), 1);
    assert_eq!(upstream(&proxy), [0; 4]);
}

fn retried(proxy: &Running, result: &str) -> u64 {
    proxy.metric(&format!(r#"retries_total{{direction="inbound",port="web",result="{result}"}}"#))
}

#[test]
fn requests_that_are_sent_once_more_are_counted_by_how_it_ended() {
    let proxy = http(serve(|mut connection| {
        connection.request();
        connection.send(OK);
        // The second request on this connection is read and never answered.
        connection.request();
    }));
    let mut client = proxy.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(proxy.requests("GET", "200", ""), 4, "each once");
    assert_eq!((retried(&proxy, "answered"), retried(&proxy, "failed")), (3, 0));

    let proxy = http(serve(|mut connection| {
        connection.request();
        if connection.number == 0 {
            connection.send(OK);
            connection.request();
        }
    }));
    let mut client = proxy.connect();
    assert_eq!((client.get("/").status, client.get("/").status), (200, 502));
    assert_eq!(proxy.requests("GET", "502", "reset"), 1);
    assert_eq!((retried(&proxy, "answered"), retried(&proxy, "failed")), (0, 1));
}

#[test]
fn clients_are_counted_by_what_they_speak() {
    let counted_by = |proxy: &Running, result: &str| {
        proxy.metric(&format!(r#"detect_total{{direction="inbound",port="web",result="{result}"}}"#))
    };
    let proxy = http(answering(OK));
    let counted = |result: &str| counted_by(&proxy, result);
    client::get(proxy.port, "/");
    assert_eq!(counted("http1"), 1);
    proxy.connect().send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    wait_until("HTTP/2 is seen", || counted("http2") == 1);
    drop(proxy.connect());
    wait_until("a client that leaves is seen", || counted("nothing") == 1);
    assert_eq!(["http1", "http2", "nothing", "timeout"].map(counted), [1, 1, 1, 0]);

    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let impatient = start(Protocol::Http, answering(OK), limits);
    let mut silent = impatient.connect();
    assert!(silent.is_closed_by_peer());
    wait_until("a silent client is seen", || counted_by(&impatient, "timeout") == 1);
}

#[test]
fn requests_beyond_the_most_series_are_counted_as_other_and_told() {
    let proxy = http(serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let status = &head["GET /".len()..][..3];
            connection.send(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n"));
        }
    }));
    let mut client = proxy.connect();
    for status in 300..600 {
        client.send(format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.head().1, status);
    }
    // Beside one that is there from the start.
    assert_eq!(proxy.requests("_OTHER", "_OTHER", ""), 300 - 199);
    assert_eq!(proxy.of_port("metrics_series_dropped_total"), 300 - 199);
    let text = proxy.metrics();
    let durations = text.lines().filter(|line| line.contains("request_duration_seconds_count{"));
    let counts = durations.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 300);
}

/// Names that no other program claims are the proxy's, so that one which nobody exports is found.
#[test]
fn rules_and_dashboards_ask_for_metrics_that_there_are() {
    let others = ["outrigger_webhook_", "outrigger_log_", "outrigger_sync_", "outrigger_collector_"];
    let ours = |name: &str| !others.iter().any(|prefix| name.starts_with(prefix));
    asked_for::assert_exported(&http(closed_port()).metrics(), ours);
}
