//! An upstream that fails is left alone for a while, and the app gets a canned answer.

mod support;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outrigger_api::circuit_breaker::{BodyFrom, CircuitBreakerSpec, CircuitMode, FallbackSpec};
use outrigger_api::config::{Protocol, SidecarConfig, Upstream};
use outrigger_api::traffic::TimeoutsSpec;
use outrigger_proxy::limits::Limits;
use support::app::{Count, answering, serve};
use support::client::{self, Answer};
use support::http2::{connect, run};
use support::process::{ConfigFile, Process};
use support::tls::Secrets;
use support::{Running, TOKEN, closed_port, config, start_by, text, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\noh!";

fn breaker() -> CircuitBreakerSpec {
    let body = "<p>{upstream} rests: {reason}".to_owned();
    let fallback = FallbackSpec { body, content_type: "text/html".to_owned(), ..FallbackSpec::default() };
    let open_for = "2s".parse().expect("a length of time");
    CircuitBreakerSpec { open_for, fallback, ..CircuitBreakerSpec::default() }
}

/// Of a proxy that leads from `port` to an upstream with a breaker.
fn document(protocol: Protocol, port: u16, target: u16, change: impl FnOnce(&mut Upstream)) -> SidecarConfig {
    let mut upstream = Upstream {
        name: "api".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: target,
        protocol,
        listen: Some(port),
        circuit_breaker: Some(breaker()),
        ..Upstream::default()
    };
    change(&mut upstream);
    SidecarConfig { inbound: Vec::new(), upstreams: vec![upstream], ..config(protocol, port, target) }
}

fn calling_with(protocol: Protocol, target: u16, change: impl FnOnce(&mut Upstream)) -> Running {
    calling_by(Path::new("/nonexistent"), protocol, target, change)
}

/// With `ConfigMap`s in this directory.
fn calling_by(
    secrets: &Path,
    protocol: Protocol,
    target: u16,
    change: impl FnOnce(&mut Upstream),
) -> Running {
    start_by(|port| document(protocol, port, target, change), secrets, Limits::default())
}

fn calling(target: u16) -> Running {
    calling_with(Protocol::Http, target, |_| {})
}

/// An upstream that fails as long as it is told to, and how often it was asked.
fn failing() -> (u16, Arc<AtomicBool>, Count) {
    let (fails, hits) = (Arc::new(AtomicBool::new(true)), Count::default());
    let (told, counted) = (Arc::clone(&fails), hits.clone());
    let port = serve(move |mut connection| {
        while connection.request().is_some() {
            counted.add();
            connection.send(if told.load(Ordering::SeqCst) { FAILED } else { OK });
        }
    });
    (port, fails, hits)
}

fn of_circuit(proxy: &Running, family: &str, more: &str) -> u64 {
    let text = proxy.metrics();
    let series = text.lines().filter_map(|line| line.strip_prefix(&format!("outrigger_{family}{{")));
    let found = series.filter(|line| line.contains(more) && line.contains(r#"upstream="api""#));
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    found.map(|line| value(line).expect("a number")).sum()
}

fn is_canned(answer: &Answer) -> bool {
    answer.has("outrigger-reason: circuit_open")
}

#[test]
fn it_trips_answers_in_the_upstreams_place_and_closes_when_that_recovers() {
    let (target, fails, hits) = failing();
    let proxy = calling(target);
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "oh!");
    }
    let canned = client.get("/");
    assert_eq!((canned.status, canned.text().as_str()), (503, "<p>api rests: circuit_open"));
    // What is left of about two seconds, in whole ones.
    let is_told_when = (1..=3).any(|seconds| canned.has(&format!("Retry-After: {seconds}")));
    assert!(is_canned(&canned) && canned.has("Content-Type: text/html") && is_told_when, "{}", canned.head);
    assert_eq!(hits.get(), 5, "the upstream is left alone");
    assert_eq!(of_circuit(&proxy, "circuit_state", ""), 1);
    assert_eq!(
        of_circuit(&proxy, "circuit_transitions_total", r#"to="open",cause="consecutive_failures""#),
        1
    );
    assert_eq!(of_circuit(&proxy, "circuit_rejected_total", "enforce"), 1);
    let stats = proxy.stats(TOKEN).1;
    assert_eq!(
        (&stats["ports"][0]["breaker"]["state"], &stats["ports"][0]["breaker"]["opened"]),
        (&"open".into(), &1.into())
    );

    // A trial fails, and the next ones succeed.
    wait_until("one may try", || client.get("/").status == 500);
    assert_eq!(hits.get(), 6);
    assert!(is_canned(&client.get("/")));
    fails.store(false, Ordering::SeqCst);
    wait_until("one may try", || client.get("/").status == 200);
    wait_until("it has closed", || {
        client.get("/");
        of_circuit(&proxy, "circuit_state", "") == 0
    });
    assert_eq!(of_circuit(&proxy, "circuit_transitions_total", r#"to="closed",cause="recovered""#), 1);
}

/// One that hung kept a recovered upstream shut for ever, where requests have no time limit.
#[test]
fn a_trial_that_hangs_does_not_keep_a_recovered_upstream_shut() {
    let (hangs, hits) = (Arc::new(AtomicBool::new(false)), Count::default());
    let (told, counted) = (Arc::clone(&hangs), hits.clone());
    let target = serve(move |mut connection| {
        while connection.request().is_some() {
            counted.add();
            match counted.get() {
                1..=5 => connection.send(FAILED),
                _ if told.load(Ordering::SeqCst) => return connection.wait_for_close(),
                _ => connection.send(OK),
            }
        }
    });
    let proxy = calling(target);
    (0..5).for_each(|_| assert_eq!(client::get(proxy.port, "/").status, 500));
    hangs.store(true, Ordering::SeqCst);
    let mut trying = Vec::new();
    wait_until("one tries", || {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        trying.push(client);
        let kept = trying.len() as u64;
        let is_kept = || of_circuit(&proxy, "circuit_rejected_total", "enforce") == kept;
        wait_until("it is kept from the upstream, or there", || hits.get() > 5 || is_kept());
        hits.get() > 5
    });
    hangs.store(false, Ordering::SeqCst);
    wait_until("another may", || client::get(proxy.port, "/").status == 200);
}

#[test]
fn each_change_of_its_state_is_a_line_in_the_log() {
    let (target, fails, _) = failing();
    let port = closed_port();
    let file = ConfigFile::new("circuit", &text(&document(Protocol::Http, port, target, |_| {})));
    let mut proxy = Process::start_by(&file.0, port);
    (0..5).for_each(|_| assert_eq!(client::get(port, "/").status, 500));
    assert!(is_canned(&client::get(port, "/")));
    fails.store(false, Ordering::SeqCst);
    let closed = r#"outrigger_circuit_transitions_total{direction="outbound""#;
    wait_until("it has closed", || {
        client::get(port, "/");
        let page = client::get(proxy.admin, "/metrics").text();
        page.lines()
            .any(|line| line.starts_with(closed) && line.contains("recovered") && line.ends_with(" 1"))
    });
    proxy.signal("TERM");
    assert!(proxy.child.wait().unwrap().success());
    let mut log = String::new();
    proxy.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let changes: Vec<_> = log.lines().filter(|line| line.contains("circuit ")).collect();
    assert_eq!(changes.len(), 3, "{log}");
    for (line, wanted) in changes.iter().zip(["circuit opened", "circuit half-open", "circuit closed"]) {
        assert!(line.contains(wanted) && line.contains(r#""upstream":"api""#), "{line}");
    }
    assert!(changes[0].contains("consecutive_failures"), "{}", changes[0]);
}

#[test]
fn observing_it_reports_and_lets_everything_through() {
    let (target, _, hits) = failing();
    let proxy = calling_with(Protocol::Http, target, |upstream| {
        upstream.circuit_breaker = Some(CircuitBreakerSpec {
            mode: CircuitMode::Observe,
            open_for: "1h".parse().unwrap(),
            max_open_for: "1h".parse().unwrap(),
            ..breaker()
        });
    });
    let mut client = proxy.connect();
    for _ in 0..8 {
        assert_eq!(client.get("/").status, 500);
    }
    assert_eq!(hits.get(), 8);
    assert_eq!(of_circuit(&proxy, "circuit_state", "observe"), 1);
    assert_eq!(of_circuit(&proxy, "circuit_rejected_total", "observe"), 3);
}

#[test]
fn what_clients_do_wrong_does_not_count() {
    let app = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/slow") {
                return connection.wait_for_close();
            }
            connection.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = calling(app);
    for _ in 0..10 {
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status, 404);
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        wait_until("it is under way", || of_circuit(&proxy, "http_active_requests", "") == 1);
        drop(client);
        wait_until("it is given up", || of_circuit(&proxy, "http_active_requests", "") == 0);
        let mut client = proxy.connect();
        client.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer().status, 405);
    }
    assert_eq!(of_circuit(&proxy, "circuit_state", ""), 0);
    assert_eq!(of_circuit(&proxy, "circuit_transitions_total", ""), 0);
}

#[test]
fn an_upstream_that_is_not_there_or_too_slow_opens_it() {
    let proxy = calling(closed_port());
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").status, 502);
    }
    assert!(is_canned(&client.get("/")));

    let silent = serve(|mut connection| while connection.request().is_some() {});
    let proxy = calling_with(Protocol::Http, silent, |upstream| {
        upstream.timeouts =
            TimeoutsSpec { request: Some("20ms".parse().unwrap()), ..TimeoutsSpec::default() };
    });
    let mut client = proxy.connect();
    for _ in 0..5 {
        let answer = client.get("/");
        assert!(answer.status == 504 && answer.has("outrigger-reason: request_timeout"), "{}", answer.head);
    }
    assert!(is_canned(&client.get("/")));
}

#[test]
fn connections_that_are_no_http_are_reset_while_it_is_open() {
    let proxy = calling_with(Protocol::Tcp, closed_port(), |_| {});
    for _ in 0..7 {
        assert!(proxy.connect().is_closed_by_peer());
    }
    wait_until("all are counted", || of_circuit(&proxy, "tcp_connections_closed_total", "circuit_open") == 2);
    assert_eq!(of_circuit(&proxy, "tcp_connections_closed_total", "connect_refused"), 5);
}

/// The stream kept the only place of those that try for as long as it went on, and everything else from an upstream that worked.
#[test]
fn a_stream_that_has_begun_is_a_trial_that_succeeded() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let app = serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if failing.load(Ordering::SeqCst) {
                connection.send(FAILED);
            } else if head.contains("/stream") {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
                return connection.wait_for_close();
            } else {
                connection.send(OK);
            }
        }
    });
    let proxy = calling(app);
    (0..5).for_each(|_| assert_eq!(proxy.connect().get("/").status, 500));
    assert!(is_canned(&proxy.connect().get("/")));
    fails.store(false, Ordering::SeqCst);
    let mut stream = None;
    wait_until("one may try", || {
        let mut client = proxy.connect();
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        let begins = client.head().0.starts_with("HTTP/1.1 200");
        stream = begins.then_some(client);
        begins
    });
    assert_eq!(proxy.connect().get("/").status, 200);
    wait_until("it has closed", || of_circuit(&proxy, "circuit_state", "") == 0);
    drop(stream);
}

