//! HTTP/2 goes through stream by stream, each request is counted once, and no client or app is in the way of another.

mod support;

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};
use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use support::http2::{
    DATA, GET, HEADERS, Raw, call, connect, frame, read, request, run, send, serve, serve_by,
};
use support::{TOKEN, app, closed_port, http, start, wait_until};

#[test]
fn streams_of_a_client_share_one_connection_to_the_app_and_are_counted_each() {
    let proxy = http(serve(async |call| {
        let text = format!("{} {}", call.connection, call.head.uri);
        call.answer(text);
    }));
    run(async {
        for connection in 0..2 {
            let client = connect(proxy.port).await;
            let gets = (0..50).map(|i| {
                let client = client.clone();
                async move { (i, client.get(&format!("/{i}?q")).await) }
            });
            for (i, (head, body)) in futures::future::join_all(gets).await {
                let text = String::from_utf8(body).unwrap();
                assert_eq!((head.status.as_u16(), text), (200, format!("{connection} http://shop/{i}?q")));
            }
        }
    });
    assert_eq!(proxy.requests("GET", "200", ""), 100);
    assert!(proxy.metrics().contains(r#"protocol="HTTP/2",reason=""} 100"#));
    assert_eq!(proxy.of_port("http2_connections_opened_total"), 2);
    assert_eq!(proxy.of_port("tcp_connections_opened_total"), 0);
}

#[test]
fn bodies_pass_both_ways_while_they_come_and_trailers_with_them() {
    let proxy = http(serve(async |mut call| {
        let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
        while let Some(piece) = call.body.data().await {
            send(&mut stream, piece.unwrap()).await.unwrap();
        }
        let mut trailers = call.body.trailers().await.unwrap().unwrap();
        trailers.insert("from", "app".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }));
    run(async {
        let client = connect(proxy.port).await;
        let (answer, mut stream) = client.send(request("POST", "/").body(()).unwrap(), false).await;
        let mut answer = answer.await.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            // The next only when the one before has come back.
            stream.send_data(Bytes::from(piece), false).unwrap();
            assert_eq!(answer.data().await.unwrap().unwrap(), piece);
        }
        stream.send_trailers(HeaderMap::from_iter([("sum".parse().unwrap(), "3".parse().unwrap())])).unwrap();
        let (rest, trailers) = read(&mut answer).await;
        let trailers = trailers.unwrap();
        assert_eq!(
            (rest.len(), &trailers["sum"], &trailers["from"]),
            (0, &"3".parse().unwrap(), &"app".parse().unwrap())
        );
    });
    assert_eq!(proxy.requests("POST", "200", ""), 1);
    assert_eq!(proxy.of_port("http_request_body_bytes_total"), 11);
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), 11);
    let route = &proxy.stats(TOKEN).1["ports"][0]["http"]["routes"][0];
    assert_eq!((&route["requestBodyBytes"], &route["responseBodyBytes"]), (&11.into(), &11.into()));
}

fn grpc(proxy: &support::Running, code: &str) -> u64 {
    wait_until("what clients have seen is counted", || proxy.active() == 0);
    proxy.metric(&format!(r#"grpc_requests_total{{direction="inbound",port="web",grpc_code="{code}"}}"#))
}

#[test]
fn grpc_status_is_counted_from_trailers_and_from_heads_without_any() {
    let proxy = http(serve(async |mut call| {
        if call.read().await.0 == b"message" && call.connection == 0 {
            let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"answer"), false).unwrap();
            stream
                .send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]))
                .unwrap();
        } else {
            let answer = Response::builder().header("grpc-status", "5").body(()).unwrap();
            call.respond.send_response(answer, true).unwrap();
        }
    }));
    run(async {
        assert_eq!(connect(proxy.port).await.call().await.1.unwrap()["grpc-status"], "0");
        assert_eq!(connect(proxy.port).await.call().await.0["grpc-status"], "5");
    });
    assert_eq!((grpc(&proxy, "OK"), grpc(&proxy, "NOT_FOUND")), (1, 1));
    assert_eq!(proxy.requests("POST", "200", ""), 2);
}

#[test]
fn app_that_is_gone_is_a_502_and_to_grpc_unavailable() {
    let proxy = http(closed_port());
    run(async {
        let client = connect(proxy.port).await;
        let (head, body) = client.get("/").await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["outrigger-reason"]),
            (502, &"connect_refused".parse().unwrap())
        );
        assert!(body.starts_with(b"outrigger: the app refuses connections"));
        let (head, trailers) = client.call().await;
        assert_eq!((head["grpc-status"].as_bytes(), trailers), (&b"14"[..], None));
        assert_eq!(head["outrigger-reason"], "connect_refused");
    });
    assert_eq!(proxy.requests("GET", "502", "connect_refused"), 1);
    assert_eq!(proxy.requests("POST", "200", "connect_refused"), 1);
    assert_eq!(grpc(&proxy, "UNAVAILABLE"), 1);
}

