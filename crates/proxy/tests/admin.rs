//! The admin server, and the way to the end.

mod support;

use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use outrigger_api::config::Protocol;
use outrigger_proxy::hook;
use outrigger_proxy::limits::Limits;
use support::app::{answering, serve};
use support::{TOKEN, client, http, start, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn metrics_are_valid_text_with_the_contracted_names() {
    let proxy = http(answering(OK));
    proxy.connect().get("/");
    assert_eq!(proxy.requests("GET", "200", ""), 1);
    let text = proxy.metrics();
    assert!(text.ends_with("# EOF\n"));
    for wanted in [
        "outrigger_build_info{version=",
        "process_resident_memory_bytes ",
        r#"outrigger_http_requests_total{direction="inbound",port="web",method="GET",code="200",protocol="HTTP/1.1",reason=""} 1"#,
        r#"outrigger_http_request_duration_seconds_bucket{le="0.0005",direction="inbound",port="web",method="GET",code_class="2xx"}"#,
        r#"outrigger_http_request_duration_seconds_bucket{le="+Inf",direction="inbound",port="web",method="GET",code_class="2xx"} 1"#,
        r#"outrigger_http_request_duration_seconds_count{direction="inbound",port="web",method="GET",code_class="2xx"} 1"#,
        r#"outrigger_http_active_requests{direction="inbound",port="web"} 0"#,
        r#"outrigger_http_request_body_bytes_total{direction="inbound",port="web"} 0"#,
        r#"outrigger_http_response_body_bytes_total{direction="inbound",port="web"} 2"#,
        r#"outrigger_http_proxy_overhead_seconds_bucket{le="0.00001",direction="inbound",port="web"}"#,
        r#"outrigger_http_proxy_overhead_seconds_count{direction="inbound",port="web"} 1"#,
        r#"outrigger_retries_total{direction="inbound",port="web",result="answered"} 0"#,
        r#"outrigger_retries_total{direction="inbound",port="web",result="failed"} 0"#,
        r#"outrigger_detect_total{direction="inbound",port="web",result="http1"} 1"#,
        r#"outrigger_metrics_series_dropped_total{direction="inbound",port="web"} 0"#,
        r#"outrigger_upstream_connect_duration_seconds_count{direction="inbound",port="web"} 1"#,
        r#"outrigger_upstream_connect_errors_total{direction="inbound",port="web",reason="connect_refused"} 0"#,
        r#"outrigger_upstream_reuses_total{direction="inbound",port="web"} 0"#,
        r#"outrigger_tcp_connections_opened_total{direction="inbound",port="web"} 0"#,
        r#"outrigger_tcp_connections_closed_total{direction="inbound",port="web",reason=""} 0"#,
        r#"outrigger_tcp_open_connections{direction="inbound",port="web"} 0"#,
        r#"outrigger_tcp_read_bytes_total{direction="inbound",port="web"} 0"#,
        r#"outrigger_tcp_written_bytes_total{direction="inbound",port="web"} 0"#,
    ] {
        assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
    }
    let mut series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    series.sort_unstable();
    let all = series.len();
    series.dedup_by_key(|line| line.rsplit_once(' ').unwrap().0);
    assert_eq!(series.len(), all, "no series twice");
}

/// Prometheus parses by this header; `OpenMetrics` without its last line is an error to it.
#[test]
fn metrics_are_openmetrics_whatever_is_asked_for() {
    let proxy = http(answering(OK));
    for accept in ["text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0", "*/*"] {
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        let answer = client::request(proxy.admin, &request);
        let wanted = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.has(wanted), "{}", answer.head);
        assert!(answer.text().ends_with("\n# EOF\n"));
    }
}

#[test]
fn counters_start_at_zero_before_the_first_request() {
    let proxy = http(answering(OK));
    let text = proxy.metrics();
    assert!(text.contains(r#"code="200",protocol="HTTP/1.1",reason=""} 0"#), "{text}");
}

#[test]
fn duration_is_the_apps_time() {
    let (answer_now, when) = mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        connection.request();
        let _ = when.lock().unwrap().recv_timeout(Duration::from_millis(200));
        connection.send(OK);
    }));
    let mut client = proxy.connect();
    let asked = Instant::now();
    client.get("/");
    let seen = asked.elapsed().as_secs_f64();
    drop(answer_now);
    assert_eq!(proxy.requests("GET", "200", ""), 1);
    let stats = proxy.stats(TOKEN).1;
    let sum = stats["ports"][0]["http"]["duration"]["sumSeconds"].as_f64().unwrap();
    // What the client saw, but for the moment in which its last byte was on its way.
    assert!((0.2..seen * 1.5).contains(&sum), "{sum} of {seen}");
    let median = stats["ports"][0]["http"]["duration"]["p50Seconds"].as_f64().unwrap();
    assert!((sum / 2.5..=sum * 2.5).contains(&median), "the bucket of the sum: {median} of {sum}");
}