#[test]
fn calls_by_grpc_count_by_their_status_and_get_one() {
    let app = support::http2::serve(async |mut call| {
        let answer =
            http::Response::builder().header("content-type", "application/grpc").header("grpc-status", "13");
        let _ = call.respond.send_response(answer.body(()).unwrap(), true);
    });
    let proxy = calling(app);
    run(async {
        let client = connect(proxy.port).await;
        for _ in 0..5 {
            assert_eq!(&client.call().await.0["grpc-status"], "13");
        }
        let (head, trailers) = client.call().await;
        assert_eq!(
            (&head["grpc-status"], &head["outrigger-reason"]),
            (&"14".parse().unwrap(), &"circuit_open".parse().unwrap())
        );
        assert!(trailers.is_none_or(|trailers| trailers.is_empty()));
        let (head, body) = client.get("/").await;
        assert_eq!((head.status.as_u16(), body), (503, b"<p>api rests: circuit_open".to_vec()));
    });
}

#[test]
fn a_breaker_that_is_taken_away_is_gone() {
    let (target, ..) = failing();
    let proxy = calling(target);
    let mut client = proxy.connect();
    (0..6).for_each(|_| drop(client.get("/")));
    let upstream = Upstream {
        name: "api".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: answering(OK),
        protocol: Protocol::Http,
        listen: Some(proxy.port),
        ..Upstream::default()
    };
    let config =
        SidecarConfig { inbound: Vec::new(), upstreams: vec![upstream], ..config(Protocol::Http, 1, 1) };
    proxy.rewrite(&support::text(&config));
    wait_until("calls pass", || client.get("/").status == 200);
    drop(client);
    wait_until("nobody goes by it", || !proxy.metrics().contains("outrigger_circuit_state{"));
}

