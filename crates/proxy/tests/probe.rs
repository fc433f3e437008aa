//! Probes and lifecycle handlers: what the kubelet is told is what the app says.

mod support;

use std::io::Read;
use std::sync::mpsc;

use outrigger_api::config::Protocol;
use outrigger_api::probe::{HttpProbe, Probe, ProbeAction, ProbeKind, Scheme};
use support::app::{answering, serve};
use support::client::Answer;
use support::probed::{grpc, https};
use support::{Running, client, closed_port, config, http, open, text, wait_until};

fn probe(kind: ProbeKind, action: ProbeAction) -> Probe {
    let timeout_seconds = (!kind.is_handler()).then_some(1);
    Probe { container: "app".to_owned(), kind, timeout_seconds, action }
}

fn get(port: u16, path: &str) -> ProbeAction {
    ProbeAction::Http(HttpProbe { port, path: path.to_owned(), scheme: Scheme::Http, host: None })
}

/// A proxy whose config gets these probes while it runs.
fn proxy(probes: Vec<Probe>) -> Running {
    let proxy = http(closed_port());
    change(&proxy, probes);
    proxy
}

#[allow(clippy::unwrap_used)] // part of tests, though not marked as one
fn change(proxy: &Running, probes: Vec<Probe>) {
    let mut config = config(Protocol::Http, proxy.port, closed_port());
    config.probes = probes;
    proxy.rewrite(&text(&config));
    let wanted = serde_json::to_string(&config.probes).unwrap();
    wait_until("it is taken", || client::get(proxy.admin, "/config").text().contains(&wanted));
}

/// As the kubelet asks.
fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 10.0.0.7:15190\r\nUser-Agent: kube-probe/1.34\r\n{headers}Connection: close\r\n\r\n"
    )
}

fn ask(proxy: &Running, path: &str) -> Answer {
    client::request(proxy.admin, &request(path, ""))
}

fn ready(action: ProbeAction) -> (Running, Answer) {
    let proxy = proxy(vec![probe(ProbeKind::Readiness, action)]);
    let answer = ask(&proxy, "/probe/app/readiness");
    (proxy, answer)
}

#[test]
fn the_apps_status_and_text_are_passed_on_and_nothing_is_counted() {
    for status in ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "503 Oops"] {
        let app = serve(move |mut connection| {
            connection.head();
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        });
        let (proxy, answer) = ready(get(app, "/healthz"));
        assert_eq!(answer.status.to_string(), status[..3]);
        assert!(
            !proxy.metrics().lines().any(|line| line.contains("requests_total{") && !line.ends_with(" 0"))
        );
    }
    let (_proxy, answer) =
        ready(get(answering("HTTP/1.1 500 Oops\r\nContent-Length: 7\r\n\r\nno disk"), "/"));
    assert_eq!(answer.text(), "no disk");
}

#[test]
fn the_app_sees_the_kubelets_headers_and_its_own_address() {
    let (seen, heads) = mpsc::channel();
    let app = serve(move |mut connection| {
        seen.send(connection.head().unwrap()).unwrap();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let with_host = ProbeAction::Http(HttpProbe {
        port: app,
        path: "no slash?a=b c".to_owned(),
        scheme: Scheme::Http,
        host: Some("shop.example".to_owned()),
    });
    let proxy = proxy(vec![probe(ProbeKind::Readiness, get(app, "")), probe(ProbeKind::Liveness, with_host)]);
    let headers = "X-Probe: a\r\nX-Probe: b\r\nAuthorization: Basic eDp5\r\n";
    let answer = client::request(proxy.admin, &request("/probe/app/readiness", headers));
    assert_eq!(answer.status, 200);
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get / http/1.1\r\n"), "{head}");
    for wanted in [
        &format!("host: 127.0.0.1:{app}"),
        "user-agent: kube-probe/1.34",
        "x-probe: a\r\nx-probe: b",
        "authorization: basic edp5",
        "accept: */*",
        "connection: close",
    ] {
        assert_eq!(head.matches(&format!("\r\n{wanted}\r\n")).count(), 1, "{wanted} in {head}");
    }
    assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");

    ask(&proxy, "/probe/app/liveness");
    let head = heads.recv().unwrap();
    assert!(head.starts_with("GET /no%20slash?a=b%20c HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\nhost: shop.example\r\n"), "{head}");
}

/// The kubelet reads no more of it either. An app's whole answer, held here, would be the proxy's memory.
#[test]
fn at_most_10_kib_of_the_answer_are_passed_on() {
    let app = serve(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        // As much as it is let.
        while connection.try_send(&vec![b'x'; 1 << 16]) {}
    });
    let (_proxy, answer) = ready(get(app, "/"));
    assert_eq!((answer.status, answer.body.len()), (200, 10 * 1024));
}

#[test]
fn redirects_at_the_same_host_are_followed_and_others_are_passed_on() {
    let last = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast");
    let app = serve(move |mut connection| {
        let head = connection.head().unwrap();
        let location = match head.split(' ').nth(1).unwrap() {
            "/start" => "next".to_owned(),
            "/next" => format!("http://127.0.0.1:{last}/"),
            "/away" => "http://elsewhere.example/".to_owned(),
            _ => "/round".to_owned(),
        };
        connection.send(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    });
    let (_proxy, answer) = ready(get(app, "/start"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "last"));
    let (_proxy, answer) = ready(get(app, "/away"));
    assert_eq!(answer.status, 302);
    assert!(answer.has("location: http://elsewhere.example/"), "{}", answer.head);
    let (_proxy, answer) = ready(get(app, "/round"));
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("redirects"), "{}", answer.text());
}

#[test]
fn an_app_that_does_not_answer_in_the_probes_time_fails_it() {
    let (_proxy, answer) = ready(get(serve(|mut connection| connection.wait_for_close()), "/"));
    assert_eq!((answer.status, answer.text().as_str()), (504, "no answer in 1 s\n"));
}

#[test]
fn an_app_that_is_down_or_talks_nonsense_fails_it() {
    let port = closed_port();
    let (_proxy, answer) = ready(get(port, "/"));
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains(&format!("failed to connect to 127.0.0.1:{port}")), "{}", answer.text());
    let nonsense = serve(|mut connection| {
        connection.head();
        connection.send("hello\r\n\r\n");
    });
    assert_eq!(ready(get(nonsense, "/")).1.status, 502);
}

