//! A proxy that asks who asks, before an app that tells what it was asked.

use outrigger_api::auth::AuthSpec;
use outrigger_api::config::Protocol;
use outrigger_proxy::limits::Limits;

use super::app::{Count, serve};
use super::client::{Answer, request};
use super::tls::Secrets;
use super::{Running, config, start_by};

/// The proxy, and how often its app was asked.
pub fn guarded(secrets: &Secrets, auth: AuthSpec) -> (Running, Count) {
    guarded_within(secrets, auth, Limits::default())
}

/// The same, with these limits.
pub fn guarded_within(secrets: &Secrets, auth: AuthSpec, limits: Limits) -> (Running, Count) {
    let hits = Count::default();
    let counted = hits.clone();
    let app = serve(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            counted.add();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()));
        }
    });
    let config = |port| {
        let mut config = config(Protocol::Http, port, app);
        config.inbound[0].auth = Some(auth);
        config
    };
    (start_by(config, &secrets.0, limits), hits)
}

/// One request, as `GET /shop`, with these further headers.
pub fn ask(proxy: &Running, line: &str, headers: &str) -> Answer {
    request(proxy.port, &format!("{line} HTTP/1.1\r\nHost: shop\r\n{headers}Connection: close\r\n\r\n"))
}

/// How often it decided so.
pub fn decisions(proxy: &Running, result: &str) -> u64 {
    proxy.metric(&format!(r#"auth_decisions_total{{direction="inbound",port="web",result="{result}"}}"#))
}
