//! Calls of the app to others, through a listener of ours on loopback.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use outrigger_api::config::{Protocol, SidecarConfig, Upstream};
use outrigger_proxy::limits::Limits;
use support::app::{self, Count, answering, serve};
use support::{Outbound, closed_port, config, outbound, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with an upstream `api` on this port.
fn calling(protocol: Protocol, port: u16) -> Outbound {
    outbound(protocol, "localhost", port, Limits::default())
}

#[test]
fn calls_are_counted_for_their_upstream() {
    let port = answering(OK);
    let proxy = calling(Protocol::Auto, port);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    let labels = format!(r#"direction="outbound",port="{port}",upstream="api""#);
    let requests =
        format!(r#"http_requests_total{{{labels},method="GET",code="200",protocol="HTTP/1.1",reason=""}}"#);
    wait_until("all calls are counted", || proxy.metric(&requests) == 3);
    assert_eq!(proxy.metric(&format!("upstream_reuses_total{{{labels}}}")), 2);
    assert_eq!(proxy.metric(&format!(r#"detect_total{{{labels},result="http1"}}"#)), 1);
    let (_, stats) = proxy.stats(support::TOKEN);
    let found =
        stats["ports"].as_array().unwrap().iter().find(|port| port["direction"] == "outbound").unwrap();
    assert_eq!((&found["upstream"], &found["http"]["requests"]), (&"api".into(), &3.into()));
}

#[test]
fn host_that_names_the_listener_becomes_the_upstreams() {
    let port = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let host =
                head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default().to_owned();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len()));
        }
    });
    let proxy = calling(Protocol::Http, port);
    let mut client = proxy.connect();
    for (host, wanted) in [
        (format!("127.0.0.1:{}", proxy.port), format!("localhost:{port}")),
        (format!("localhost:{}", proxy.port), format!("localhost:{port}")),
        ("shop.example".to_owned(), "shop.example".to_owned()),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nKeep-Alive: 1\r\nTE: trailers\r\n\r\n"));
        assert_eq!(client.answer().text(), wanted);
    }
}

/// linkerd2#1505: clients of servers that speak first hung until detection gave up.
#[test]
fn a_server_that_speaks_first_is_heard() {
    let port = serve(|mut connection| {
        connection.send("220 mail\r\n");
        assert_eq!(connection.read_until("\r\n"), "EHLO shop\r\n");
        connection.send("250 ok\r\n");
        connection.wait_for_close();
    });
    let proxy = calling(Protocol::Auto, port);
    let mut client = support::open(proxy.port);
    let mut greeting = [0; 10];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 mail\r\n");
    client.write_all(b"EHLO shop\r\n").unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"250 ok\r\n");
    drop(client);
    let labels = format!(r#"direction="outbound",port="{port}",upstream="api""#);
    wait_until("it is counted", || {
        proxy.metric(&format!(r#"tcp_connections_closed_total{{{labels},reason=""}}"#)) == 1
    });
    assert_eq!(proxy.metric(&format!(r#"detect_total{{{labels},result="tcp"}}"#)), 1);
}

#[test]
fn what_only_looks_like_http_passes_as_bytes() {
    let port = serve(|mut connection| {
        assert_eq!(connection.read_until("\r\n"), "GET key\r\n");
        connection.send("$5\r\nvalue\r\n");
        connection.wait_for_close();
    });
    let proxy = calling(Protocol::Auto, port);
    let mut client = support::open(proxy.port);
    client.write_all(b"GET key\r\n").unwrap();
    let mut answer = [0; 11];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"$5\r\nvalue\r\n");
}

/// An app that talks to a forward proxy of its own: refusing its CONNECT would cut it off.
#[test]
fn calls_to_a_forward_proxy_pass() {
    let port = serve(|mut connection| {
        assert!(connection.head().unwrap().starts_with("CONNECT far:443 HTTP/1.1\r\n"));
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(connection.read_until("!"), "hello!");
        connection.send("bye");
    });
    let proxy = calling(Protocol::Auto, port);
    let mut client = support::open(proxy.port);
    client.write_all(b"CONNECT far:443 HTTP/1.1\r\nHost: far:443\r\n\r\nhello!").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nbye");
}

/// A client that connects ahead of its first request, as browsers and pools do, is still counted by requests.
#[test]
fn a_slow_first_request_goes_on_the_connection_that_was_made_meanwhile() {
    let connections = Count::default();
    let counted = connections.clone();
    let port = serve(move |mut connection| {
        counted.add();
        while connection.request().is_some() {
            connection.send(OK);
        }
    });
    let proxy = calling(Protocol::Auto, port);
    let mut client = proxy.connect();
    wait_until("the upstream was called", || connections.get() == 1);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(connections.get(), 1);
}

#[test]
fn an_upstream_that_is_not_there_is_a_502_with_the_cause() {
    for (host, cause) in [("127.0.0.1", "connect_refused"), ("nobody.invalid", "unknown_host")] {
        let proxy = outbound(Protocol::Http, host, closed_port(), Limits::default());
        let answer = proxy.connect().get("/");
        assert_eq!(answer.status, 502);
        assert!(answer.has(&format!("outrigger-reason: {cause}")), "{}", answer.head);
        assert!(answer.text().contains("upstream"), "{}", answer.text());
    }
}

/// linkerd2#6238: calls stayed with a pod that was to end, because their connection never did.
#[test]
fn a_connection_is_not_used_for_ever() {
    let connections = Count::default();
    let counted = connections.clone();
    let port = serve(move |mut connection| {
        counted.add();
        while connection.request().is_some() {
            connection.send(OK);
        }
    });
    let limits = Limits { pool_age: Duration::ZERO, ..Limits::default() };
    let proxy = outbound(Protocol::Http, "localhost", port, limits);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(connections.get(), 3);
}

#[test]
fn no_more_connections_are_kept_than_there_may_be() {
    let (port, gate) = app::held(OK, 3);
    let limits = Limits { pool_size: 1, pool_idle: support::PATIENCE, ..Limits::default() };
    let proxy = outbound(Protocol::Http, "localhost", port, limits);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gate.wait();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let labels = format!(r#"direction="outbound",port="{port}",upstream="api""#);
    let pool = |state| proxy.metric(&format!(r#"upstream_pool_connections{{{labels},state="{state}"}}"#));
    wait_until("one is kept", || (pool("idle"), pool("active")) == (1, 0));
}

#[test]
fn upstreams_come_and_go_with_the_config() {
    let (first, second) = (answering(OK), answering("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"));
    let proxy = calling(Protocol::Http, first);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    let upstream = Upstream {
        name: "api".to_owned(),
        host: "localhost".to_owned(),
        port: second,
        protocol: Protocol::Http,
        listen: Some(proxy.port),
        ..Upstream::default()
    };
    let moved =
        SidecarConfig { inbound: Vec::new(), upstreams: vec![upstream], ..config(Protocol::Http, 1, 1) };
    proxy.rewrite(&text(&moved));
    wait_until("calls go to the other", || client.get("/").status == 201);
}
