//! An app whose process is replaced under load.

mod support;

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use support::app::{Count, serve};
use support::client::Client;
use support::{http, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const POST: &str = "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

const CLIENTS: usize = 8;

/// Requests one after the other, by turns such that may be sent twice and such that may not. Returns how many failed.
fn load(port: u16, over: &AtomicBool) -> usize {
    let (mut client, mut failed) = (Client::connect(port), 0);
    // Bounded for the case that the test fails meanwhile.
    for _ in 0..100_000 {
        if over.load(Ordering::Relaxed) {
            break;
        }
        for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", POST] {
            client.send(request);
            let answer = client.answer();
            if answer.status != 200 {
                assert_eq!(answer.status, 502, "{}", answer.head);
                assert!(answer.has("outrigger-reason: reset"), "{}", answer.head);
                failed += 1;
            }
        }
    }
    failed
}

/// The socket is handed on, as by systemd or `SO_REUSEPORT`, so that somebody listens at any time.
#[test]
fn what_fails_is_at_most_one_request_for_each_connection_of_the_old_process() {
    let (open, answered) = (Arc::<Mutex<Vec<TcpStream>>>::default(), Count::default());
    let (connections, count) = (Arc::clone(&open), answered.clone());
    let proxy = http(serve(move |mut connection| {
        let stream = connection.reader.get_ref().try_clone().expect("a descriptor is free");
        connections.lock().expect("no app panicked").push(stream);
        while connection.request().is_some() && connection.try_send(OK.as_bytes()) {
            count.add();
        }
    }));
    let over = AtomicBool::new(false);
    let (failed, old) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| load(proxy.port, &over))).collect();
        wait_until("load", || answered.get() > 500);
        let old = std::mem::take(&mut *open.lock().expect("no app panicked"));
        for connection in &old {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let before = answered.get();
        wait_until("the new process has its share", || answered.get() > before + 500);
        over.store(true, Ordering::Relaxed);
        let failed: usize = clients.into_iter().map(|client| client.join().expect("no other failure")).sum();
        (failed, old.len())
    });
    assert!(failed <= old, "{failed} requests failed, of {old} connections");
    assert_eq!(proxy.requests("GET", "502", "reset") + proxy.requests("POST", "502", "reset"), failed as u64);
}
