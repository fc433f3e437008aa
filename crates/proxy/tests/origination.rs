//! TLS towards upstreams: the app speaks plainly, and nothing reaches a server that is not the one it asked for.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use outrigger_api::config::{Protocol, SidecarConfig, Upstream};
use outrigger_api::origination::{AuthoritySpec, ClientCertificate, UpstreamTlsSpec};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use support::http2::{connect, run};
use support::tls::{Authority, Pair, Secrets};
use support::{Running, closed_port, config, open, outbound_by, wait_until};
use tokio_rustls::TlsAcceptor;

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// What a server shows, and the authority of clients whose certificate it wants to see.
fn server_config(shown: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(der(&authority.pem())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![der(&shown.chain)], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A server by rustls that answers with what the handshake told, and what it was asked. Its config may change.
fn server(config: Arc<ServerConfig>) -> (u16, Arc<Mutex<Arc<ServerConfig>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(Mutex::new(config));
    let current = Arc::clone(&config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&current.lock().unwrap())).unwrap();
            let stream = StreamOwned::new(session, stream.unwrap());
            thread::spawn(move || answer(stream));
        }
    });
    (port, config)
}

fn answer(stream: StreamOwned<ServerConnection, TcpStream>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // A handshake that failed, or the end.
            if !reader.read_line(&mut head).is_ok_and(|length| length > 0) {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let session = &reader.get_ref().conn;
        let told = format!(
            "name={} alpn={} client={} body={}\n{head}",
            session.server_name().unwrap_or("-"),
            session.alpn_protocol().map_or("-".into(), String::from_utf8_lossy),
            session.peer_certificates().is_some(),
            body.len()
        );
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len());
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
}

/// A server of HTTP/2 by TLS, which passes on to one without.
fn before(app: u16, config: &ServerConfig) -> u16 {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        support::http2::runtime().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::task::spawn_local(async move {
                    // Refused where the client speaks no HTTP/2.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut app = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, app)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
                });
            }
        });
    });
    port
}

fn tls() -> UpstreamTlsSpec {
    let ca = AuthoritySpec { secret_name: Some("ca".to_owned()), config_map_name: None };
    UpstreamTlsSpec { ca, server_name: Some("api.shop".to_owned()), ..UpstreamTlsSpec::default() }
}

fn proxy(protocol: Protocol, port: u16, tls: UpstreamTlsSpec, secrets: &Path) -> Running {
    outbound_by(secrets, |listen| {
        let upstream = Upstream {
            name: "api".to_owned(),
            host: "localhost".to_owned(),
            port,
            protocol,
            listen: Some(listen),
            tls: Some(tls),
            ..Upstream::default()
        };
        SidecarConfig { inbound: Vec::new(), upstreams: vec![upstream], ..config(protocol, listen, port) }
    })
}

