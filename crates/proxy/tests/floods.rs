//! Clients of HTTP/2 that cost more than they are worth, or nothing but harm.

mod support;

use std::time::Duration;

use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::http2::{
    CONTINUATION, DATA, GET, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, connect, frame,
    request, run, serve,
};
use support::{Running, http, start, wait_until};

const ENHANCE_YOUR_CALM: u32 = 11;

fn quick() -> Running {
    http(serve(async |call| call.answer("ok")))
}

fn silent() -> u16 {
    serve(async |call| {
        std::future::pending::<()>().await;
        drop(call);
    })
}

fn ended(proxy: &Running, reason: &str) -> u64 {
    proxy.metric(&format!(
        r#"http2_connections_closed_total{{direction="inbound",port="web",reason="{reason}"}}"#
    ))
}

/// Sends until the proxy has enough of it.
fn flood(proxy: &Running, mut next: impl FnMut(u32) -> Vec<u8>, reason: &str) {
    let mut client = Raw::connect(proxy.port);
    for i in 0..200_000 {
        if !client.send(&next(i)) {
            break;
        }
    }
    // Where it was cut in the middle of what we sent, the reset may overtake the GOAWAY.
    assert!(matches!(client.goaway(), Some(ENHANCE_YOUR_CALM) | None));
    wait_until("the flood is counted", || ended(proxy, reason) == 1);
    run(async { assert_eq!(connect(proxy.port).await.get("/").await.1, b"ok") });
}

#[test]
fn pings_are_bounded() {
    flood(&quick(), |_| frame(PING, 0, 0, &[0; 8]).repeat(10), "control_flood");
}

#[test]
fn settings_are_bounded() {
    flood(&quick(), |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(10), "control_flood");
}

#[test]
fn empty_data_is_bounded() {
    let open = |i| if i == 0 { frame(HEADERS, 4, 1, &GET) } else { frame(0, 0, 1, &[]).repeat(10) };
    flood(&quick(), open, "data_flood");
}

#[test]
fn continuation_is_bounded() {
    let open = |i| {
        if i == 0 { frame(HEADERS, 0, 1, &GET) } else { frame(CONTINUATION, 0, 1, &[]) }
    };
    flood(&quick(), open, "head_flood");
}

/// CVE-2023-44487: each of these would be a request to the app.
#[test]
fn resets_are_bounded() {
    let rapid = |i: u32| {
        [frame(HEADERS, 5, 2 * i + 1, &GET), frame(RST_STREAM, 0, 2 * i + 1, &[0, 0, 0, 8])].concat()
    };
    flood(&quick(), rapid, "reset_flood");
}

/// As above, but slow enough that each request is taken before it is reset.
#[test]
fn resets_one_by_one_are_bounded() {
    let proxy = http(silent());
    run(async {
        let client = connect(proxy.port).await;
        let mut sent = 0;
        while !client.is_told_to_leave().await {
            let (answer, mut stream) = client.send(request("GET", "/").body(()).unwrap(), true).await;
            // Until it is on the wire.
            tokio::task::yield_now().await;
            stream.send_reset(h2::Reason::CANCEL);
            drop(answer);
            sent += 1;
            assert!(sent < 100_000);
        }
    });
    wait_until("the flood is counted", || ended(&proxy, "reset_flood") == 1);
}

/// CVE-2025-8671: the same, but we are made to send the resets.
#[test]
fn resets_that_a_client_provokes_are_bounded() {
    let provoke = |i: u32| {
        let too_much = frame(WINDOW_UPDATE, 0, 2 * i + 1, &[0x7f, 0xff, 0xff, 0xff]);
        [frame(HEADERS, 5, 2 * i + 1, &GET), too_much].concat()
    };
    flood(&quick(), provoke, "reset_flood");
}

#[test]
fn client_that_resets_now_and_then_is_served() {
    let proxy = quick();
    run(async {
        let client = connect(proxy.port).await;
        for _ in 0..600 {
            let (_, mut stream) = client.send(request("GET", "/").body(()).unwrap(), true).await;
            stream.send_reset(h2::Reason::CANCEL);
            assert_eq!(client.get("/").await.1, b"ok");
        }
    });
}

#[test]
fn heads_are_bounded_and_the_connection_goes_on() {
    let proxy = quick();
    run(async {
        let client = connect(proxy.port).await;
        for (headers, length) in [(1, 70_000), (1001, 8)] {
            let mut request = request("GET", "/");
            for i in 0..headers {
                request = request.header(format!("x{i}"), "x".repeat(length));
            }
            let (answer, _) = client.send(request.body(()).unwrap(), true).await;
            assert_eq!(answer.await.unwrap().status(), 431);
        }
        assert_eq!(client.get("/").await.1, b"ok");
    });
    assert_eq!(proxy.requests("GET", "431", "head_too_large"), 2);
}

