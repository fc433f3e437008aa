//! What happens when the app, or the client, does not behave.

mod support;

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::app::{Count, answering, serve};
use support::{client, closed_port, http, start, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn own_answer_to_head_has_no_body_and_is_counted_as_what_it_is() {
    let proxy = http(closed_port());
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().1, 502);
    }
    assert_eq!(proxy.requests("HEAD", "502", "connect_refused"), 2);
}

#[test]
fn app_that_hangs_up_instead_of_answering_is_a_reset() {
    let proxy = http(serve(|mut connection| drop(connection.request())));
    let answer = client::get(proxy.port, "/");
    assert_eq!(answer.status, 502);
    assert!(answer.has("outrigger-reason: reset"), "{}", answer.head);
    assert_eq!(proxy.requests("GET", "502", "reset"), 1);
}

#[test]
fn app_that_does_not_speak_http_is_a_protocol_error() {
    let proxy = http(answering("220 smtp.example ESMTP\r\n\r\n"));
    let answer = client::get(proxy.port, "/");
    assert_eq!(answer.status, 502);
    assert!(answer.has("outrigger-reason: protocol_error"), "{}", answer.head);
    assert_eq!(proxy.requests("GET", "502", "protocol_error"), 1);
}

#[test]
fn switch_that_nobody_asked_for_is_a_protocol_error() {
    let proxy =
        http(answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"));
    assert_eq!(client::get(proxy.port, "/").status, 502);
    assert_eq!(proxy.requests("GET", "502", "protocol_error"), 1);
}

#[test]
fn answer_that_breaks_off_is_seen_as_broken_by_the_client() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let proxy = http(serve(move |mut connection| {
            connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nabcde\r\n"));
        }));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().1, 200);
        let body = client.read_to_end();
        assert!(body.len() < 100 && !body.ends_with(b"0\r\n\r\n"), "{body:?}");
        assert_eq!(proxy.requests("GET", "200", "reset"), 1);
    }
}

#[test]
fn chunk_without_a_size_is_the_fault_of_whoever_sent_it() {
    let wrong = "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n";
    let proxy = http(serve(|mut connection| connection.wait_for_close()));
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a{wrong}"));
    assert_eq!(client.answer().status, 400);
    assert_eq!(proxy.requests("POST", "400", "bad_request"), 1);

    let proxy = http(serve(move |mut connection| {
        connection.request();
        connection.send(format!("HTTP/1.1 200 OK{wrong}"));
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 502);
    assert_eq!(proxy.requests("GET", "502", "protocol_error"), 1);

    // Later, the client has a part of the answer, and can only be cut off.
    let (go_on, when) = mpsc::channel();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        when.lock().unwrap().recv().unwrap();
        connection.send("zz\r\n");
        connection.wait_for_close();
    }));
    client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.read_exact(7);
    go_on.send(()).unwrap();
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.requests("GET", "200", "protocol_error"), 1);
}

#[test]
fn head_that_is_not_http_is_a_400_and_counted() {
    let proxy = http(answering(OK));
    assert_eq!(client::request(proxy.port, "GET\r\n\r\n").status, 400);
    wait_until("it is counted", || proxy.requests("_OTHER", "400", "bad_request") == 1);
    assert_eq!(proxy.active(), 0);
}

#[test]
fn request_by_another_protocol_is_counted_and_gets_no_answer_that_it_could_not_read() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    client.send("OPTIONS rtsp://shop/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.requests("_OTHER", "400", "bad_request"), 1);
}

#[test]
fn ambiguous_framing_never_reaches_the_app() {
    let (heads, seen) = mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        while let Some(head) = connection.head() {
            heads.send(head.to_lowercase()).unwrap();
            connection.read_until("0\r\n\r\n");
            connection.send(OK);
        }
    }));
    for wrong in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: 1\rContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\n",
        "POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "POST / HTTP/1.1\r\n\r\n",
        "POST /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / http/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.2\r\nHost: a\r\n\r\n",
    ] {
        let answer = client::request(proxy.port, wrong);
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.has("outrigger-reason: bad_request"), "{}", answer.head);
    }
    assert!(seen.try_recv().is_err());
}

