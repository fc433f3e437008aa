//! TLS ends at the proxy: the app gets plain HTTP, and the Secret may change while clients are connected.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use outrigger_api::config::{Protocol, SidecarConfig};
use outrigger_api::tls::{ClientCertificateMode, ClientCertificates, PlainHttp, TlsSpec, TlsVersion};
use outrigger_proxy::limits::Limits;
use rustls::pki_types::ServerName;
use support::app::{answering, serve};
use support::http2::run;
use support::tls::{Authority, Secrets, Trust};
use support::{Running, client, config, open, start_by, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn spec() -> TlsSpec {
    TlsSpec { secret_name: "web".to_owned(), ..TlsSpec::default() }
}

fn with_tls(protocol: Protocol, target: u16, tls: TlsSpec) -> impl FnOnce(u16) -> SidecarConfig {
    move |port| {
        let mut config = config(protocol, port, target);
        config.inbound[0].tls = Some(tls);
        config
    }
}

/// A proxy with a certificate for `shop`, and its authority.
fn https(name: &str, target: u16, tls: TlsSpec) -> (Running, Authority, Secrets) {
    let (authority, secrets) = (Authority::new("authority"), Secrets::new(name));
    secrets.write_pair("web", &authority.sign("shop"));
    secrets.write("clients", &[("ca.crt", &authority.pem())]);
    let proxy = start_by(with_tls(Protocol::Http, target, tls), &secrets.0, Limits::default());
    (proxy, authority, secrets)
}

fn handshakes(proxy: &Running, result: &str) -> u64 {
    proxy.metric(&format!(r#"tls_handshakes_total{{direction="inbound",port="web",result="{result}"}}"#))
}

/// What the app is asked, as the answer's body.
fn echo() -> u16 {
    serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
        }
    })
}

#[test]
fn the_app_gets_plain_http_and_requests_are_counted() {
    let (proxy, authority, _secrets) = https("plain", echo(), spec());
    for versions in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client = Trust::with(&authority, None, &[versions]).connect(proxy.port, "shop");
        for _ in 0..10 {
            assert!(client.get("/a?b").contains("GET /a?b HTTP/1.1\r\nHost: shop\r\n"));
        }
    }
    assert_eq!(proxy.requests("GET", "200", ""), 20);
    assert_eq!(handshakes(&proxy, "full"), 2);
    let expiry = r#"tls_certificate_expiry_timestamp_seconds{direction="inbound",port="web",secret="web"}"#;
    assert!(proxy.metric(expiry) > 1_800_000_000);
}

#[test]
fn alpn_chooses_the_version_of_http() {
    let (proxy, authority, _secrets) = https(
        "alpn",
        support::http2::serve(async |call| {
            let path = call.head.uri.path().to_owned();
            call.answer(path);
        }),
        spec(),
    );
    run(async {
        let config = Trust::of(&authority).protocols(&["h2", "http/1.1"]).config;
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from("shop").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = support::http2::over(stream).await;
        let (head, body) = client.get("/over/h2").await;
        assert_eq!((head.status.as_u16(), body), (200, b"/over/h2".to_vec()));
    });
    assert_eq!(proxy.requests("GET", "200", ""), 1);
    let mut client = Trust::of(&authority).protocols(&["http/1.1"]).connect(proxy.port, "shop");
    // The app of this test knows HTTP/2 only.
    assert!(client.get("/").starts_with("HTTP/1.1 502 "));
    assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// Browsers and curl got a 502 from every app that speaks HTTP/1.1 alone, as most do.
#[test]
fn http2_is_not_offered_before_an_app_that_does_not_speak_it() {
    let hangs_up = serve(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if head.starts_with("PRI ") {
                return;
            }
            connection.send(OK);
        }
    });
    for (name, app) in [("alpn-answers", answering(OK)), ("alpn-hangs-up", hangs_up)] {
        let (proxy, authority, _secrets) = https(name, app, spec());
        for _ in 0..2 {
            let trust = Trust::of(&authority).protocols(&["h2", "http/1.1"]);
            let mut client = trust.connect(proxy.port, "shop");
            assert!(client.get("/").ends_with("ok"), "{name}");
            assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]), "{name}");
        }
        assert_eq!(proxy.requests("GET", "200", ""), 2);
    }
}

