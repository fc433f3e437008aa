//! A server that says who may ask what: what it is told, and what becomes of its answers.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::sync::{Arc, Mutex};

use outrigger_api::auth::{AuthSpec, ExternalSpec};
use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;
use serde_json::json;
use support::app::{Count, serve};
use support::client::{Answer, request};
use support::guarded::{ask, decisions, guarded};
use support::http2::{self, call, connect, run};
use support::tls::Secrets;
use support::{Running, closed_port, config, start_by, wait_until};

fn spec(authoriser: u16) -> AuthSpec {
    let external = ExternalSpec {
        url: format!("http://localhost:{authoriser}/check"),
        headers_to_app: vec!["X-Team".to_owned()],
        headers_to_client: vec!["Set-Cookie".to_owned()],
        ..ExternalSpec::default()
    };
    AuthSpec {
        external: Some(external),
        exempt_paths: vec!["/healthz".to_owned()],
        rules: serde_json::from_value(json!([{"methods": ["GET", "POST"]}])).unwrap(),
        ..AuthSpec::default()
    }
}

/// A server that answers each question by its path, and the heads of those that it was asked.
fn authoriser() -> (u16, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let heads = Arc::clone(&asked);
    let port = serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            let uri = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("x-forwarded-uri: ").map(str::to_owned)
            });
            heads.lock().unwrap().push(head);
            match uri.unwrap_or_default().as_str() {
                "/login" => connection.send("HTTP/1.1 302 Found\r\nLocation: https://login/?a=b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"),
                "/no" => connection.send("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno"),
                "/who" => connection.send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n"),
                "/broken" => connection.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
                "/long" => connection.send(format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000))),
                "/garbage" => {
                    connection.send("what?\r\n\r\n");
                    return;
                }
                "/last" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    return;
                }
                "/renewed" | "/renewed/404" => connection.send("HTTP/1.1 202 Accepted\r\nSet-Cookie: session=2; Path=/\r\nSet-Cookie: csrf=3\r\nX-Other: 1\r\nContent-Length: 0\r\n\r\n"),
                "/silent" => {
                    // Until the proxy gives up.
                    let _ = connection.request();
                    return;
                }
                _ => connection.send("HTTP/1.1 204 No Content\r\nX-Team: red\r\nX-Other: 1\r\n\r\n"),
            }
        }
    });
    (port, asked)
}

/// A proxy that asks, and how often its app was asked.
fn proxy(name: &str, auth: AuthSpec) -> (Running, Count) {
    guarded(&Secrets::new(&format!("external-{name}")), auth)
}

#[test]
fn what_is_allowed_goes_on_with_what_the_authoriser_says_of_it() {
    let (port, asked) = authoriser();
    let (proxy, hits) = proxy("allowed", spec(port));
    let forged = "Cookie: a=1\r\nX-Team: blue\r\nx_team: blue\r\nX-Forwarded-Uri: /free\r\nX-Forwarded-For: 10.0.0.1\r\n";
    let body = "Content-Length: 2\r\nExpect: 100-continue\r\n";
    let answer = request(
        proxy.port,
        &format!(
            "POST http://shop/carts?id=1 HTTP/1.1\r\nHost: shop\r\n{forged}{body}Connection: close\r\n\r\nhi"
        ),
    );
    assert_eq!(answer.status, 200);
    let told = answer.text();
    assert!(
        told.contains("X-Team: red\r\n") && !told.contains("blue") && !told.contains("X-Other"),
        "{told}"
    );
    assert!(told.contains("X-Forwarded-Uri: /free"), "the app gets what the client sent: {told}");
    let question = asked.lock().unwrap().pop().unwrap().to_ascii_lowercase();
    assert!(question.starts_with("get /check http/1.1\r\n"), "{question}");
    for line in [
        &format!("host: localhost:{port}"),
        "cookie: a=1",
        "x-forwarded-method: post",
        "x-forwarded-uri: /carts?id=1",
        "x-forwarded-host: shop",
        "x-forwarded-proto: http",
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(question.contains(&format!("{line}\r\n")), "{line}: {question}");
    }
    for gone in ["blue", "/free", "content-length", "expect", "connection"] {
        assert!(!question.contains(gone), "{gone}: {question}");
    }
    assert_eq!((hits.get(), decisions(&proxy, "allowed")), (1, 1));
    assert_eq!(ask(&proxy, "GET /healthz", "").status, 200);
    assert_eq!(ask(&proxy, "DELETE /carts", "").status, 403, "the rules come first");
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn what_is_denied_is_answered_by_the_authoriser_and_the_app_sees_none_of_a_thousand() {
    let (port, _) = authoriser();
    let (proxy, hits) = proxy("denied", spec(port));
    let mut client = proxy.connect();
    for n in 0..1000 {
        let (path, status) = [("/login", 302), ("/no", 403), ("/who", 401)][n % 3];
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, status);
        match status {
            302 => assert!(
                answer.has("location: https://login/?a=b")
                    && answer.has("set-cookie: a=1")
                    && answer.has("set-cookie: b=2")
            ),
            403 => assert!(
                answer.text() == "no"
                    && answer.has("content-type: text/html")
                    && answer.has("outrigger-reason: forbidden")
            ),
            _ => assert!(
                answer.text() == "who"
                    && answer.has("www-authenticate: Bearer")
                    && answer.has("outrigger-reason: unauthenticated")
            ),
        }
    }
    assert_eq!((hits.get(), decisions(&proxy, "denied")), (0, 1000));
}