fn handshakes(proxy: &Running, port: u16, result: &str) -> u64 {
    let labels = format!(r#"direction="outbound",port="{port}",upstream="api",result="{result}""#);
    proxy.metric(&format!("tls_handshakes_total{{{labels}}}"))
}

#[test]
fn an_app_that_speaks_plainly_reaches_a_server_by_tls() {
    let authority = Authority::new("shop");
    let secrets = Secrets::new("origination");
    secrets.write("_configmaps/ca", &[("ca.crt", &authority.pem())]);
    let (port, _) = server(server_config(&authority.sign("api.shop"), None));
    let ca = AuthoritySpec { secret_name: None, config_map_name: Some("ca".to_owned()) };
    for protocol in [Protocol::Http, Protocol::Auto] {
        let proxy = proxy(protocol, port, UpstreamTlsSpec { ca: ca.clone(), ..tls() }, &secrets.0);
        let mut client = proxy.connect();
        let body = "x".repeat(300_000);
        for _ in 0..3 {
            client.send(format!(
                "POST /a HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 300000\r\n\r\n{body}",
                proxy.port
            ));
            let told = client.answer().text();
            assert!(told.starts_with("name=api.shop alpn=http/1.1 client=false body=300000\n"), "{told}");
            assert!(told.contains(&format!("Host: localhost:{port}\r\n")), "{told}");
        }
        assert_eq!(handshakes(&proxy, port, "full") + handshakes(&proxy, port, "resumed"), 1);
        let labels = format!(r#"direction="outbound",port="{port}",upstream="api""#);
        assert_eq!(proxy.metric(&format!("upstream_reuses_total{{{labels}}}")), 2);
        let expiry =
            r#"tls_certificate_expiry_timestamp_seconds{direction="outbound",upstream="api",secret="ca"}"#;
        assert!(proxy.seconds(expiry) > 1e9);
    }
}

#[test]
fn calls_by_http2_reach_a_server_by_tls() {
    let authority = Authority::new("shop");
    let secrets = Secrets::new("origination-http2");
    secrets.write("ca", &[("ca.crt", &authority.pem())]);
    let app = support::http2::serve(async |call| {
        let answer = format!("{} {}", call.head.uri.path(), call.connection);
        call.answer(answer);
    });
    let port = before(app, &server_config(&authority.sign("api.shop"), None));
    let proxy = proxy(Protocol::Http, port, tls(), &secrets.0);
    run(async {
        let client = connect(proxy.port).await;
        let (first, second) = tokio::join!(client.get("/a"), client.get("/b"));
        assert_eq!((first.1, second.1), (b"/a 0".to_vec(), b"/b 0".to_vec()));
    });
    assert_eq!(handshakes(&proxy, port, "full"), 1);
    let answer = proxy.connect().get("/");
    assert!(answer.status == 502 && answer.has("outrigger-reason: tls_failed"), "{}", answer.head);
}

#[test]
fn a_certificate_that_is_not_good_is_a_502_with_its_reason() {
    let (authority, other) = (Authority::new("shop"), Authority::new("other"));
    let secrets = Secrets::new("origination-bad");
    secrets.write("ca", &[("ca.crt", &authority.pem())]);
    for shown in [authority.sign("elsewhere"), other.sign("api.shop")] {
        let (port, _) = server(server_config(&shown, None));
        let proxy = proxy(Protocol::Http, port, tls(), &secrets.0);
        let answer = proxy.connect().get("/");
        assert!(answer.status == 502 && answer.has("outrigger-reason: tls_certificate"), "{}", answer.head);
        assert_eq!(handshakes(&proxy, port, "server_certificate"), 1);
        let labels = format!(r#"direction="outbound",port="{port}",upstream="api",reason="tls_certificate""#);
        assert_eq!(proxy.metric(&format!("upstream_connect_errors_total{{{labels}}}")), 1);
    }
    // One that speaks no TLS.
    let plain = support::app::serve(|mut connection| connection.send("220 mail\r\n"));
    let proxy_to = |port| proxy(Protocol::Http, port, tls(), &secrets.0).connect().get("/");
    let answer = proxy_to(plain);
    assert!(answer.status == 502 && answer.has("outrigger-reason: tls_failed"), "{}", answer.head);
    let answer = proxy_to(closed_port());
    assert!(answer.status == 502 && answer.has("outrigger-reason: connect_refused"), "{}", answer.head);
}

#[test]
fn certificates_and_authorities_are_rotated_while_requests_go_on() {
    let (old, new, clients) = (Authority::new("old"), Authority::new("new"), Authority::new("clients"));
    let secrets = Secrets::new("origination-rotated");
    secrets.write("ca", &[("ca.crt", &old.pem())]);
    secrets.write_pair("mine", &clients.sign("cart"));
    let (port, shown) = server(server_config(&old.sign("api.shop"), Some(&clients)));
    let mine = ClientCertificate { secret_name: "mine".to_owned() };
    let proxy =
        proxy(Protocol::Http, port, UpstreamTlsSpec { client_certificate: Some(mine), ..tls() }, &secrets.0);
    let mut kept = proxy.connect();
    assert!(kept.get("/").text().starts_with("name=api.shop alpn=http/1.1 client=true"));
    let reloaded = |secret| {
        proxy.metric(&format!(
            r#"tls_certificate_last_reload_success{{direction="outbound",upstream="api",secret="{secret}"}}"#
        ))
    };
    // What can't be used changes nothing.
    for bad in ["", "no PEM"] {
        secrets.write("ca", &[("ca.crt", bad)]);
        wait_until("it is refused", || reloaded("ca") == 0);
        assert_eq!(kept.get("/").status, 200);
    }
    // Both authorities for as long as both are shown, as one rotates.
    secrets.write("ca", &[("ca.crt", &format!("{}{}", old.pem(), new.pem()))]);
    wait_until("both are taken", || reloaded("ca") == 1);
    *shown.lock().unwrap() = server_config(&new.sign("api.shop"), Some(&clients));
    (0..4).for_each(|_| assert_eq!(kept.get("/").status, 200));
    // A certificate that the server does not trust, then a good one.
    secrets.write_pair("mine", &old.sign("cart"));
    wait_until("the new one is shown", || proxy.connect().get("/").status == 502);
    secrets.write_pair("mine", &clients.sign("cart"));
    wait_until("the good one is shown", || proxy.connect().get("/").status == 200);
}

#[test]
fn bytes_pass_by_tls_and_an_apps_own_tls_is_left_alone() {
    let authority = Authority::new("shop");
    let secrets = Secrets::new("origination-bytes");
    secrets.write("ca", &[("ca.crt", &authority.pem())]);
    let (port, _) = server(server_config(&authority.sign("api.shop"), None));
    let tcp = proxy(Protocol::Tcp, port, tls(), &secrets.0);
    let mut client = open(tcp.port);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut told = [0; 200];
    let length = client.read(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..length]).into_owned();
    assert!(told.contains("name=api.shop alpn=- client=false"), "{told}");

    let auto = proxy(Protocol::Auto, port, tls(), &secrets.0);
    let mut own = support::tls::Trust::of(&authority).connect(auto.port, "api.shop");
    assert!(own.get("/").contains("name=api.shop"));
    assert_eq!(handshakes(&auto, port, "full"), 0);
}

/// `openssl s_server`, ended with the test.
struct OpenSsl(Child);

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn openssl_understands_it_by_each_version() {
    let authority = Authority::new("shop");
    let secrets = Secrets::new("origination-openssl");
    secrets.write("ca", &[("ca.crt", &authority.pem())]);
    secrets.write_pair("server", &authority.sign("api.shop"));
    for version in ["-tls1_2", "-tls1_3"] {
        let port = closed_port();
        let file = |name: &str| secrets.0.join("server").join(name);
        let server = Command::new("openssl")
            .args(["s_server", "-www", "-quiet", version, "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(file("tls.crt"))
            .arg("-key")
            .arg(file("tls.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _server = OpenSsl(server.expect("openssl runs"));
        wait_until("it listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let proxy = proxy(Protocol::Http, port, tls(), &secrets.0);
        for _ in 0..3 {
            assert_eq!(proxy.connect().get("/").status, 200, "{version}");
        }
        // It closes after each answer, so each but the first is a session that goes on.
        assert!(handshakes(&proxy, port, "resumed") >= 1, "{version}");
    }
}