#[test]
fn an_upstream_says_for_how_long_it_wants_to_be_left_alone() {
    let asking = answering("HTTP/1.1 503 Busy\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n");
    let proxy = calling(asking);
    let mut client = proxy.connect();
    (0..5).for_each(|_| assert_eq!(client.get("/").status, 503));
    let canned = client.get("/");
    assert!(is_canned(&canned) && canned.has("Retry-After: 40"), "{}", canned.head);
}

/// It was answered 429 to one request after the other, all of them, as each gave its place to the next.
#[test]
fn an_upstream_that_throttles_the_one_that_tries_is_left_alone_too() {
    let hits = Count::default();
    let counted = hits.clone();
    let throttling = serve(move |mut connection| {
        while connection.request().is_some() {
            counted.add();
            connection.send(match counted.get() {
                1..=5 => FAILED,
                _ => "HTTP/1.1 429 Slow Down\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n",
            });
        }
    });
    let proxy = calling(throttling);
    let mut client = proxy.connect();
    (0..5).for_each(|_| assert_eq!(client.get("/").status, 500));
    wait_until("one may try", || client.get("/").status == 429);
    let canned = client.get("/");
    assert!(is_canned(&canned) && canned.has("Retry-After: 40"), "{}", canned.head);
    assert_eq!(hits.get(), 6);
    assert_eq!(of_circuit(&proxy, "circuit_transitions_total", r#"to="open",cause="trial_throttled""#), 1);
}

/// An answer to what began before the breaker opened kept an upstream that had recovered shut.
#[test]
fn what_began_before_it_opened_does_not_ask_for_rest() {
    let (is_asked, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, end) = (Arc::clone(&is_asked), Arc::clone(&ends));
    let app = serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/late") {
                asked.store(true, Ordering::SeqCst);
                wait_until("it may end", || end.load(Ordering::SeqCst));
                connection.send("HTTP/1.1 503 Busy\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n");
            } else {
                connection.send(if end.load(Ordering::SeqCst) { OK } else { FAILED });
            }
        }
    });
    let proxy = calling(app);
    let mut late = proxy.connect();
    late.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("it is under way", || is_asked.load(Ordering::SeqCst));
    let mut client = proxy.connect();
    (0..5).for_each(|_| assert_eq!(client.get("/").status, 500));
    assert!(is_canned(&client.get("/")));
    ends.store(true, Ordering::SeqCst);
    assert!(late.head().0.starts_with("HTTP/1.1 503 Busy"));
    wait_until("one may try, soon", || client.get("/").status == 200);
}