/// The app answers with a cookie of its own, with a 404 where the path says so, and switches to another protocol where it is asked to.
fn app() -> u16 {
    serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.contains("Upgrade: chat") {
                connection
                    .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
                return;
            }
            let status = if head.contains("/404") { "404 Not Found" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\nSet-Cookie: app=1\r\nContent-Length: 0\r\n\r\n"));
        }
    })
}

fn cookies(answer: &Answer) -> Vec<&str> {
    answer.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")).collect()
}

/// oauth2-proxy renews a session with the answer by which it allows a request. The cookie was lost, and with it, in time, the session.
#[test]
fn what_the_authoriser_has_for_the_client_comes_with_whatever_answer_there_is() {
    let secrets = Secrets::new("external-renewed");
    let (port, _) = authoriser();
    let inbound = |target| {
        move |listen| {
            let mut config = config(Protocol::Auto, listen, target);
            let page = json!([{"status": [404], "pathPrefixes": ["/renewed"], "body": "lost?"}]);
            config.inbound[0].overrides = serde_json::from_value(page).unwrap();
            config.inbound[0].auth = Some(spec(port));
            config
        }
    };
    let renewed = ["session=2; Path=/", "csrf=3"];
    let proxy = start_by(inbound(app()), &secrets.0, Limits::default());
    let answer = ask(&proxy, "GET /renewed", "");
    assert_eq!((answer.status, cookies(&answer)), (200, [&["app=1"], &renewed[..]].concat()));
    assert!(!answer.head.contains("X-Other"));
    let overridden = ask(&proxy, "GET /renewed/404", "");
    assert_eq!(
        (overridden.text(), cookies(&overridden)),
        ("lost?".to_owned(), [&["app=1"], &renewed[..]].concat())
    );
    let upgrade = "GET /renewed HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
    let switched = request(proxy.port, upgrade);
    assert_eq!((switched.status, cookies(&switched)), (101, renewed.to_vec()));
    assert_eq!(cookies(&ask(&proxy, "GET /other", "")), ["app=1"]);
    // The session is renewed, whatever became of the request then.
    let unreachable = start_by(inbound(closed_port()), &secrets.0, Limits::default());
    let answer = ask(&unreachable, "GET /renewed", "");
    assert_eq!((answer.status, cookies(&answer)), (502, renewed.to_vec()));
}

#[test]
fn by_http2_the_client_is_told_too() {
    let secrets = Secrets::new("external-renewed-http2");
    let (port, _) = authoriser();
    let app = http2::serve(|call| async { call.answer("ok") });
    let inbound = |target| {
        move |listen| {
            let mut config = config(Protocol::Auto, listen, target);
            config.inbound[0].auth = Some(spec(port));
            config
        }
    };
    for (target, status) in [(app, 200), (closed_port(), 502)] {
        let proxy = start_by(inbound(target), &secrets.0, Limits::default());
        run(async {
            let (head, _) = connect(proxy.port).await.get("/renewed").await;
            let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
            assert_eq!(head.status.as_u16(), status);
            assert_eq!(cookies, ["session=2; Path=/", "csrf=3"]);
        });
    }
}

