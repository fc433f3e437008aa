//! What the sidecar proxy that this one takes the place of did wrong, each as it was seen there.

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::app::{answering, serve};
use support::{TOKEN, client, closed_port, http, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// They were one sample.
#[test]
fn ten_requests_on_one_kept_connection_are_ten() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    for _ in 0..10 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(proxy.requests("GET", "200", ""), 10);
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), 20);
    assert_eq!(proxy.active(), 0);
}

/// Its answers in the app's place began with an empty line and ended their lines in bare line feeds, which Node refused.
#[test]
fn answer_in_the_apps_place_is_strict_http() {
    let proxy = http(closed_port());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(client.read_to_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
}

/// The client hung.
#[test]
fn answer_that_ends_with_the_connection_completes() {
    let app = || {
        serve(|mut connection| {
            connection.request().unwrap();
            connection.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        })
    };
    let proxy = http(app());
    assert_eq!(proxy.connect().get("/").text(), "until the end");
    let proxy = http(app());
    assert_eq!(client::request(proxy.port, "GET / HTTP/1.0\r\n\r\n").text(), "until the end");
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}

/// The client hung.
#[test]
fn app_whose_port_is_closed_is_a_502() {
    let proxy = http(closed_port());
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!(answer.status, 502);
        assert!(answer.has("outrigger-reason: connect_refused"), "{}", answer.head);
        assert!(answer.text().contains("loopback only, or not at all"), "{}", answer.text());
    }
    assert_eq!(proxy.requests("GET", "502", "connect_refused"), 3);
    assert_eq!(proxy.active(), 0);
}

/// The word `HTTP/1.` in a later chunk ended the process.
#[test]
fn chunk_that_holds_http_1_is_a_chunk() {
    let proxy = http(serve(|mut connection| {
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in ["hello ", "HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1."] {
                connection.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            }
            connection.send("0\r\n\r\n");
        }
    }));
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").text(), "hello HTTP/1.1 404 Not Found\r\n\r\nHTTP/1.");
    }
    assert_eq!(proxy.requests("GET", "200", ""), 2);
}

/// Five samples of 100 ms were shown as 228.33 ms on average.
#[test]
fn five_answers_after_100_ms_take_100_ms_on_average() {
    let (answer_now, when) = mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        while connection.request().is_some() {
            let _ = when.lock().unwrap().recv_timeout(Duration::from_millis(100));
            connection.send(OK);
        }
    }));
    let mut client = proxy.connect();
    let mut seen = Duration::ZERO;
    for _ in 0..5 {
        let asked = Instant::now();
        client.get("/");
        seen += asked.elapsed();
    }
    drop(answer_now);
    assert_eq!(proxy.requests("GET", "200", ""), 5);
    let stats = proxy.stats(TOKEN).1;
    let duration = &stats["ports"][0]["http"]["duration"];
    assert_eq!(duration["count"], 5);
    // At least what the app took, and what the client saw but for the moment in which its last byte was on its way.
    let sum = duration["sumSeconds"].as_f64().unwrap();
    assert!((0.5..seen.as_secs_f64() * 1.5).contains(&sum), "{sum} of {seen:?}");
}

/// It was in flight for ever.
#[test]
fn request_whose_client_left_while_the_app_thinks_is_counted_and_the_app_is_told() {
    let (closed, app_told) = mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        connection.request();
        connection.wait_for_close();
        closed.send(()).unwrap();
    }));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request is in flight", || proxy.active() == 1);
    drop(client);
    wait_until("it is in flight no more", || proxy.active() == 0);
    assert_eq!(proxy.requests("GET", "499", "client_closed"), 1);
    app_told.recv_timeout(support::PATIENCE).unwrap();
}