#[test]
fn a_new_certificate_is_served_and_no_connection_is_lost() {
    let (proxy, authority, secrets) = https("rotation", answering(OK), spec());
    let trust = Trust::of(&authority);
    let mut before = trust.connect(proxy.port, "shop");
    before.get("/");
    let first = before.certificate();
    let next = authority.sign("shop");
    let reloaded = r#"tls_certificate_last_reload_success{direction="inbound",port="web",secret="web"}"#;

    // Half of the pair, as of somebody who copies files by hand.
    secrets.write("web", &[("tls.crt", &next.chain), ("tls.key", &authority.sign("shop").key)]);
    wait_until("it is refused", || proxy.metric(reloaded) == 0);
    let shown: serde_json::Value = serde_json::from_str(&client::get(proxy.admin, "/config").text()).unwrap();
    let refused = shown["certificates"][0]["refused"].as_str().unwrap();
    assert!(refused.contains("web can't be used"), "{refused}");
    let mut meanwhile = trust.connect(proxy.port, "shop");
    meanwhile.get("/");
    assert_eq!(meanwhile.certificate(), first);

    secrets.write_pair("web", &next);
    wait_until("it is taken", || proxy.metric(reloaded) == 1);
    wait_until("it is served", || {
        let mut after = Trust::of(&authority).connect(proxy.port, "shop");
        after.get("/");
        before.get("/");
        after.certificate() != first
    });
    assert!(proxy.requests("GET", "200", "") >= 4);
    assert_eq!(handshakes(&proxy, "failed"), 0);
}

#[test]
fn clients_resume_their_sessions_also_after_a_rotation() {
    let (proxy, authority, secrets) = https("resumption", answering(OK), spec());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let trust = Trust::with(&authority, None, &[version]);
        let before = handshakes(&proxy, "resumed");
        for _ in 0..3 {
            trust.connect(proxy.port, "shop").get("/");
        }
        assert_eq!(handshakes(&proxy, "resumed") - before, 2, "{version:?}");
        secrets.write_pair("web", &authority.sign("shop"));
        wait_until("it is served", || {
            let mut other = Trust::of(&authority).connect(proxy.port, "shop");
            other.get("/");
            proxy
                .metric(r#"tls_certificate_last_reload_success{direction="inbound",port="web",secret="web"}"#)
                == 1
        });
        trust.connect(proxy.port, "shop").get("/");
        assert_eq!(handshakes(&proxy, "resumed") - before, 3, "{version:?}");
    }
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let (authority, secrets) = (Authority::new("authority"), Secrets::new("sni"));
    for (secret, name) in [("web", "shop"), ("more", "admin.shop")] {
        secrets.write_pair(secret, &authority.sign(name));
    }
    let tls = TlsSpec { more_secret_names: vec!["more".to_owned()], ..spec() };
    let proxy = start_by(with_tls(Protocol::Http, answering(OK), tls), &secrets.0, Limits::default());
    // A client that gets another's certificate does not go on.
    for name in ["shop", "admin.shop"] {
        assert!(Trust::of(&authority).connect(proxy.port, name).get("/").ends_with("ok"), "{name}");
    }
    assert!(Trust::of(&authority).connect(proxy.port, "other").try_get("/", "").is_err());
    wait_until("it is counted", || handshakes(&proxy, "failed") == 1);
}

fn with_clients(mode: ClientCertificateMode) -> TlsSpec {
    let subject_header = Some("X-Client-Subject".to_owned());
    let clients = ClientCertificates { secret_name: "clients".to_owned(), mode, subject_header };
    TlsSpec { client_certificates: Some(clients), ..spec() }
}

