//! HTTP/1 goes through as it came, and each request is counted once.

mod support;

use std::io::Read;

use support::app::{answering, serve};
use support::{app, client, http, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn requests_of_one_client_share_one_connection_to_the_app() {
    let connections = app::Count::default();
    let seen = connections.clone();
    let proxy = http(serve(move |mut connection| {
        seen.add();
        while connection.request().is_some() {
            connection.send(OK);
        }
    }));
    let mut client = proxy.connect();
    for _ in 0..20 {
        client.get("/");
    }
    assert_eq!(connections.get(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_counted_each() {
    let proxy = http(serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        }
    }));
    let mut client = proxy.connect();
    let requests: Vec<_> = (0..8).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(requests.concat());
    for i in 0..8 {
        assert_eq!(client.answer().text(), format!("/{i}"));
    }
    assert_eq!(proxy.requests("GET", "200", ""), 8);
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let proxy = http(serve(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let body = connection.read_until("0\r\n\r\n");
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(body);
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("4\r\ndefg\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "abcdefg");
    assert_eq!(proxy.of_port("http_request_body_bytes_total"), 7);
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), 7);
}

#[test]
fn head_has_the_length_and_no_body() {
    let proxy = http(answering("HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, status) = client.head();
        assert_eq!(status, 200);
        assert!(head.contains("Content-Length: 4096"), "{head}");
    }
    assert_eq!(proxy.requests("HEAD", "200", ""), 2);
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), 0);
}

#[test]
fn answers_without_body_leave_the_connection_usable() {
    for code in ["204", "304"] {
        let answer = if code == "204" {
            "HTTP/1.1 204 No Content\r\n\r\n"
        } else {
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"
        };
        let proxy = http(answering(answer));
        let mut client = proxy.connect();
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!(answer.status.to_string(), code);
            assert!(!answer.has_header("transfer-encoding"), "{}", answer.head);
        }
        assert_eq!(proxy.requests("GET", code, ""), 3);
    }
}

#[test]
fn trailers_pass_both_ways() {
    let proxy = http(serve(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.to_lowercase().contains("te: trailers"), "{head}");
        let body = connection.read_until("\r\n\r\n");
        assert!(body.to_lowercase().ends_with("0\r\nx-sum: 5\r\n\r\n"), "{body:?}");
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Total\r\n\r\n");
        connection.send("2\r\nhi\r\n0\r\nX-Total: 9\r\n\r\n");
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n");
    client.send("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 5\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.text(), "hi");
    assert_eq!(answer.trailers.len(), 1);
    assert!(answer.trailers[0].eq_ignore_ascii_case("x-total: 9"), "{:?}", answer.trailers);
    assert_eq!(proxy.requests("POST", "200", ""), 1);
}

#[test]
fn header_case_host_and_path_pass_untouched_and_nothing_is_added() {
    let (heads, seen) = std::sync::mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            heads.send(head).unwrap();
            connection.send("HTTP/1.1 299 Fine By Me\r\nX-cAsE: Kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n");
        }
    }));
    let mut client = proxy.connect();
    client.send("GET /a%20b/../c?q=1&q=2 HTTP/1.1\r\nHOST: Shop.Example\r\nx-MiXed: Value\r\n\r\n");
    let answer = client.answer();
    let mut lines: Vec<_> = answer.head.lines().collect();
    lines[1..].sort_unstable();
    let wanted = [
        "HTTP/1.1 299 Fine By Me",
        "Content-Length: 0",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "X-cAsE: Kept",
    ];
    assert_eq!(lines, wanted);
    let head = seen.recv().unwrap();
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    assert_eq!(lines, ["GET /a%20b/../c?q=1&q=2 HTTP/1.1", "HOST: Shop.Example", "x-MiXed: Value"]);
}

fn many_headers(count: usize) -> String {
    let lines: Vec<_> = (0..count).map(|number| format!("X-Number-{number}: {number}\r\n")).collect();
    lines.concat()
}

/// hyper's own limit is 100: 431 for a request with more, 502 for an answer.
#[test]
fn many_headers_pass_both_ways() {
    let proxy = http(serve(|mut connection| {
        let head = connection.head().unwrap();
        assert_eq!(head.lines().filter(|line| line.starts_with("X-Number-")).count(), 900);
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", many_headers(900)));
        connection.wait_for_close();
    }));
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many_headers(900));
    let answer = client::request(proxy.port, &request);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.head.lines().filter(|line| line.starts_with("X-Number-")).count(), 900);
}