#[test]
fn stats_are_for_those_who_can_read_the_pod() {
    let proxy = http(answering(OK));
    assert_eq!(proxy.stats("guess").0, 401);
    let without = client::get(proxy.admin, "/stats");
    assert_eq!(without.status, 401);
    assert!(without.text().contains("outrigger.dev/config"), "{}", without.text());
    assert_eq!(proxy.stats(TOKEN).0, 200);
}

#[test]
fn stats_tell_requests_errors_bytes_and_quantiles() {
    let proxy = http(serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let status = if head.contains("/bad") { "500 Oops" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok"));
            if head.contains("/last") {
                return;
            }
        }
    }));
    let mut client = proxy.connect();
    for path in ["/", "/", "/bad"] {
        client.get(path);
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
    client.answer();
    assert_eq!(proxy.requests("POST", "200", ""), 1);
    let stats = proxy.stats(TOKEN).1;
    let port = &stats["ports"][0];
    assert_eq!(port["port"], "web");
    let http = &port["http"];
    assert_eq!(http["requests"], 4);
    assert_eq!(http["codeClasses"]["2xx"], 3);
    assert_eq!(http["codeClasses"]["5xx"], 1);
    assert_eq!(http["errors"], serde_json::json!({}));
    assert_eq!(http["requestBodyBytes"], 5);
    assert_eq!(http["responseBodyBytes"], 8);
    assert_eq!(http["inFlight"], 0);
    assert_eq!(http["duration"]["count"], 4);
    assert!(http["duration"]["p99Seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(port["tcp"]["connectionsOpened"], 0);
    assert_eq!(port["tcp"]["errors"], serde_json::json!({}));
}

#[test]
fn stats_tell_what_each_route_does() {
    let proxy = http(serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            let status = if head.contains("/404") { "404 Not Found" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok"));
        }
    }));
    let mut client = proxy.connect();
    for target in ["/users/1?secret=x", "/users/2", "/users/404", "/about"] {
        client.get(target);
    }
    client.send("POST /users/7/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    client.answer();
    assert_eq!(proxy.requests("POST", "200", ""), 1);
    let stats = proxy.stats(TOKEN).1;
    let http = &stats["ports"][0]["http"];
    let route = |number: usize| &http["routes"][number];
    let codes = serde_json::json!({"200": 2, "404": 1});
    for (found, wanted) in [
        (&route(0)["method"], "GET".into()),
        (&route(0)["path"], "/users/{id}".into()),
        (&route(0)["requests"], 3.into()),
        (&route(0)["codes"], codes),
        (&route(0)["errors"], 0.into()),
        (&route(0)["responseBodyBytes"], 6.into()),
        (&route(0)["duration"]["count"], 3.into()),
        (&route(1)["path"], "/about".into()),
        (&route(2)["method"], "POST".into()),
        (&route(2)["path"], "/users/{id}/orders".into()),
        (&route(2)["requestBodyBytes"], 3.into()),
        (&http["duration"]["count"], 5.into()),
        (&stats["lastErrors"], serde_json::json!([])),
    ] {
        assert_eq!(*found, wanted, "{stats:#}");
    }
    let percentile = |name: &str| route(0)["duration"][name].as_f64().unwrap();
    assert!(percentile("p50Seconds") <= percentile("p99Seconds"));
    assert!(percentile("p99Seconds") <= percentile("maxSeconds"));
    assert!(!stats.to_string().contains("secret"), "no query");
}

#[test]
fn stats_name_the_last_errors_the_newest_first() {
    let proxy = http(serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("/cut") {
                return;
            }
            connection.send("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
        }
    }));
    for number in 0..60 {
        client::get(proxy.port, &format!("/carts/{number}"));
    }
    client::get(proxy.port, "/cut");
    client::request(proxy.port, "GET /a b HTTP/1.1\r\n\r\n");
    assert_eq!(proxy.requests("GET", "503", ""), 60);
    let errors = proxy.stats(TOKEN).1["lastErrors"].clone();
    assert_eq!(errors.as_array().unwrap().len(), 50, "bounded");
    for (number, (method, path, status, reason)) in [
        ("_OTHER", "_OTHER", 400, "bad_request"),
        ("GET", "/cut", 502, "reset"),
        ("GET", "/carts/{id}", 503, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let error = &errors[number];
        assert_eq!(error["port"], "web");
        let found = [&error["method"], &error["path"], &error["status"], &error["reason"]];
        let wanted: [serde_json::Value; 4] = [method.into(), path.into(), status.into(), reason.into()];
        assert_eq!(found.map(Clone::clone), wanted);
        let time: jiff::Timestamp = error["time"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(time) < jiff::SignedDuration::from_secs(60));
    }
}

