//! Where the app is reached: at the addresses that the proxy is given, and nowhere else.

mod support;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::mpsc;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::{Running, start_at};

/// Answers each connection with the address that it sees as its peer.
#[allow(clippy::unwrap_used)] // part of tests, though not marked as one
fn app_at(address: &str) -> (u16, mpsc::Receiver<IpAddr>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (peers, seen) = mpsc::channel();
    std::thread::spawn(move || while peers.send(listener.accept().unwrap().1.ip()).is_ok() {});
    (port, seen)
}

#[allow(clippy::unwrap_used)] // part of tests, though not marked as one
fn proxy_to(app: &[&str], target: u16) -> Running {
    let app: Vec<_> = app.iter().map(|address| address.parse().unwrap()).collect();
    start_at(&app, Protocol::Http, target, Limits::default())
}

/// An address of this machine that is not loopback, as a pod has.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: it only asks the routing table. The address is of RFC 5737, for examples.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What an app binds to loopback is for itself: postgres trusts it there, admin pages have no password there.
#[test]
fn app_that_listens_on_loopback_only_is_not_opened_to_the_cluster() {
    let (port, seen) = app_at("127.0.0.1");
    let proxy = proxy_to(&["127.0.0.2"], port);
    let answer = proxy.connect().get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("it listens on loopback only, or not at all"), "{}", answer.text());
    assert_eq!(proxy.requests("GET", "502", "connect_refused"), 1);
    assert!(seen.try_recv().is_err());
}

#[test]
fn app_that_listens_on_the_pods_address_only_is_reached() {
    let (port, seen) = app_at("127.0.0.2");
    let proxy = proxy_to(&["127.0.0.2"], port);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    seen.recv_timeout(support::PATIENCE).unwrap();
}

#[test]
fn addresses_are_tried_in_order() {
    let (port, seen) = app_at("127.0.0.3");
    let proxy = proxy_to(&["127.0.0.2", "127.0.0.3"], port);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    seen.recv_timeout(support::PATIENCE).unwrap();
}

#[test]
fn the_app_sees_the_pods_own_address_as_its_peer() {
    let Some(own) = own_address() else { return };
    let (port, seen) = app_at("0.0.0.0");
    let proxy = proxy_to(&[&own.to_string()], port);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen.recv_timeout(support::PATIENCE).unwrap(), own);
}