/// It stood until the connection had been idle for long, and for ever beside a stream under way.
#[test]
fn heads_that_do_not_come_whole_are_ended() {
    let proxy =
        start(Protocol::Http, silent(), Limits { head: Duration::from_millis(50), ..Limits::default() });
    let mut client = Raw::connect(proxy.port);
    client.send(&frame(HEADERS, 5, 1, &GET));
    client.send(&frame(HEADERS, 1, 3, &GET));
    assert_eq!(client.goaway(), Some(ENHANCE_YOUR_CALM));
    wait_until("it is counted", || ended(&proxy, "head_timeout") == 1);
}

/// 500 of them, each of 120 KB, counted as nothing and took all of the sidecar's 64 MiB.
#[test]
fn heads_that_do_not_come_whole_are_bounded_by_memory() {
    let limits = Limits { buffers: 1024 * 1024, ..Limits::default() };
    let proxy = start(Protocol::Http, serve(async |call| call.answer("ok")), limits);
    let connected = |_| {
        let mut client = Raw::connect(proxy.port);
        client.send(&frame(HEADERS, 5, 1, &GET));
        assert!(std::iter::from_fn(|| client.frame()).any(|(kind, ..)| kind == DATA), "an answer");
        client
    };
    let mut clients: Vec<_> = (0..10).map(connected).collect();
    // A byte for each field: `accept-encoding: gzip, deflate` of the static table.
    let head = [&GET[..], &[0x90; 1500]].concat();
    for client in &mut clients {
        client.send(&frame(HEADERS, 1, 3, &head));
    }
    wait_until("those beyond are cut", || ended(&proxy, "out_of_buffers") >= 6);
}

#[test]
fn streams_are_bounded() {
    let proxy = start(Protocol::Http, silent(), Limits { connections: 10, ..Limits::default() });
    run(async {
        let client = connect(proxy.port).await;
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(client.send(request("GET", "/").body(()).unwrap(), true).await);
        }
        assert_eq!(client.get("/").await.0.status, 503);
        held.clear();
    });
    wait_until("it is counted", || proxy.requests("GET", "503", "too_many_connections") == 1);
}

#[test]
fn client_that_is_dead_is_found_out_by_ping() {
    let proxy =
        start(Protocol::Http, silent(), Limits { ping: Duration::from_millis(50), ..Limits::default() });
    let mut client = Raw::connect(proxy.port);
    client.send(&frame(SETTINGS, 1, 0, &[]));
    client.send(&frame(HEADERS, 5, 1, &GET));
    let mut asked = false;
    while let Some((kind, flags, _)) = client.frame() {
        asked |= kind == PING && flags == 0;
    }
    assert!(asked);
    wait_until("it is counted", || ended(&proxy, "ping_timeout") == 1);
    assert_eq!(proxy.requests("GET", "499", "client_closed"), 1);
}

#[test]
fn client_that_answers_pings_is_left_alone() {
    let proxy = start(Protocol::Http, silent(), Limits { ping: Duration::from_secs(2), ..Limits::default() });
    let mut client = Raw::connect(proxy.port);
    client.send(&frame(HEADERS, 5, 1, &GET));
    let mut asked = 0;
    while asked < 3 {
        if let (PING, 0, payload) = client.frame().expect("still there") {
            client.send(&frame(PING, 1, 0, &payload));
            asked += 1;
        }
    }
    assert_eq!(proxy.active(), 1);
}

#[test]
fn request_that_came_before_the_end_of_its_connection_is_counted() {
    let proxy = quick();
    let mut client = Raw::connect(proxy.port);
    client.send(&[frame(HEADERS, 5, 1, &GET), frame(HEADERS, 5, 3, &GET)].concat());
    drop(client);
    wait_until("both are counted", || {
        proxy.requests("GET", "499", "client_closed") + proxy.requests("GET", "200", "") == 2
    });
}

#[test]
fn connect_is_refused_and_so_is_what_concerns_one_connection() {
    let proxy = quick();
    run(async {
        let client = connect(proxy.port).await;
        let tunnel = http::Request::builder().method("CONNECT").uri("shop:80").body(()).unwrap();
        let (answer, _) = client.send(tunnel, true).await;
        assert_eq!(answer.await.unwrap().status(), 405);
    });
    let mut client = Raw::connect(proxy.port);
    // A literal: `connection: close`.
    let header = [&GET[..], &[0, 10], b"connection", &[5], b"close"].concat();
    client.send(&frame(HEADERS, 5, 1, &header));
    let (_, _, code) = std::iter::from_fn(|| client.frame()).find(|(kind, ..)| *kind == RST_STREAM).unwrap();
    assert_eq!(code, [0, 0, 0, 1], "PROTOCOL_ERROR");
    assert_eq!(proxy.requests("CONNECT", "405", "method_refused"), 1);
}
