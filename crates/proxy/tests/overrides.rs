//! Answers of the app that are changed by their status, and headers that are set and taken out.
//!
//! The original of this feature wrote an answer that began with an empty line and ended its lines in bare line feeds, which strict
//! clients refuse; the client of these tests is one.

mod support;

use std::path::Path;

use outrigger_api::config::{Inbound, Protocol, SidecarConfig};
use outrigger_api::overrides::{HeaderSpec, HeadersSpec, OverrideSpec, StatusRef};
use outrigger_proxy::limits::Limits;
use support::app::{answering, serve};
use support::client::{Answer, get, request};
use support::http2::{connect, run};
use support::{Running, config, start_by, wait_until};

fn proxy(target: u16, inbound: Inbound) -> Running {
    let config = move |port| {
        let mut config: SidecarConfig = config(Protocol::Http, port, target);
        let Inbound { name, listen, target, protocol, .. } = config.inbound.remove(0);
        config.inbound.push(Inbound { name, listen, target, protocol, ..inbound });
        config
    };
    start_by(config, Path::new("/nonexistent"), Limits::default())
}

fn headers(set: &[(&str, &str)], remove: &[&str]) -> HeadersSpec {
    let set =
        set.iter().map(|(name, value)| HeaderSpec { name: (*name).to_owned(), value: (*value).to_owned() });
    HeadersSpec { set: set.collect(), remove: remove.iter().map(|&name| name.to_owned()).collect() }
}

/// A page for each 404, and an own one below `/api`.
fn pages() -> Inbound {
    let page = |prefixes: &[&str], body: &str| OverrideSpec {
        status: vec![StatusRef::Code(404)],
        path_prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        body: Some(body.to_owned()),
        ..OverrideSpec::default()
    };
    let api = OverrideSpec { content_type: Some("application/json".to_owned()), ..page(&["/api"], "{}") };
    Inbound { overrides: vec![api, page(&[], "<h1>Lost?</h1>")], ..Inbound::default() }
}

fn overridden(proxy: &Running) -> u64 {
    proxy.of_port("overrides_total")
}

fn value<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// By length, in chunks, compressed, until the connection ends; in one piece or byte by byte.
#[test]
fn a_page_takes_the_place_of_the_apps_however_that_comes() {
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nContent-Type: text/plain\r\nETag: \"1\"\r\n\r\ngone",
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n4\r\ngone\r\n0\r\nSum: 1\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\u{8}ab",
        "HTTP/1.0 404 Not Found\r\n\r\ngone",
        "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    ] {
        for piecewise in [false, true] {
            let app = serve(move |mut connection| {
                while connection.request().is_some() {
                    let step = if piecewise { 1 } else { answer.len() };
                    answer.as_bytes().chunks(step).for_each(|piece| connection.send(piece));
                    if answer.starts_with("HTTP/1.0") {
                        return;
                    }
                }
            });
            let proxy = proxy(app, pages());
            let mut client = proxy.connect();
            for _ in 0..3 {
                let page = client.get("/a");
                assert_eq!((page.status, page.text().as_str()), (404, "<h1>Lost?</h1>"), "{answer}");
                assert_eq!(value(&page, "content-type"), ["text/html; charset=utf-8"]);
                assert_eq!(value(&page, "content-length"), ["14"]);
                for gone in ["content-encoding", "etag", "trailer", "transfer-encoding"] {
                    assert!(!page.has_header(gone), "{gone} in {}", page.head);
                }
            }
            wait_until("they are counted", || overridden(&proxy) == 3);
            assert_eq!(proxy.requests("GET", "404", ""), 3);
        }
    }
}

#[test]
fn other_answers_are_not_touched_and_paths_choose_the_page() {
    let app = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let status = if head.contains("/found") { "200 Fine" } else { "404 Not Found" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nETag: a\r\n\r\nown"));
        }
    });
    let proxy = proxy(app, pages());
    let found = get(proxy.port, "/found");
    assert_eq!(
        (found.text().as_str(), found.head.as_str()),
        ("own", "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nETag: a\r\nConnection: close\r\n")
    );
    let api = get(proxy.port, "/api/carts?all");
    assert_eq!((api.text().as_str(), value(&api, "content-type")), ("{}", vec!["application/json"]));
    assert_eq!(get(proxy.port, "/apis").text(), "<h1>Lost?</h1>");
}

