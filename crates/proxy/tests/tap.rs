//! Requests told live, over sockets, to those who may.

#![allow(clippy::unwrap_used, reason = "a panic is the report here")]

mod support;

use std::io::BufRead;

use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::tap::TapSpec;
use outrigger_proxy::limits::Limits;
use serde_json::Value;
use support::app::{answering, serve};
use support::client::{self, Client};
use support::{Running, TOKEN, config, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const ALLOWED: TapSpec = TapSpec { enabled: true, max_per_second: 1000 };

fn document(tap: TapSpec, port: u16, app: u16) -> SidecarConfig {
    SidecarConfig { tap, ..config(Protocol::Http, port, app) }
}

fn proxy(tap: TapSpec, app: u16) -> Running {
    support::start_by(|port| document(tap, port, app), "/nonexistent".as_ref(), Limits::default())
}

fn ask(proxy: &Running, query: &str, token: &str) -> Client {
    let mut client = Client::connect(proxy.admin);
    client.send(format!("GET /tap{query} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
    client
}

fn refused(proxy: &Running, query: &str, token: &str) -> (u16, String) {
    let answer = ask(proxy, query, token).answer();
    (answer.status, answer.text())
}

/// What a reader is told, from when the worker knows of it.
struct Told(Client);

impl Told {
    fn of(proxy: &Running, query: &str) -> Self {
        let mut client = ask(proxy, query, TOKEN);
        assert_eq!(client.head().1, 200);
        let mut told = Self(client);
        assert_eq!(told.line().as_deref(), Some("\n"), "a blank line is the first");
        told
    }

    /// The content of the next chunk, which is a line; none at the end.
    fn line(&mut self) -> Option<String> {
        let mut lines = [const { String::new() }; 3];
        for line in &mut lines {
            self.0.reader.read_line(line).unwrap();
            if lines_end(line) {
                return None;
            }
        }
        let [length, line, _] = lines;
        assert_eq!(usize::from_str_radix(length.trim(), 16).unwrap(), line.len(), "a chunk is one line");
        Some(line)
    }

    /// The next request.
    fn request(&mut self) -> Option<Value> {
        loop {
            match self.line()?.as_str() {
                "\n" => {}
                line => return Some(serde_json::from_str(line).unwrap()),
            }
        }
    }

    fn path(&mut self) -> String {
        self.request().unwrap()["path"].as_str().unwrap().to_owned()
    }
}

/// The last chunk, or the end of the connection.
fn lines_end(line: &str) -> bool {
    line.is_empty() || line == "0\r\n"
}

#[test]
fn only_who_has_the_token_taps_and_only_where_the_profile_allows_it() {
    let app = answering(OK);
    let proxy = proxy(TapSpec::default(), app);
    assert_eq!(refused(&proxy, "", "guess").0, 401);
    let (status, why) = refused(&proxy, "", TOKEN);
    assert!(status == 403 && why.contains("proxy.tap.enabled"), "{status} {why}");

    proxy.rewrite(&text(&document(ALLOWED, proxy.port, app)));
    wait_until("it is allowed", || ask(&proxy, "", TOKEN).head().1 == 200);
    assert_eq!(refused(&proxy, "", "guess").0, 401, "still");
    for (query, named) in [("?statuss=5", "statuss"), ("?status=6xx", "6xx"), ("?direction=up", "up")] {
        let (status, why) = refused(&proxy, query, TOKEN);
        assert!(status == 400 && why.contains(named), "{query}: {status} {why}");
    }

    let mut told = Told::of(&proxy, "");
    proxy.rewrite(&text(&document(TapSpec::default(), proxy.port, app)));
    assert_eq!(told.request(), None, "where it is allowed no longer, the reader sees the end");
}

#[test]
fn a_request_is_told_with_how_it_went_and_without_secrets() {
    let proxy = proxy(ALLOWED, answering(OK));
    let mut told = Told::of(&proxy, "");
    let mut client = proxy.connect();
    client.send(
        "POST http://user:hunter2@shop/cart/7?token=secret HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer secret\r\n\
         Cookie: session=secret\r\nX-Api-Key: secret\r\nContent-Length: 6\r\n\r\nsecret",
    );
    assert_eq!(client.answer().status, 200);
    let line = told.request().unwrap();
    for (name, wanted) in [
        ("direction", "inbound"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("path", "/cart/7"),
        ("host", "shop"),
    ] {
        assert_eq!(line[name], wanted, "{name} of {line}");
    }
    for (name, wanted) in [("status", 200), ("requestBodyBytes", 6), ("responseBodyBytes", 2)] {
        assert_eq!(line[name], wanted, "{name} of {line}");
    }
    assert!(line["durationSeconds"].as_f64().unwrap() > 0.0, "{line}");
    let line = line.to_string();
    assert!(!line.contains("secret") && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_reader_is_told_what_it_asked_for_and_nothing_else() {
    let app = serve(|mut app| {
        while let Some((head, _)) = app.request() {
            let status = if head.contains("/broken") { "503 Service Unavailable" } else { "200 OK" };
            app.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let proxy = proxy(ALLOWED, app);
    let wanted = [
        ("?method=delete", "/a/deleted"),
        ("?path=/b/", "/b/broken"),
        ("?status=5xx", "/b/broken"),
        ("?status=503", "/b/broken"),
    ];
    for (query, path) in wanted {
        let mut told = Told::of(&proxy, query);
        let mut client = proxy.connect();
        client.get("/a");
        client.send("DELETE /a/deleted HTTP/1.1\r\nHost: shop\r\n\r\n");
        client.answer();
        client.get("/b/broken");
        assert_eq!(told.path(), path, "{query}");
    }
    let mut none = Told::of(&proxy, "?minMilliseconds=60000");
    let mut outbound = Told::of(&proxy, "?direction=outbound");
    let mut all = Told::of(&proxy, "?direction=inbound");
    client::get(proxy.port, "/last");
    assert_eq!(all.path(), "/last");
    proxy.request_stop();
    assert_eq!((none.request(), outbound.request()), (None, None));
}

/// However many there are, each is told or counted as left out.
#[test]
fn more_than_a_reader_wants_is_counted() {
    let proxy = proxy(ALLOWED, answering(OK));
    let mut told = Told::of(&proxy, "?perSecond=1");
    let mut client = proxy.connect();
    for number in 0..50 {
        client.get(&format!("/{number}"));
    }
    let first = told.request().unwrap();
    assert!(first["path"] == "/0" && first["leftOut"].is_null(), "{first}");
    let mut asked = 50;
    wait_until("the second is told", || {
        client.get(&format!("/{asked}"));
        asked += 1;
        told.0.reader.get_ref().set_nonblocking(true).unwrap();
        let there = told.0.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        told.0.reader.get_ref().set_nonblocking(false).unwrap();
        there
    });
    let second = told.request().unwrap();
    let number: u64 = second["path"].as_str().unwrap()[1..].parse().unwrap();
    assert_eq!(second["leftOut"], number - 1, "all between the first and this one: {second}");
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_and_four_are_enough() {
    let proxy = proxy(ALLOWED, answering(OK));
    let mut readers: Vec<_> = (0..4).map(|_| Told::of(&proxy, "")).collect();
    let (status, why) = refused(&proxy, "", TOKEN);
    assert!(status == 429 && why.contains("4 readers"), "{status} {why}");
    assert_eq!(proxy.metric("taps"), 4);
    // More than the sockets' buffers hold, where nobody counts.
    let path = format!("/{}", "x".repeat(2000));
    let mut client = proxy.connect();
    for _ in 0..3000 {
        assert_eq!(client.get(&path).status, 200);
    }
    readers.clear();
    wait_until("their places are free", || proxy.metric("taps") == 0);
    Told::of(&proxy, "");
    // With a reader, a stop takes no longer.
    let mut last = Told::of(&proxy, "");
    assert_eq!(proxy.stopped(), 0);
    assert_eq!(last.request(), None);
}
