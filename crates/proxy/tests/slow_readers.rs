//! Peers that let bytes wait, by TLS and by HTTP/2, whose buffers are none of our own: what all of them hold is bounded all the same.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::tls::TlsSpec;
use outrigger_proxy::limits::Limits;
use support::app::serve;
use support::http2::{self, HEADERS, Raw, SETTINGS, WINDOW_UPDATE, connect, frame, request, run};
use support::tls::{Authority, Client, Secrets, Trust};
use support::{Running, client, config, open, start, start_by, wait_until};

/// `:path: /endless`, and the rest as in [`http2::GET`].
const ENDLESS: &[u8] = b"\x82\x86\x04\x08/endless\x41\x01a";
static ZEROS: [u8; 65_536] = [0; 65_536];

fn limits(buffers: usize) -> Limits {
    Limits { buffers, ..Limits::default() }
}

/// How many requests were ended for want of memory, also while others are under way.
fn given_up(proxy: &Running) -> u64 {
    let text = proxy.metrics();
    let series = text.lines().filter(|line| line.starts_with("outrigger_http_requests_total{"));
    let series = series.filter(|line| line.contains(r#"reason="out_of_buffers""#));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

/// Answers at once, or never comes to an end.
fn app() -> u16 {
    http2::serve(async |mut call| {
        if call.head.uri.path() != "/endless" {
            return call.answer("ok");
        }
        let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
        while http2::send(&mut stream, Bytes::from_static(&ZEROS)).await.is_ok() {}
    })
}

/// A client that gives all the room there can be, and reads nothing.
fn reads_nothing(port: u16, streams: u32) -> Raw {
    let mut client = Raw::connect(port);
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    client.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]));
    for stream in 0..streams {
        client.send(&frame(HEADERS, 5, 2 * stream + 1, ENDLESS));
    }
    client
}

/// Ten such connections held 74 MB, of a sidecar that may have 64.
#[test]
fn answers_that_streams_do_not_take_are_bounded_together() {
    let proxy = start(Protocol::Http, app(), limits(8 << 20));
    run(async {
        let other = connect(proxy.port).await;
        assert_eq!(other.get("/").await.1, b"ok");
        let slow: Vec<_> = (0..3).map(|_| reads_nothing(proxy.port, 50)).collect();
        wait_until("some are given up", || given_up(&proxy) > 0);
        assert_eq!(other.get("/").await.1, b"ok", "who is not slow notices nothing");
        drop(slow);
        wait_until("all are gone", || proxy.active() == 0);
        assert_eq!(connect(proxy.port).await.get("/").await.1, b"ok", "and there is memory again");
    });
}

#[test]
fn uploads_that_the_app_does_not_take_are_bounded_together() {
    let silent = http2::serve(async |call| {
        std::future::pending::<()>().await;
        drop(call);
    });
    let proxy = start(Protocol::Http, silent, limits(512 * 1024));
    run(async {
        let client = connect(proxy.port).await;
        for _ in 0..16 {
            let (answer, mut stream) = client.send(request("POST", "/").body(()).unwrap(), false).await;
            tokio::task::spawn_local(async move {
                let _ = http2::send(&mut stream, Bytes::from_static(&ZEROS)).await;
                let _ = answer.await;
            });
        }
        while given_up(&proxy) == 0 {
            tokio::task::yield_now().await;
        }
    });
}

/// Heads of up to 16 KiB were never refused, and took more than twice what they counted for: 2,000 streams took 78 MB.
#[test]
fn heads_that_wait_for_the_app_are_bounded_together() {
    let app = http2::serve(async |call| {
        if call.head.uri.path() == "/" {
            return call.answer("ok");
        }
        std::future::pending::<()>().await;
    });
    let proxy = start(Protocol::Http, app, limits(512 * 1024));
    run(async {
        let client = connect(proxy.port).await;
        let mut waiting = Vec::new();
        for _ in 0..60 {
            let request = request("GET", "/slow").header("x", "x".repeat(15_000)).body(()).unwrap();
            waiting.push(client.send(request, true).await);
        }
        while given_up(&proxy) < 45 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.get("/").await.1, b"ok", "a small one is served");
    });
}

/// A proxy with a certificate for `shop`, and clients that trust it.
fn https(name: &str, target: u16, buffers: usize) -> (Running, Trust, Secrets) {
    let (authority, secrets) = (Authority::new("authority"), Secrets::new(name));
    secrets.write_pair("web", &authority.sign("shop"));
    let with_tls = |port| -> SidecarConfig {
        let mut config = config(Protocol::Http, port, target);
        config.inbound[0].tls = Some(TlsSpec { secret_name: "web".to_owned(), ..TlsSpec::default() });
        config
    };
    (start_by(with_tls, &secrets.0, limits(buffers)), Trust::of(&authority), secrets)
}

/// Answers `/` at once, and anything else without an end.
fn app_of_http1() -> u16 {
    serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.starts_with("GET / ") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                continue;
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
            while connection.try_send(&ZEROS) {}
        }
    })
}

