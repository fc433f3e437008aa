//! What is taken out of a request's headers does not come back in its trailers, which some servers put among the headers.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

mod support;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use outrigger_api::auth::{ApiKeySpec, AuthSpec};
use outrigger_api::config::{Inbound, Protocol};
use outrigger_api::overrides::HeadersSpec;
use outrigger_proxy::limits::Limits;
use support::app::serve;
use support::http2::{self, connect, run};
use support::tls::{Authority, Secrets, Trust};
use support::{Running, config, start_by};

const TRAILERS: &str = "X-User: root\r\nx_user: root\r\nAuthorization: Bearer x\r\n";

fn proxy(secrets: &Secrets, app: u16, inbound: Inbound) -> Running {
    let config = move |port| {
        let mut config = config(Protocol::Auto, port, app);
        let Inbound { name, listen, target, protocol, .. } = config.inbound.remove(0);
        config.inbound.push(Inbound { name, listen, target, protocol, ..inbound });
        config
    };
    start_by(config, &secrets.0, Limits::default())
}

/// Each way in which a profile says what the app hears of who asks. `/healthz` needs no credential.
fn policies(secrets: &Secrets) -> Vec<Inbound> {
    secrets.write("clients", &[]);
    let keys = ApiKeySpec {
        secret_name: "clients".to_owned(),
        name_header: Some("X-User".to_owned()),
        ..ApiKeySpec::default()
    };
    let exempt_paths = vec!["/healthz".to_owned()];
    let auth = AuthSpec { api_key: Some(keys), exempt_paths, ..AuthSpec::default() };
    let removed = HeadersSpec { set: Vec::new(), remove: vec!["X-User".to_owned()] };
    vec![
        Inbound { auth: Some(auth), ..Inbound::default() },
        Inbound { request_headers: removed, ..Inbound::default() },
    ]
}

/// Answers with the body as it came, in its chunks.
fn telling_app() -> u16 {
    serve(|mut connection| {
        while let Some(head) = connection.head() {
            let body =
                if head.starts_with("GET") { String::new() } else { connection.read_until("\r\n\r\n") };
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    })
}

/// They reached the app as they came.
#[test]
fn by_http1_they_are_kept_back_however_they_are_cut() {
    let secrets = Secrets::new("trailers-http1");
    for inbound in policies(&secrets) {
        let proxy = proxy(&secrets, telling_app(), inbound);
        let head = "POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let message = format!("{head}2\r\nhi\r\n0\r\n{TRAILERS}\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut client = proxy.connect();
        for cut in (1..message.len()).step_by(3) {
            client.send(&message[..cut]);
            client.send(&message[cut..]);
            assert_eq!(client.answer().text(), "2\r\nhi\r\n0\r\n\r\n", "cut at {cut}");
            assert_eq!(client.answer().text(), "", "the next request is another");
        }
        client.send(format!("{head}0\r\n\r\n"));
        assert_eq!(client.answer().text(), "0\r\n\r\n");
    }
}

#[test]
fn by_http2_they_are_kept_back() {
    let secrets = Secrets::new("trailers-http2");
    for inbound in policies(&secrets) {
        let app = http2::serve(|mut call| async move {
            let (body, trailers) = call.read().await;
            call.answer(format!("{} {}", body.len(), trailers.is_some()));
        });
        let proxy = proxy(&secrets, app, inbound);
        run(async {
            let client = connect(proxy.port).await;
            let head = http2::request("POST", "/healthz").body(()).unwrap();
            let (answer, mut body) = client.send(head, false).await;
            body.send_data(Bytes::from_static(b"hi"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-user", HeaderValue::from_static("root"));
            body.send_trailers(trailers).unwrap();
            let told = http2::read(answer.await.unwrap().body_mut()).await.0;
            assert_eq!(String::from_utf8(told).unwrap(), "2 false");
        });
    }
}

/// The subject of a certificate is told in a header, too.
#[test]
fn by_tls_with_a_subject_they_are_kept_back() {
    use std::io::{Read, Write};
    let (secrets, authority) = (Secrets::new("trailers-tls"), Authority::new("Shop"));
    secrets.write_pair("web-tls", &authority.sign("shop"));
    secrets.write("clients", &[("ca.crt", &authority.pem())]);
    let tls = serde_json::json!({
        "secretName": "web-tls",
        "clientCertificates": {"secretName": "clients", "mode": "optional", "subjectHeader": "X-Client-Subject"},
    });
    let inbound = Inbound { tls: Some(serde_json::from_value(tls).unwrap()), ..Inbound::default() };
    let proxy = proxy(&secrets, telling_app(), inbound);
    let mut client = Trust::of(&authority).connect(proxy.port, "shop");
    let request = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\nX-Client-Subject: CN=admin\r\n\r\n";
    client.0.write_all(request.as_bytes()).unwrap();
    let mut told = String::new();
    client.0.read_to_string(&mut told).unwrap();
    assert!(told.ends_with("\r\n\r\n0\r\n\r\n"), "{told}");
}