#[test]
fn clients_must_show_a_certificate_and_the_app_is_told_whose() {
    let (proxy, authority, _secrets) =
        https("clients", echo(), with_clients(ClientCertificateMode::Required));
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    let known = Trust::with(&authority, Some(&authority.sign("cart")), &both);
    let mut client = known.connect(proxy.port, "shop");
    let asked = client.try_get("/", "x-client-subject: CN=admin\r\nX_Client_Subject: CN=admin\r\n").unwrap();
    assert!(asked.contains("X-Client-Subject: CN=cart\r\n") && !asked.contains("admin"), "{asked}");
    // A session that was resumed brought its certificate with it, also one that had ended meanwhile.
    drop(client);
    for version in both {
        let known = Trust::with(&authority, Some(&authority.sign("cart")), &[version]);
        for _ in 0..2 {
            let again = known.connect(proxy.port, "shop").get("/");
            assert!(again.contains("X-Client-Subject: CN=cart\r\n"), "{again}");
        }
    }
    assert_eq!((handshakes(&proxy, "full"), handshakes(&proxy, "resumed")), (5, 0));

    let stranger = Authority::new("stranger").sign("cart");
    for (number, shows) in [None, Some(&stranger)].into_iter().enumerate() {
        for version in both {
            let mut client = Trust::with(&authority, shows, &[version]).connect(proxy.port, "shop");
            assert!(client.try_get("/", "").is_err());
        }
        wait_until("both are counted", || {
            handshakes(&proxy, "client_certificate") == 2 * (number as u64 + 1)
        });
    }
    assert_eq!(proxy.requests("GET", "200", ""), 5, "the app saw no other");
}

#[test]
fn without_a_certificate_where_it_is_optional_nobody_has_a_subject() {
    let (proxy, authority, _secrets) =
        https("optional", echo(), with_clients(ClientCertificateMode::Optional));
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    let asked = client.try_get("/", "X-Client-Subject: CN=admin\r\n").unwrap();
    assert!(asked.starts_with("HTTP/1.1 200") && !asked.contains("admin"), "{asked}");
}

#[test]
fn plain_http_is_told_or_sent_to_https() {
    let (proxy, _authority, _secrets) = https("told", answering(OK), spec());
    let answer = client::get(proxy.port, "/a");
    assert_eq!(answer.status, 400);
    assert!(answer.has("outrigger-reason: plain_http"), "{}", answer.head);
    assert!(answer.text().contains("use https"), "{}", answer.text());
    assert_eq!(proxy.requests("GET", "400", "plain_http"), 1);
    assert_eq!(handshakes(&proxy, "plain"), 1);

    let tls = TlsSpec { plain_http: PlainHttp::Redirect, ..spec() };
    let (proxy, _authority, _secrets) = https("sent", answering(OK), tls);
    let answer =
        client::request(proxy.port, "POST /a?b HTTP/1.1\r\nHost: shop:8443\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status, 308);
    assert!(answer.has("Location: https://shop:8443/a?b"), "{}", answer.head);
    // Nowhere that it could name.
    assert_eq!(client::request(proxy.port, "GET / HTTP/1.0\r\n\r\n").status, 400);
    run(async {
        let (head, _) = support::http2::connect(proxy.port).await.get("/c").await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["location"]),
            (308, &"https://shop/c".parse().unwrap())
        );
    });
}

#[test]
fn old_versions_are_refused() {
    let tls = TlsSpec { min_version: TlsVersion::V13, ..spec() };
    let (proxy, authority, _secrets) = https("versions", answering(OK), tls);
    let mut old = Trust::with(&authority, None, &[&rustls::version::TLS12]).connect(proxy.port, "shop");
    assert!(old.try_get("/", "").is_err());
    wait_until("it is counted", || handshakes(&proxy, "failed") == 1);
    assert!(Trust::of(&authority).connect(proxy.port, "shop").get("/").ends_with("ok"));
}