/// Each request made a connection, as many as there were requests.
#[test]
fn questions_under_way_are_bounded_and_none_goes_on_for_want_of_a_turn() {
    const AT_A_TIME: usize = 128;
    let asked = Count::default();
    let counted = asked.clone();
    let silent = serve(move |mut connection| {
        counted.add();
        connection.wait_for_close();
    });
    let mut auth = spec(silent);
    let external = auth.external.as_mut().unwrap();
    (external.fail_open, external.timeout) = (true, "1s".parse().unwrap());
    let (proxy, hits) = proxy("bounded", auth);
    let request = |_| {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    // The second so many get the turns of the first, which are silent until their time is over; then it is over for the last.
    let asking: Vec<_> = (0..2 * AT_A_TIME + 12).map(request).collect();
    wait_until("the last are refused", || decisions(&proxy, "busy") == 12);
    assert!(asked.get() <= 2 * AT_A_TIME, "{} questions", asked.get());
    let answers: Vec<_> = asking.into_iter().map(|mut client| client.answer()).collect();
    let refused = answers.iter().filter(|answer| answer.has("outrigger-reason: too_many_requests")).count();
    assert_eq!((refused, hits.get()), (12, 2 * AT_A_TIME));
}

#[test]
fn without_an_answer_the_profile_decides() {
    let (port, _) = authoriser();
    let external = |fail_open, port| {
        let mut auth = spec(port);
        let external = auth.external.as_mut().unwrap();
        (external.fail_open, external.timeout) = (fail_open, "3s".parse().unwrap());
        auth
    };
    let (closed, hits) = proxy("closed", external(false, port));
    let (open, open_hits) = proxy("open", external(true, port));
    let paths = ["/silent", "/garbage", "/broken", "/long"];
    for path in paths {
        let answer = ask(&closed, &format!("GET {path}"), "");
        assert!(
            answer.status == 503 && answer.has("outrigger-reason: auth_unavailable"),
            "{path}: {}",
            answer.head
        );
        let answer = ask(&open, &format!("GET {path}"), "X-Team: blue\r\n");
        assert!(answer.status == 200 && !answer.text().contains("blue"), "{path}");
    }
    assert_eq!((hits.get(), decisions(&closed, "unavailable")), (0, 4));
    assert_eq!((open_hits.get(), decisions(&open, "unchecked")), (4, 4));
    // Open to failures, not to denials.
    assert_eq!(ask(&open, "GET /no", "").status, 403);
    let (nobody, hits) = proxy("nobody", external(false, 1));
    assert_eq!((ask(&nobody, "GET /", "").status, hits.get()), (503, 0));
}

#[test]
fn its_connections_are_used_again_and_one_that_it_closed_costs_no_request() {
    let (port, asked) = authoriser();
    let (proxy, _) = proxy("closing", spec(port));
    for _ in 0..20 {
        assert_eq!(ask(&proxy, "GET /last", "").status, 200);
    }
    assert_eq!(asked.lock().unwrap().len(), 20);
}

/// A check whose Service leads back to the port that asks would go round for ever.
#[test]
fn a_question_is_not_asked_about() {
    let (port, asked) = authoriser();
    let (proxy, hits) = proxy("loop", spec(port));
    let answer = ask(&proxy, "GET /check", "Outrigger-Question: 1\r\n");
    assert!(answer.status == 508 && answer.has("outrigger-reason: loop"), "{}", answer.head);
    assert_eq!((hits.get(), asked.lock().unwrap().len()), (0, 0));
}

#[test]
fn by_http2_and_grpc_it_is_the_same() {
    let (port, asked) = authoriser();
    let (proxy, hits) = proxy("http2", spec(port));
    run(async {
        let client = connect(proxy.port).await;
        let (head, body) = client.get("/no").await;
        assert_eq!((head.status.as_u16(), &body[..]), (403, &b"no"[..]));
        let mut denied = call();
        *denied.uri_mut() = "http://shop/no".parse().unwrap();
        let (answer, _) = client.send(denied, true).await;
        assert_eq!(&answer.await.unwrap().headers()["grpc-status"], "7");
    });
    assert_eq!(hits.get(), 0);
    assert!(asked.lock().unwrap()[0].to_ascii_lowercase().contains("x-forwarded-host: "));
    assert_eq!(decisions(&proxy, "denied"), 2);
}

/// Browsers send each cookie by itself, and the authoriser was asked with as many lines, of which it may read one; of a method that has no
/// label it was told `_OTHER`.
#[test]
fn by_http2_cookies_are_one_line_and_methods_have_their_names() {
    let (port, asked) = authoriser();
    let (proxy, _hits) = proxy("cookies", AuthSpec { rules: Vec::new(), ..spec(port) });
    run(async {
        let client = connect(proxy.port).await;
        let propfind =
            support::http2::request("PROPFIND", "/no").header("cookie", "a=1").header("cookie", "b=2");
        let (answer, _) = client.send(propfind.body(()).unwrap(), true).await;
        assert_eq!(answer.await.unwrap().status(), 403);
    });
    let question = asked.lock().unwrap().pop().unwrap().to_ascii_lowercase();
    for line in ["cookie: a=1; b=2\r\n", "x-forwarded-method: propfind\r\n"] {
        assert!(question.contains(line), "{line}: {question}");
    }
    assert_eq!(question.matches("cookie:").count(), 1, "{question}");
}