#[test]
fn config_is_shown_without_the_token() {
    let proxy = http(answering(OK));
    let text = client::get(proxy.admin, "/config").text();
    assert!(text.contains("shop/web") && text.contains("\"target\""), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[test]
fn log_level_can_be_set_from_loopback() {
    let proxy = http(answering(OK));
    let put = |level: &str| {
        let length = level.len();
        let head = "PUT /log-level HTTP/1.1\r\nHost: a\r\nConnection: close";
        client::request(proxy.admin, &format!("{head}\r\nContent-Length: {length}\r\n\r\n{level}"))
    };
    assert_eq!(put("debug").status, 200);
    let wrong = put("loud");
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("error, warn, info"), "{}", wrong.text());
}

#[test]
fn ready_while_listening() {
    let proxy = http(answering(OK));
    wait_until("it is ready", || client::get(proxy.admin, "/ready").status == 200);
    assert_eq!(client::get(proxy.admin, "/live").status, 200);
}

#[test]
fn request_in_flight_ends_before_the_proxy_does() {
    let (answer_now, when) = mpsc::channel::<()>();
    let when = std::sync::Mutex::new(when);
    let proxy = http(serve(move |mut connection| {
        while connection.request().is_some() {
            when.lock().unwrap().recv().unwrap();
            connection.send(OK);
        }
    }));
    let mut idle = proxy.connect();
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    answer_now.send(()).unwrap();
    idle.answer();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request is in flight", || proxy.active() == 1);

    proxy.request_stop();
    wait_until("it is not ready", || client::get(proxy.admin, "/ready").status == 503);
    assert!(client::get(proxy.admin, "/ready").text().contains("draining"));
    assert!(idle.is_closed_by_peer(), "an idle connection does not hold up the drain");
    // Until every node has heard, new connections still come: one answer each.
    let mut late = proxy.connect();
    late.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the late one is in flight too", || proxy.active() == 2);

    answer_now.send(()).unwrap();
    answer_now.send(()).unwrap();
    for client in [&mut client, &mut late] {
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.head.to_lowercase().contains("connection: close"), "{}", answer.head);
        assert!(client.is_closed_by_peer());
    }
    let (port, admin) = (proxy.port, proxy.admin);
    assert_eq!(proxy.stopped(), 0);
    for port in [port, admin] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nothing listens any more");
    }
}

#[test]
fn what_does_not_end_is_cut_at_the_deadline() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let app = serve(|mut connection| connection.wait_for_close());
    let proxy = start(Protocol::Tcp, app, limits);
    let mut client = proxy.connect();
    wait_until("the relay is open", || proxy.of_port("tcp_open_connections") == 1);
    assert_eq!(proxy.stopped(), 1);
    assert!(client.is_closed_by_peer());
}

#[test]
fn a_drain_sends_clients_elsewhere_and_goes_on_serving() {
    let proxy = http(answering(OK));
    let mut idle = proxy.connect();
    assert!(!idle.get("/").head.to_lowercase().contains("connection: close"));
    hook::drain(proxy.admin).unwrap();
    // What was open takes one more request: a client may just have sent it.
    for mut client in [idle, proxy.connect()] {
        let answer = client.get("/");
        assert_eq!(answer.status, 200);
        assert!(answer.head.to_lowercase().contains("connection: close"), "{}", answer.head);
        assert!(client.is_closed_by_peer());
    }
    assert_eq!(client::get(proxy.admin, "/ready").status, 200);
}

#[test]
fn post_shutdown_stops_it() {
    let proxy = http(answering(OK));
    let request = "POST /shutdown HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client::request(proxy.admin, request).status, 200);
    assert_eq!(proxy.stopped(), 0);
}
