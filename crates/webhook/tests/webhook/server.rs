//! The TLS port with real clients on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::{get, post};
use outrigger_runtime::shutdown::{self, Drain, Trigger};
use outrigger_webhook::certificate::{Material, Policy};
use outrigger_webhook::metrics::{Admitted, Metrics};
use outrigger_webhook::served::Served;
use outrigger_webhook::server::{Limits, Server, Stop};
use outrigger_webhook::x509::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cluster::NAME;
use crate::{DEADLINE, until};

pub(crate) fn policy() -> Policy {
    Policy { name: NAME.into(), lifetime: Duration::from_hours(1) }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) served: Served,
    draining: Trigger,
    closing: Trigger,
    open: Drain,
    metrics: Metrics,
    task: JoinHandle<()>,
}

pub(crate) async fn start(router: Router) -> Running {
    start_within(router, Limits::default()).await
}

async fn start_within(router: Router, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Served::default();
    let ((draining, drain), (closing, close)) = (shutdown::channel(), shutdown::channel());
    let (open, metrics) = (Drain::default(), Metrics::unregistered());
    let stop = Stop { draining: drain, closing: close };
    let tls = Arc::new(served.tls().unwrap());
    let tls_port = Server { tls, router, stop, open: open.clone(), limits, metrics: metrics.clone() };
    let task = tokio::spawn(tls_port.serve(listener));
    Running { address, served, draining, closing, open, metrics, task }
}

pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/length", post(async |body: String| body.len().to_string()))
}

pub(crate) async fn connect(
    address: SocketAddr,
    bundle: &[u8],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).map(Result::unwrap));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
}

/// Sends a request and reads the answer, head and body, whose length the head gives.
pub(crate) async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(stream).await
}

async fn read_answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = String::new();
    let complete = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (body.len() >= length.parse().ok()?).then_some(())
    };
    while complete(&answer).is_none() {
        let mut buffer = vec![0; 16 * 1024];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "connection closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    answer
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn is_closed(stream: &mut TlsStream<TcpStream>) -> bool {
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

#[tokio::test]
async fn both_tls_versions_speak_http_1_and_keep_the_connection() {
    let running = start(router()).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(material.certified_key().unwrap()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = connect(running.address, &material.bundle(), &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        for _ in 0..3 {
            assert!(exchange(&mut stream, GET).await.ends_with("hello"));
        }
    }
}

#[tokio::test]
async fn before_there_is_a_certificate_handshakes_fail_and_are_counted() {
    let running = start(router()).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    assert!(connect(running.address, &material.bundle(), rustls::ALL_VERSIONS).await.is_err());
    // A client that speaks no TLS at all.
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(GET.as_bytes()).await.unwrap();
    until("both failures counted", async || running.metrics.handshake_failures.get() == 2).await;
}

#[tokio::test]
async fn renewal_leaves_open_connections_alone() {
    let running = start(router()).await;
    let old = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(old.certified_key().unwrap()));
    let mut before = connect(running.address, &old.bundle(), rustls::ALL_VERSIONS).await.unwrap();
    exchange(&mut before, GET).await;

    let need = outrigger_webhook::certificate::Need::Certificate;
    let bundle = old.bundle();
    let new = old.renewed(need, &policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(new.certified_key().unwrap()));
    let mut after = connect(running.address, &bundle, rustls::ALL_VERSIONS).await.unwrap();
    let peer = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_ne!(peer(&before), peer(&after));
    assert_eq!(Some(peer(&after).to_vec()), running.served.certificate());
    assert!(exchange(&mut before, GET).await.ends_with("hello"));
    assert!(exchange(&mut after, GET).await.ends_with("hello"));
}

#[tokio::test]
async fn stop_finishes_what_is_in_flight_and_loses_nothing() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (arrived, go_on) = (arrived.clone(), go_on.clone());
        get(async move || {
            arrived.notify_one();
            go_on.notified().await;
            "slow"
        })
    };
    let running = start(router().route("/slow", slow)).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(material.certified_key().unwrap()));
    let bundle = material.bundle();
    let connect = async || connect(running.address, &bundle, rustls::ALL_VERSIONS).await;
    let (mut idle, mut used, mut busy) =
        (connect().await.unwrap(), connect().await.unwrap(), connect().await.unwrap());
    assert!(!exchange(&mut idle, GET).await.contains("connection: close"));
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    arrived.notified().await;

    running.draining.request();
    assert!(exchange(&mut used, GET).await.contains("connection: close"));
    assert!(is_closed(&mut used).await);
    let mut late = connect().await.unwrap();
    assert!(exchange(&mut late, GET).await.ends_with("hello"), "still accepting");

    running.closing.request();
    assert!(is_closed(&mut idle).await);
    running.task.await.unwrap();
    assert!(connect().await.is_err(), "not accepting any more");
    assert_eq!(running.open.count(), 1, "the busy one");
    go_on.notify_one();
    assert!(read_answer(&mut busy).await.ends_with("slow"));
    assert_eq!(running.open.drained(DEADLINE).await, 0);
}

#[tokio::test]
async fn large_body_in_pieces_arrives_whole() {
    let running = start(router()).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(material.certified_key().unwrap()));
    let mut stream = connect(running.address, &material.bundle(), rustls::ALL_VERSIONS).await.unwrap();
    let length = 1_500_000;
    let head = format!("POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in "x".repeat(length).as_bytes().chunks(70_000) {
        stream.write_all(piece).await.unwrap();
    }
    assert!(read_answer(&mut stream).await.ends_with("1500000"));
}

/// The head and the first byte of a body of which the rest never comes.
const DRIPPED: &str = "POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx";

#[tokio::test]
async fn body_that_does_not_come_ends_its_connection() {
    assert!(Limits::default().request < Duration::from_secs(5), "API servers give up after that");
    let limits = Limits { request: Duration::from_secs(2), ..Limits::default() };
    let running = start_within(router(), limits).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(material.certified_key().unwrap()));
    let mut stream = connect(running.address, &material.bundle(), rustls::ALL_VERSIONS).await.unwrap();
    let answer = exchange(&mut stream, DRIPPED).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("longer than 2s"), "{answer}");
    assert!(is_closed(&mut stream).await);
    let labels = Admitted { result: "error", reason: "Timeout", dry_run: "unknown" };
    assert_eq!(running.metrics.admissions.get_or_create(&labels).get(), 1);
}

/// One client could stop all admissions: 512 connections that say nothing, and no more was accepted.
#[tokio::test]
async fn connections_that_take_every_place_make_room_for_an_admission() {
    let limits = Limits { connections: 6, request: DEADLINE };
    let running = start_within(router(), limits).await;
    let material = Material::create(&policy(), SystemTime::now()).unwrap();
    running.served.replace(Arc::new(material.certified_key().unwrap()));
    let bundle = material.bundle();
    let connect = async || connect(running.address, &bundle, rustls::ALL_VERSIONS).await.unwrap();
    let (mut silent, mut others) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
        let (mut used, mut dripping) = (connect().await, connect().await);
        exchange(&mut used, GET).await;
        dripping.write_all(DRIPPED.as_bytes()).await.unwrap();
        others.extend([used, dripping]);
    }
    until("every place is taken", async || running.open.count() == 6).await;
    for evicted in 1..=12 {
        let mut admission = connect().await;
        assert!(exchange(&mut admission, GET).await.ends_with("hello"));
        others.push(admission);
        assert_eq!(running.metrics.connections_evicted.get(), evicted);
        assert_eq!(running.open.count(), 6);
    }
    assert!(is_closed(&mut others[0]).await && !running.task.is_finished());
}