#[test]
fn a_page_of_a_config_map_is_answered_with_and_changes_with_it() {
    let secrets = Secrets::new("page");
    let page = |text: &str| secrets.write("_configmaps/pages", &[("down.html", text)]);
    page("<h1>{upstream}: {reason}, {token}");
    let proxy = calling_by(&secrets.0, Protocol::Http, closed_port(), |upstream| {
        let breaker = upstream.circuit_breaker.as_mut().expect("a breaker");
        (breaker.open_for, breaker.max_open_for) = ("1h".parse().unwrap(), "1h".parse().unwrap());
        let (config_map_name, key) = ("pages".to_owned(), "down.html".to_owned());
        breaker.fallback.body_from = Some(BodyFrom { config_map_name, key });
    });
    let mut client = proxy.connect();
    (0..5).for_each(|_| assert_eq!(client.get("/").status, 502));
    assert_eq!(client.get("/").text(), "<h1>api: circuit_open, {token}");
    page("soon");
    wait_until("the new page is answered with", || client.get("/").text() == "soon");
    page(&"\u{e4}".repeat(40_000));
    let told = |what: &str| client::get(proxy.admin, "/config").text().contains(what);
    wait_until("one that is too long is refused", || told("more than 65536 bytes"));
    secrets.write("_configmaps/pages", &[]);
    wait_until("one that is gone is told of", || told("failed to read page"));
    assert_eq!(client.get("/").text(), "soon", "the last good one stays");
    page("back");
    wait_until("the next good one is answered with", || client.get("/").text() == "back");
    assert!(!told("failed to read page"));
}