#[test]
fn request_whose_client_left_during_the_answer_is_counted_with_its_status() {
    let proxy = http(serve(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    drop(client);
    wait_until("it is in flight no more", || proxy.active() == 0);
    assert_eq!(proxy.requests("GET", "200", "client_closed"), 1);
}

#[test]
fn upload_that_breaks_off_is_the_clients_doing() {
    let proxy = http(serve(|mut connection| {
        connection.head();
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
    wait_until("the request is in flight", || proxy.active() == 1);
    drop(client);
    wait_until("it is in flight no more", || proxy.active() == 0);
    assert_eq!(proxy.requests("POST", "499", "client_closed"), 1);
}

#[test]
fn idle_connection_that_the_app_closed_costs_no_request() {
    // Each connection of this app is good for one answer, which does not say so.
    let requests = Count::default();
    let seen = requests.clone();
    let (closed, is_closed) = mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        if connection.request().is_some() {
            seen.add();
            connection.send(OK);
        }
        drop(connection);
        let _ = closed.send(());
    }));
    let mut client = proxy.connect();
    for _ in 0..50 {
        client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        let status = client.answer().status;
        // Where the close crosses the request on its way the proxy can't know, and must say so rather than send it twice.
        assert!(status == 200 || status == 502, "{status}");
        is_closed.recv_timeout(support::PATIENCE).unwrap();
    }
    let answered = proxy.requests("POST", "200", "");
    assert_eq!(answered + proxy.requests("POST", "502", "reset"), 50);
    assert_eq!(requests.get() as u64, answered, "no request was handled twice");
    assert!(answered >= 45, "{answered} of 50 answered");
}

#[test]
fn request_that_an_idle_connection_swallowed_is_never_sent_twice() {
    let requests = Count::default();
    let seen = requests.clone();
    let proxy = http(serve(move |mut connection| {
        connection.request();
        seen.add();
        connection.send(OK);
        // The second request on this connection is read, acted upon, and never answered.
        if connection.request().is_some() {
            seen.add();
        }
    }));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let answer = client.answer();
    assert_eq!(answer.status, 502);
    assert!(answer.has("outrigger-reason: reset"), "{}", answer.head);
    assert_eq!(requests.get(), 2);
}

/// What only asks may be asked twice: the app closes its idle connection just when the next request comes.
#[test]
fn get_that_meets_a_closing_connection_is_sent_once_more() {
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
    assert_eq!(proxy.requests("GET", "200", ""), 4);
}

#[test]
fn idle_connection_to_the_app_is_closed_by_us_first() {
    let (closed, app_told) = mpsc::channel();
    let limits = Limits { pool_idle: Duration::from_millis(50), ..Limits::default() };
    let app = serve(move |mut connection| {
        connection.request();
        connection.send(OK);
        connection.wait_for_close();
        closed.send(()).unwrap();
    });
    let proxy = start(Protocol::Http, app, limits);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 200);
        app_told.recv_timeout(support::PATIENCE).unwrap();
    }
}

#[test]
fn client_that_does_not_finish_its_head_is_cut_off() {
    let short = Duration::from_millis(100);
    let proxy = start(Protocol::Http, answering(OK), Limits { head: short, ..Limits::default() });
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost:");
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.has("outrigger-reason: head_timeout"), "{}", answer.head);
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.requests("_OTHER", "408", "head_timeout"), 1);
    assert_eq!(proxy.active(), 0);
}

#[test]
fn client_that_says_nothing_is_let_go() {
    // Long enough for a request, on a busy machine too.
    let proxy =
        start(Protocol::Http, answering(OK), Limits { idle: Duration::from_secs(2), ..Limits::default() });
    let (mut silent, mut idle) = (proxy.connect(), proxy.connect());
    idle.get("/");
    assert!(silent.is_closed_by_peer());
    assert!(idle.is_closed_by_peer());
    assert_eq!(proxy.of_port("idle_connections_closed_total"), 1);
    assert_eq!(proxy.active(), 0);
}

/// The first byte may be that of HTTP/2's preface. The connection was kept, and looked at, for 90 s.
#[test]
fn client_that_leaves_after_a_p_is_let_go_at_once() {
    let proxy = http(answering(OK));
    for beginning in ["P", "PRI * HTTP/2"] {
        let mut client = proxy.connect();
        client.send(beginning);
        client.close_write();
        // Whether with a 400 or without a word: the end comes.
        client.read_to_end();
    }
}

#[test]
fn head_larger_than_64_kib_is_refused() {
    let proxy = http(answering(OK));
    let mut client = proxy.connect();
    let stream = client.reader.get_mut();
    // The proxy may answer before it has been sent whole.
    let _ = write!(stream, "GET / HTTP/1.1\r\nX-Large: {}\r\n\r\n", "x".repeat(100 * 1024));
    let mut status = [0; 12];
    client.reader.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 431");
    wait_until("it is counted", || proxy.requests("_OTHER", "431", "head_too_large") == 1);
}
