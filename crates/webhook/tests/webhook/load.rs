//! Admissions that go on while something happens to the webhook: none may be lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use kube::Client;
use outrigger_runtime::readiness::Readiness;
use outrigger_runtime::shutdown;
use outrigger_webhook::certificate::{Material, Policy};
use outrigger_webhook::provided::Provided;
use outrigger_webhook::secret::Store;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::cluster::{self, NAME, RELEASE, bundles, review};
use crate::provided::provide;
use crate::rotation::registration;
use crate::server::{self, GET, connect, exchange};
use crate::whole::Webhook;
use crate::{DEADLINE, until};
use outrigger_fake_api::FakeApi;

/// Connections of the API server; with [`PACE`], 200 admissions a second.
const CONNECTIONS: usize = 8;
const PACE: Duration = Duration::from_millis(40);

/// The API server's side: a few kept connections, each made anew where an answer says `close`, to the replicas that are ready.
struct Load {
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    admitted: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(api: &FakeApi, endpoints: Vec<SocketAddr>) -> Self {
        let (endpoints, admitted) = (Arc::new(Mutex::new(endpoints)), Arc::new(AtomicU64::new(0)));
        let client =
            |number| tokio::spawn(admit(api.clone(), Arc::clone(&endpoints), Arc::clone(&admitted), number));
        let clients = (0..CONNECTIONS).map(client).collect();
        Self { endpoints, admitted, clients }
    }

    /// Waits for so many more. A client that failed ends the test with its report.
    async fn admits(&mut self, more: u64) {
        let wanted = self.admitted.load(Ordering::Relaxed) + more;
        until("admissions", async || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            failed || self.admitted.load(Ordering::Relaxed) >= wanted
        })
        .await;
        for client in self.clients.iter_mut().filter(|client| client.is_finished()) {
            client.await.unwrap();
        }
    }

    fn stop(self) -> u64 {
        self.clients.iter().for_each(JoinHandle::abort);
        self.admitted.load(Ordering::Relaxed)
    }
}

/// Asks on one connection, for ever.
async fn admit(
    api: FakeApi,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    admitted: Arc<AtomicU64>,
    mut turn: usize,
) {
    let body = review("shop", &json!({})).to_string();
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let mut kept = None;
    loop {
        let mut stream = if let Some(stream) = kept.take() {
            stream
        } else {
            turn += 1;
            let replica = {
                let endpoints = endpoints.lock().unwrap();
                endpoints[turn % endpoints.len()]
            };
            let bundle = bundles(&api).remove(0);
            connect(replica, bundle.as_bytes(), rustls::ALL_VERSIONS).await.unwrap()
        };
        let answer = exchange(&mut stream, &request).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
        admitted.fetch_add(1, Ordering::Relaxed);
        kept = (!answer.contains("connection: close")).then_some(stream);
        tokio::time::sleep(PACE).await;
    }
}

async fn replica(client: &Client) -> Webhook {
    let webhook = Webhook::start_with(client.clone(), |options| {
        options.shutdown_delay = Duration::from_secs(3);
    })
    .await;
    webhook.ready().await;
    webhook
}

/// Readiness falls first, then API servers go elsewhere, and only then is the port closed.
#[tokio::test]
async fn rolling_restart_loses_no_admission() {
    let (api, client) = cluster::installed().await;
    let mut old = replica(&client).await;
    let mut load = Load::start(&api, vec![old.tls]);
    load.admits(50).await;
    for _ in 0..3 {
        let new = replica(&client).await;
        load.endpoints.lock().unwrap().push(new.tls);
        load.admits(20).await;
        old.trigger.request();
        until("readiness to fall", async || old.page("/ready").await.0 == StatusCode::SERVICE_UNAVAILABLE)
            .await;
        assert!(!old.task.is_finished(), "it still answers");
        load.endpoints.lock().unwrap().remove(0);
        tokio::time::timeout(DEADLINE, old.task).await.unwrap().unwrap().unwrap();
        load.admits(20).await;
        old = new;
    }
    assert!(load.stop() > 150);
}

/// A new connection for each request, so that each goes by the caBundle of its moment.
#[tokio::test]
async fn change_of_certificate_and_authority_loses_no_connection() {
    let (api, client) = cluster::installed().await;
    let running = server::start(server::router()).await;
    let mut registration = registration(&client, &Readiness::default());
    registration.served = running.served.clone();
    let secret = Store::new(client.clone(), RELEASE, "outrigger-webhook-certificate");
    let provided = Provided { secret, registration, settles: Duration::from_secs(2) };
    let material = || {
        let policy = Policy { name: NAME.into(), lifetime: Duration::from_hours(1) };
        Material::create(&policy, SystemTime::now()).unwrap()
    };
    provide(&api, &material());
    let (trigger, stop) = shutdown::channel();
    let keeps = tokio::spawn(provided.run(client, RELEASE.into(), stop));
    until("the first", async || running.served.certificate().is_some()).await;

    let asked = Arc::new(AtomicU64::new(0));
    let client = |_| {
        let (api, asked, address) = (api.clone(), Arc::clone(&asked), running.address);
        tokio::spawn(async move {
            loop {
                let bundle = bundles(&api).remove(0);
                let mut stream = connect(address, bundle.as_bytes(), rustls::ALL_VERSIONS).await.unwrap();
                assert!(exchange(&mut stream, GET).await.ends_with("hello"));
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = (0..4).map(client).collect();
    for _ in 0..4 {
        let before = asked.load(Ordering::Relaxed);
        let next = material();
        provide(&api, &next);
        let wanted = next.certified_key().unwrap().cert[0].to_vec();
        until("the next certificate", async || running.served.certificate().as_ref() == Some(&wanted)).await;
        until("requests", async || asked.load(Ordering::Relaxed) > before + 20).await;
        assert!(clients.iter().all(|client| !client.is_finished()), "a connection was refused");
    }
    clients.iter().for_each(JoinHandle::abort);
    trigger.request();
    keeps.await.unwrap();
}