#[test]
fn clients_that_do_not_finish_their_handshake_are_cut_off() {
    let (authority, secrets) = (Authority::new("authority"), Secrets::new("slow"));
    secrets.write_pair("web", &authority.sign("shop"));
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let proxy = start_by(with_tls(Protocol::Http, 1, spec()), &secrets.0, limits);
    let mut slow = open(proxy.port);
    slow.write_all(&[0x16, 3, 1]).unwrap();
    assert_eq!(slow.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(handshakes(&proxy, "timeout"), 1);
    let proxy = start_by(with_tls(Protocol::Http, 1, spec()), &secrets.0, Limits::default());
    let mut gone = open(proxy.port);
    gone.write_all(&[0x16, 3, 1]).unwrap();
    drop(gone);
    wait_until("it is counted", || handshakes(&proxy, "client_closed") == 1);
    let mut other = open(proxy.port);
    other.write_all(&[0x16; 64]).unwrap();
    wait_until("it is counted", || handshakes(&proxy, "failed") == 1);
}

#[test]
fn bytes_pass_both_ways_until_each_side_has_ended() {
    let (authority, secrets) = (Authority::new("authority"), Secrets::new("tcp"));
    secrets.write_pair("web", &authority.sign("shop"));
    let app = serve(|mut connection| {
        connection.send("hello ");
        let mut all = Vec::new();
        connection.reader.read_to_end(&mut all).unwrap();
        all.reverse();
        connection.send(&all);
    });
    let proxy = start_by(with_tls(Protocol::Tcp, app, spec()), &secrets.0, Limits::default());
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    let mut greeting = [0; 6];
    client.0.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello ");
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    client.0.write_all(&sent).unwrap();
    client.0.conn.send_close_notify();
    client.0.flush().unwrap();
    let mut came = Vec::new();
    client.0.read_to_end(&mut came).unwrap();
    came.reverse();
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
    assert_eq!(proxy.closed(""), 1);
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let app = serve(|mut connection| {
        while let Some((_, body)) = connection.request() {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            connection.send(body);
        }
    });
    let (proxy, authority, _secrets) = https("bodies", app, spec());
    let body: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    client
        .0
        .write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
        .unwrap();
    client.0.write_all(&body).unwrap();
    let mut came = vec![0; "HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n".len() + body.len()];
    client.0.read_exact(&mut came).unwrap();
    assert!(came.ends_with(&body));
}

/// RFC 8446 6.1: without a `close_notify` an answer that ends with the connection looks cut off; one that is cut off must.
#[test]
fn the_end_of_an_answer_is_told_from_its_being_cut_off() {
    let app = serve(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let (proxy, authority, _secrets) = https("whole", app, spec());
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    client.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.0.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nall of it"), "{answer}");

    let app = serve(|mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npart");
    });
    let (proxy, authority, _secrets) = https("cut", app, spec());
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    // A client of HTTP/1.0 would take the end of the connection for that of the answer.
    client.0.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let error = client.0.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
}

/// The app would work for nobody.
#[test]
fn a_client_that_leaves_is_noticed() {
    let (left, has_left) = std::sync::mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let app = serve(move |mut connection| {
        connection.request();
        connection.wait_for_close();
        left.lock().unwrap().send(()).unwrap();
    });
    let (proxy, authority, _secrets) = https("leaves", app, spec());
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    client.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("it is under way", || proxy.active() == 1);
    client.0.conn.send_close_notify();
    client.0.flush().unwrap();
    drop(client);
    has_left.recv_timeout(support::PATIENCE).unwrap();
    assert_eq!(proxy.requests("GET", "499", "client_closed"), 1);
}

#[test]
fn a_document_whose_secret_can_not_be_used_is_refused() {
    let (proxy, _authority, secrets) = https("document", answering(OK), spec());
    let mut wanted = config(Protocol::Http, proxy.port, 1);
    wanted.inbound[0].tls = Some(TlsSpec { secret_name: "none".to_owned(), ..spec() });
    proxy.rewrite(&support::text(&wanted));
    let why = || {
        let shown: serde_json::Value =
            serde_json::from_str(&client::get(proxy.admin, "/config").text()).unwrap();
        shown["refused"]["error"].as_str().unwrap_or_default().to_owned()
    };
    wait_until("it is refused", || why().contains("none/tls.crt"));
    secrets.write_pair("none", &Authority::new("other").sign("shop"));
    wait_until("it is taken when it is there", || why().is_empty());
}