#[test]
fn https_is_asked_without_looking_at_the_certificate() {
    for (alpn, version) in [(&b"http/1.1"[..], "HTTP/1.1"), (b"h2", "HTTP/2.0")] {
        let port = https(alpn);
        let probe =
            HttpProbe { port, path: "/up".to_owned(), scheme: Scheme::Https, host: Some("a.b".to_owned()) };
        let (_proxy, answer) = ready(ProbeAction::Http(probe));
        assert_eq!(answer.text(), format!("{version} a.b /up"));
    }
    let plain = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let probe = HttpProbe { port: plain, path: "/".to_owned(), scheme: Scheme::Https, host: None };
    let (_proxy, answer) = ready(ProbeAction::Http(probe));
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("failed to open TLS"), "{}", answer.text());
}

#[test]
fn a_tcp_probe_asks_whether_the_port_accepts() {
    let (_proxy, answer) = ready(ProbeAction::Tcp { port: serve(|_| {}) });
    assert_eq!(answer.status, 200);
    let (_proxy, answer) = ready(ProbeAction::Tcp { port: closed_port() });
    assert_eq!(answer.status, 502);
}

#[test]
fn only_serving_is_healthy_in_grpc() {
    let port = grpc();
    for (service, status, wanted) in [
        ("", 200, "SERVING"),
        ("up", 200, "SERVING"),
        ("down", 503, "NOT_SERVING"),
        ("unknown", 503, "gRPC status 5"),
    ] {
        let (_proxy, answer) = ready(ProbeAction::Grpc { port, service: service.to_owned() });
        assert_eq!(answer.status, status, "{service}");
        assert!(answer.text().contains(wanted), "{service}: {}", answer.text());
    }
    let not_grpc = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (_proxy, answer) = ready(ProbeAction::Grpc { port: not_grpc, service: String::new() });
    assert_eq!(answer.status, 502);
}

/// The kubelet takes any answer for a success of a handler, and a connection that fails for a failure.
#[test]
fn a_handler_that_reaches_nobody_gets_no_answer() {
    let app = answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    let stop = probe(ProbeKind::PreStop, get(closed_port(), "/"));
    let proxy = proxy(vec![probe(ProbeKind::PostStart, get(app, "/")), stop]);
    assert_eq!(ask(&proxy, "/probe/app/poststart").status, 500);
    let mut stream = open(proxy.admin);
    std::io::Write::write_all(&mut stream, request("/probe/app/prestop", "").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "");
}

#[test]
fn probes_are_those_of_the_config_in_force() {
    let app = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = proxy(vec![probe(ProbeKind::Startup, get(app, "/"))]);
    assert_eq!(ask(&proxy, "/probe/app/startup").status, 200);
    for unknown in ["/probe/app/liveness", "/probe/other/startup", "/probe/app/other"] {
        assert_eq!(ask(&proxy, unknown).status, 404, "{unknown}");
    }
    change(&proxy, vec![probe(ProbeKind::Liveness, get(app, "/"))]);
    assert_eq!(ask(&proxy, "/probe/app/startup").status, 404);
    assert_eq!(ask(&proxy, "/probe/app/liveness").status, 200);
}

#[test]
fn an_app_that_fails_and_recovers_is_seen_to_while_the_proxy_is_ready() {
    let (answers, next) = mpsc::channel::<&str>();
    let next = std::sync::Mutex::new(next);
    let app = serve(move |mut connection| {
        connection.head();
        connection
            .send(format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", next.lock().unwrap().recv().unwrap()));
    });
    let proxy = proxy(vec![probe(ProbeKind::Readiness, get(app, "/"))]);
    for (answer, status) in [("200 OK", 200), ("503 Later", 503), ("200 OK", 200)] {
        answers.send(answer).unwrap();
        assert_eq!(ask(&proxy, "/probe/app/readiness").status, status);
        assert_eq!(client::get(proxy.admin, "/ready").status, 200);
    }
}
