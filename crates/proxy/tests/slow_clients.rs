//! Clients that stall in the middle of a message, and those that say early that they will send no more.

mod support;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::app::serve;
use support::{Running, http, start, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn impatient(app: u16, body: Duration) -> Running {
    start(Protocol::Http, app, Limits { body, ..Limits::default() })
}

#[test]
fn body_that_stalls_is_a_408_and_the_app_is_let_go() {
    let (closed, app_told) = channel();
    let app = serve(move |mut connection| {
        connection.head();
        connection.wait_for_close();
        let _ = closed.send(());
    });
    let proxy = impatient(app, Duration::from_millis(100));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.has("outrigger-reason: body_timeout"), "{}", answer.head);
    assert!(client.is_closed_by_peer());
    app_told.recv_timeout(support::PATIENCE).unwrap();
    assert_eq!(proxy.requests("POST", "408", "body_timeout"), 1);
    assert_eq!(proxy.of_port("http_request_body_bytes_total"), 3);
}

#[test]
fn body_may_stall_while_its_answer_runs() {
    let app = serve(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        assert_eq!(connection.read_until("world"), "world");
        connection.send("world");
    });
    // The answer must begin before that.
    let most = Duration::from_secs(2);
    let proxy = impatient(app, most);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client.head();
    assert_eq!(client.read_exact(5), b"hello");
    // For longer than it may before.
    let (_never, nothing) = channel::<()>();
    let _ = nothing.recv_timeout(most * 3 / 2);
    client.send("world");
    assert_eq!(client.read_exact(5), b"world");
    assert_eq!(proxy.requests("POST", "200", ""), 1);
}

#[test]
fn answer_that_its_client_does_not_take_is_given_up() {
    for framing in ["Content-Length: 1073741824", "Transfer-Encoding: chunked"] {
        let app = serve(move |mut connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while connection.try_send(piece.as_bytes()) {}
        });
        let proxy = impatient(app, Duration::from_millis(100));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("it is given up", || proxy.requests("GET", "200", "body_timeout") == 1);
        assert_eq!(proxy.active(), 0, "{framing}");
    }
}

/// An app that answers when it is told to.
fn waiting() -> (u16, impl Fn()) {
    let (answer, told) = channel::<()>();
    let told: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(told));
    let app = serve(move |mut connection| {
        while connection.request().is_some() {
            let _ = told.lock().expect("no app panicked").recv_timeout(support::PATIENCE);
            connection.send(OK);
        }
    });
    (app, move || answer.send(()).expect("the app runs"))
}

/// It was taken for one that has left, and got nothing.
#[test]
fn client_that_closes_its_half_while_the_app_thinks_gets_its_answer() {
    let (app, answer) = waiting();
    let proxy = http(app);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.close_write();
    // To find out whether it has left; of HTTP/1.1, a client must bear it.
    assert_eq!(client.head().1, 100);
    answer();
    assert_eq!(client.answer().text(), "ok");
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}

#[test]
fn client_of_http_1_0_that_closes_its_half_gets_its_answer_and_nothing_before() {
    let (app, answer) = waiting();
    let proxy = http(app);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.close_write();
    wait_until("the request is in flight", || proxy.active() == 1);
    answer();
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}

#[test]
fn client_that_closes_its_half_during_the_answer_gets_the_rest() {
    let (go_on, told) = channel::<()>();
    let told = Mutex::new(told);
    let proxy = http(serve(move |mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        let _ = told.lock().expect("no app panicked").recv_timeout(support::PATIENCE);
        connection.send("world");
    }));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert_eq!(client.read_exact(5), b"hello");
    client.close_write();
    // A scrape's time for it to be seen.
    proxy.metrics();
    go_on.send(()).unwrap();
    assert_eq!(client.read_to_end(), b"world");
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}