/// The library keeps 64 KiB of ciphertext for each client that does not read, which nobody counted.
#[test]
fn answers_that_clients_do_not_take_by_tls_are_bounded_together() {
    let (proxy, trust, _secrets) = https("slow", app_of_http1(), 640 * 1024);
    let mut clients: Vec<_> = (0..30).map(|_| trust.connect(proxy.port, "shop")).collect();
    for client in &mut clients {
        assert!(client.get("/").ends_with("ok"));
    }
    let (slow, others) = clients.split_at_mut(29);
    for client in slow {
        client.0.write_all(b"GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    }
    wait_until("some are given up", || given_up(&proxy) > 0);
    assert!(others[0].get("/").ends_with("ok"), "who is not slow notices nothing");
    assert!(proxy.active() > 0, "and not all are given up");
}

/// 5,000 idle ones, as many as there may be connections, took all of the sidecar's 64 MiB.
#[test]
fn sessions_by_tls_are_bounded_by_memory() {
    let (proxy, trust, _secrets) = https("idle", app_of_http1(), 256 * 1024);
    let mut clients: Vec<Client> = Vec::new();
    while given_up(&proxy) == 0 {
        let mut client = trust.connect(proxy.port, "shop");
        if client.try_get("/", "").is_ok() {
            clients.push(client);
        }
        assert!(clients.len() < 100, "none is refused");
    }
    assert!(clients.len() > 10, "{}", clients.len());
    assert!(clients[0].get("/").ends_with("ok"), "those that are there are served");
    clients.clear();
    wait_until("there is room again", || trust.connect(proxy.port, "shop").try_get("/", "").is_ok());
}

/// The last piece stayed in the session until there was another, so such a client waited for it in vain.
#[test]
fn an_answer_that_is_taken_late_by_tls_is_whole() {
    const LENGTH: usize = 32 << 20;
    let app = serve(|mut connection| {
        connection.request();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        for byte in (0..LENGTH / ZEROS.len()).map(|piece| u8::try_from(piece % 251).unwrap()) {
            connection.try_send(&vec![byte; ZEROS.len()]);
        }
    });
    let (proxy, trust, _secrets) = https("late", app, 24 << 20);
    let mut client = trust.connect(proxy.port, "shop");
    client.0.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    wait_until("it is under way", || proxy.active() == 1);
    let (_never, nothing) = std::sync::mpsc::channel::<()>();
    let _ = nothing.recv_timeout(Duration::from_millis(300));
    let mut answer = Vec::new();
    let mut piece = vec![0; 100_000];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = client.0.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..length]);
    }
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    while answer.len() < head + LENGTH {
        let length = client.0.read(&mut piece).unwrap();
        assert!(length > 0, "cut off after {}", answer.len());
        answer.extend_from_slice(&piece[..length]);
    }
    for (piece, bytes) in answer[head..].chunks(ZEROS.len()).enumerate() {
        assert!(bytes.iter().all(|byte| usize::from(*byte) == piece % 251), "piece {piece}");
    }
}

/// A hello of 64 KiB that never came whole counted for 10, and 1,000 of them took all of the sidecar's 64 MiB.
#[test]
fn handshakes_that_are_not_done_are_bounded_by_memory() {
    let (proxy, trust, _secrets) = https("hello", app_of_http1(), 640 * 1024);
    let begins = |_| {
        let mut client = open(proxy.port);
        // A record of 4 KiB, in which a hello of 63 KiB begins.
        client.write_all(&[22, 3, 1, 16, 0, 1, 0, 252, 0]).unwrap();
        client
    };
    let clients: Vec<_> = (0..20).map(begins).collect();
    wait_until("those beyond are refused", || given_up(&proxy) > 0);
    drop(clients);
    wait_until("there is room again", || trust.connect(proxy.port, "shop").try_get("/", "").is_ok());
}

/// Answers `/` at once, and nothing else.
fn app_of_silence() -> u16 {
    serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.starts_with("GET / ") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            } else {
                connection.wait_for_close();
            }
        }
    })
}

/// Clients that send this, with the next request behind it, while the app takes its time over the first.
fn what_comes_beyond_is_bounded(request: &str) {
    let proxy = start(Protocol::Http, app_of_silence(), limits(4 * 16 * 1024));
    let ahead = |_| {
        let mut client = proxy.connect();
        client.send([request, &"G".repeat(12_000)].concat());
        client
    };
    let _clients: Vec<_> = (0..12).map(ahead).collect();
    wait_until("those beyond are refused", || given_up(&proxy) >= 6);
    assert_eq!(client::get(proxy.port, "/").status, 200, "who waits for answers notices nothing");
}

/// Each had a connection of its own to the app, whose 4 KiB in the kernel counted as nothing: with 4,500 of them the buffers were
/// 18 MiB too large.
#[test]
fn connections_to_the_app_count_beside_buffers() {
    let proxy = start(Protocol::Http, app_of_silence(), limits(4 * 16 * 1024));
    let mut clients: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let connected = r#"upstream_pool_connections{direction="inbound",port="web",state="active"}"#;
    wait_until("all are under way", || proxy.metric(connected) == 30);
    let mut client = proxy.connect();
    client.send(["GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", &"G".repeat(2000)].concat());
    assert_eq!(client.answer().status, 503, "it has more behind it than there is room for");
    assert_eq!(given_up(&proxy), 1);
    assert_eq!(client::get(proxy.port, "/").status, 200, "who waits for answers notices nothing");
}

/// 16 KiB each, for as long as the app took, counted as nothing.
#[test]
fn requests_that_are_sent_ahead_are_bounded_by_memory() {
    what_comes_beyond_is_bounded("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn requests_that_are_sent_ahead_behind_a_body_are_bounded_by_memory() {
    let body = "x".repeat(20_000);
    let upload = format!("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n{body}");
    what_comes_beyond_is_bounded(&upload);
}