#[test]
fn app_that_does_not_speak_http2_is_a_502() {
    let proxy = http(app::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
    run(async {
        let (head, _) = connect(proxy.port).await.get("/").await;
        assert_eq!(head.status, 502);
    });
}

#[test]
fn resets_pass_both_ways_with_their_code() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Box::leak(Box::new(tell));
    let proxy = http(serve(async |mut call| match call.head.uri.path() {
        "/refused" => call.respond.send_reset(Reason::REFUSED_STREAM),
        "/broken" => {
            let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
            send(&mut stream, Bytes::from_static(b"some")).await.unwrap();
            // When it has arrived: a reset overtakes what is still here.
            call.read().await;
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
        _ => tell.send(poll_fn(|context| call.respond.poll_reset(context)).await.unwrap()).unwrap(),
    }));
    run(async {
        let client = connect(proxy.port).await;
        // With a body, so that it is not sent once more.
        let (answer, _body) = client.send(request("POST", "/refused").body(()).unwrap(), false).await;
        assert_eq!(answer.await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
        let (answer, mut stream) = client.send(request("POST", "/broken").body(()).unwrap(), false).await;
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "some");
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
        let (_answer, mut stream) = client.send(call(), false).await;
        while proxy.active() == 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(Reason::NO_ERROR);
        tokio::task::spawn_blocking(move || assert_eq!(told.recv().unwrap(), Reason::NO_ERROR))
            .await
            .unwrap();
    });
    assert_eq!(proxy.requests("POST", "502", "reset"), 1);
    assert_eq!(proxy.requests("POST", "200", "reset"), 1);
    assert_eq!(proxy.requests("POST", "499", "client_closed"), 1);
    assert_eq!(grpc(&proxy, "CANCELLED"), 1);
}

#[test]
fn app_is_held_back_by_a_client_that_does_not_read_and_others_go_on() {
    const PIECE: usize = 64 * 1024;
    const ALL: usize = 32 * 1024 * 1024;
    let sent = Box::leak(Box::<app::Count>::default());
    let proxy = http(serve(async |mut call| {
        if call.head.uri.path() == "/" {
            return call.answer("quick");
        }
        let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
        for _ in 0..ALL / PIECE {
            send(&mut stream, vec![0; PIECE].into()).await.unwrap();
            sent.add();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    }));
    run(async {
        let client = connect(proxy.port).await;
        let (answer, _) = client.send(request("GET", "/large").body(()).unwrap(), true).await;
        let mut body = answer.await.unwrap().into_body();
        for _ in 0..100 {
            assert_eq!(client.get("/").await.1, b"quick");
        }
        // Its window here, the one to the app, and what is between the two.
        assert!(sent.get() <= 4, "the app has sent {} pieces", sent.get());
        assert_eq!(read(&mut body).await.0.len(), ALL);
    });
    assert_eq!(proxy.of_port("http_response_body_bytes_total"), (ALL + 500) as u64);
}

#[test]
fn client_that_takes_nothing_of_its_answer_is_given_up() {
    let limits = Limits { body: Duration::from_millis(50), ..Limits::default() };
    let app = serve(async |mut call| {
        let mut stream = call.respond.send_response(Response::new(()), false).unwrap();
        let _ = send(&mut stream, vec![0; 1024 * 1024].into()).await;
    });
    let proxy = start(Protocol::Http, app, limits);
    run(async {
        let client = connect(proxy.port).await;
        let (answer, _) = client.send(request("GET", "/").body(()).unwrap(), true).await;
        let mut body = answer.await.unwrap().into_body();
        let reset = loop {
            match body.data().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error.reason(),
            }
        };
        assert_eq!(reset, Some(Reason::CANCEL));
    });
    assert_eq!(proxy.requests("GET", "200", "body_timeout"), 1);
}

#[test]
fn interim_answers_pass() {
    let proxy = http(serve(async |mut call| {
        let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        call.respond.send_informational(hints).unwrap();
        call.answer("done");
    }));
    run(async {
        let client = connect(proxy.port).await;
        let (mut answer, _) = client.send(request("GET", "/").body(()).unwrap(), true).await;
        let interim = poll_fn(|context| answer.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!(
            (interim.status().as_u16(), &interim.headers()["link"]),
            (103, &"</a.css>".parse().unwrap())
        );
        assert_eq!(answer.await.unwrap().status(), 200);
    });
}

/// As requests that were HTTP/1.1 before may have it, RFC 9113 8.3.1. It was a 502.
#[test]
fn request_without_authority_is_for_its_host_and_one_for_two_is_refused() {
    let proxy = http(serve(async |call| {
        let told = format!("{} {:?}", call.head.uri, call.head.headers.get("host"));
        call.answer(told);
    }));
    let host = |value: &str| [&[0x0f, 0x17, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let mut client = Raw::connect(proxy.port);
    client.send(&frame(HEADERS, 5, 1, &[&GET[..3], &host("shop")].concat()));
    let (.., body) = std::iter::from_fn(|| client.frame()).find(|(kind, ..)| *kind == DATA).unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), "http://shop/ None");
    client.send(&frame(HEADERS, 5, 3, &[&GET[..], &host("other")].concat()));
    client.send(&frame(HEADERS, 5, 5, &GET[..3]));
    let refused = || proxy.requests("GET", "400", "bad_request");
    wait_until("both are refused", || refused() == 2);
    assert_eq!(proxy.requests("GET", "200", ""), 1);
}

#[test]
fn request_under_way_ends_at_shutdown_and_the_client_is_told_to_leave() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let gone = Box::leak(Box::new(gone));
    let proxy = http(serve(async |call| {
        gone.clone().wait_for(|gone| *gone).await.unwrap();
        call.answer("late");
    }));
    run(async {
        let client = connect(proxy.port).await;
        let (answer, _) = client.send(request("GET", "/").body(()).unwrap(), true).await;
        while proxy.active() == 0 {
            tokio::task::yield_now().await;
        }
        proxy.request_stop();
        while !client.is_told_to_leave().await {
            tokio::task::yield_now().await;
        }
        go.send(true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(read(&mut body).await.0, b"late");
    });
    assert_eq!(proxy.stopped(), 0);
}

#[test]
fn idle_client_is_told_to_leave() {
    let (idle, ping) = (Duration::from_secs(2), Duration::from_secs(2));
    let limits = Limits { idle, ping, ..Limits::default() };
    let proxy = start(Protocol::Http, serve(async |call| call.answer("")), limits);
    run(async {
        let client = connect(proxy.port).await;
        client.get("/").await;
        while !client.is_told_to_leave().await {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(proxy.of_port("idle_connections_closed_total"), 1);
    wait_until("it is closed in order", || {
        proxy.metric(r#"http2_connections_closed_total{direction="inbound",port="web",reason=""}"#) == 1
    });
}

#[test]
fn app_that_ends_its_connection_gets_the_next_request_on_another_and_the_client_hears_of_it() {
    let proxy = http(serve(async |call| {
        let text = call.connection.to_string();
        call.answer(text);
    }));
    run(async {
        let client = connect(proxy.port).await;
        assert_eq!(client.get("/leave").await.1, b"0");
        assert_eq!(client.get("/").await.1, b"1");
        while !client.is_told_to_leave().await {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(proxy.requests("GET", "200", ""), 2);
}

#[test]
fn connection_that_the_app_has_closed_while_it_was_idle_costs_no_request() {
    let proxy = http(serve(async |mut call| {
        let body = call.read().await.0;
        call.answer(body);
    }));
    run(async {
        let client = connect(proxy.port).await;
        client.get("/leave").await;
        let active = r#"upstream_pool_connections{direction="inbound",port="web",state="active"}"#;
        wait_until("the app has closed", || proxy.metric(active) == 0);
        let (answer, mut stream) = client.send(request("POST", "/").body(()).unwrap(), false).await;
        stream.send_data(Bytes::from_static(b"body"), true).unwrap();
        assert_eq!(read(&mut answer.await.unwrap().into_body()).await.0, b"body");
    });
    assert_eq!(proxy.requests("POST", "200", ""), 1);
}

#[test]
fn request_without_a_body_that_the_app_refuses_is_sent_once_more() {
    let seen = Box::leak(Box::<app::Count>::default());
    let proxy = http(serve(async |mut call| {
        seen.add();
        if seen.get() == 2 || call.head.uri.path() == "/never" {
            call.respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            call.answer("ok");
        }
    }));
    run(async {
        let client = connect(proxy.port).await;
        client.get("/").await;
        assert_eq!(client.get("/").await.1, b"ok");
        assert_eq!(seen.get(), 3);
        let (answer, _) = client.send(request("GET", "/never").body(()).unwrap(), true).await;
        assert_eq!(answer.await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
        assert_eq!(seen.get(), 5);
    });
    assert_eq!(proxy.requests("GET", "200", ""), 2);
    let retried = |result: &str| {
        proxy.metric(&format!(r#"retries_total{{direction="inbound",port="web",result="{result}"}}"#))
    };
    assert_eq!((retried("answered"), retried("failed")), (1, 1));
}

#[test]
fn app_of_few_streams_gets_no_more_at_a_time() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let proxy = http(serve_by(builder, async |call| call.answer("ok")));
    run(async {
        let client = connect(proxy.port).await;
        // So that the app's settings have come.
        client.get("/").await;
        let gets = (0..50).map(|_| client.get("/"));
        for (head, _) in futures::future::join_all(gets).await {
            assert_eq!(head.status, 200);
        }
    });
    assert_eq!(proxy.requests("GET", "200", ""), 51);
}