#[test]
fn head_gets_the_pages_length_and_no_body() {
    let proxy = proxy(answering("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n"), pages());
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, status) = client.head();
        assert_eq!(status, 404);
        assert!(head.contains("Content-Length: 14\r\n"), "{head}");
    }
}

#[test]
fn a_status_is_replaced_and_the_body_goes_on() {
    let entry = OverrideSpec {
        status: vec![StatusRef::Class(5)],
        replace_status: Some(503),
        headers: headers(&[("Retry-After", "5")], &["X-Trace"]),
        ..OverrideSpec::default()
    };
    let app = answering(
        "HTTP/1.1 500 Oh\r\nX-Trace: secret\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n",
    );
    let proxy = proxy(app, Inbound { overrides: vec![entry], ..Inbound::default() });
    let answer = get(proxy.port, "/");
    assert!(answer.head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{}", answer.head);
    assert!(answer.has("Retry-After: 5") && !answer.has_header("x-trace"), "{}", answer.head);
    assert_eq!(answer.text(), "own");
    assert_eq!(proxy.requests("GET", "500", ""), 1, "the app's own status counts");
    // A client of HTTP/1.0 keeps its version of the line, and gets no chunks.
    let mut old = proxy.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let answer = old.answer();
    assert_eq!((answer.status, answer.text().as_str()), (503, "own"));
}

#[test]
fn headers_are_set_and_taken_out_both_ways() {
    let app = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            connection.send(format!(
                "HTTP/1.1 200 OK\r\nserver: app/1.2\r\nX-Powered-By: x\r\nContent-Length: {}\r\n\r\n{head}",
                head.len()
            ));
        }
    });
    let inbound = Inbound {
        request_headers: headers(&[("X-Mesh", "outrigger")], &["X-Debug"]),
        response_headers: headers(&[("Server", "shop")], &["x-powered-by"]),
        ..Inbound::default()
    };
    let proxy = proxy(app, inbound);
    let answer = request(
        proxy.port,
        "GET / HTTP/1.1\r\nHost: a\r\nx_mesh: forged\r\nx-debug: 1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(value(&answer, "server"), ["shop"]);
    assert!(!answer.has_header("x-powered-by"), "{}", answer.head);
    assert_eq!(answer.text(), "GET / HTTP/1.1\r\nHost: a\r\nX-Mesh: outrigger\r\n\r\n");
    assert_eq!(overridden(&proxy), 0);
}

#[test]
fn an_app_that_goes_on_with_its_own_body_is_in_nobodys_way() {
    let app = serve(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 404 Not Found\r\nContent-Length: 100000000\r\n\r\n");
        let piece = vec![b'a'; 65536];
        while connection.try_send(&piece) {}
    });
    let proxy = proxy(app, pages());
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "<h1>Lost?</h1>");
    }
}

#[test]
fn by_http2_it_is_the_same_and_grpc_is_left_alone() {
    let app = support::http2::serve(async |mut call| {
        let grpc = call.head.headers.contains_key("content-type");
        let answer = http::Response::builder().status(if grpc { 200 } else { 404 }).header("etag", "a");
        let answer = answer.header("server", "app").body(()).unwrap();
        let mut stream = call.respond.send_response(answer, false).unwrap();
        let _ = stream.send_data("own".into(), true);
    });
    let inbound = Inbound { response_headers: headers(&[("server", "shop")], &[]), ..pages() };
    let proxy = proxy(app, inbound);
    run(async {
        let client = connect(proxy.port).await;
        for _ in 0..3 {
            let (head, body) = client.get("/a").await;
            assert_eq!((head.status.as_u16(), body), (404, b"<h1>Lost?</h1>".to_vec()));
            assert_eq!(
                (&head.headers["content-length"], head.headers.get("etag")),
                (&"14".parse().unwrap(), None)
            );
            assert_eq!(head.headers.get_all("server").iter().collect::<Vec<_>>(), ["shop"]);
        }
        let request = support::http2::request("HEAD", "/").body(()).unwrap();
        let (head, mut body) = client.send(request, true).await.0.await.unwrap().into_parts();
        assert_eq!(
            (&head.headers["content-length"], body.data().await.is_none()),
            (&"14".parse().unwrap(), true)
        );
        let (head, _) = client.call().await;
        assert_eq!(&head["server"], "shop");
    });
}
