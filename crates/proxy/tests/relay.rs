//! Connections that become bytes: tcp ports, upgrades, HTTP/2.

mod support;

use std::io::{Read, Write};

use support::app::serve;
use support::{closed_port, http, tcp, wait_until};

/// Sends back what comes, until the client closes its half.
#[allow(clippy::unwrap_used)] // part of tests, though not marked as one
fn echo(mut connection: support::app::Connection) {
    let mut writer = connection.reader.get_ref().try_clone().unwrap();
    let _ = std::io::copy(&mut connection.reader, &mut writer);
}

#[test]
fn websocket_switches_and_its_bytes_pass() {
    let proxy = http(serve(|mut connection| {
        let (head, _) = connection.request().unwrap();
        assert!(head.contains("Upgrade: websocket"), "{head}");
        assert!(head.to_lowercase().contains("connection: upgrade"), "{head}");
        assert!(head.contains("Sec-WebSocket-Key: abc"), "{head}");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        // The first frame comes along with the head.
        connection.send("Sec-WebSocket-Accept: xyz\r\n\r\nfirst");
        echo(connection);
    }));
    let mut client = proxy.connect();
    client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
    client.send("Sec-WebSocket-Key: abc\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 101);
    assert!(answer.has("Sec-WebSocket-Accept: xyz"), "{}", answer.head);
    assert!(answer.has_header("upgrade") && answer.has_header("connection"), "{}", answer.head);
    assert_eq!(client.read_exact(5), b"first");
    for i in 0..100u8 {
        client.send([i; 100]);
        assert_eq!(client.read_exact(100), [i; 100]);
    }
    assert_eq!(proxy.requests("GET", "101", ""), 1);
    assert_eq!(proxy.active(), 0);
    assert_eq!(proxy.of_port("tcp_open_connections"), 1);
    client.close_write();
    assert_eq!(client.read_to_end(), b"");
    wait_until("the relay has ended", || proxy.of_port("tcp_open_connections") == 0);
    assert_eq!(proxy.of_port("tcp_read_bytes_total"), 10_000);
    assert_eq!(proxy.of_port("tcp_written_bytes_total"), 10_005);
}

#[test]
fn upgrade_that_the_app_declines_is_a_request_like_any_other() {
    let proxy = http(support::app::answering("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.answer().status, 426);
    }
    assert_eq!(proxy.requests("GET", "426", ""), 2);
}

#[test]
fn switch_to_h2c_is_not_passed_on_so_that_its_requests_are_counted() {
    let proxy = http(serve(|mut connection| {
        let (head, _) = connection.request().unwrap();
        assert!(!head.to_lowercase().contains("upgrade"), "{head}");
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n");
    client.send("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn server_may_speak_first() {
    let proxy = tcp(serve(|mut connection| {
        connection.send("220 hello\r\n");
        connection.wait_for_close();
    }));
    let mut client = proxy.connect();
    assert_eq!(client.read_exact(11), b"220 hello\r\n");
}

#[test]
fn client_that_closes_its_half_still_gets_the_answer() {
    let proxy = tcp(serve(|mut connection| {
        let mut all = Vec::new();
        connection.reader.read_to_end(&mut all).unwrap();
        all.reverse();
        connection.send(all);
    }));
    let mut client = proxy.connect();
    client.send("abc");
    client.close_write();
    assert_eq!(client.read_to_end(), b"cba");
    wait_until("the relay has ended", || proxy.closed("") == 1);
}

#[test]
fn app_that_closes_its_half_still_gets_the_rest() {
    let (rest, got) = std::sync::mpsc::channel();
    let proxy = tcp(serve(move |mut connection| {
        connection.send("bye");
        connection.reader.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        let mut all = Vec::new();
        connection.reader.read_to_end(&mut all).unwrap();
        rest.send(all).unwrap();
    }));
    let mut client = proxy.connect();
    assert_eq!(client.read_to_end(), b"bye");
    client.send("late but whole");
    client.close_write();
    assert_eq!(got.recv_timeout(support::PATIENCE).unwrap(), b"late but whole");
}

#[test]
fn bytes_are_counted_while_the_connection_is_open() {
    let proxy = tcp(serve(echo));
    let mut client = proxy.connect();
    client.send("12345");
    client.read_exact(5);
    assert_eq!(proxy.of_port("tcp_connections_opened_total"), 1);
    assert_eq!(proxy.closed(""), 0);
    assert_eq!(proxy.of_port("tcp_open_connections"), 1);
    assert_eq!(proxy.of_port("tcp_read_bytes_total"), 5);
    assert_eq!(proxy.of_port("tcp_written_bytes_total"), 5);
}

#[test]
fn tcp_port_whose_app_does_not_listen_resets_the_client() {
    let proxy = tcp(closed_port());
    let mut client = proxy.connect();
    assert!(client.is_closed_by_peer());
    assert_eq!(proxy.of_port("tcp_connections_opened_total"), 1);
    assert_eq!(proxy.closed("connect_refused"), 1);
    assert_eq!(proxy.of_port("tcp_open_connections"), 0);
}

#[test]
fn connection_that_is_cut_counts_by_the_side_that_cut_it() {
    let proxy = tcp(serve(|mut connection| {
        // An app that closes with bytes unread resets the connection, and so does one that crashes.
        connection.reader.get_ref().peek(&mut [0]).unwrap();
        if connection.number > 0 {
            connection.wait_for_close();
        }
    }));
    let mut client = proxy.connect();
    client.send("a");
    client.is_closed_by_peer();
    wait_until("the app has cut the first", || proxy.closed("reset") == 1);
    let client = proxy.connect();
    let stream = client.reader.get_ref();
    (&*stream).write_all(b"b").unwrap();
    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    wait_until("the client has cut the second", || proxy.closed("client_closed") == 1);
    assert_eq!(proxy.of_port("tcp_open_connections"), 0);
}

#[test]
fn large_transfer_arrives_byte_for_byte() {
    let proxy = tcp(serve(echo));
    let mut client = proxy.connect();
    let mut writer = client.reader.get_ref().try_clone().unwrap();
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let copy = sent.clone();
    let sender = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(client.read_to_end() == sent, "what came back differs");
    sender.join().unwrap();
}