#[test]
fn more_than_1000_headers_are_refused() {
    let proxy = http(answering(OK));
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many_headers(1001));
    assert_eq!(client::request(proxy.port, &request).status, 431);
    wait_until("it is counted", || proxy.requests("_OTHER", "431", "head_too_large") == 1);
}

#[test]
fn http_1_0_client_gets_an_unchunked_answer_and_the_end() {
    let proxy = http(answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"));
    let answer = client::request(proxy.port, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.text(), "ok");
    assert!(!answer.has_header("transfer-encoding"), "{}", answer.head);
}

#[test]
fn http_1_0_client_may_keep_the_connection() {
    let proxy = http(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.answer().text(), "ok");
    }
}

#[test]
fn the_app_decides_about_100_continue_and_other_interim_answers() {
    let proxy = http(serve(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Expect: 100-continue"), "{head}");
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(connection.read_until("abc"), "abc");
        connection.send("HTTP/1.1 102 Processing\r\n\r\n");
        connection.send(OK);
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let (head, status) = client.head();
    assert_eq!(status, 103);
    assert!(head.contains("Link: </a>"), "{head}");
    assert_eq!(client.head().1, 100);
    client.send("abc");
    assert_eq!(client.head().1, 102);
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(proxy.requests("POST", "200", ""), 1);
    assert_eq!(proxy.of_port("http_request_body_bytes_total"), 3);
}

#[test]
fn app_that_declines_a_body_is_heard_before_it_is_sent() {
    let proxy = http(serve(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno");
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (417, "no"));
    assert!(answer.has("Connection: close"), "what follows could be the body or not: {}", answer.head);
}

#[test]
fn app_may_answer_while_the_body_still_comes() {
    let proxy = http(serve(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let line = connection.read_until("\n");
            connection.send(format!("{:x}\r\n{line}\r\n", line.len()));
        }
        connection.send("0\r\n\r\n");
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    client.head();
    for line in ["a\n", "b\n", "c\n"] {
        client.send(line);
        assert_eq!(client.read_exact(7), format!("2\r\n{line}\r\n").as_bytes());
    }
    assert_eq!(client.read_exact(5), b"0\r\n\r\n");
    wait_until("it is counted", || proxy.requests("POST", "200", "") == 1);
}

/// Node sends both lines with each answer.
#[test]
fn lines_about_the_apps_connection_stay_there() {
    let proxy = http(answering(
        "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nB: 2\r\nContent-Length: 2\r\n\r\nok",
    ));
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!(answer.head, "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 2\r\n");
        assert_eq!(answer.text(), "ok");
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.head, "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 2\r\nConnection: close\r\n");
    assert!(client.is_closed_by_peer());
}

#[test]
fn lines_about_the_clients_connection_stay_there() {
    let (heads, seen) = std::sync::mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            heads.send(head).unwrap();
            connection.send(OK);
        }
    }));
    let mut client = proxy.connect();
    for (sent, passed) in [
        ("Host: a\r\nConnection: keep-alive\r\nB: 2\r\n", "Host: a\r\nB: 2\r\n"),
        ("X-Hop: 1\r\nHost: a\r\nConnection: x-hop, host\r\n", "Host: a\r\n"),
        ("Host: a\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: x\r\n", "Host: a\r\n"),
        ("Host: a\r\nTE: gzip\r\n", "Host: a\r\n"),
        (
            "Host: a\r\nTE: gzip, trailers\r\nB: 2\r\n",
            "Host: a\r\nB: 2\r\nTE: trailers\r\nConnection: TE\r\n",
        ),
    ] {
        client.send(format!("\r\nGET / HTTP/1.1\r\n{sent}\r\n"));
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(seen.recv().unwrap(), format!("GET / HTTP/1.1\r\n{passed}\r\n"));
    }
}

