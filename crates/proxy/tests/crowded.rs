//! More connections than there may be.

mod support;

use std::io::Read;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::app::{answering, serve};
use support::client::Client;
use support::process::{ConfigFile, Process};
use support::{client, closed_port, config, start, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn limits() -> Limits {
    Limits { connections: 1, ..Limits::default() }
}

#[test]
fn one_client_too_many_is_told_and_the_others_are_served() {
    let proxy = start(Protocol::Http, answering(OK), limits());
    let mut first = proxy.connect();
    assert_eq!(first.get("/").status, 200);
    let mut second = proxy.connect();
    let answer = second.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.has("outrigger-reason: too_many_connections"), "{}", answer.head);
    assert!(answer.text().contains("as many connections as it may have"), "{}", answer.text());
    assert!(second.is_closed_by_peer());
    assert_eq!(proxy.requests("_OTHER", "503", "too_many_connections"), 1);
    assert_eq!(first.get("/").status, 200);
    drop(first);
    wait_until("there is room again", || client::get(proxy.port, "/").status == 200);
}

#[test]
fn an_upload_does_not_keep_the_client_from_its_answer() {
    let proxy = start(Protocol::Http, answering(OK), limits());
    let mut first = proxy.connect();
    first.get("/");
    let mut second = proxy.connect();
    second
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)));
    assert_eq!(second.answer().status, 503);
}

#[test]
fn of_a_flood_most_are_closed_at_once() {
    let proxy = start(Protocol::Http, answering(OK), limits());
    let mut first = proxy.connect();
    first.get("/");
    let mut flood: Vec<_> = (0..200).map(|_| proxy.connect()).collect();
    let count = || proxy.requests("_OTHER", "503", "too_many_connections");
    wait_until("all of it is counted", || count() == 200);
    assert!(flood.last_mut().unwrap().is_closed_by_peer());
    assert_eq!(first.get("/").status, 200);
}

#[test]
fn on_a_tcp_port_one_too_many_is_reset() {
    let proxy = start(Protocol::Tcp, serve(|mut connection| connection.wait_for_close()), limits());
    let _first = proxy.connect();
    wait_until("the first is there", || proxy.of_port("tcp_open_connections") == 1);
    assert!(proxy.connect().is_closed_by_peer());
    assert_eq!(proxy.closed("too_many_connections"), 1);
    assert_eq!(proxy.of_port("tcp_open_connections"), 1);
}

/// 5,000 clients with a piece of a head each would hold 80 MB, of a sidecar that may have 64.
#[test]
fn heads_in_pieces_are_refused_where_slow_clients_hold_all_the_memory_there_is() {
    let buffers = Limits { buffers: 4 * 16 * 1024, ..Limits::default() };
    let proxy = start(Protocol::Http, answering(OK), buffers);
    let piece = "GET / HTTP/1.1\r\nHost: a\r\n";
    let slow = |_| {
        let mut client = proxy.connect();
        client.send(piece);
        client
    };
    let mut clients: Vec<_> = (0..12).map(slow).collect();
    let refused = || proxy.requests("_OTHER", "503", "out_of_buffers");
    wait_until("those beyond are refused", || refused() == 8);
    assert_eq!(client::get(proxy.port, "/").status, 200, "who is not slow notices nothing");
    let mut statuses: Vec<_> = Vec::new();
    for client in &mut clients {
        client.send("\r\n");
        statuses.push(client.answer().status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 4, "{statuses:?}");
    // A client has its answer before the worker has the buffer back.
    wait_until("there is memory again", || {
        let mut another = proxy.connect();
        another.send(piece);
        another.send("\r\n");
        another.answer().status == 200
    });
}

/// They were read on for up to a second, each into a buffer of 16 KiB.
#[test]
fn refused_clients_that_do_not_leave_hold_no_memory() {
    let buffers = Limits { buffers: 4 * 16 * 1024, ..Limits::default() };
    let proxy = start(Protocol::Http, answering(OK), buffers);
    let refused = |_| {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nno header\r\n\r\n");
        assert_eq!(client.answer().status, 400);
        client
    };
    let _refused: Vec<_> = (0..12).map(refused).collect();
    // More than comes at once, so that it is refused where memory is scarce.
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(client::request(proxy.port, &large).status, 200);
}

/// Containers often have 1,024 files. Connections beyond would fail at random, those to the app among them.
#[test]
fn no_more_are_taken_than_the_limit_of_open_files_has_room_for() {
    let port = closed_port();
    let file = ConfigFile::new("files", &text(&config(Protocol::Http, port, answering(OK))));
    let mut proxy = Process::start_after("ulimit -n 164", &file.0, port);
    let metrics = || client::get(proxy.admin, "/metrics").text();
    assert!(metrics().contains("\noutrigger_client_connections_limit 50\n"), "{}", metrics());
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(port)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(metrics().contains("\noutrigger_client_connections 50\n"), "{}", metrics());
    assert_eq!(Client::connect(port).get("/").status, 503);
    drop(clients);
    proxy.signal("TERM");
    let mut log = String::new();
    proxy.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("RLIMIT_NOFILE") && log.contains(r#""connections":50"#), "{log}");
}
