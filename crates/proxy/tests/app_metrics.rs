//! The app's own metrics at `/app-metrics`: passed on as they are, and no harm from an app that lies or hangs.

mod support;

use std::io::Read;
use std::sync::mpsc;

use outrigger_api::config::Protocol;
use outrigger_api::metrics::AppMetrics;
use support::app::{Count, answering, serve};
use support::client::{self, Answer};
use support::{Running, closed_port, config, http, open, text, wait_until};

/// A proxy that passes on what the app has at this port.
fn proxy(port: u16) -> Running {
    let proxy = http(closed_port());
    let mut config = config(Protocol::Http, proxy.port, closed_port());
    config.app_metrics = Some(AppMetrics { port, path: "/stats/prometheus?format=text".to_owned() });
    proxy.rewrite(&text(&config));
    wait_until("it is taken", || client::get(proxy.admin, "/config").text().contains("/stats/prometheus"));
    proxy
}

fn ask(proxy: &Running) -> Answer {
    client::get(proxy.admin, "/app-metrics")
}

/// What comes until the connection ends.
fn rest(proxy: &Running) -> String {
    let mut client = client::Client::connect(proxy.admin);
    client.send("GET /app-metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut said = Vec::new();
    let _ = client.reader.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn what_the_app_says_is_passed_on_and_not_counted_as_traffic() {
    let (seen, heads) = mpsc::channel();
    let app = serve(move |mut connection| {
        seen.send(connection.head().unwrap()).unwrap();
        connection.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nSet-Cookie: a=b\r\nContent-Length: 12\r\n\r\norders_sum 3",
        );
    });
    let proxy = proxy(app);
    let answer = client::request(
        proxy.admin,
        "GET /app-metrics?x=y HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\
         Authorization: Bearer secret\r\nCookie: c=d\r\nConnection: close\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "orders_sum 3"));
    assert!(answer.has("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(!answer.has_header("set-cookie"), "{}", answer.head);
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /stats/prometheus?format=text http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\naccept: text/plain\r\n"), "{head}");
    assert!(head.contains("\r\nx-prometheus-scrape-timeout-seconds: 10\r\n"), "{head}");
    assert!(!head.contains("secret") && !head.contains("cookie"), "{head}");
    let metrics = proxy.metrics();
    assert!(!metrics.contains("orders_sum"), "they are on a path of their own");
    assert!(!metrics.lines().any(|line| line.contains("requests_total{") && !line.ends_with(" 0")));
}

#[test]
fn nothing_is_there_where_the_config_names_nothing() {
    assert_eq!(client::get(http(closed_port()).admin, "/app-metrics").status, 404);
}

#[test]
fn an_app_that_is_not_there_or_answers_otherwise_is_told_by_the_status() {
    let refused = ask(&proxy(closed_port()));
    assert_eq!(refused.status, 502);
    assert!(refused.text().starts_with("failed to connect to 127.0.0.1:"), "{}", refused.text());
    assert_eq!(ask(&proxy(answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))).status, 503);
    assert_eq!(ask(&proxy(answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))).status, 502);
    assert_eq!(ask(&proxy(answering("SSH-2.0-OpenSSH_9.2\r\n"))).status, 502);
}

/// Half an answer that looks whole would make series vanish.
#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let app = serve(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\norders_sum 3\n");
    });
    let said = rest(&proxy(app));
    // Without the last chunk, or without a word where none had been sent yet.
    assert!(!said.ends_with("0\r\n\r\n"), "{said:?}");
}

#[test]
fn an_endless_answer_ends_and_the_app_is_let_go() {
    let (let_go, is_let_go) = mpsc::channel();
    let app = serve(move |mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        while connection.try_send(&vec![b'x'; 1 << 16]) {}
        let_go.send(()).unwrap();
    });
    let said = rest(&proxy(app));
    assert!(said.len() < 80 << 20 && !said.ends_with("0\r\n\r\n"), "{} bytes", said.len());
    is_let_go.recv_timeout(support::PATIENCE).unwrap();
}

/// A reader that takes nothing holds neither the app nor, for longer than that, the others.
#[test]
fn readers_that_hang_let_the_app_go_in_time() {
    let asked = Count::default();
    let (let_go, is_let_go) = mpsc::channel();
    let seen = asked.clone();
    let app = serve(move |mut connection| {
        connection.head();
        seen.add();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        while connection.try_send(&vec![b'x'; 1 << 16]) {}
        let_go.send(()).unwrap();
    });
    let proxy = proxy(app);
    let hang = || {
        use std::io::Write as _;
        let mut stream = open(proxy.admin);
        stream.write_all(b"GET /app-metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream
    };
    let _hanging: Vec<_> = (0..6).map(|_| hang()).collect();
    wait_until("four ask", || asked.get() == 4);
    for _ in 0..4 {
        is_let_go.recv_timeout(support::PATIENCE).unwrap();
    }
    assert_eq!(client::get(proxy.admin, "/live").status, 200);
}

#[test]
fn an_app_that_says_nothing_is_not_waited_for_longer_than_prometheus_waits() {
    let app = serve(|mut connection| connection.wait_for_close());
    let answer = ask(&proxy(app));
    assert_eq!((answer.status, answer.text().as_str()), (504, "no answer of the app in 9 s\n"));
}