#[test]
fn traceparent_and_a_status_without_words_pass_untouched() {
    let (heads, seen) = std::sync::mpsc::channel();
    let proxy = http(serve(move |mut connection| {
        let (head, _) = connection.request().unwrap();
        heads.send(head).unwrap();
        connection.send("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200\r\n\r\n");
        connection.wait_for_close();
    }));
    let sent = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
                tracestate: rojo=00f067aa0ba902b7\r\n\r\n";
    let mut client = proxy.connect();
    client.send(sent);
    let answer = client.answer();
    assert_eq!(answer.head, "HTTP/1.1 200 \r\nContent-Length: 2\r\n");
    assert_eq!(seen.recv().unwrap(), sent);
    // What the app sent beyond its answer is no answer to the next request.
    client.send(sent);
    assert_eq!(client.answer().text(), "ok");
}

#[test]
fn long_urls_pass() {
    let proxy = http(serve(|mut connection| {
        let (head, _) = connection.request().unwrap();
        let length = head.len();
        connection
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{length}", length.to_string().len()));
    }));
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(60_000));
    assert_eq!(client::request(proxy.port, &request).text(), request.len().to_string());
}

#[test]
fn answer_framed_twice_is_read_as_chunked_and_passed_on_with_one_framing() {
    let proxy = http(answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ));
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "ok");
        assert!(!answer.has_header("content-length"), "{}", answer.head);
    }
}

/// It was read as one without an end, so its client waited until the app's idle connection ended.
#[test]
fn answer_whose_last_coding_is_chunked_ends_with_its_chunks() {
    let proxy =
        http(answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nzz\r\n0\r\n\r\n"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.head().0.contains("Transfer-Encoding: gzip, chunked\r\n"));
        assert_eq!(client.read_exact(12), b"2\r\nzz\r\n0\r\n\r\n");
    }
    assert_eq!(proxy.requests("GET", "200", ""), 2);
}

#[test]
fn app_of_http_1_0_does_not_end_the_clients_connection() {
    let proxy = http(serve(|mut connection| {
        connection.request();
        connection.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }));
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(
            (answer.head.as_str(), answer.text().as_str()),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "ok")
        );
    }
}

#[test]
fn connect_is_refused() {
    let proxy = http(answering(OK));
    let answer = client::request(proxy.port, "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n");
    assert_eq!(answer.status, 405);
    assert!(answer.has("outrigger-reason: method_refused"), "{}", answer.head);
    assert_eq!(proxy.requests("CONNECT", "405", "method_refused"), 1);
}

/// RFC 3986 forbids them, some clients send them, and the app is who decides.
#[test]
fn targets_that_rfc_3986_forbids_pass() {
    let proxy = http(answering(OK));
    for target in ["/?q=<b>", "/?q=\"a\"", "/<b>", "/`", "/\u{e9}"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client::request(proxy.port, &request).status, 200, "{target}");
    }
}

#[test]
fn unknown_methods_pass_and_share_one_label() {
    let proxy = http(answering(OK));
    for method in ["PROPFIND", "BREW"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client::request(proxy.port, &request).status, 200);
    }
    wait_until("both are counted", || proxy.requests("_OTHER", "200", "") == 2);
}

#[test]
fn app_that_listens_on_ipv6_loopback_only_is_found() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    assert_eq!(http(port).connect().get("/").text(), "ok");
}

/// Bytes in bulk go past our buffers, through pipes; what is counted and what arrives must be the same.
#[test]
fn large_bodies_arrive_byte_for_byte_however_they_are_framed() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let chunked: Vec<u8> = body
        .chunks(400_000)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    let by_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answers = [
        [by_length.as_bytes(), &body].concat(),
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunked[..]].concat(),
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &body[..]].concat(),
    ];
    let sent = [body.clone(), chunked.clone(), body.clone()];
    let expected = sent.clone();
    let proxy = http(serve(move |mut connection| {
        for (expected, answer) in expected.iter().zip(&answers) {
            assert!(connection.head().is_some());
            let mut body = vec![0; expected.len()];
            connection.reader.read_exact(&mut body).unwrap();
            assert!(body == *expected);
            connection.send(answer);
        }
    }));
    let mut client = proxy.connect();
    let framing = format!("Content-Length: {}", body.len());
    for (framing, sent) in [&framing, "Transfer-Encoding: chunked", &framing].into_iter().zip(&sent) {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        client.send(sent);
        assert!(client.answer().body == body, "{framing}");
    }
    assert_eq!(proxy.requests("POST", "200", ""), 3);
    let bytes = 3 * body.len() as u64;
    assert_eq!(proxy.of_port("http_request_body_bytes_total"), bytes);
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), bytes);
}
